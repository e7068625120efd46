"""A change store in a process that can be killed between load, decide, write, commit and answer.

It deliberately keeps nothing and decides nothing.

Invariants:
    1. Killed before the commit is done, nothing of the batch is there; after it, all is.
    2. A dead store does nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from einthoven_protocol.messages import Cursor
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.limits import FEED_PAGE_MAX_BYTES
from einthoven_server.records.change_store import (
    ChangeBatch,
    ChangeStore,
    FedRow,
    FeedPage,
    FeedQuestion,
    Held,
    NonceUse,
    Snapshot,
    Wanted,
    Written,
)

_Value = TypeVar("_Value")


class ServerKilled(BaseException):
    """kill -9. Deliberately no ``Exception``: nothing in a process can catch it."""


class MortalStore:
    """A ``ChangeStore`` as one process has it.

    Args:
        behind: Where rows really lie.
        died: Called when the process dies here.
        page_rows: Rows of one answer: the feed's rows pretend to be so long that no more fit. 0 for as they are.
    """

    def __init__(self, behind: ChangeStore, died: Callable[[], None], page_rows: int = 0) -> None:
        self._behind = behind
        self._died = died
        self._row_bytes = FEED_PAGE_MAX_BYTES // page_rows if page_rows else 0
        self._left = 0
        self.dead = False

    def kill_at(self, moments: int) -> None:
        """Die at so manieth moment from now."""
        self._left = moments

    def moment(self) -> None:
        """A moment at which the process can be killed."""
        if self.dead:
            raise ServerKilled
        if self._left:
            self._left -= 1
            if not self._left:
                self.dead = True
                self._died()
                raise ServerKilled

    def sealed_results(
        self, key: PatientKey, alias: int, epoch: int, counters: Sequence[int], canonical: Sequence[bytes]
    ) -> list[bytes]:
        """See ``ChangeStore``."""
        return self._behind.sealed_results(key, alias, epoch, counters, canonical)

    def opened(self, key: PatientKey, page: Sequence[FedRow]) -> FeedPage:
        """See ``ChangeStore``."""
        return self._behind.opened(key, page)

    async def commit(self, work: Callable[[ChangeBatch], Awaitable[_Value]]) -> _Value:
        """See ``ChangeStore``."""
        self.moment()
        value = await self._behind.commit(lambda batch: work(_MortalBatch(batch, self.moment, self._row_bytes)))
        self.moment()
        return value

    async def read(self, work: Callable[[Snapshot], Awaitable[_Value]]) -> _Value:
        """See ``ChangeStore``."""
        self.moment()
        return await self._behind.read(work)

    async def collect_tombstones(self, now_ms: int) -> int:
        """See ``ChangeStore``."""
        self.moment()
        return await self._behind.collect_tombstones(now_ms)


class _MortalBatch:
    """A batch that can be cut off between its calls."""

    def __init__(self, behind: ChangeBatch, moment: Callable[[], None], row_bytes: int) -> None:
        self._behind = behind
        self._moment = moment
        self._row_bytes = row_bytes

    async def head(self) -> Cursor:
        self._moment()
        return await self._behind.head()

    async def remember(self, nonces: Sequence[NonceUse], now_ms: int) -> list[bool]:
        self._moment()
        return await self._behind.remember(nonces, now_ms)

    async def load(self, wanted: Wanted) -> Held:
        self._moment()
        return await self._behind.load(wanted)

    async def write(self, written: Written) -> None:
        self._moment()
        await self._behind.write(written)

    async def feed(self, asked: Sequence[FeedQuestion], limits: Mapping[str, int]) -> list[list[FedRow]]:
        self._moment()
        found = await self._behind.feed(asked, limits)
        if not self._row_bytes:
            return found
        return [[row._replace(octets=self._row_bytes) for row in rows] for rows in found]

    async def append(self, events: Sequence[Event]) -> None:
        self._moment()
        await self._behind.append(events)
        self._moment()
