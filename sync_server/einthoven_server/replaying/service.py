"""Replays a sample of what devices sent, a bounded piece at a time.

It deliberately changes no result: both versions stay as they are, and people decide.

Invariants:
    1. A round looks at ``REPLAY_ROUND_MAX_CHUNKS`` chunks for ``REPLAY_ROUND_MAX_S`` at most, one at a time.
    2. Which results are replayed is drawn by the system's random source when they are looked at.
    3. A chunk of which something was replayed is one audit entry about its patient; each result that differs, another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, NamedTuple

from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.messages import ResultRow
from einthoven_server import limits
from einthoven_server.audit.chain import ALLOWED, Event
from einthoven_server.clock import Clock
from einthoven_server.errors import Busy, EnvelopeRefused
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.resource_ids import result_text
from einthoven_server.records.sealing import open_result
from einthoven_server.replaying.outcomes import ReplayOutcome, Verdict, sample
from einthoven_server.replaying.replay_process import ReplayProcess, replaying_process
from einthoven_server.replaying.replay_store import ChunkPlace, Replayed, ReplayStore, SealedResult
from einthoven_server.replaying.worker import Job
from einthoven_server.signals.receiving import SignalReceiver

REPLAYED: Final = "signal.replay"
DIFFERS: Final = "result.differs"
_SERVER: Final = "server"
_PURPOSE: Final = "HQUALIMP"
"""Health quality improvement (HL7 v3-ActReason)."""
_UNREADABLE: Final = Verdict(ReplayOutcome.UNREADABLE)

_log = logging.getLogger("einthoven_server")


class Round(NamedTuple):
    """What a round did.

    Attributes:
        chunks: How many it looked at.
        replayed: Results that it recomputed.
    """

    chunks: int
    replayed: int


class ReplayService:
    """Replays one tenant's results.

    Args:
        store: What was replayed, and what comes next.
        keys: Patients' data keys.
        receiver: Reads stored signals.
        clock: Wall time.
        permille: Of 1,000 results that are not urgent, how many are replayed; urgent ones always. 0 turns it off.
        process: Makes the process that computes, for a block.
        draw: ``draw(n)`` is uniform in 0 to n - 1.
        elapsed_s: A clock that never goes back, seconds.
        lag_ms: A chunk is looked at when it has been stored so long, ms.
    """

    def __init__(
        self,
        store: ReplayStore,
        keys: PatientKeys,
        receiver: SignalReceiver,
        clock: Clock,
        permille: int = limits.REPLAY_SAMPLE_PERMILLE,
        *,
        process: Callable[[], AbstractAsyncContextManager[ReplayProcess]] = replaying_process,
        draw: Callable[[int], int] = secrets.randbelow,
        elapsed_s: Callable[[], float] = time.monotonic,
        lag_ms: int = limits.REPLAY_LAG_MS,
    ) -> None:
        self._store = store
        self._keys = keys
        self._receiver = receiver
        self._clock = clock
        self._permille = permille
        self._process = process
        self._draw = draw
        self._elapsed_s = elapsed_s
        self._lag_ms = lag_ms

    async def round(self) -> Round:
        """Look at what came since the last round.

        Raises:
            Busy: No database, no key service, or no place for signals; the next round goes on.
        """
        chunks = replayed = 0
        began_s = self._elapsed_s()
        async with self._process() as process:
            for _ in range(limits.REPLAY_ROUND_MAX_CHUNKS):
                if self._elapsed_s() - began_s > limits.REPLAY_ROUND_MAX_S:
                    break
                # A little behind: a server whose clock is late may still list a chunk with an earlier time.
                place = await self._store.next_chunk(self._clock.now_ms() + 1 - self._lag_ms)
                if place is None:
                    break
                replayed += await self._look_at(place, process)
                chunks += 1
        return Round(chunks, replayed)

    async def _look_at(self, place: ChunkPlace, process: ReplayProcess) -> int:
        found = await self._found_in(place, process) if self._permille else []
        events = self._events(place, found)
        if not await self._store.keep(place, found, self._clock.now_ms(), events):
            return 0
        n_different = sum(one.verdict.outcome is ReplayOutcome.DIFFERENT for one in found)
        if n_different:
            _log.warning("replay: %d of %d results differ from what their signals give", n_different, len(found))
        return len(found)

    async def _found_in(self, place: ChunkPlace, process: ReplayProcess) -> list[Replayed]:
        sealed = await self._store.contents(place)
        if not sealed:
            return []
        try:
            key = await self._keys.get(place.patient_id)
        except EnvelopeRefused:
            return []  # who was erased has nothing left to replay
        unreadable, readable, rows = [], [], []
        for one in sealed:
            try:
                rows.append(open_result(key, one.result, one.row_sealed))
            except EnvelopeRefused:
                unreadable.append(Replayed(one.result, _UNREADABLE, b""))
            else:
                readable.append(one)
        drawn = sample(rows, self._permille, self._draw)
        return unreadable + [await self._replay(readable[at], rows[at], process) for at in drawn]

    async def _replay(self, one: SealedResult, row: ResultRow, process: ReplayProcess) -> Replayed:
        try:
            signal = await self._receiver.samples(one.signal)
        except EnvelopeRefused:
            return Replayed(one.result, _UNREADABLE, row.model_digest)
        verdict = await process.ask(Job(encode_result_row(row), signal))
        return Replayed(one.result, verdict, row.model_digest)

    def _events(self, place: ChunkPlace, found: Sequence[Replayed]) -> list[Event]:
        if not found:
            return []

        def event(operation: str, resource: str, resource_id: str) -> Event:
            now_ms, patient = self._clock.now_ms(), place.patient_id
            return Event(now_ms, _SERVER, operation, patient, ALLOWED, _SERVER, resource, resource_id, _PURPOSE)

        differing = [one for one in found if one.verdict.outcome is ReplayOutcome.DIFFERENT]
        return [
            event(REPLAYED, "signal_chunk", place.chunk.hex()),
            *(event(DIFFERS, "result", result_text(one.result)) for one in differing),
        ]

    @asynccontextmanager
    async def running(self, interval_s: float = limits.REPLAY_INTERVAL_S) -> AsyncIterator[None]:
        """Do a round every now and then while the block runs; none if nothing is to be replayed."""
        if not self._permille:
            yield
            return
        task = asyncio.create_task(self._run(interval_s))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.round()
            except Busy:
                _log.warning("replay found no database, or no signals; it tries again")
