"""Erases patients: decided in one transaction, made final in the vault, and then carried out everywhere, however often
it is interrupted.

1. ``begin``: one transaction under the shard's lock, which writers hold. What says who the patient is, who cares for
   them and which keys there are, goes; devices and the patient's own access are revoked; the audit log says so. From
   its commit on nothing more is sealed for the patient, and every process refuses within ``KEYS_CHECK_INTERVAL_S``.
2. ``destroy``: the vault's rows. Nobody can go back.
3. ``carry_out``: mirrors of the vault, rows in batches, objects of signals; and once ``ERASURE_SETTLE_MS`` have passed,
   in which a request that was under way may have left an object behind, the erasure is finished.

It deliberately undoes nothing, and waits for nothing: what can't be reached is tried again by ``round``.

Invariants:
    1. Each step may be done any number of times; who is killed in the midst leaves it to the next.
    2. An erasure is finished only after a whole round in which every step succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import PURPOSES
from einthoven_server.backup.mirror import VaultMirror
from einthoven_server.clock import Clock
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.erasure import tables
from einthoven_server.errors import BackupPlaceUnavailable, Busy, NotFound, ServerError
from einthoven_server.patient_keys import tell_change
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.vault.port import Vault

OpenStore = Callable[[str], Awaitable[SignalStore]]
"""Opens the place of backups at a URL."""
SERVER: Final = "server"
FINISHED: Final = "patient.erasure.finish"
_OURS: Final = "shard = $1 AND tenant = $2"
_LOCK_HEAD: Final = "SELECT commit_seq FROM shard_head WHERE shard = $1 FOR UPDATE"
_BEGUN: Final = f"SELECT begun_at_ms, finished_at_ms FROM erasure WHERE {_OURS} AND patient_id = $3"  # noqa: S608
_UNFINISHED: Final = (
    f"SELECT patient_id, begun_at_ms FROM erasure WHERE {_OURS} AND finished_at_ms IS NULL ORDER BY begun_at_ms"  # noqa: S608
)
_PIECES: Final = (
    f"DELETE FROM signal_upload_piece WHERE {_OURS} AND upload_id IN "  # noqa: S608
    f"(SELECT upload_id FROM signal_upload WHERE {_OURS} AND patient_id = $3)"
)
_log = logging.getLogger("einthoven_server")


class Erasures:
    """Erases one tenant's patients.

    Args:
        database: Where rows are.
        vault: Where keys are.
        scope: Shard and tenant.
        signals: Where chunks of signals lie.
        audit: The tenant's audit log.
        clock: Wall time.
        open_store: Opens places of backups.
        settle_ms: How long a request that was under way may go on; 0 where no other process can run.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        scope: Scope,
        signals: SignalStore,
        audit: AuditLog,
        clock: Clock,
        open_store: OpenStore,
        *,
        settle_ms: int = limits.ERASURE_SETTLE_MS,
    ) -> None:
        self._database = database
        self._vault = vault
        self._scope = scope
        self._signals = signals
        self._audit = audit
        self._clock = clock
        self._open_store = open_store
        self._settle_ms = settle_ms
        self._due = asyncio.Event()

    async def begin(self, patient_id: str, event: Event) -> int:
        """Decide it; return since when it is (ms since 1970). Beginning twice changes nothing.

        Raises:
            NotFound: There is no such patient, and was none who is being erased.
            Busy: The database does not answer, or the audit log can't be written; nothing was changed.
        """
        now_ms = self._clock.now_ms()

        async def work(connection: Connection) -> int:
            of_patient = (*self._scope, patient_id)
            await connection.execute(_LOCK_HEAD, self._scope.shard)
            begun = await connection.fetchrow(_BEGUN, *of_patient)
            if begun is not None:
                return int(begun["begun_at_ms"])
            there = f"SELECT 1 FROM patient WHERE {_OURS} AND patient_id = $3 FOR UPDATE"  # noqa: S608
            if await connection.fetchrow(there, *of_patient) is None:
                raise NotFound("no such patient", "check the id")
            await connection.execute("INSERT INTO erasure VALUES ($1, $2, $3, $4)", *of_patient, now_ms)
            for table in tables.AT_ONCE:  # of keys: waits for who holds a version, see hold_version
                await connection.execute(f"DELETE FROM {table} WHERE {_OURS} AND patient_id = $3", *of_patient)  # noqa: S608
            own = f"SELECT principal_id FROM principal WHERE {_OURS} AND patient_id = $3"  # noqa: S608
            for table in tables.AT_ONCE_BY_PRINCIPAL:
                await connection.execute(f"DELETE FROM {table} WHERE {_OURS} AND principal_id IN ({own})", *of_patient)  # noqa: S608
            revoke = f"SET revoked_at_ms = coalesce(revoked_at_ms, $4) WHERE {_OURS} AND patient_id = $3"
            await connection.execute(f"UPDATE principal {revoke}", *of_patient, now_ms)
            await connection.execute(f"UPDATE device {revoke}", *of_patient, now_ms)
            unseal = f"UPDATE device SET sync_key_sealed = '' WHERE {_OURS} AND patient_id = $3"  # noqa: S608
            await connection.execute(unseal, *of_patient)
            await tell_change(connection, self._scope, patient_id)
            await self._audit.append(connection, [event])
            return now_ms

        return await self._database.transact(work)

    async def destroy(self, patient_id: str) -> None:
        """Destroy the keys of a patient whose erasure was begun.

        Raises:
            Busy: The vault does not answer; ``round`` tries again.
        """
        await self._vault.erase(patient_id)

    async def carry_out(self, patient_id: str, begun_at_ms: int) -> bool:
        """Remove everything else; return whether the erasure is finished.

        Raises:
            Busy: Something does not answer; go on later.
        """
        now_ms = self._clock.now_ms()
        await self.destroy(patient_id)
        for row in await self._database.fetch(f"SELECT url FROM backup_place WHERE {_OURS}", *self._scope):  # noqa: S608
            await VaultMirror(await self._store_at(row["url"]), self._scope.tenant).erase(patient_id)
        await self._remove_rows(patient_id)
        for name in await self._signals.names(f"{self._scope.tenant}/{patient_id}"):
            await self._signals.delete(name)
        return now_ms >= begun_at_ms + self._settle_ms and await self._finish(patient_id, now_ms)

    async def round(self) -> int:
        """Go on with all that is unfinished; return how many are finished now.

        Raises:
            Busy: Something does not answer; the others were gone on with.
        """
        finished, failed = 0, None
        for row in await self._database.fetch(_UNFINISHED, *self._scope):
            try:
                finished += await self.carry_out(row["patient_id"], row["begun_at_ms"])
            except Busy as error:
                failed = error
        if failed is not None:
            raise failed
        return finished

    def wake(self) -> None:
        """Have ``running`` do a round now."""
        self._due.set()

    @asynccontextmanager
    async def running(self, interval_s: float = limits.ERASURE_ROUND_INTERVAL_S) -> AsyncIterator[None]:
        """Do rounds while the block runs: at its beginning, when woken, and now and then."""
        task = asyncio.create_task(self._run(interval_s))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, interval_s: float) -> None:
        while True:
            self._due.clear()
            try:
                await self.round()
            except ServerError as error:
                _log.warning("an erasure is not finished (%s); it is tried again", type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), interval_s)

    async def _store_at(self, url: str) -> SignalStore:
        try:
            return await self._open_store(url)
        except BackupPlaceUnavailable as error:
            raise Busy(error.problem, error.remedy, limits.BUSY_RETRY_AFTER_S, code="mirror_unavailable") from error

    async def _remove_rows(self, patient_id: str) -> None:
        of_patient = (*self._scope, patient_id)
        for table in tables.BY_COMMIT:
            while await self._remove_some(table, patient_id):
                pass
        await self._database.fetch(_PIECES, *of_patient)
        for table in tables.BY_PATIENT:
            await self._database.fetch(f"DELETE FROM {table} WHERE {_OURS} AND patient_id = $3", *of_patient)  # noqa: S608
        devices = f"SELECT device_alias FROM device WHERE {_OURS} AND patient_id = $3"  # noqa: S608
        for row in await self._database.fetch(devices, *of_patient):
            for table in tables.BY_DEVICE:
                query = f"DELETE FROM {table} WHERE {_OURS} AND device_alias = $3"  # noqa: S608  # constants
                await self._database.fetch(query, *self._scope, row["device_alias"])

    async def _remove_some(self, table: str, patient_id: str) -> bool:
        """Remove a batch of rows; return whether there may be more."""
        rows = await self._database.fetch(
            f"SELECT commit_seq FROM {table} WHERE {_OURS} AND patient_id = $3 ORDER BY commit_seq LIMIT $4",  # noqa: S608
            *self._scope,
            patient_id,
            limits.ERASE_BATCH_ROWS,
        )
        if rows:
            await self._database.fetch(
                f"DELETE FROM {table} WHERE {_OURS} AND patient_id = $3 AND commit_seq <= $4",  # noqa: S608
                *self._scope,
                patient_id,
                rows[-1]["commit_seq"],
            )
        return len(rows) == limits.ERASE_BATCH_ROWS

    async def _finish(self, patient_id: str, now_ms: int) -> bool:
        event = Event(now_ms, SERVER, FINISHED, patient_id, "allowed", SERVER, purpose=PURPOSES[SERVER])

        async def work(connection: Connection) -> bool:
            done = await connection.fetchrow(
                f"UPDATE erasure SET finished_at_ms = $4 WHERE {_OURS} AND patient_id = $3 "  # noqa: S608
                "AND finished_at_ms IS NULL RETURNING 1",
                *self._scope,
                patient_id,
                now_ms,
            )
            if done is not None:
                await self._audit.append(connection, [event])
            return True

        return await self._database.transact(work)
