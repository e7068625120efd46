"""Who waits to be woken, and by what. No HTTP here: ``wake_socket`` holds the connections.

A wake says only "exchange now", so it may come once too often and is never more than a hint: a device that hears
nothing polls slowly. It deliberately keeps no list of what happened: many commits before a device is told are one.

Own commits come from the writer; those of other processes on the same database are looked for, once an interval and
only while somebody waits, by the shard's commit sequence. No LISTEN/NOTIFY: its kin have none, and it takes a global
lock at commit.

Invariants:
    1. At most one waiter a device, and ``sockets_max`` together; a newer one of the same device takes over.
    2. A commit of one process wakes waiters of another within ``WAKE_POLL_INTERVAL_S`` and a query.
    3. A revoked device's waiter ends within that interval, whichever process revoked it.
    4. Nobody is woken by what only they wrote themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Protocol

from einthoven_server import limits
from einthoven_server.errors import Busy
from einthoven_server.records.commits import WHOLE_TENANT, Committed

_log = logging.getLogger("einthoven_server")


class End(Enum):
    """Why a waiter's wait is over."""

    REPLACED = "another socket of this device took over"
    REVOKED = "this device was revoked"
    STOPPING = "the server stops"


class Waiter:
    """One device that waits.

    Args:
        alias: Its alias.
        patient_id: Whose it is.
    """

    __slots__ = ("_signal", "alias", "end", "patient_id", "woken")

    def __init__(self, alias: int, patient_id: str) -> None:
        self.alias = alias
        self.patient_id = patient_id
        self.woken = False
        self.end: End | None = None
        self._signal = asyncio.Event()

    def wake(self) -> None:
        """Something is there for it."""
        self.woken = True
        self._signal.set()

    def finish(self, why: End) -> None:
        """Its wait is over; the first reason stays."""
        self.end = self.end or why
        self._signal.set()

    async def next(self) -> End | None:
        """Wait for the next wake (``None``) or the end."""
        await self._signal.wait()
        self._signal.clear()
        if self.end is None:
            self.woken = False
        return self.end


class WakeRegistry:
    """All waiters of this process.

    Args:
        sockets_max: How many there may be.
    """

    def __init__(self, sockets_max: int = limits.WAKE_SOCKETS_MAX) -> None:
        self._sockets_max = sockets_max
        self._waiters: dict[int, Waiter] = {}
        self._by_patient: defaultdict[str, set[Waiter]] = defaultdict(set)
        self.seen_seq: int | None = None
        """Up to which commit all waiters were told; ``None`` while nobody waits."""

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def waiters(self) -> Sequence[tuple[int, str]]:
        """(alias, patient id) of all that wait."""
        return [(waiter.alias, waiter.patient_id) for waiter in self._waiters.values()]

    def add(self, alias: int, patient_id: str) -> Waiter:
        """Let a device wait, in place of an earlier wait of its own.

        Raises:
            Busy: Too many wait.
        """
        earlier = self._waiters.get(alias)
        if earlier is None and len(self._waiters) >= self._sockets_max:
            raise Busy("too many devices wait to be woken", "poll slowly", limits.RETRY_AFTER_MAX_S)
        if earlier is not None:
            self.remove(earlier)
            earlier.finish(End.REPLACED)
        waiter = self._waiters[alias] = Waiter(alias, patient_id)
        self._by_patient[patient_id].add(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Forget a waiter; twice is allowed."""
        if self._waiters.get(waiter.alias) is waiter:
            del self._waiters[waiter.alias]
        of_patient = self._by_patient.get(waiter.patient_id)
        if of_patient is not None:
            of_patient.discard(waiter)
            if not of_patient:
                del self._by_patient[waiter.patient_id]
        if not self._waiters:
            self.seen_seq = None

    def committed(self, batch: Committed) -> None:
        """This process committed: wake who is concerned."""
        for patient_id, origin in batch.touched:
            waiters = self._waiters.values() if patient_id == WHOLE_TENANT else self._by_patient.get(patient_id, ())
            for waiter in waiters:
                if waiter.alias != origin:
                    waiter.wake()
        # Only if nothing of another process lies between is everything up to here told.
        if self.seen_seq == batch.after_seq:
            self.seen_seq = batch.commit_seq

    def begin(self, head_seq: int) -> None:
        """Note where the shard stood when the first of those who wait came."""
        if self._waiters and self.seen_seq is None:
            self.seen_seq = head_seq

    def wake(self, aliases: Iterable[int]) -> None:
        """Wake devices by name."""
        for alias in aliases:
            if alias in self._waiters:
                self._waiters[alias].wake()

    def end(self, aliases: Iterable[int], why: End) -> None:
        """End the wait of devices by name."""
        for alias in list(aliases):
            if alias in self._waiters:
                self._waiters[alias].finish(why)

    def end_all(self, why: End) -> None:
        """End every wait."""
        self.end(list(self._waiters), why)


class Changes(Protocol):
    """What is asked of the database."""

    async def head_seq(self) -> int:
        """The shard's last commit sequence."""
        ...

    async def touched(self, after_seq: int, waiters: Sequence[tuple[int, str]]) -> set[int]:
        """Aliases of those for whom something by somebody else was committed after ``after_seq``."""
        ...

    async def revoked(self, aliases: Sequence[int]) -> set[int]:
        """Which of these devices were revoked."""
        ...


class WakePoll:
    """Looks for what other processes did.

    Args:
        registry: Who waits here.
        changes: Where to look.
        interval_s: How often.
    """

    def __init__(
        self, registry: WakeRegistry, changes: Changes, interval_s: float = limits.WAKE_POLL_INTERVAL_S
    ) -> None:
        self._registry = registry
        self._changes = changes
        self._interval_s = interval_s

    async def join(self, alias: int, patient_id: str) -> Waiter:
        """Let a device wait; it is woken by whatever is committed after this returned, and maybe by a little before.

        Raises:
            Busy: Too many wait, or no database.
        """
        waiter = self._registry.add(alias, patient_id)
        if self._registry.seen_seq is None:
            try:
                head_seq = await self._changes.head_seq()
            except BaseException:
                self._registry.remove(waiter)
                raise
            self._registry.begin(head_seq)
        return waiter

    async def look(self) -> None:
        """Look once.

        Raises:
            Busy: No database.
        """
        after_seq = self._registry.seen_seq
        if after_seq is None:
            return
        for page in _pages(self._registry.waiters):
            self._registry.end(await self._changes.revoked([alias for alias, _ in page]), End.REVOKED)
        head_seq = await self._changes.head_seq()
        if head_seq == self._registry.seen_seq:
            return
        for page in _pages(self._registry.waiters):
            self._registry.wake(await self._changes.touched(after_seq, page))
        if self._registry.seen_seq is not None:
            self._registry.seen_seq = max(self._registry.seen_seq, head_seq)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look, again and again, while the block runs."""
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
                await self.look()
            except Busy:
                _log.warning("can't look for other servers' commits; waiting devices poll slowly meanwhile")


def _pages(waiters: Sequence[tuple[int, str]]) -> Iterable[Sequence[tuple[int, str]]]:
    """Waiters, as many at a time as one statement asks about."""
    size = limits.WAKE_POLL_DEVICES
    return (waiters[first : first + size] for first in range(0, len(waiters), size))
