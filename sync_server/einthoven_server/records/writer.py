"""The one writer of a shard: takes changes off a bounded queue, in turns, many a transaction.

It deliberately runs one transaction at a time: commit order is the change feed, and one fsync carries many pushes.

Invariants:
    1. A change is answered only after its transaction is durable.
    2. A full queue, and a full share of it (``fair_queue``), refuses at once (503); nothing waits without bound.
    3. A change that makes a batch fail is found by trying each alone; the others are not held up.
    4. Stopping finishes what was taken on, and takes on nothing more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from einthoven_protocol.messages import AnnotationRow, Document, NoteRow, Tombstone
from einthoven_server import limits
from einthoven_server.clock import Clock
from einthoven_server.errors import Busy, RequestRefused
from einthoven_server.records.change_store import ChangeStore
from einthoven_server.records.changes import (
    Annotate,
    Change,
    Delete,
    Give,
    Push,
    PutDocument,
    WriteNote,
    key_of,
    rows_of,
)
from einthoven_server.records.commit import Outcome, Pushed, commit
from einthoven_server.records.commits import Committed
from einthoven_server.records.fair_queue import FairQueue, Full

_log = logging.getLogger("einthoven_server")
_Waiting = tuple[Change, "asyncio.Future[Outcome]"]
_FULL: Final = {
    Full.QUEUE: "too many changes are waiting",
    Full.TENANT: "too many changes of this clinic are waiting",
    Full.CALLER: "too many changes of this sender are waiting",
}
T = TypeVar("T")


class Writer:
    """Group commit.

    Args:
        store: Where rows go.
        clock: Wall time.
        queue_max: How many changes may wait.
        on_commit: Told of every durable batch that wrote something; it must not raise.
    """

    def __init__(
        self,
        store: ChangeStore,
        clock: Clock,
        queue_max: int = limits.WRITER_QUEUE_MAX,
        on_commit: Callable[[Committed], None] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._queue: FairQueue[_Waiting] = FairQueue(queue_max)
        self._arrived = asyncio.Event()
        self._stopping = False
        self._under_way = 0
        self._on_commit = on_commit
        self.queue_max = queue_max
        self._last_hlc = 0

    @property
    def waiting(self) -> int:
        """Changes that wait for their commit, those of the batch under way among them."""
        return len(self._queue) + self._under_way

    async def push(self, change: Push) -> Pushed:
        """Write a device's push; durable on return.

        Raises:
            RequestRefused: Queue full, replayed, revoked, a gap, or no database.
        """
        return await self._submit(change, Pushed)

    async def give(self, change: Give) -> tuple[int, ...]:
        """Write what a device gives back; a ``VerdictCode`` for each row, durable on return.

        Raises:
            RequestRefused: Queue full, revoked, or no database.
        """
        return await self._submit(change, tuple)

    async def annotate(self, change: Annotate) -> AnnotationRow:
        """Write a clinician's words; durable on return.

        Raises:
            RequestRefused: Queue full, or no database.
        """
        return await self._submit(change, AnnotationRow)

    async def note(self, change: WriteNote) -> NoteRow:
        """Write a note of somebody at the console; durable on return.

        Raises:
            RequestRefused: Queue full, or no database.
        """
        return await self._submit(change, NoteRow)

    async def delete(self, change: Delete) -> tuple[Tombstone, ...]:
        """Remove rows, whoever wrote them; return those that were there. Durable on return.

        Raises:
            RequestRefused: Queue full, or no database.
        """
        return await self._submit(change, tuple)

    async def put_document(self, change: PutDocument) -> Document:
        """Put the next version of a document; durable on return.

        Raises:
            RequestRefused: Not the next version (``version_conflict``), queue full, or no database.
        """
        return await self._submit(change, Document)

    async def _submit(self, change: Change, kind: type[T]) -> T:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._stopping:
            raise Busy("the server stops", "try again later", limits.BUSY_RETRY_AFTER_S)
        full = self._queue.put(*_sender(change), (change, future))
        if full is not None:
            raise Busy(_FULL[full], "try again later", limits.BUSY_RETRY_AFTER_S)
        self._arrived.set()
        outcome = await future
        if isinstance(outcome, RequestRefused):
            raise outcome
        if not isinstance(outcome, kind):
            raise TypeError(f"a {type(change).__name__} came to a {type(outcome).__name__}")
        return outcome

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the block ends, then finish what waits."""
        self._stopping = False
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._stopping = True
            self._arrived.set()
            await task

    async def _run(self) -> None:
        while self._queue or not self._stopping:
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = [self._queue.take()]
            while self._queue and len(batch) < limits.COMMIT_BATCH_MAX_CHANGES:
                batch.append(self._queue.take())
                if rows_of(change for change, _ in batch) >= limits.COMMIT_BATCH_MAX_ROWS:
                    break
            self._under_way = len(batch)
            await self._commit(batch)
            self._under_way = 0

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        changes = [change for change, _ in batch]
        try:
            done = await self._store.commit(
                lambda transaction: commit(transaction, changes, self._last_hlc, self._clock.now_ms())
            )
        except Exception as error:  # noqa: BLE001  # handed to whoever waits; the writer itself must go on
            if len(batch) == 1 or isinstance(error, RequestRefused):
                for _, future in batch:
                    _fail(future, error)
                return
            _log.error("a batch of %d failed (%s); trying each alone", len(batch), type(error).__name__)
            for waiting in batch:
                await self._commit([waiting])
        else:
            self._last_hlc = done.last_hlc
            for (_, future), outcome in zip(batch, done.outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)
            if self._on_commit is not None and done.committed.touched:
                self._on_commit(done.committed)


def _sender(change: Change) -> tuple[str, str]:
    """Whose share of the queue a change takes: (tenant, device or person)."""
    key = key_of(change)
    sender = str(change.device.alias) if isinstance(change, Push | Give) else change.event.actor
    return "" if key is None else key.tenant, sender


def _fail(future: asyncio.Future[Outcome], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
