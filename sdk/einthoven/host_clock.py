"""How a sensor's clock stands to UTC, by when its packets arrived. Pure.

A packet never arrives before its last sample was taken, and some are quick: the least difference between arrival and
stamp over the last ``HOST_WINDOW`` packets is the offset. It is late by the delay of the quickest packet (some 10 ms
over Bluetooth), and follows the drift of the two clocks against each other.

It deliberately places nothing: it dates what is placed. A step of the host's clock is not a gap in the signal.

Invariants:
    1. Memory is bounded by ``HOST_WINDOW``.
    2. One packet that is very late, or dated wrongly, moves nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

HOST_STEP_S: Final = 2
"""Disagreement of the host's and the sensor's clock over which one of them was set, seconds."""
HOST_WINDOW: Final = 256
"""Packets over which the quickest one tells how the sensor's clock stands to UTC."""
HOST_CONFIRMED: Final = 8
HOST_AGREE_S: Final = 1
"""Packets in a row that must agree, to so many seconds, before the host's clock is said to have been set. Those that
a stalled connection delivers at once do not: each is less late than the one before."""
MAX_GAP_S: Final = 86_400
"""Longest step forward of a sensor's clock that is taken for a gap if no arrival tells, seconds."""

_NS_PER_S: Final = 10**9


class HostClock:
    """Compares stamps with arrivals; the offset is 0 until the first."""

    def __init__(self) -> None:
        self._offsets_ns: deque[int] = deque(maxlen=HOST_WINDOW)
        self._stepped_ns: list[int] = []
        self._placed_ns: int | None = None
        self.offset_ns = 0

    def compare(self, ends_ns: int, received_ns: int, *, settled: bool) -> int:
        """Take note of a packet.

        Args:
            ends_ns: Its last sample by the sensor's clock.
            received_ns: Its arrival, UTC, ns since 1970.
            settled: Whether the sensor's clock is known not to have been set.

        Returns:
            How far the host's clock was set, ns; 0 if it was not.
        """
        offset_ns = received_ns - ends_ns
        step_ns = offset_ns - self.offset_ns if self._offsets_ns else 0
        if abs(step_ns) <= HOST_STEP_S * _NS_PER_S:
            self._stepped_ns = []
            self._offsets_ns.append(offset_ns)
            self.offset_ns = min(self._offsets_ns)
            return 0
        agree = self._stepped_ns and abs(offset_ns - self._stepped_ns[0]) <= HOST_AGREE_S * _NS_PER_S
        self._stepped_ns = [*self._stepped_ns, offset_ns][-HOST_CONFIRMED:] if agree else [offset_ns]
        if len(self._stepped_ns) < HOST_CONFIRMED or not settled:
            return 0
        self.restart()
        self._offsets_ns.append(offset_ns)
        self.offset_ns = offset_ns
        return step_ns

    def restart(self) -> None:
        """Forget what was compared, not the offset: the sensor's clock was set, or nobody knows."""
        self._offsets_ns.clear()
        self._stepped_ns = []

    def note_placed(self, received_ns: int | None) -> None:
        """Remember when the packet that was placed last arrived."""
        self._placed_ns = received_ns

    def sensor_set_ns(self, late_ns: int, received_ns: int | None, length_ns: int) -> int:
        """How far the sensor's clock was set before a packet, ns; 0 if it was not.

        Args:
            late_ns: How late the packet's stamp is, were it placed next.
            received_ns: Its arrival. With it, the host saw how much time no packet covers.
            length_ns: Its length.
        """
        if received_ns is None or self._placed_ns is None:
            return 0 if 0 < late_ns <= MAX_GAP_S * _NS_PER_S else late_ns
        ahead_ns = late_ns - (received_ns - self._placed_ns - length_ns)
        return ahead_ns if abs(ahead_ns) > HOST_STEP_S * _NS_PER_S or late_ns <= 0 else 0
