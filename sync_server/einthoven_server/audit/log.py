"""The audit chain in the database.

It deliberately offers no update and no delete.

Invariants:
    1. An event of a write is appended in the write's own transaction: both are there, or neither.
    2. The head's row lock puts appends of a tenant in order; it is taken last in every transaction, so that it can't
       be part of a deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from einthoven_server import limits
from einthoven_server.audit.chain import REPLAYED, Entry, Event, Verifier, link
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import AuditTampered, Busy
from einthoven_server.replays import claim_all
from einthoven_server.single_use import Claim

_INSERT = """
INSERT INTO audit_entry
SELECT $1, $2, * FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[],
                             $10::bytea[])
"""


class AuditLog:
    """The chain of one tenant.

    Args:
        database: Where it is.
        scope: Shard and tenant.
        key: Its MAC key, 32 bytes.
    """

    def __init__(self, database: Database, scope: Scope, key: bytes) -> None:
        self._database = database
        self._scope = scope
        self._key = key

    async def append(self, connection: Connection, events: Sequence[Event]) -> None:
        """Append within a transaction; call it last."""
        if not events:
            return
        head = await connection.fetchrow(
            "SELECT seq, mac FROM audit_head WHERE shard = $1 AND tenant = $2 FOR UPDATE", *self._scope
        )
        if head is None:
            raise _headless()
        entries = link(self._key, head["seq"], head["mac"], events)
        columns = zip(*((entry.seq, *entry.event, entry.previous, entry.mac) for entry in entries), strict=True)
        await connection.execute(_INSERT, *self._scope, *(list(column) for column in columns))
        await connection.execute(
            "UPDATE audit_head SET seq = $3, mac = $4 WHERE shard = $1 AND tenant = $2",
            *self._scope,
            entries[-1].seq,
            entries[-1].mac,
        )

    async def record(self, event: Event, claim: Claim | None = None) -> bool:
        """Append in a transaction of its own; with it, claim what the request may use once.

        Returns:
            Whether the claim was fresh. If not, the entry's outcome is that, and the caller must refuse the request.

        Raises:
            Busy: It can't be written; the caller must not answer with patient data.
        """

        async def work(connection: Connection) -> bool:
            fresh = claim is None or await claim_all(connection, self._scope, [claim])
            await self.append(connection, [event if fresh else event._replace(outcome=REPLAYED)])
            return fresh

        try:
            return await self._database.transact(work)
        except (Busy, AuditTampered, asyncpg.PostgresError) as error:
            raise Busy(
                "the audit log can't be written", "try again later", limits.BUSY_RETRY_AFTER_S, code="audit_unavailable"
            ) from error

    async def verify(self) -> int:
        """Check the whole chain.

        Returns:
            The number of entries.

        Raises:
            AuditTampered: Names the first entry that does not hold.
        """
        verifier = Verifier(self._key)
        while page := await self._database.fetch(
            "SELECT seq, at_ms, actor, operation, patient, outcome, previous, mac FROM audit_entry "
            "WHERE shard = $1 AND tenant = $2 AND seq > $3 ORDER BY seq LIMIT $4",
            *self._scope,
            verifier.seq,
            limits.AUDIT_VERIFY_PAGE_ROWS,
        ):
            for row in page:
                event = Event(row["at_ms"], row["actor"], row["operation"], row["patient"], row["outcome"])
                verifier.check(Entry(row["seq"], event, row["previous"], row["mac"]))
        head = await self._database.fetchrow(
            "SELECT seq, mac FROM audit_head WHERE shard = $1 AND tenant = $2", *self._scope
        )
        if head is None:
            raise _headless()
        verifier.check_head(head["seq"], head["mac"])
        return verifier.seq


def _headless() -> AuditTampered:
    return AuditTampered("the audit chain's head is missing", "restore the database from a backup")
