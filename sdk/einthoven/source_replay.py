"""A recorded ``Source`` sent as live packets, at real or any other speed, intact or with faults. The shell of a replay.

For demonstrations, for tests, and to try an app without a sensor. Time is a port: who passes ``monotonic_s`` and
``sleep`` decides how long a minute is. It deliberately invents no samples: a fault loses, doubles, delays or restamps
packets, and drift changes stamps alone.

Invariants:
    1. Without faults, the packets' samples are the source's, in order, and their stamps are exact.
    2. The same source, faults and seed give the same packets.
    3. One packet is in memory at a time, and with reordering those that wait (``MAX_DELAY_PACKETS``).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.clock import SystemClock
from einthoven.errors import InputError
from einthoven.events import SensorChanged, SensorEvent, SensorState
from einthoven.ports import Clock, Packet, Source

PACKET_MS: Final = 500
"""Length of a packet unless another is asked for, ms; a Polar H10's are 562."""
MAX_PACKET_SAMPLES: Final = 60_000
MAX_SPEED: Final = 100_000
MAX_DELAY_PACKETS: Final = 3
"""Packets by which a reordered one comes later, at most."""
MAX_DRIFT_PPM: Final = 20_000

_NS_PER_S: Final = 10**9


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to packets on the way.

    Attributes:
        lost_permille: Packets that never arrive, of 1000.
        doubled_permille: Packets that arrive twice, of 1000.
        reordered_permille: Packets that arrive up to ``MAX_DELAY_PACKETS`` packets later, of 1000.
        jitter_ms: Stamps are off by up to so much, evenly, to either side.
        drift_ppm: The sensor samples so much faster (positive) or slower than it says, millionths.
        seed: Of the generator that decides.
    """

    lost_permille: int = 0
    doubled_permille: int = 0
    reordered_permille: int = 0
    jitter_ms: int = 0
    drift_ppm: int = 0
    seed: int = 0


class ReplaySource:
    """A ``LiveSource`` over a recording.

    Args:
        source: What to replay.
        speed: Times real time; 0 is as fast as it is taken.
        packet_samples: Samples of a packet; half a second, if not given.
        faults: What happens on the way; nothing, if not given.
        clock: Dates a source that has no date: it begins now.
        monotonic_s: Seconds that only go forward; the machine's, if not given.
        sleep: Waits for seconds; asyncio's, if not given.

    Raises:
        InputError: A speed or packet length out of range.
    """

    def __init__(
        self,
        source: Source,
        *,
        speed: float = 1.0,
        packet_samples: int | None = None,
        faults: Faults | None = None,
        clock: Clock | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not 0 <= speed <= MAX_SPEED:
            raise InputError("the replay's speed is out of range", f"give 0 (as fast as it goes) to {MAX_SPEED}")
        if packet_samples is None:
            packet_samples = max(1, int(PACKET_MS * source.sampling_rate_hz / 1000))
        if not 1 <= packet_samples <= MAX_PACKET_SAMPLES:
            raise InputError("the packets' length is out of range", f"give 1 to {MAX_PACKET_SAMPLES} samples")
        faults = faults or Faults()
        if abs(faults.drift_ppm) > MAX_DRIFT_PPM:
            raise InputError("the replay's drift is out of range", f"give up to {MAX_DRIFT_PPM} millionths")
        self._source = source
        self._speed = speed
        self._packet_samples = packet_samples
        self._faults = faults
        self._clock = clock or SystemClock()
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._listener: Callable[[SensorEvent], None] | None = None
        self._started_at_ms: int | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The recording's name, and that it is replayed."""
        return f"{self._source.name}, replayed"

    @property
    def simulated(self) -> bool:
        """Whether the recording is of no heart."""
        return self._source.simulated

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Nominal samples a second, exact."""
        return self._source.sampling_rate_hz

    def listen(self, listener: Callable[[SensorEvent], None]) -> None:
        """Call ``listener`` with what happens to the sensor."""
        self._listener = listener

    async def start(self) -> None:
        """Set the time of the first sample."""
        known = self._source.started_at_ms
        self._started_at_ms = self._clock.now_ms() if known is None else known

    async def packets(self) -> AsyncGenerator[Packet, None]:
        """Yield packets when their last sample would have been taken, by the speed asked for.

        Raises:
            InputError: The recording can't be read to its end.
        """
        if self._started_at_ms is None:
            await self.start()
        begun_s = self._monotonic_s()
        self._tell(SensorState.STREAMING)
        for taken_s, packet in self._on_the_way():
            if self._speed:
                wait_s = begun_s + taken_s / self._speed - self._monotonic_s()
                await self._sleep(max(0.0, wait_s))
            else:
                await asyncio.sleep(0)  # others get their turn
            if self._closed:
                return
            yield packet
        await self.close()

    async def close(self) -> None:
        """End the replay."""
        if not self._closed:
            self._closed = True
            self._tell(SensorState.CLOSED)

    def _tell(self, state: SensorState) -> None:
        if self._listener is not None:
            self._listener(SensorChanged(self._clock.now_ms(), state))

    def _cut(self) -> Iterator[NDArray[np.int32]]:
        """The recording in packets; the last may be shorter."""
        waiting = np.empty(0, np.int32)
        for chunk in self._source.chunks():
            waiting = np.concatenate([waiting, chunk])
            whole = len(waiting) - len(waiting) % self._packet_samples
            for first in range(0, whole, self._packet_samples):
                yield waiting[first : first + self._packet_samples]
            waiting = waiting[whole:]
        if len(waiting):
            yield waiting

    def _on_the_way(self) -> Iterator[tuple[float, Packet]]:
        """Seconds from the beginning at which a packet arrives, and the packet; in that order."""
        assert self._started_at_ms is not None
        faults = self._faults
        rng = np.random.default_rng(faults.seed)
        rate = self.sampling_rate_hz * (1_000_000 + faults.drift_ppm) / 1_000_000
        arriving: list[tuple[int, int, float, Packet]] = []
        first = order = 0
        for index, samples_uv in enumerate(self._cut()):
            stamp_ns = self._started_at_ms * 1_000_000 + int(first * _NS_PER_S / rate)
            stamp_ns += int(rng.integers(-faults.jitter_ms, faults.jitter_ms, endpoint=True)) * 1_000_000
            first += len(samples_uv)
            lost, doubled, reordered = rng.integers(0, 1000, 3).tolist()
            packet = Packet(samples_uv, stamp_ns)
            due = index
            if reordered < faults.reordered_permille:
                due += int(rng.integers(1, MAX_DELAY_PACKETS, endpoint=True))
            if lost >= faults.lost_permille:
                for _ in range(2 if doubled < faults.doubled_permille else 1):
                    heapq.heappush(arriving, (due, order, float(first / rate), packet))
                    order += 1
            while arriving and arriving[0][0] <= index:
                yield float(first / rate), heapq.heappop(arriving)[3]
        while arriving:
            yield float(first / rate), heapq.heappop(arriving)[3]
