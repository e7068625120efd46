"""Wraps every key anew, in batches, while servers serve: after the key-encryption key was rotated, or the key service
changed.

It deliberately destroys no key-encryption key: what backups hold is wrapped with former ones.

Invariants:
    1. A row is replaced only if it is still the one that was unwrapped; each is replaced alone, so that a kill at any
       moment leaves a key that opens.
    2. A round that was not finished is gone on with; a round is finished when no row of before it is left.
    3. What a server wraps meanwhile counts as of no round, and is wrapped once more than it needs.
"""

from __future__ import annotations

import asyncio
from typing import Final

from einthoven_server import limits
from einthoven_server.audit.chain import ALLOWED, Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import PURPOSES
from einthoven_server.clock import Clock
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.key_service import KeyService
from einthoven_server.patient_keys import key_context
from einthoven_server.rotation.tables import WRAPPED, WrappedColumn
from einthoven_server.vault.port import KeptKey, Vault, all_keys

OPERATOR: Final = "operator"
"""Actor of what is done with the command on the server's own machine."""
WRAPPING: Final = "wrapping"

_ROUND: Final = "SELECT round, finished FROM key_rotation WHERE shard = $1 AND tenant = $2 AND kind = $3"
_PUT_ROUND: Final = """
INSERT INTO key_rotation VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (shard, tenant, kind) DO UPDATE SET round = excluded.round, finished = excluded.finished
"""


def operator_event(clock: Clock, operation: str, patient_id: str = "") -> Event:
    """What is kept of something that was done with the command."""
    return Event(
        at_ms=clock.now_ms(),
        actor=OPERATOR,
        operation=operation,
        patient=patient_id,
        outcome=ALLOWED,
        role=OPERATOR,
        purpose=PURPOSES[OPERATOR],
    )


class Rounds:
    """Rounds of one kind of rotation, so that one that was cut short is gone on with.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        kind: Of what.
    """

    def __init__(self, database: Database, scope: Scope, kind: str) -> None:
        self._database = database
        self._scope = scope
        self._kind = kind

    async def unfinished(self) -> int | None:
        """The round that was begun and not finished."""
        row = await self._database.fetchrow(_ROUND, *self._scope, self._kind)
        return None if row is None or row["finished"] else int(row["round"])

    async def begin(self) -> int:
        """Begin a round, or go on with one."""

        async def work(connection: Connection) -> int:
            row = await connection.fetchrow(_ROUND + " FOR UPDATE", *self._scope, self._kind)
            number = 1 if row is None else int(row["round"]) + int(row["finished"])
            await connection.execute(_PUT_ROUND, *self._scope, self._kind, number, False)
            return number

        return await self._database.transact(work)

    async def finish(self, connection: Connection, number: int) -> None:
        """Nothing of this round is left to do."""
        await connection.execute(_PUT_ROUND, *self._scope, self._kind, number, True)


class Rewrapping:
    """Wraps one tenant's keys anew.

    Args:
        database: Where the tenant's own are.
        vault: Where patients' are.
        scope: Shard and tenant.
        key_service: Unwraps and wraps.
        audit: The tenant's audit log.
        clock: Wall time.
    """

    def __init__(
        self, database: Database, vault: Vault, scope: Scope, key_service: KeyService, audit: AuditLog, clock: Clock
    ) -> None:
        self._database = database
        self._vault = vault
        self._scope = scope
        self._key_service = key_service
        self._audit = audit
        self._clock = clock
        self.rounds = Rounds(database, scope, WRAPPING)

    async def run(self) -> int:
        """Do what is left of a round, or a whole one; return how many keys were wrapped anew.

        Raises:
            EnvelopeRefused: A key does not open; it was left as it is.
            Busy: Database or key service do not answer; go on later.
        """
        number, wrapped = await self.rounds.begin(), 0
        while done := await self.batch(number):
            wrapped += done

        async def work(connection: Connection) -> None:
            await self.rounds.finish(connection, number)
            event = operator_event(self._clock, "key_encryption_key.rotate")
            await self._audit.append(connection, [event])

        await self._database.transact(work)
        return wrapped

    async def batch(self, number: int) -> int:
        """Wrap some keys anew; return how many were looked at, 0 when none is left."""
        turns = asyncio.Semaphore(limits.KEY_SERVICE_AT_ONCE)
        for column in WRAPPED:
            rows = await self._database.fetch(
                f"SELECT * FROM {column.table} WHERE shard = $1 AND tenant = $2 AND wrapping_round < $3 LIMIT $4",  # noqa: S608  # constants
                *self._scope,
                number,
                limits.REWRAP_BATCH_KEYS,
            )
            if rows:
                await asyncio.gather(*(self._rewrap(column, row, number, turns) for row in rows))
                return len(rows)
        keys = await self._vault.to_rewrap(number, limits.REWRAP_BATCH_KEYS)
        await asyncio.gather(*(self._rewrap_of_patient(key, number, turns) for key in keys))
        return len(keys)

    async def _rewrap_of_patient(self, key: KeptKey, number: int, turns: asyncio.Semaphore) -> None:
        context = key_context(self._scope, key.patient_id, key.key_version)
        async with turns:
            after = await self._key_service.wrap(await self._key_service.unwrap(key.wrapped, context), context)
        await self._vault.rewrap(key, after, number)

    async def _rewrap(self, column: WrappedColumn, row: Row, number: int, turns: asyncio.Semaphore) -> None:
        context, before = column.context(self._scope, row), row[column.column]
        async with turns:
            after = await self._key_service.wrap(await self._key_service.unwrap(before, context), context)
        named = "".join(f" AND {name} = ${at}" for at, name in enumerate(column.ids, 6))
        await self._database.fetch(
            f"UPDATE {column.table} SET {column.column} = $4, wrapping_round = $5 "  # noqa: S608  # constants
            f"WHERE shard = $1 AND tenant = $2 AND {column.column} = $3{named}",
            *self._scope,
            before,
            after,
            number,
            *(row[name] for name in column.ids),
        )

    async def stored(self) -> list[bytes]:
        """Every wrapped key as it lies there."""
        found: list[bytes] = []
        for column in WRAPPED:
            query = f"SELECT {column.column} FROM {column.table} WHERE shard = $1 AND tenant = $2"  # noqa: S608
            found += [row[0] for row in await self._database.fetch(query, *self._scope)]
        return found + [key.wrapped async for key in all_keys(self._vault)]
