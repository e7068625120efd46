"""A packet with a stamp, seen against a line: where it begins, how late it is, whether it fits. Pure.

It deliberately decides nothing: ``timeline`` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.clock_drift import DriftLine
from einthoven.placed_samples import MIN_SHIFTED_MATCH, Overlap, PlacedSamples

RECENT_PACKETS: Final = 64
"""Packets whose stamp and samples are remembered."""


@dataclass(frozen=True, slots=True)
class StampedPacket:
    """Samples of which one is stamped.

    Attributes:
        samples_uv: int32 [n] microvolts.
        anchor: The stamped sample, counted from the first; negative if it was cut off.
        stamp_ns: When it was taken by the sensor's clock, ns.
        received_ns: Arrival, UTC, ns since 1970, where known.
        seen_at: Samples that had been placed when it came.
    """

    samples_uv: NDArray[np.int32]
    anchor: int
    stamp_ns: int
    received_ns: int | None
    seen_at: int

    def __len__(self) -> int:
        return len(self.samples_uv)

    def without_first(self, n: int) -> StampedPacket:
        """The rest after the first ``n`` samples."""
        return replace(self, samples_uv=self.samples_uv[n:], anchor=self.anchor - n) if n else self

    def seen_anew(self, at: int) -> StampedPacket:
        """The same, as if it had come when ``at`` samples had been placed."""
        return replace(self, seen_at=at)

    def is_copy_of(self, other: StampedPacket) -> bool:
        """Whether stamp and samples are the same; at 1000 Hz, ms stamps of single samples can be so by chance."""
        return len(self) > 1 and self.stamp_ns == other.stamp_ns and np.array_equal(self.samples_uv, other.samples_uv)

    def begins_ns(self, line: DriftLine) -> int:
        """When its first sample was taken, by its stamp."""
        return self.stamp_ns - line.ns_in(self.anchor)

    def ends_ns(self, line: DriftLine) -> int:
        """When its last sample was taken, by its stamp."""
        return self.stamp_ns + line.ns_in(len(self) - 1 - self.anchor)

    def late_ns(self, line: DriftLine, first: int) -> int:
        """How late its stamp is, were its first sample the line's sample ``first``."""
        return self.stamp_ns - line.ns_at(first + self.anchor)

    def tolerance_ns(self, line: DriftLine, first: int) -> int:
        """How late it may be there and still fit."""
        return line.tolerance_ns(first + self.anchor, len(self))

    def fits(self, line: DriftLine, first: int) -> bool:
        """Whether its first sample can be the line's sample ``first``."""
        return abs(self.late_ns(line, first)) <= self.tolerance_ns(line, first)


class RecentPackets:
    """The packets that were placed last, to know a copy whatever the line says.

    Args:
        keep: Samples to keep; the last packet is kept anyhow, and ``RECENT_PACKETS`` at most.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._packets: deque[StampedPacket] = deque(maxlen=RECENT_PACKETS)

    def append(self, packet: StampedPacket) -> None:
        """Remember a packet."""
        self._packets.append(packet)
        while len(self._packets) > 1 and sum(map(len, self._packets)) > self._keep:
            self._packets.popleft()

    def hold(self, packet: StampedPacket) -> bool:
        """Whether the same packet, stamp and samples, was placed just now."""
        return any(packet.is_copy_of(other) for other in self._packets)


def copied_samples(packet: StampedPacket, placed: PlacedSamples, line: DriftLine, first: int) -> int:
    """How many of its first samples a packet repeats that fits at ``first``, but early: by jitter, or by overlap."""
    early = line.samples_in(-packet.late_ns(line, first))
    if early < MIN_SHIFTED_MATCH:
        return 0
    slack = min(early, line.samples_in(packet.tolerance_ns(line, first)))
    found = placed.compare(packet.samples_uv, early, slack)
    head = packet.samples_uv[: found.past]
    certain = found.overlap is Overlap.COPY and MIN_SHIFTED_MATCH <= found.past < len(packet)
    return found.past if certain and head.min() != head.max() else 0  # a flat line repeats itself


def in_order(packets: Iterable[StampedPacket], line: DriftLine) -> list[StampedPacket]:
    """Packets by when they begin."""
    return sorted(packets, key=lambda packet: packet.begins_ns(line))


def overlapping(packets: Iterable[StampedPacket], line: DriftLine, first: int, tolerance_ns: int) -> bool:
    """Whether some packets can't all be right, from sample ``first`` of the line on, whatever their order."""
    ends_ns = line.ns_at(first)
    for packet in in_order(packets, line):
        if packet.begins_ns(line) < ends_ns - tolerance_ns:
            return True
        ends_ns = packet.begins_ns(line) + line.ns_in(len(packet))
    return False


def stretches(packets: Iterable[StampedPacket], line: DriftLine, first: int) -> list[list[StampedPacket]]:
    """Packets in stretches without a gap, earliest first; ``first`` is the sample that the line goes on at."""
    found: list[list[StampedPacket]] = []
    follows_ns = tolerance_ns = 0
    for packet in in_order(packets, line):
        begins_ns = packet.begins_ns(line)
        if not found or abs(begins_ns - follows_ns) > tolerance_ns:
            found.append([])
        found[-1].append(packet)
        follows_ns = begins_ns + line.ns_in(len(packet))
        tolerance_ns = line.tolerance_ns(first + len(packet), len(packet))
    return found


def stretch_late_ns(stretch: Iterable[StampedPacket], line: DriftLine, first: int) -> int:
    """How late a stretch is by the median of its stamps, were it placed from the line's sample ``first`` on."""
    late = []
    for packet in stretch:
        late.append(packet.late_ns(line, first))
        first += len(packet)
    return sorted(late)[(len(late) - 1) // 2]
