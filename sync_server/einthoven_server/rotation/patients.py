"""Gives patients a new data key, while servers serve: both versions open meanwhile, the former is removed at the end.

In five steps, each of which may be the last before a kill; what is in ``patient_key`` says which comes next:

1. announced: the new version is there and seals nothing. Every process learns of it within ``KEYS_CHECK_INTERVAL_S``.
2. seals: from now on the new version does. What a request that is under way sealed with the former one is still found.
3. resealed: all that the former one sealed, in batches, each row only if it is still what was read.
4. checked under the shard's lock that nothing of it is left, and removed, in one transaction.

It deliberately waits ``grace_s`` before it lets the new version seal, and before it reseals: an object in the place for
signals has no transaction.

Invariants:
    1. At every moment each value opens with a version that is there.
    2. The former version goes only in a transaction that found nothing sealed with it, and holds the locks that whoever
       seals holds (``patient_keys.hold_version``, the shard's head).
    3. In the end there is one version.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from einthoven_server import envelope, limits
from einthoven_server.audit.log import AuditLog
from einthoven_server.clock import Clock
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import NotFound
from einthoven_server.key_service import KeyService
from einthoven_server.patient_keys import key_context, tell_change
from einthoven_server.rotation.resealing import Resealing
from einthoven_server.rotation.wrapping import Rounds, operator_event
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.vault.port import KeptKey, Vault

PATIENTS: Final = "patients"
_VERSIONS: Final = (
    "SELECT key_version, seals, rotation_round FROM patient_key "
    "WHERE shard = $1 AND tenant = $2 AND patient_id = $3 ORDER BY key_version"
)
# Those that have not been given a version in this round, or have more than one.
_LEFT: Final = """
SELECT patient_id FROM patient_key WHERE shard = $1 AND tenant = $2
GROUP BY patient_id HAVING max(rotation_round) < $3 OR count(*) > 1 ORDER BY patient_id LIMIT $4
"""
_PLACES: Final = "SELECT 1 FROM backup_place WHERE shard = $1 AND tenant = $2 LIMIT 1"
_LOCK_HEAD: Final = "SELECT commit_seq FROM shard_head WHERE shard = $1 FOR UPDATE"


class PatientRotation:
    """Gives one tenant's patients new keys.

    Args:
        database: Where what they sealed is, and which versions there are.
        vault: Where the keys are.
        scope: Shard and tenant.
        key_service: Wraps and unwraps.
        signals: Where chunks of signals lie.
        audit: The tenant's audit log.
        clock: Wall time.
        grace_s: How long a process may go on with what it knew; 0 where no other process can run.
        sleep: Waits.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        scope: Scope,
        key_service: KeyService,
        signals: SignalStore,
        audit: AuditLog,
        clock: Clock,
        *,
        grace_s: float = limits.ROTATION_GRACE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._vault = vault
        self._scope = scope
        self._key_service = key_service
        self._signals = signals
        self._audit = audit
        self._clock = clock
        self._grace_s = grace_s
        self._sleep = sleep
        self.rounds = Rounds(database, scope, PATIENTS)

    async def rotate_all(self) -> int:
        """Do what is left of a round over all patients, or a whole one; return how many got a new key.

        Raises:
            EnvelopeRefused: A value does not open; it was left as it is.
            Busy: Something does not answer; go on later.
        """
        number, n_rotated = await self.rounds.begin(), 0
        while rows := await self._database.fetch(_LEFT, *self._scope, number, limits.REWRAP_BATCH_KEYS):
            await self.rotate([row["patient_id"] for row in rows], number)
            n_rotated += len(rows)
        await self._database.transact(lambda connection: self.rounds.finish(connection, number))
        return n_rotated

    async def rotate(self, patients: Sequence[str], number: int = 0) -> None:
        """Give some patients a new key each, or go on with what was begun.

        Args:
            patients: Who.
            number: In which round.

        Raises:
            NotFound: One has no key.
            EnvelopeRefused: A value does not open; it was left as it is.
            Busy: Something does not answer; go on later.
        """
        for patient_id in patients:
            await self.announce(patient_id, number)
        await self._sleep(self._grace_s)
        for patient_id in patients:
            await self.let_seal(patient_id)
        await self._sleep(self._grace_s)
        for patient_id in patients:
            await self.reseal(patient_id)

    async def announce(self, patient_id: str, number: int = 0) -> None:
        """Make the next version, unless one was begun; it seals nothing yet."""
        rows = await self._rows(patient_id)
        if len(rows) > 1:
            return
        version = rows[0]["key_version"] + 1
        fresh = secrets.token_bytes(envelope.KEY_BYTES)
        wrapped = await self._key_service.wrap(fresh, key_context(self._scope, patient_id, version))
        # Of two commands at once, and of one that was cut short here, the first one's key stays.
        await self._vault.keep([KeptKey(patient_id, version, wrapped)])

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO patient_key (shard, tenant, patient_id, key_version, rotation_round, seals) "
                "SELECT $1, $2, $3, $4, $5, false WHERE EXISTS (SELECT 1 FROM patient_key "
                "WHERE shard = $1 AND tenant = $2 AND patient_id = $3) ON CONFLICT DO NOTHING",
                *self._scope,
                patient_id,
                version,
                number,
            )
            await tell_change(connection, self._scope, patient_id)

        await self._database.transact(work)

    async def let_seal(self, patient_id: str) -> None:
        """Let the announced version seal."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE patient_key SET seals = true "
                "WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND NOT seals",
                *self._scope,
                patient_id,
            )
            await tell_change(connection, self._scope, patient_id)

        await self._database.transact(work)

    async def reseal(self, patient_id: str) -> None:
        """Reseal all that former versions sealed, and remove them."""
        rows = await self._rows(patient_id)
        latest = rows[-1]
        if not latest["seals"]:
            return
        wrapped = await self._vault.keys(patient_id)
        if any(row["key_version"] not in wrapped for row in rows):
            raise NotFound("a version of the patient's key is gone", "it was erased, or restore it from a backup")
        keys = {
            row["key_version"]: await self._key_service.unwrap(
                wrapped[row["key_version"]], key_context(self._scope, patient_id, row["key_version"])
            )
            for row in rows
        }
        version = latest["key_version"]
        key = PatientKey(self._scope.tenant, patient_id, version, keys.pop(version), keys)
        resealing = Resealing(self._database, self._scope, self._signals, key)
        while len(rows) > 1:
            head = await self._database.fetchrow(
                "SELECT commit_seq FROM shard_head WHERE shard = $1", self._scope.shard
            )
            since = 0 if head is None else int(head["commit_seq"])
            await resealing.run()
            if await self._remove(resealing, patient_id, version, since):
                break
        # Backups may hold what former versions sealed: where there are any, those stay in the vault until erasure.
        if await self._database.fetchrow(_PLACES, *self._scope) is None:
            await self._vault.forget_below(patient_id, version)

    async def _remove(self, resealing: Resealing, patient_id: str, version: int, since: int) -> bool:
        event = operator_event(self._clock, "patient_key.rotate", patient_id)

        async def work(connection: Connection) -> bool:
            await connection.execute(_LOCK_HEAD, self._scope.shard)
            former = "shard = $1 AND tenant = $2 AND patient_id = $3 AND key_version < $4"
            # Waits for who seals with it (FOR SHARE), and is seen by who comes after.
            await connection.fetch(
                f"SELECT 1 FROM patient_key WHERE {former} FOR UPDATE",  # noqa: S608  # constants
                *self._scope,
                patient_id,
                version,
            )
            if await resealing.left(connection, since):
                return False
            await connection.execute(f"DELETE FROM patient_key WHERE {former}", *self._scope, patient_id, version)  # noqa: S608
            await tell_change(connection, self._scope, patient_id)
            await self._audit.append(connection, [event])
            return True

        return await self._database.transact(work)

    async def _rows(self, patient_id: str) -> list[Row]:
        rows = await self._database.fetch(_VERSIONS, *self._scope, patient_id)
        if not rows:
            raise NotFound("no such patient, or its key is gone", "check the id")
        return rows
