"""What has to be done now and then, whoever asks for nothing: tombstones all have read, old nonces, a new month, a new
signing key, a checkpoint of the audit log.

It deliberately does a bounded piece a round and no more, however much there is: the next round goes on.

Invariants:
    1. A round that finds no database is skipped, and said; the next one comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from einthoven_server import limits
from einthoven_server.clock import Clock
from einthoven_server.errors import Busy
from einthoven_server.identity.logins import Logins
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.identity.store import IdentityStore
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.change_store import ChangeStore
from einthoven_server.records.checkpoint_publisher import CheckpointPublisher
from einthoven_server.records.consent_publisher import ConsentPublisher
from einthoven_server.records.result_months import ResultMonths

_log = logging.getLogger("einthoven_server")


class Housekeeping:
    """Keeps one tenant's house.

    Args:
        store: Tombstones.
        identities: Nonces, and ids of tokens' proofs.
        clock: Wall time.
        interval_s: Between two rounds.
        months: Where results may lie apart by month.
        signing_keys: Of access tokens; replaced when their time is over.
        checkpoints: Publishes checkpoints of the audit log.
        keys: Forgotten when they changed, also where nobody asks for one.
        logins: Sessions, invitations and wrong tries that are over.
        consents: Tells devices what they were not told yet.
    """

    def __init__(
        self,
        store: ChangeStore,
        identities: IdentityStore,
        clock: Clock,
        interval_s: float = limits.TOMBSTONE_COLLECT_INTERVAL_S,
        *,
        months: ResultMonths | None = None,
        signing_keys: SigningKeys | None = None,
        checkpoints: CheckpointPublisher | None = None,
        keys: PatientKeys | None = None,
        logins: Logins | None = None,
        consents: ConsentPublisher | None = None,
    ) -> None:
        self._signing_keys = signing_keys
        self._store = store
        self._identities = identities
        self._clock = clock
        self._interval_s = interval_s
        self._months = months
        self._checkpoints = checkpoints
        self._keys = keys
        self._logins = logins
        self._consents = consents

    async def round(self) -> int:
        """Do one piece; return how many tombstones went.

        Raises:
            Busy: No database.
        """
        now_ms = self._clock.now_ms()
        await self._identities.forget_nonces(now_ms)
        if self._keys is not None:
            await self._keys.refresh()
        if self._signing_keys is not None:
            await self._signing_keys.keep()
        if self._logins is not None:
            await self._logins.forget(now_ms)
        if self._months is not None:
            await self._months.keep(now_ms)
        if self._checkpoints is not None:
            await self._checkpoints.round(now_ms)
        if self._consents is not None:
            await self._consents.round(now_ms)
        return await self._store.collect_tombstones(now_ms)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do a piece every now and then while the block runs."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.round()
            except Busy:
                _log.warning("housekeeping found no database; it tries again")
