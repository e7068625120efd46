"""Writes events of requests that write nothing else: those that wait share one transaction.

It deliberately has no timer: what finds nobody writing is written at once, and what comes meanwhile goes together in
the next transaction.

Invariants:
    1. ``record`` returns once its event is durable; otherwise it raises, and the caller answers nothing (fail closed).
    2. An event that can't be written takes no other one with it.
    3. A caller that goes away meanwhile changes nothing: its event is written all the same.
    4. At most ``AUDIT_WAITING_MAX`` events wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.errors import Busy, EventRefused
from einthoven_server.single_use import Claim


class EventSink(Protocol):
    """Where events become durable."""

    async def record_all(self, requests: Sequence[tuple[Event, Claim | None]]) -> list[bool]:
        """Append and claim in one transaction; return whether each claim was fresh.

        Raises ``EventRefused`` for what is not taken, ``Busy`` if nothing can be.
        """
        ...


class EventRecorder(Protocol):
    """What makes events durable, one by one for those who call it."""

    async def record(self, event: Event, claim: Claim | None = None) -> bool:
        """Make an event durable, and with it a claim; return whether that was fresh. Raises ``Busy`` if it can't."""
        ...


class _Waiting(NamedTuple):
    event: Event
    claim: Claim | None
    written: asyncio.Future[bool]


class AuditRecorder:
    """Records events for many requests at once.

    Args:
        sink: Where they go.
        batch_max: Events of one transaction.
        waiting_max: Events that may wait.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        batch_max: int = limits.AUDIT_BATCH_MAX_EVENTS,
        waiting_max: int = limits.AUDIT_WAITING_MAX,
    ) -> None:
        self._sink = sink
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Waiting] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def record(self, event: Event, claim: Claim | None = None) -> bool:
        """Make an event durable, and with it claim what its request may use once.

        Returns:
            Whether the claim was fresh; if not, the entry says so, and the caller must refuse the request.

        Raises:
            Busy: It can't be written; the caller must not answer with patient data.
        """
        if len(self._waiting) >= self._waiting_max:
            raise _unwritten("too many audit events wait to be written")
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(event, claim, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await written

    async def _write(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._batch_max, len(self._waiting)))]
                await self._write_all(batch)
        finally:
            self._writing = None
            _fail([*batch, *self._waiting])
            self._waiting.clear()

    async def _write_all(self, batch: Sequence[_Waiting]) -> None:
        try:
            fresh = await self._sink.record_all([(one.event, one.claim) for one in batch])
        except EventRefused:
            if len(batch) > 1:
                for one in batch:
                    await self._write_all([one])
            _fail(batch)
        except Busy:
            _fail(batch)
        else:
            for one, good in zip(batch, fresh, strict=True):
                if not one.written.done():
                    one.written.set_result(good)


def _fail(waiting: Iterable[_Waiting]) -> None:
    for one in waiting:
        if not one.written.done():
            one.written.set_exception(_unwritten("the audit log can't be written"))


def _unwritten(problem: str) -> Busy:
    return Busy(problem, "try again later", limits.BUSY_RETRY_AFTER_S, code="audit_unavailable")
