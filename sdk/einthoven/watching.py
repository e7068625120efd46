"""Keeps a store in step with its server for as long as it runs: exchange, wait until something happens, exchange again.

Something happens when the patient's device writes, when the server says so (``Wake``), or when it is time to look.
When an exchange may then run is ``sync_policy``'s to say; what it does is ``syncing``'s. It deliberately does not hold
the store while it waits, and shows nothing: what happens is told to ``take``, in values without content.

Invariants:
    1. One exchange at a time. What failed is tried again after the policy's wait, for as long as this runs; only an
       error that trying again can't mend ends it.
    2. Raw signals go last, a slice between two exchanges, and give way to whatever else comes up.
    3. ``run`` ends at once when it is asked to: an exchange that is cut off is simply done again (``syncing``).
    4. The line that wakes is a help and no more: without it, everything comes by the slow look. Each time it opens an
       exchange follows, for nobody woke this device while it was closed.
    5. What an exchange left waiting, because the server does not take it, hurries nothing until more is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from random import SystemRandom
from typing import Final

from einthoven.clock import SystemClock
from einthoven.errors import (
    DeviceRefused,
    EinthovenError,
    ServerBusy,
    ServerUnreachable,
    StoreDamaged,
    StoreIOError,
    SyncError,
    TransportError,
)
from einthoven.identity import Identity, load_identity
from einthoven.ports import Clock, Store, SyncState
from einthoven.signal_upload import SignalStop, send_signals
from einthoven.sync_policy import Lane, Standing, Surroundings, listens, push_results, signals_allowed, wait_s
from einthoven.sync_report import SyncReport
from einthoven.sync_waiting import waiting_lane
from einthoven.syncing import sync
from einthoven.transport_https import HttpsTransport
from einthoven.wake_line import LoopTimer, keep_line
from einthoven.wake_websocket import WebSocketWake
from einthoven.watch_events import LineLost, LineOpened, SignalsSent, Synced, SyncFailed, WatchEvent, Woken
from einthoven.watch_parts import Channel, WatchParts
from einthoven_protocol.messages import Capability

LOOK_EVERY_S: Final = 10.0
"""Longest wait before the store, the battery and the network are looked at again."""
REFUSED_WAIT_S: Final = 60.0
"""Shortest wait after a refusal that a person has to mend: a clock that is off, a device that was revoked."""

SIGNAL_SLICE_BYTES: Final = 16 * 1024 * 1024
"""Raw signal that goes between two exchanges at most: two days of one lead."""


class Watcher:
    """Watches one store.

    Args:
        parts: What it needs of the world.
    """

    def __init__(self, parts: WatchParts) -> None:
        self._parts = parts
        self._standing = Standing()
        self._changed = asyncio.Event()
        self._news = False
        self._left: SyncState | None = None
        self._last_error: EinthovenError | None = None
        self._enrolled: Identity | None = None
        self._channel: Channel | None = None
        self._signals_left = False
        self._line: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Say that something was written, from the event loop's thread: an urgent result should not wait for a look."""
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until asked to stop.

        Raises:
            NotEnrolled: The store belongs to no server yet.
            StoreError: The store can't be used, and trying again won't help.
        """
        watching = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, watching):
                if not task.done():
                    task.cancel()
            await asyncio.gather(stopping, watching, return_exceptions=True)
            await self._let_go()
        if not watching.cancelled():
            watching.result()

    async def _watch(self) -> None:
        while True:
            await self._exchange()
            await self._until_due()

    async def _exchange(self) -> None:
        """One attempt, and what it says of the next."""
        self._news = False
        try:
            with self._parts.borrow() as store:
                channel = await self._connected(await asyncio.to_thread(load_identity, store))
                report = await sync(
                    store,
                    transport=channel,
                    clock=self._parts.clock,
                    max_results=push_results(self._standing.failures),
                )
                self._succeeded(report)
                await self._send_signals(store, channel)
        except (TransportError, SyncError, StoreIOError) as error:
            if isinstance(error, StoreDamaged):
                raise
            self._failed(error)

    def _succeeded(self, report: SyncReport) -> None:
        self._left = report.state
        self._last_error = None
        self._standing = Standing(
            exchanged_at_s=self._parts.timer.now_s(), min_interval_s=report.state.limits.min_interval_s
        )
        self._parts.take(Synced(report))

    async def _send_signals(self, store: Store, channel: Channel) -> None:
        """The lowest lane: a slice of what waits, unless something more urgent comes up."""
        self._signals_left = False
        if not self._serves(Capability.SIGNALS) or not signals_allowed(self._parts.surroundings()):
            return
        report = await send_signals(
            store,
            transport=channel,
            clock=self._parts.clock,
            budget_bytes=SIGNAL_SLICE_BYTES,
            may_send=lambda: not self._changed.is_set() and signals_allowed(self._parts.surroundings()),
            only_full=True,
        )
        self._signals_left = report.stopped is SignalStop.BUDGET
        if report.segments:
            self._parts.take(SignalsSent(report))

    def _serves(self, capability: Capability) -> bool:
        return self._left is not None and bool(self._left.capabilities & capability)

    def _failed(self, error: EinthovenError) -> None:
        failures = self._standing.failures + 1
        retry_after_s = error.retry_after_s if isinstance(error, ServerBusy) else 0.0
        if isinstance(error, DeviceRefused):
            retry_after_s = REFUSED_WAIT_S
        self._last_error = error
        self._standing = replace(
            self._standing,
            failed_at_s=self._parts.timer.now_s(),
            failures=failures,
            retry_after_s=retry_after_s,
            chance=self._parts.chance(),
        )
        self._parts.take(SyncFailed(error, failures))

    async def _until_due(self) -> None:
        """Return when the next exchange may run."""
        while True:
            surroundings = self._parts.surroundings()
            await self._tend_line(surroundings)
            lane = max(await asyncio.to_thread(self._lane), Lane.SIGNAL if self._signals_left else Lane.POLL)
            waits_s = wait_s(lane, surroundings, self._standing, self._parts.timer.now_s())
            if waits_s is not None and waits_s <= 0:
                return
            await self._pause(LOOK_EVERY_S if waits_s is None else min(waits_s, LOOK_EVERY_S))

    def _lane(self) -> Lane:
        """The most urgent of what waits; a store that can't be looked at has nothing to say."""
        try:
            with self._parts.borrow() as store:
                state = store.sync_state()
        except StoreIOError:
            return Lane.NEWS if self._news else Lane.POLL
        return waiting_lane(state, self._left, news=self._news)

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until something changes."""
        changed = asyncio.create_task(self._changed.wait())
        slept = asyncio.create_task(self._parts.timer.sleep(seconds))
        try:
            await asyncio.wait({changed, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            slept.cancel()
            await asyncio.gather(changed, slept, return_exceptions=True)
        self._changed.clear()

    async def _connected(self, identity: Identity) -> Channel:
        """The way to the server of this enrolment, kept open between exchanges."""
        if self._channel is None or identity != self._enrolled:
            await self._let_go()
            self._enrolled, self._channel = identity, self._parts.connect(identity)
        return self._channel

    async def _tend_line(self, surroundings: Surroundings) -> None:
        """Keep the line open where the server has one and the battery allows it."""
        wanted = self._serves(Capability.WAKE) and listens(surroundings)
        if self._parts.line is None or self._enrolled is None or not wanted:
            await self._hang_up()
        elif self._line is None:
            self._line = asyncio.create_task(
                keep_line(
                    self._parts.line(self._enrolled),
                    self._parts.timer,
                    self._parts.chance,
                    opened=self._line_opened,
                    lost=lambda error: self._parts.take(LineLost(error)),
                    woken=self._woken,
                )
            )

    def _line_opened(self) -> None:
        self._parts.take(LineOpened())
        if isinstance(self._last_error, ServerUnreachable):
            self._standing = replace(self._standing, failures=0)
        self._news = True
        self._changed.set()

    def _woken(self) -> None:
        self._parts.take(Woken())
        self._news = True
        self._changed.set()

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.cancel()
            await asyncio.gather(line, return_exceptions=True)

    async def _let_go(self) -> None:
        await self._hang_up()
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


async def watch(
    store: Store,
    *,
    stop: asyncio.Event,
    take: Callable[[WatchEvent], None] = lambda event: None,
    surroundings: Callable[[], Surroundings] = Surroundings,
    clock: Clock | None = None,
) -> None:
    """Keep an open store in step with its server until ``stop`` is set.

    Args:
        store: An enrolled device's store; it stays open.
        stop: Set to end.
        take: Called in the event loop with what happens; must not wait.
        surroundings: Tells battery and network now; plugged in and unmetered, if not given.
        clock: Wall time; the system's, if not given.

    Raises:
        NotEnrolled: The store belongs to no server yet.
        StoreError: The store can't be used, and trying again won't help.
    """
    wall = clock or SystemClock()
    parts = WatchParts(
        borrow=lambda: nullcontext(store),
        connect=lambda identity: HttpsTransport(identity, clock=wall),
        line=lambda identity: WebSocketWake(identity, clock=wall),
        clock=wall,
        timer=LoopTimer(),
        surroundings=surroundings,
        chance=SystemRandom().random,
        take=take,
    )
    await Watcher(parts).run(stop)
