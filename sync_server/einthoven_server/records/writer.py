"""The one writer of a shard: takes changes off a bounded queue, many a transaction.

It deliberately runs one transaction at a time: commit order is the change feed, and one fsync carries many pushes.

Invariants:
    1. A change is answered only after its transaction is durable.
    2. A full queue refuses at once (503); nothing waits without bound.
    3. A change that makes a batch fail is found by trying each alone; the others are not held up.
    4. Stopping finishes what was taken on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from einthoven_protocol.messages import AnnotationRow
from einthoven_server import limits
from einthoven_server.audit.log import AuditLog
from einthoven_server.clock import Clock
from einthoven_server.database import Database, Scope
from einthoven_server.errors import Busy, RequestRefused
from einthoven_server.records.commit import Batch, Change, Outcome, Pushed
from einthoven_server.records.ledger import Annotate, Push, rows_of

_log = logging.getLogger("einthoven_server")
_Waiting = tuple[Change, "asyncio.Future[Outcome]"]
T = TypeVar("T")


class Writer:
    """Group commit.

    Args:
        database: Where rows go.
        scope: Shard and tenant.
        audit: The tenant's audit log.
        clock: Wall time.
        queue_max: How many changes may wait.
    """

    def __init__(
        self,
        database: Database,
        scope: Scope,
        audit: AuditLog,
        clock: Clock,
        queue_max: int = limits.WRITER_QUEUE_MAX,
    ) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit
        self._clock = clock
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(queue_max)
        self._last_hlc = 0

    async def push(self, change: Push) -> Pushed:
        """Write a device's push; durable on return.

        Raises:
            RequestRefused: Queue full, replayed, revoked, a gap, or no database.
        """
        return await self._submit(change, Pushed)

    async def annotate(self, change: Annotate) -> AnnotationRow:
        """Write a clinician's words; durable on return.

        Raises:
            RequestRefused: Queue full, or no database.
        """
        return await self._submit(change, AnnotationRow)

    async def _submit(self, change: Change, kind: type[T]) -> T:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((change, future))
        except asyncio.QueueFull as error:
            raise Busy("too many changes are waiting", "try again later", limits.BUSY_RETRY_AFTER_S) from error
        outcome = await future
        if isinstance(outcome, RequestRefused):
            raise outcome
        if not isinstance(outcome, kind):
            raise TypeError(f"a {type(change).__name__} came to a {type(outcome).__name__}")
        return outcome

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the block ends, then finish what waits."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await self._queue.put(None)
            await task

    async def _run(self) -> None:
        stopping = False
        while not stopping:
            first = await self._queue.get()
            if first is None:
                return
            batch = [first]
            while len(batch) < limits.COMMIT_BATCH_MAX_CHANGES and not self._queue.empty():
                following = self._queue.get_nowait()
                if following is None:
                    stopping = True
                    break
                batch.append(following)
                if rows_of(change for change, _ in batch) >= limits.COMMIT_BATCH_MAX_ROWS:
                    break
            await self._commit(batch)

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        try:
            changes = [change for change, _ in batch]
            outcomes, self._last_hlc = await self._database.transact(
                lambda connection: Batch(connection, self._scope, self._audit).commit(
                    changes, self._last_hlc, self._clock.now_ms()
                )
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
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)


def _fail(future: asyncio.Future[Outcome], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
