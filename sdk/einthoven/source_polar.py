"""A Polar H10 strap as a ``LiveSource``: ECG at 130 Hz over Bluetooth LE, for as long as it is listened to.

After ``start`` the strap needs 25-30 s until its first ECG (``SensorState.WAITING``). When the connection breaks, or
nothing comes for ``stall_s``, the source looks for the strap again; the time without it shows as a gap in the packets'
stamps. When the source is closed, however that comes about, it tells the strap to stop: one that is not told streams on
until its battery is empty.

It deliberately interprets no signal, keeps at most ``MAX_QUEUED_PACKETS``, and records no address.

Invariants:
    1. Only errors of ``einthoven.errors`` leave it.
    2. Memory is bounded; what is dropped, refused or lost is said to the listener.
    3. Every connection that was opened is closed, its stream stopped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from einthoven.clock import SystemClock
from einthoven.errors import (
    BluetoothUnavailable,
    SensorDisconnected,
    SensorError,
    SensorFrameError,
    SensorNotFound,
)
from einthoven.events import PacketRefused, PacketsDropped, SensorChanged, SensorEvent, SensorState
from einthoven.polar_link import PolarLink
from einthoven.polar_pmd import ECG_RATE_HZ, decode_frame
from einthoven.ports import Clock, Packet, Stamped

MAX_QUEUED_PACKETS: Final = 256
"""Packets that wait to be taken up, the oldest go first: two minutes of ECG."""
MAX_REFUSED_IN_A_ROW: Final = 16
"""Malformed frames in a row after which the stream is given up."""
SILENCE_SLICES: Final = 4
"""Parts in which a silence is waited out. A program that stands still (a freezer, a debugger, a long computation)
finds a timer run out and the frames of that time unread: that costs one part, not the connection."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what.

    Attributes:
        scan_s: For an advertisement of the strap, seconds.
        connect_s: For a connection, seconds.
        first_ecg_s: For the first ECG after the start of the stream, seconds.
        stall_s: For the next packet, seconds.
        backoff_s: Before the second attempt to connect again, seconds; doubles with each, up to ``max_backoff_s``.
        max_backoff_s: Longest pause between attempts, seconds.
        attempts: To connect again, after which the strap is given up.
    """

    scan_s: float = 20.0
    connect_s: float = 20.0
    first_ecg_s: float = 60.0
    stall_s: float = 10.0
    backoff_s: float = 1.0
    max_backoff_s: float = 30.0
    attempts: int = 10


class PolarSource:
    """ECG of a Polar H10.

    Args:
        address: Bluetooth address of the strap (on macOS, the identifier the system gives it).
        name: Its full name, for instance ``Polar H10 12345678``. Without either, the first Polar H10 in reach.
        patience: How long to wait for what.
        clock: Dates events and arrivals; the system's, if not given.
        sleep: Waits between attempts; asyncio's, if not given.
    """

    name = "Polar H10"
    simulated = False
    sampling_rate_hz = Fraction(ECG_RATE_HZ)

    def __init__(
        self,
        *,
        address: str | None = None,
        name: str | None = None,
        patience: Patience | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._address = address
        self._wanted_name = name
        self._patience = patience or Patience()
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._listener: Callable[[SensorEvent], None] | None = None
        self._link: PolarLink | None = None
        self._queue: deque[Packet] = deque()
        self._wake = asyncio.Event()
        self._lost = False
        self._closed = False
        self._streamed = False
        self._refused_in_a_row = 0
        self._state: SensorState | None = None

    def listen(self, listener: Callable[[SensorEvent], None]) -> None:
        """Call ``listener`` with what happens to the strap."""
        self._listener = listener

    async def start(self) -> None:
        """Find the strap, connect, and start its ECG.

        Raises:
            SensorNotFound: None is in reach.
            BluetoothUnavailable: There is no radio, it is off, or this program may not use it.
            SensorRefused: The strap does not give its ECG.
            SensorDisconnected: It does not answer.
            InputError: bleak is not installed.
        """
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def packets(self) -> AsyncGenerator[Packet, None]:
        """Yield packets as they arrive; start the strap first, if that was not done.

        Raises:
            SensorDisconnected: The strap was lost, and did not come back.
            SensorFrameError: It sends what can't be read.
            SensorError: Another of its kinds, when connecting again.
        """
        if self._link is None and not self._closed:
            await self.start()
        try:
            while True:
                while self._queue:
                    yield self._queue.popleft()
                if self._closed:
                    return
                if self._refused_in_a_row >= MAX_REFUSED_IN_A_ROW:
                    raise SensorFrameError(
                        f"{MAX_REFUSED_IN_A_ROW} frames in a row can't be read", "update the sensor's firmware"
                    )
                if self._lost:
                    await self._reopen()
                await self._something()
        finally:
            await self.close()

    async def close(self) -> None:
        """Tell the strap to stop and disconnect. Never raises; closing twice is allowed."""
        self._closed = True
        self._wake.set()
        # A task of its own: who is cancelled while closing must not leave the strap streaming.
        closing = asyncio.ensure_future(self._let_go())
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as late:
                cancelled = late
        self._tell(SensorState.CLOSED)
        if cancelled is not None:
            raise cancelled

    async def _open(self) -> None:
        patience = self._patience
        self._lost = self._streamed = False
        self._refused_in_a_row = 0
        link = PolarLink(self._take_frame, lambda: self._note_lost(link))
        self._link = link
        if self._state is not SensorState.RECONNECTING:
            self._tell(SensorState.SEARCHING)
        device: Any = await link.find(self._address, self._wanted_name, patience.scan_s)
        if self._state is not SensorState.RECONNECTING:
            self._tell(SensorState.CONNECTING)
        await link.connect(device, patience.connect_s)
        self._address = device.address  # the same strap, should it be lost
        await link.start()
        if not self._streamed:
            self._tell(SensorState.WAITING)

    async def _reopen(self) -> None:
        """Look for the strap again, at growing intervals.

        Raises:
            SensorDisconnected: The attempts are used up.
        """
        self._tell(SensorState.RECONNECTING)
        problem: SensorError | None = None
        pause_s = self._patience.backoff_s
        for attempt in range(self._patience.attempts):
            await self._let_go()
            if attempt:
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, self._patience.max_backoff_s)
            if self._closed:
                return
            try:
                await self._open()
            except (SensorNotFound, SensorDisconnected, BluetoothUnavailable) as again:
                problem = again
            else:
                return
        raise SensorDisconnected(
            f"the sensor did not come back in {self._patience.attempts} attempts", "wear it, near by, and start again"
        ) from problem

    async def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _something(self) -> None:
        """Wait until something happens; a silence that is too long is a loss."""
        self._wake.clear()
        if self._queue or self._lost or self._closed:
            return
        for _ in range(SILENCE_SLICES):
            silence_s = self._patience.stall_s if self._streamed else self._patience.first_ecg_s
            with suppress(TimeoutError):
                async with asyncio.timeout(silence_s / SILENCE_SLICES):
                    await self._wake.wait()
                return
        self._lost = True

    def _take_frame(self, value: bytes) -> None:
        try:
            frame = decode_frame(value)
        except SensorFrameError as problem:
            self._refused_in_a_row += 1
            self._say(PacketRefused(self._clock.now_ms(), problem.problem))
        else:
            self._refused_in_a_row = 0
            if len(self._queue) >= MAX_QUEUED_PACKETS:
                self._queue.popleft()
                self._say(PacketsDropped(self._clock.now_ms(), 1))
            now_ms = self._clock.now_ms()
            self._queue.append(Packet(frame.samples_uv, frame.last_sample_ns, Stamped.LAST, now_ms))
            if not self._streamed:
                self._streamed = True
                self._tell(SensorState.STREAMING)
        self._wake.set()

    def _note_lost(self, link: PolarLink) -> None:
        if link is self._link:
            self._lost = True
            self._wake.set()

    def _tell(self, state: SensorState) -> None:
        if state is not self._state:
            self._state = state
            self._say(SensorChanged(self._clock.now_ms(), state))

    def _say(self, event: SensorEvent) -> None:
        if self._listener is not None:
            self._listener(event)
