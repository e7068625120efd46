"""Puts packets on one time line, whatever happened to them on the way. Pure, integers throughout.

A packet goes where its stamp says, by the line of ``clock_drift``. One that does not fit waits, at most
``REORDER_S`` seconds of signal, for what explains it::

    fits the next place                     placed, and with it those that waited for it
    fits after all that wait, in order      their stamps were wrong: all placed by their order
    begins in the past, same samples        a copy: dropped
    begins in the past, place was given up  late: dropped
    still unexplained after REORDER_S       in the future: a gap; in the past, or far off: the clock was set

It deliberately never stretches or squeezes samples, and never judges a signal. It can't tell a loss shorter than the
stamps scatter (15 to 80 ms, ``DriftLine.tolerance_ns``) from jitter, nor a clock that is set forward by less than
``GAP_FILL_MAX_S`` from a loss, if the packets do not say when they were received; both show in the times at once.

Invariants:
    1. Every sample is placed at most once, in one run; the first copy wins.
    2. What is placed on one line is contiguous: missing samples are placed as ``MISSING_UV``, and said.
    3. Every sample that was pushed is placed, or said to be dropped.
    4. Without stamps, samples are placed as they come, and sample i is at ``started_at_ms + i / nominal rate``.
    5. At most ``REORDER_S`` seconds of samples and one packet wait; at most ``GAP_FILL_MAX_S`` are remembered.
    6. The time of a sample at the end of the line is the line's: an error of its rate does not add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.clock_drift import MAX_TOLERANCE_MS, DriftLine
from einthoven.events import (
    ClockJumped,
    GapFound,
    LateDropped,
    OverlapDropped,
    RateEstimated,
    StampIgnored,
    TimeEvent,
)
from einthoven.host_clock import HostClock
from einthoven.placed_samples import Overlap, PlacedSamples
from einthoven.ports import MISSING_UV, Packet, Stamped
from einthoven.stamped_packet import (
    RecentPackets,
    StampedPacket,
    copied_samples,
    in_order,
    overlapping,
    stretch_late_ns,
    stretches,
)

REORDER_S: Final = 2
"""Seconds of signal that may wait for a packet that is late or for an explanation."""
GAP_FILL_MAX_S: Final = 10
"""Longest gap that is filled, seconds; after a longer one a new line begins."""
RATE_STEP_PPM: Final = 500
"""Change of the estimated rate that is worth an event, millionths: 0.05 % of a heart rate."""

_NS_PER_S: Final = 10**9
_NS_PER_MS: Final = 10**6


@dataclass(frozen=True, slots=True)
class Run:
    """Take these samples next: int32 [n]."""

    samples_uv: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class NewLine:
    """Finish what was begun: the next sample is sample 0 of another line."""


Placed = Run | NewLine | TimeEvent


class Timeline:
    """Places packets.

    Args:
        sampling_rate_hz: Nominal samples a second, exact.
        started_at_ms: UTC of sample 0 for a stream without stamps, ms since 1970.
    """

    def __init__(self, sampling_rate_hz: Fraction, started_at_ms: int) -> None:
        self._nominal_hz = sampling_rate_hz
        self._line = DriftLine(sampling_rate_hz, started_at_ms * _NS_PER_MS)
        self._count = self._begun = 0  # samples placed on all lines, and before this one
        self._anchored = False
        self._held: list[StampedPacket] = []  # in order of arrival
        self._history = PlacedSamples(int(GAP_FILL_MAX_S * sampling_rate_hz))
        self._host = HostClock()
        self._recent = RecentPackets(int(GAP_FILL_MAX_S * sampling_rate_hz))
        self._said_ppm = 0

    @property
    def rate_hz(self) -> Fraction:
        """Samples a second by the stamps; nominal while they are none, or span too little (``clock_drift``)."""
        return self._line.rate_hz

    @property
    def waiting(self) -> int:
        """Samples that wait to be placed."""
        return sum(len(entry) for entry in self._held)

    def at_ms(self, sample: int) -> int:
        """UTC of a sample of the present line by its index, rounded down to ms."""
        return (self._line.ns_at(self._begun + sample) + self._host.offset_ns) // _NS_PER_MS

    def push(self, packet: Packet) -> Iterator[Placed]:
        """Yield what to do now, in order. Take it up item by item: ``at_ms`` speaks of the item yielded last."""
        if not len(packet.samples_uv):
            return
        if packet.stamp_ns is None and not self._held:
            yield self._take(packet.samples_uv)
            return
        entry = self._entry(packet)
        if self._recent.hold(entry) or any(entry.is_copy_of(other) for other in self._held):
            yield OverlapDropped(*self._span_ms(entry, len(entry)))
            return
        yield from self._compare_clocks(entry)
        if not self._anchored and not self._count:
            self._begin(entry)
        if self._follows_on_waiting(entry):
            yield from self._in_order_of_arrival(entry)
        elif entry.fits(self._line, self._count):
            copied = copied_samples(entry, self._history, self._line, self._count)
            if copied:
                yield OverlapDropped(*self._span_ms(entry, copied))
            yield from self._place(entry.without_first(copied))
            yield from self._place_waiting()
        else:
            yield from self._explain(entry)
            while self.waiting >= REORDER_S * self._nominal_hz:
                yield from self._settle()

    def flush(self) -> Iterator[Placed]:
        """Yield what is to be done with the packets that still wait; nothing does afterwards."""
        while self._held:
            yield from self._settle()

    def _entry(self, packet: Packet) -> StampedPacket:
        n = len(packet.samples_uv)
        anchor = n - 1 if packet.stamped is Stamped.LAST else 0
        received_ns = None if packet.received_at_ms is None else packet.received_at_ms * _NS_PER_MS
        if packet.stamp_ns is not None:
            return StampedPacket(packet.samples_uv, anchor, packet.stamp_ns, received_ns, self._count)
        before = self._held[-1]  # it follows what came before, wherever that goes
        stamp_ns = before.stamp_ns + self._line.ns_in(len(before) - before.anchor)
        return StampedPacket(packet.samples_uv, 0, stamp_ns, received_ns, self._count)

    def _begin(self, entry: StampedPacket) -> None:
        """The first stamp says when the line begins."""
        self._line = DriftLine(self._nominal_hz, entry.begins_ns(self._line))
        self._anchored = True

    def _compare_clocks(self, entry: StampedPacket) -> Iterator[Placed]:
        if entry.received_ns is None:
            return
        jump_ns = self._host.compare(entry.ends_ns(self._line), entry.received_ns, settled=not self._held)
        if jump_ns:
            yield ClockJumped(self._now_ms(), jump_ns // _NS_PER_MS)

    def _follows_on_waiting(self, entry: StampedPacket) -> bool:
        """Whether a packet follows on all that wait by their order, and their stamps can't be right.

        Stamps that could be right, were the packets only shuffled, get the benefit of the doubt.
        """
        if not self._held or any(other.seen_at != self._count for other in self._held):
            return False
        if not entry.fits(self._line, self._count + self.waiting):
            return False
        tolerance_ns = self._line.tolerance_ns(self._count, len(entry))
        contradict = overlapping([*self._held, entry], self._line, self._count, tolerance_ns)
        return contradict or entry.fits(self._line, self._count)

    def _span_ms(self, entry: StampedPacket, samples: int) -> tuple[int, int]:
        """UTC of a packet's first sample by its stamp, and the length of so many of its samples, ms."""
        return (entry.begins_ns(self._line) + self._host.offset_ns) // _NS_PER_MS, self._ms(samples)

    def _ms(self, samples: int) -> int:
        return round(samples * self._line.period_ns / _NS_PER_MS)

    def _now_ms(self) -> int:
        return self.at_ms(self._count - self._begun)

    def _take(self, samples_uv: NDArray[np.int32]) -> Run:
        self._count += len(samples_uv)
        self._history.append(samples_uv)
        return Run(samples_uv)

    def _place(self, entry: StampedPacket, *, trusted: bool = True) -> Iterator[Placed]:
        self._line.add(self._count + entry.anchor, entry.stamp_ns, trusted=trusted)
        self._anchored = True
        self._host.note_placed(entry.received_ns)
        self._recent.append(entry)
        ppm = self._line.deviation_ppm if self._line.established else 0
        if abs(ppm - self._said_ppm) >= RATE_STEP_PPM:
            self._said_ppm = ppm
            yield RateEstimated(self._now_ms(), self._line.rate_hz, ppm)
        yield self._take(entry.samples_uv)

    def _in_order_of_arrival(self, entry: StampedPacket) -> Iterator[Placed]:
        """Those that wait were stamped wrongly: this one follows on them without a gap."""
        held, self._held = self._held, []
        for other in held:
            trusted = other.fits(self._line, self._count)
            if not trusted:
                yield StampIgnored(self._now_ms(), other.late_ns(self._line, self._count) // _NS_PER_MS)
            yield from self._place(other, trusted=trusted)
        yield from self._place(entry)

    def _place_waiting(self) -> Iterator[Placed]:
        """Place those that fit by now, earliest first; let go of those that the line went on without."""
        waited = len(self._held)
        for entry in in_order(self._held, self._line):
            if entry.fits(self._line, self._count):
                self._forget(entry)
                yield from self._place(entry)
        if len(self._held) < waited:
            self._wait_anew()
        for entry in tuple(self._held):
            if self._count - entry.seen_at >= REORDER_S * self._nominal_hz:
                self._forget(entry)
                yield LateDropped(*self._span_ms(entry, len(entry)))

    def _wait_anew(self) -> None:
        """The line went on to what waited: that is no sign against the rest."""
        self._held = [entry.seen_anew(self._count) for entry in self._held]

    def _forget(self, entry: StampedPacket) -> None:
        self._held = [other for other in self._held if other is not entry]

    def _explain(self, entry: StampedPacket) -> Iterator[Placed]:
        """Drop what of a packet is in the past, if it is a copy or late; let it wait otherwise."""
        late_ns = entry.late_ns(self._line, self._count)
        if late_ns > 0:
            self._held.append(entry)
            return
        here = self._count - self._begun
        before_line = self._line.samples_in(-late_ns) - here
        if 0 < before_line <= REORDER_S * self._nominal_hz and here <= REORDER_S * self._nominal_hz:
            yield LateDropped(*self._span_ms(entry, len(entry)))  # the line began without it
            return
        tolerance_ns = entry.tolerance_ns(self._line, self._count)
        found = self._history.compare(
            entry.samples_uv, self._line.samples_in(-late_ns), self._line.samples_in(tolerance_ns)
        )
        if found.overlap is Overlap.CONFLICT:
            self._held.append(entry)
            return
        dropped = OverlapDropped if found.overlap is Overlap.COPY else LateDropped
        yield dropped(*self._span_ms(entry, found.past))
        if found.past < len(entry):
            yield from self._place(entry.without_first(found.past))
            yield from self._place_waiting()

    def _settle(self) -> Iterator[Placed]:
        """Decide about those that wait: the longest stretch that holds together is where the signal went on."""
        groups = stretches(self._held, self._line, self._count)
        group = max(groups, key=lambda entries: sum(map(len, entries)))
        first = group[0]
        late_ns = stretch_late_ns(group, self._line, self._count)
        for entry in tuple(self._held):
            if (
                entry.begins_ns(self._line) < first.begins_ns(self._line)
                and entry.late_ns(self._line, self._count) <= 0
            ):
                self._forget(entry)
                yield LateDropped(*self._span_ms(entry, len(entry)))
        if abs(late_ns) <= MAX_TOLERANCE_MS * _NS_PER_MS and late_ns <= 0:
            self._line.begin_stretch(self._count, self._line.ns_at(self._count) + late_ns)  # their delay changed
            for entry in group:
                self._forget(entry)
                yield from self._place(entry)
        elif 0 < late_ns <= GAP_FILL_MAX_S * _NS_PER_S and not self._set_ns(first, late_ns):
            earliest = in_order(self._held, self._line)[0]
            yield from self._fill(group if earliest is first else [earliest])
        else:
            yield from self._restart(group, late_ns)
        self._wait_anew()
        yield from self._place_waiting()

    def _fill(self, group: list[StampedPacket]) -> Iterator[Placed]:
        late_ns = stretch_late_ns(group, self._line, self._count)
        missing = self._line.samples_in(late_ns)
        if missing:
            begins_ns = self._line.ns_at(self._count) + late_ns
            yield GapFound(self._now_ms(), self._ms(missing))
            yield self._take(np.full(missing, MISSING_UV, dtype=np.int32))
            self._line.begin_stretch(self._count, begins_ns)
        for entry in group:
            self._forget(entry)
            yield from self._place(entry)

    def _set_ns(self, first: StampedPacket, late_ns: int) -> int:
        """How far the clock that stamps was set before a packet, 0 if it was not."""
        return self._host.sensor_set_ns(late_ns, first.received_ns, self._line.ns_in(len(first)))

    def _restart(self, group: list[StampedPacket], late_ns: int) -> Iterator[Placed]:
        """Begin a new line at a stretch that is too far off: after a long gap, or by a clock that was set."""
        jump_ns = self._set_ns(group[0], late_ns)
        gap_ns = late_ns - jump_ns
        if gap_ns > MAX_TOLERANCE_MS * _NS_PER_MS:
            yield GapFound(self._now_ms(), gap_ns // _NS_PER_MS)
        yield NewLine()
        self._begun = self._count
        self._history = PlacedSamples(int(GAP_FILL_MAX_S * self._nominal_hz))
        self._host.restart()
        self._recent = RecentPackets(int(GAP_FILL_MAX_S * self._nominal_hz))
        self._line.begin_stretch(self._count, group[0].begins_ns(self._line))  # its rate is still that
        for entry in group:
            yield from self._compare_clocks(entry)
        if jump_ns:
            yield ClockJumped(self._now_ms(), jump_ns // _NS_PER_MS)
        for entry in group:
            self._forget(entry)
            yield from self._place(entry)
