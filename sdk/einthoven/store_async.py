"""A ``Store`` for those who must not wait: an event loop, or the thread of a user interface.

What changes the store runs on one thread, in the order in which it was asked for; what only reads runs on others, so
that a long listing delays no write. Each method can be awaited; ``submit`` and ``submit_reading`` give a
``concurrent.futures.Future`` to whoever has no event loop. It deliberately adds no behaviour of its own: limits, errors
and durability are those of the store that it was given.

Invariants:
    1. A write that was accepted is carried out, also if the task that awaits it is cancelled, and before ``close`` is
       done. An error of it reaches whoever awaits it.
    2. Writes run in the order in which they were accepted, one at a time.
    3. No more than ``MAX_WAITING_WRITES`` and ``MAX_WAITING_READINGS`` wait: one more is refused with ``StoreBusy``.
    4. No method waits for the store on the thread that calls it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

from einthoven.errors import StoreBusy
from einthoven.ports import Pending, Segment, Store, SyncState
from einthoven.results import WindowResult
from einthoven.store_async_feed import AsyncFeed
from einthoven.store_events import StoreEvent
from einthoven.store_values import (
    AuditAction,
    AuditEntry,
    BeatRun,
    CheckReport,
    Quarantined,
    RetentionPolicy,
    RetentionReport,
    StoredResult,
    StoreStats,
)
from einthoven_protocol.messages import AnnotationRow, ExchangeRequest, ExchangeResponse, ResultId

MAX_WAITING_WRITES: Final = 256
"""Writes accepted and not yet done; with windows of 30 s at 300 Hz, 9 MB and two hours of signal."""
MAX_WAITING_READINGS: Final = 256
"""Readings accepted and not yet done."""
READING_THREADS: Final = 2
"""Readings at a time: one that takes long, and one for the screen."""

_Value = TypeVar("_Value")


class _Lane:
    """Threads, and how many calls wait for them."""

    def __init__(self, name: str, threads: int, max_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"einthoven-{name}")
        self._max_waiting = max_waiting
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, work: Callable[[], _Value]) -> Future[_Value]:
        with self._lock:
            if self._closed:
                raise ValueError("the store is closed")
            if self._waiting >= self._max_waiting:
                raise StoreBusy(f"{self._max_waiting} calls wait for the store", "wait until some of them are done")
            self._waiting += 1
            try:
                future = self._pool.submit(work)
            except BaseException:
                self._waiting -= 1
                raise
        future.add_done_callback(self._done)
        return future

    def close(self) -> None:
        """Take on no more."""
        with self._lock:
            self._closed = True

    def join(self) -> None:
        """Wait for what was accepted."""
        self._pool.shutdown(wait=True)

    def _done(self, _: Future[_Value]) -> None:
        with self._lock:
            self._waiting -= 1


class AsyncStore(AsyncFeed):
    """Wraps a store; an async context manager that closes it.

    Args:
        store: The store; it may go on being used directly, from threads that may wait.
        max_waiting_writes: Writes accepted and not yet done.
        max_waiting_readings: Readings accepted and not yet done.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_waiting_writes: int = MAX_WAITING_WRITES,
        max_waiting_readings: int = MAX_WAITING_READINGS,
    ) -> None:
        self._store = store
        self._writing = _Lane("writing", 1, max_waiting_writes)
        self._reading = _Lane("reading", READING_THREADS, max_waiting_readings)
        self._lock = threading.Lock()
        self._closing: Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def submit(self, work: Callable[[Store], _Value]) -> Future[_Value]:
        """Have the store do something after all that was submitted before; returns at once.

        Args:
            work: Is given the store, on another thread.

        Returns:
            What ``work`` returned or raised. Its callbacks run on that other thread.

        Raises:
            StoreBusy: Too much waits already; nothing was accepted.
            ValueError: The store is closed.
        """
        return self._writing.submit(lambda: work(self._store))

    def submit_reading(self, work: Callable[[Store], _Value]) -> Future[_Value]:
        """Have the store read something, not after the writes that wait; returns at once.

        Raises:
            StoreBusy: See ``submit``.
            ValueError: The store is closed.
        """
        return self._reading.submit(lambda: work(self._store))

    def submit_close(self) -> Future[None]:
        """Close the store once all that was accepted is done; returns at once. Twice is allowed."""
        with self._lock:
            if self._closing is None:
                self._writing.close()
                self._reading.close()
                closer = ThreadPoolExecutor(1, thread_name_prefix="einthoven-closing")
                self._closing = closer.submit(self._close)
                closer.shutdown(wait=False)
            return self._closing

    async def close(self) -> None:
        """See ``submit_close``; done when the store is closed.

        Raises:
            StoreIOError: See ``Store.close``.
        """
        await _awaited(self.submit_close())

    async def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        """See ``Store``."""
        return await self._write(lambda store: store.append_window(result, segment, beats))

    async def append_windows(self, windows: Sequence[tuple[WindowResult, Segment]]) -> list[WindowResult]:
        """See ``Store``."""
        return await self._write(lambda store: store.append_windows(windows))

    async def append_results(self, results: Sequence[WindowResult]) -> range:
        """See ``Store``."""
        return await self._write(lambda store: store.append_results(results))

    async def append_beats(self, beats: BeatRun) -> None:
        """See ``Store``."""
        await self._write(lambda store: store.append_beats(beats))

    async def acknowledge_segments(self, digests: Sequence[bytes]) -> int:
        """See ``Store``."""
        return await self._write(lambda store: store.acknowledge_segments(digests))

    async def annotate(self, row: AnnotationRow) -> AnnotationRow:
        """See ``Store``."""
        return await self._write(lambda store: store.annotate(row))

    async def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        """See ``Store``."""
        return await self._write(lambda store: store.apply_exchange(request, response, at_ms=at_ms))

    async def put_setting(self, name: str, value: bytes) -> None:
        """See ``Store``."""
        await self._write(lambda store: store.put_setting(name, value))

    async def retain(self, policy: RetentionPolicy, *, at_ms: int) -> RetentionReport:
        """See ``Store``."""
        return await self._write(lambda store: store.retain(policy, at_ms=at_ms))

    async def record(self, action: AuditAction, subject: str = "", *, at_ms: int) -> AuditEntry:
        """See ``Store``."""
        return await self._write(lambda store: store.record(action, subject, at_ms=at_ms))

    async def pending(self, *, limit: int, current: bool = False) -> Pending:
        """See ``Store``; holds what was written before."""
        return await self._write(lambda store: store.pending(limit=limit, current=current))

    async def take_events(self) -> list[StoreEvent]:
        """See ``Store``; holds those of what was written before."""
        return await self._write(lambda store: store.take_events())

    async def results(self, *, first_counter: int = 1, limit: int = 1_000) -> Sequence[WindowResult]:
        """See ``Store``."""
        return await self._read(lambda store: store.results(first_counter=first_counter, limit=limit))

    async def results_between(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[StoredResult]:
        """See ``Store``."""
        return await self._read(lambda store: store.results_between(first_ms, last_ms, limit=limit))

    async def result(self, counter: int, *, epoch: int | None = None) -> WindowResult | None:
        """See ``Store``."""
        return await self._read(lambda store: store.result(counter, epoch=epoch))

    async def segment(self, digest: bytes) -> Segment | None:
        """See ``Store``."""
        return await self._read(lambda store: store.segment(digest))

    async def beats(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[BeatRun]:
        """See ``Store``."""
        return await self._read(lambda store: store.beats(first_ms, last_ms, limit=limit))

    async def annotations(self, target: ResultId | None = None) -> Sequence[AnnotationRow]:
        """See ``Store``."""
        return await self._read(lambda store: store.annotations(target))

    async def sync_state(self) -> SyncState:
        """See ``Store``."""
        return await self._read(lambda store: store.sync_state())

    async def setting(self, name: str) -> bytes | None:
        """See ``Store``."""
        return await self._read(lambda store: store.setting(name))

    async def stats(self) -> StoreStats:
        """See ``Store``."""
        return await self._read(lambda store: store.stats())

    async def check(self) -> CheckReport:
        """See ``Store``."""
        return await self._read(lambda store: store.check())

    async def quarantined(self) -> Sequence[Quarantined]:
        """See ``Store``."""
        return await self._read(lambda store: store.quarantined())

    async def audit_trail(self, *, first_seq: int = 1, limit: int = 1_000) -> Sequence[AuditEntry]:
        """See ``Store``."""
        return await self._read(lambda store: store.audit_trail(first_seq=first_seq, limit=limit))

    async def _write(self, work: Callable[[Store], _Value]) -> _Value:
        return await _awaited(self.submit(work))

    async def _read(self, work: Callable[[Store], _Value]) -> _Value:
        return await _awaited(self.submit_reading(work))

    def _close(self) -> None:
        self._writing.join()
        self._reading.join()
        self._store.close()


async def _awaited(future: Future[_Value]) -> _Value:
    # A task that is cancelled stops waiting; what it asked for is done all the same.
    return await asyncio.shield(asyncio.wrap_future(future))
