"""Packets on a time line, against a model that knows the truth: every sample once, at its time, every loss a gap.

The model's samples are their own indices, so what was placed where is read off, not computed by the code under test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from tests.ble.polar_frames import captured

from einthoven.clock_drift import (
    ESTABLISHED_PPM,
    FIRST_ANCHORS,
    MAX_ANCHORS,
    MAX_RATE_ERROR_PERMILLE,
    MAX_TOLERANCE_MS,
    MIN_TOLERANCE_MS,
    DriftLine,
)
from einthoven.events import (
    ClockJumped,
    GapFound,
    LateDropped,
    OverlapDropped,
    RateEstimated,
    StampIgnored,
    TimeEvent,
)
from einthoven.host_clock import HOST_CONFIRMED
from einthoven.placed_samples import MIN_SHIFTED_MATCH, Comparison, Overlap, PlacedSamples
from einthoven.polar_pmd import decode_frame
from einthoven.ports import MISSING_UV, Packet, Stamped
from einthoven.timeline import GAP_FILL_MAX_S, REORDER_S, NewLine, Placed, Run, Timeline

MS = 10**6
START_MS = 1_700_000_000_000
RATE = Fraction(130)
N = 73
FIRST_PACKET_ERROR_MS = 6
"""A strap 1 % off stamps the last of 73 samples; until its rate is known, the first is 5.6 ms off."""


@dataclass
class Sensor:
    """The truth: sample i is taken at ``start + i / rate`` of the sensor's clock, and has the value i."""

    rate: Fraction = RATE
    start_ns: int = START_MS * MS
    stamped: Stamped = Stamped.LAST

    def ns(self, index: int) -> int:
        return self.start_ns + int(index * 10**9 / self.rate)

    def packet(self, first: int, n: int = N, *, off_ms: float = 0, received_ms: int | None = None) -> Packet:
        stamped = first + n - 1 if self.stamped is Stamped.LAST else first
        values = np.arange(first, first + n, dtype=np.int32)
        return Packet(values, self.ns(stamped) + int(off_ms * MS), self.stamped, received_ms)

    def packets(self, count: int, n: int = N) -> list[Packet]:
        return [self.packet(index * n, n) for index in range(count)]


@dataclass
class Page:
    """One line as it was placed."""

    placed: list[NDArray[np.int32]] = field(default_factory=list)
    runs: list[tuple[int, int, int]] = field(default_factory=list)  # first position, first value, its time in ms

    @property
    def samples(self) -> NDArray[np.int32]:
        return np.concatenate(self.placed) if self.placed else np.empty(0, np.int32)


@dataclass
class Recorder:
    """Takes up what a time line says, as a session does."""

    timeline: Timeline
    pages: list[Page] = field(default_factory=lambda: [Page()])
    events: list[TimeEvent] = field(default_factory=list)
    worst_waiting: int = 0

    def take(self, items: Iterable[Placed]) -> None:
        for item in items:
            page = self.pages[-1]
            match item:
                case Run(samples):
                    position = sum(map(len, page.placed))
                    if samples[0] != MISSING_UV:
                        page.runs.append((position, int(samples[0]), self.timeline.at_ms(position)))
                    page.placed.append(samples)
                case NewLine():
                    self.pages.append(Page())
                case _:
                    self.events.append(item)
        self.worst_waiting = max(self.worst_waiting, self.timeline.waiting)

    def push(self, *packets: Packet) -> None:
        for packet in packets:
            self.take(self.timeline.push(packet))

    def finish(self) -> None:
        self.take(self.timeline.flush())
        assert self.timeline.waiting == 0

    def of(self, *kinds: type) -> list[TimeEvent]:
        return [event for event in self.events if type(event) in kinds]


def recorded(packets: Sequence[Packet], rate: Fraction = RATE) -> Recorder:
    recorder = Recorder(Timeline(rate, START_MS))
    recorder.push(*packets)
    recorder.finish()
    return recorder


def with_missing(stop: int, *lost: range) -> list[int]:
    values = list(range(stop))
    for gap in lost:
        values[gap.start : gap.stop] = [MISSING_UV] * len(gap)
    return values


def assert_times(page: Page, sensor: Sensor, within_ms: float = FIRST_PACKET_ERROR_MS) -> None:
    for _, value, at_ms in page.runs:
        assert abs(at_ms - sensor.ns(value) // MS) <= within_ms


RATES = pytest.mark.parametrize("ppm", [-10_000, -50, 0, 50, 10_000])


def sensor_of(ppm: int, stamped: Stamped = Stamped.LAST) -> Sensor:
    return Sensor(RATE * (1_000_000 + ppm) / 1_000_000, stamped=stamped)


# ---- without stamps ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 300), max_size=20), st.fractions(100, 1000))
def test_without_stamps_samples_are_placed_as_they_come(lengths: list[int], rate: Fraction) -> None:
    first, packets = 0, []
    for length in lengths:
        packets.append(Packet(np.arange(first, first + length, dtype=np.int32)))
        first += length
    recorder = recorded(packets, rate)
    assert recorder.pages[0].samples.tolist() == list(range(first))
    assert not recorder.events
    assert recorder.timeline.at_ms(first) == START_MS + int(first * 1000 / rate)
    assert recorder.timeline.rate_hz == rate


def test_a_stampless_packet_follows_what_came_before_even_if_that_waits() -> None:
    sensor = Sensor()
    packets = sensor.packets(12)
    packets[6] = Packet(packets[6].samples_uv)
    recorder = recorded([*packets[:4], *packets[5:]])  # 4 is lost; 5 waits when 6 comes
    assert recorder.pages[0].samples.tolist() == with_missing(12 * N, range(4 * N, 5 * N))


# ---- drift and jitter --------------------------------------------------------------------------------------------


@RATES
@pytest.mark.parametrize("stamped", list(Stamped))
def test_a_sensor_that_runs_off_gives_no_gap_and_true_times(ppm: int, stamped: Stamped) -> None:
    sensor = sensor_of(ppm, stamped)
    recorder = recorded(sensor.packets(700))  # six and a half minutes
    (page,) = recorder.pages
    assert page.samples.tolist() == list(range(700 * N))
    assert not recorder.of(GapFound, OverlapDropped, LateDropped, StampIgnored, ClockJumped)
    assert_times(page, sensor)
    assert all(abs(at_ms - sensor.ns(value) // MS) <= 1 for _, value, at_ms in page.runs[2:])
    told = recorder.of(RateEstimated)
    if abs(ppm) > 1000:
        (event,) = told
        assert isinstance(event, RateEstimated)
        assert abs(event.deviation_ppm - ppm) <= 1
        assert abs(recorder.timeline.rate_hz / sensor.rate - 1) < Fraction(1, 10**6)
    else:
        assert not told


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-10_000, 10_000])
def test_after_a_day_times_are_still_true(ppm: int) -> None:
    sensor = sensor_of(ppm)
    timeline = Timeline(RATE, START_MS)
    count = worst = 0
    for index in range(24 * 3600 * 130 // N):
        for item in timeline.push(sensor.packet(index * N)):
            if isinstance(item, Run):
                worst = max(worst, abs(timeline.at_ms(count) - sensor.ns(count) // MS)) if index > 1 else worst
                count += len(item.samples_uv)
            else:
                assert isinstance(item, RateEstimated)
    assert count == index * N + N
    assert worst <= 1


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([-10_000, -300, 0, 10_000]), st.sampled_from([36, 73, 130]), st.integers(0, 40), st.integers(0, 99)
)
@example(-10_000, 36, 21, 44)  # eight stamps that agree by chance on a wrong rate
@example(-300, 73, 33, 3690)
@example(-10_000, 36, 38, 660_621)
def test_stamps_that_scatter_by_tens_of_ms_invent_no_gap(ppm: int, n: int, jitter_ms: int, seed: int) -> None:
    rng = random.Random(seed)
    sensor = sensor_of(ppm, Stamped.FIRST)
    packets = [sensor.packet(k * n, n, off_ms=rng.uniform(-jitter_ms, jitter_ms)) for k in range(400)]
    recorder = recorded(packets)
    (page,) = recorder.pages
    assert page.samples.tolist() == list(range(400 * n))
    assert not recorder.of(GapFound, OverlapDropped, LateDropped, ClockJumped)
    late = [run for run in page.runs if run[0] > 200 * n]
    # Both are whole ms, rounded down: an error of 1.5 ms may show as 2.
    assert max(abs(at_ms - sensor.ns(value) // MS) for _, value, at_ms in late) <= max(1, math.ceil(jitter_ms / 2))
    if recorder.timeline.rate_hz != RATE:
        assert abs(recorder.timeline.rate_hz / sensor.rate - 1) * 10**6 <= 4 * ESTABLISHED_PPM


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([-10_000, -300, 0, 10_000]),
    st.sampled_from([20, 36, 73, 130]),
    st.integers(0, 38),
    st.integers(0, 99),
    st.integers(2, 40),
)
def test_a_lost_packet_shows_however_few_stamps_came_before(
    ppm: int, n: int, jitter_ms: int, seed: int, lost: int
) -> None:
    rng = random.Random(seed)
    sensor = sensor_of(ppm, Stamped.FIRST)
    packets = [sensor.packet(k * n, n, off_ms=rng.uniform(-jitter_ms, jitter_ms)) for k in range(60)]
    recorder = recorded([*packets[:lost], *packets[lost + 1 :]])
    gaps = [event.missing_ms for event in recorder.of(GapFound) if isinstance(event, GapFound)]
    assert gaps
    if lost >= FIRST_ANCHORS:  # before, the slope is anything within its limits
        assert sum(gaps) == pytest.approx(n * 1000 / sensor.rate, abs=2 * jitter_ms + 15)
    assert not recorder.of(OverlapDropped, LateDropped, ClockJumped)


@RATES
@pytest.mark.parametrize("jitter_ms", [0, 20, 40])
def test_a_lost_packet_among_drift_and_scatter_is_a_gap(ppm: int, jitter_ms: int) -> None:
    rng = random.Random(ppm + jitter_ms)
    sensor = sensor_of(ppm)
    packets = [sensor.packet(k * N, off_ms=rng.uniform(-jitter_ms, jitter_ms)) for k in range(300)]
    lost = (40, 41, 100, 180, 181, 182, 250)
    recorder = recorded([packet for index, packet in enumerate(packets) if index not in lost])
    gaps = [event.missing_ms for event in recorder.of(GapFound) if isinstance(event, GapFound)]
    length_ms = N * 1000 / sensor.rate
    assert gaps == [pytest.approx(k * length_ms, abs=1 + 1.5 * jitter_ms) for k in (2, 1, 3, 1)]
    assert_times(recorder.pages[0], sensor, FIRST_PACKET_ERROR_MS + 1.5 * jitter_ms)
    if not jitter_ms:
        expected = with_missing(300 * N, *(range(k * N, k * N + N) for k in lost))
        assert recorder.pages[0].samples.tolist() == expected


# ---- the model: losses, copies, late and shuffled packets --------------------------------------------------------


class Deliveries(RuleBasedStateMachine):
    """A sensor with exact stamps, whose packets are lost, doubled, and delayed by up to two packets, in any mix."""

    @initialize(
        ppm=st.integers(-10_000, 10_000), n=st.sampled_from([20, 37, 73, 110]), stamped=st.sampled_from(Stamped)
    )
    def begin(self, ppm: int, n: int, stamped: Stamped) -> None:
        self.n = n
        self.sensor = sensor_of(ppm, stamped)
        self.recorder = Recorder(Timeline(RATE, START_MS))
        self.next = 0
        self.delayed: list[tuple[int, Packet]] = []
        self.lost: list[range] = []
        self.in_a_row = 0
        self.copies = 0
        for _ in range(4):
            self.deliver()

    def _packet(self) -> Packet:
        packet = self.sensor.packet(self.next, self.n)
        self.next += self.n
        return packet

    @rule()
    def deliver(self) -> None:
        self.in_a_row = 0
        self.last = self._packet()
        self.recorder.push(self.last)
        for due in [packet for when, packet in self.delayed if when <= self.next]:
            self.recorder.push(due)
        self.delayed = [(when, packet) for when, packet in self.delayed if when > self.next]

    @rule(count=st.integers(1, 8))
    def deliver_many(self, count: int) -> None:
        for _ in range(count):
            self.deliver()

    @precondition(lambda self: self.in_a_row < 6 and not self.delayed)
    @rule()
    def lose(self) -> None:
        self.lost.append(range(self.next, self.next + self.n))
        self.in_a_row += 1
        self._packet()

    @precondition(lambda self: self.in_a_row == 0)
    @rule()
    def repeat(self) -> None:
        self.recorder.push(self.last)
        self.copies += 1

    @precondition(lambda self: self.in_a_row == 0 and not self.delayed)
    @rule(by=st.integers(1, 2))
    def delay(self, by: int) -> None:
        packet = self._packet()
        self.delayed.append((self.next + by * self.n, packet))
        for _ in range(by):
            self.deliver()

    @invariant()
    def nothing_twice_and_little_waits(self) -> None:
        if not hasattr(self, "recorder"):
            return
        samples = self.recorder.pages[-1].samples
        received = samples[samples != MISSING_UV]
        assert len(np.unique(received)) == len(received)
        assert self.recorder.worst_waiting <= REORDER_S * RATE + self.n

    def teardown(self) -> None:
        if not hasattr(self, "recorder"):
            return
        for _ in range(3):
            self.deliver()
        self.recorder.finish()
        (page,) = self.recorder.pages
        assert page.samples.tolist() == with_missing(self.next, *self.lost)
        assert_times(page, self.sensor, 10)
        assert len(self.recorder.of(OverlapDropped)) == self.copies
        assert not self.recorder.of(LateDropped, StampIgnored, ClockJumped)
        gaps = 1 + sum(b.start != a.stop for a, b in zip(self.lost, self.lost[1:], strict=False)) if self.lost else 0
        assert len(self.recorder.of(GapFound)) <= gaps  # adjacent ones may be told as one
        assert bool(self.recorder.of(GapFound)) is bool(self.lost)


Deliveries.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDeliveries = Deliveries.TestCase


@pytest.mark.data
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["N", "A"]))
def test_captured_packets_shuffled_doubled_and_lost(seed: int, which: str) -> None:
    rng = random.Random(seed)
    frames, truth = captured(which)
    decoded = [decode_frame(frame) for frame in frames]
    packets = [Packet(frame.samples_uv, frame.last_sample_ns, Stamped.LAST) for frame in decoded]
    lost = {index for index in range(5, 50) if rng.random() < 0.06}
    arrivals = []
    for index, packet in enumerate(packets):
        if index in lost:
            continue
        when = index + (rng.uniform(0, 1.9) if index > 4 and rng.random() < 0.2 else 0)
        arrivals += [(when, packet)] * (2 if rng.random() < 0.1 else 1)
    recorder = recorded([packet for _, packet in sorted(arrivals, key=lambda arrival: arrival[0])])
    expected = truth.copy()
    for index in lost:
        expected[index * N : index * N + N] = MISSING_UV
    assert np.array_equal(recorder.pages[0].samples, expected)


# ---- one thing at a time -----------------------------------------------------------------------------------------


def test_reversed_packets_are_put_right() -> None:
    packets = Sensor().packets(20)
    recorder = recorded([*packets[:5], packets[7], packets[6], packets[5], *packets[8:]])
    assert recorder.pages[0].samples.tolist() == list(range(20 * N))
    assert not recorder.events


def test_a_packet_that_comes_too_late_is_dropped_and_said() -> None:
    packets = Sensor().packets(20)
    recorder = recorded([*packets[:5], *packets[6:15], packets[5], *packets[15:]])
    assert recorder.pages[0].samples.tolist() == with_missing(20 * N, range(5 * N, 6 * N))
    gap_ms = START_MS + 5 * N * 1000 // 130
    assert recorder.events == [GapFound(gap_ms, 562), LateDropped(gap_ms, 562)]


def test_a_gap_waits_for_two_seconds_and_no_longer() -> None:
    packets = Sensor().packets(20)
    recorder = Recorder(Timeline(RATE, START_MS))
    recorder.push(*packets[:5], *packets[6:9])
    assert not recorder.events
    recorder.push(packets[9])  # 4 x 73 samples wait: 2.2 s
    assert len(recorder.of(GapFound)) == 1


def test_overlapping_packets_are_cut() -> None:
    sensor = Sensor(stamped=Stamped.FIRST)
    recorder = recorded([sensor.packet(0, 200), sensor.packet(150, 100), sensor.packet(240, 100), sensor.packet(340)])
    assert recorder.pages[0].samples.tolist() == list(range(340 + N))
    assert [type(event) for event in recorder.events] == [OverlapDropped] * 2


def test_a_copy_with_another_stamp_is_known_by_its_samples() -> None:
    sensor = Sensor()
    packets = sensor.packets(30)
    recorder = recorded([*packets[:20], sensor.packet(19 * N, off_ms=11), *packets[20:]])
    assert recorder.pages[0].samples.tolist() == list(range(30 * N))
    assert [type(event) for event in recorder.events] == [OverlapDropped]


@pytest.mark.parametrize("off_ms", [-900, -300, -120, 120, 300, 700, 1500])
def test_one_wrong_stamp_moves_nothing(off_ms: int) -> None:
    sensor = Sensor()
    packets = sensor.packets(40)
    packets[20] = sensor.packet(20 * N, off_ms=off_ms)
    recorder = recorded(packets)
    (page,) = recorder.pages
    assert page.samples.tolist() == list(range(40 * N))
    (event,) = recorder.events
    assert isinstance(event, StampIgnored)
    assert event.off_ms == pytest.approx(off_ms, abs=1)
    assert_times(page, sensor, 1)


def test_stamps_that_come_late_for_a_while_move_nothing() -> None:
    sensor = Sensor()
    packets = [sensor.packet(k * N, off_ms=250 if k in (20, 21) else 0) for k in range(40)]
    recorder = recorded(packets)
    assert recorder.pages[0].samples.tolist() == list(range(40 * N))
    assert not recorder.of(GapFound, ClockJumped, LateDropped)


def test_a_delay_that_changes_for_good_moves_the_line_and_drops_nothing() -> None:
    sensor = Sensor()
    packets = [sensor.packet(k * N, off_ms=-60 if k >= 20 else 0) for k in range(40)]
    recorder = recorded(packets)
    assert recorder.pages[0].samples.tolist() == list(range(40 * N))
    assert not recorder.events
    assert recorder.pages[0].runs[-1][2] == pytest.approx(sensor.ns(39 * N) // MS - 60, abs=1)


# ---- clocks that jump --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [-1_700_000_000, -30 * 365 * 86_400, -3600, -5, 10 * 365 * 86_400])
def test_a_clock_that_is_set_begins_a_new_line_and_loses_nothing(jump_s: int) -> None:
    sensor = Sensor()
    packets = [sensor.packet(k * N, off_ms=jump_s * 1000 if k >= 20 else 0) for k in range(40)]
    recorder = recorded(packets)
    first, second = recorder.pages
    assert first.samples.tolist() == list(range(20 * N))
    assert second.samples.tolist() == list(range(20 * N, 40 * N))
    (event,) = recorder.events
    assert event == ClockJumped(sensor.ns(20 * N) // MS + jump_s * 1000, jump_s * 1000)


@pytest.mark.parametrize("gap_s", [11, 3600])
def test_a_long_gap_begins_a_new_line_and_is_said(gap_s: int) -> None:
    sensor = Sensor()
    packets = [sensor.packet(k * N + (gap_s * 130 if k >= 20 else 0)) for k in range(40)]
    recorder = recorded(packets)
    assert [len(page.samples) for page in recorder.pages] == [20 * N, 20 * N]
    assert recorder.events == [GapFound(sensor.ns(20 * N) // MS, gap_s * 1000)]


def test_a_gap_of_ten_seconds_is_filled() -> None:
    sensor = Sensor()
    lost = int(GAP_FILL_MAX_S * RATE) - 5
    packets = [sensor.packet(k * N + (lost if k >= 20 else 0)) for k in range(40)]
    (page,) = recorded(packets).pages
    assert page.samples.tolist() == with_missing(40 * N + lost, range(20 * N, 20 * N + lost))


def received_at(sensor: Sensor, first: int, utc_ms: int, delay_ms: int = 40) -> int:
    return utc_ms + (sensor.ns(first + N - 1) - sensor.start_ns) // MS + delay_ms


def test_a_sensor_of_any_epoch_is_dated_by_the_time_of_arrival() -> None:
    sensor = Sensor(start_ns=10**15)
    rng = random.Random(1)
    packets = [
        sensor.packet(k * N, received_ms=received_at(sensor, k * N, START_MS, rng.randint(40, 300))) for k in range(100)
    ]
    recorder = recorded(packets)
    late = [at_ms - (START_MS + value * 1000 // 130) for _, value, at_ms in recorder.pages[0].runs]
    assert all(0 <= ms <= 300 for ms in late)
    assert all(40 <= ms <= 50 for ms in late[50:])  # the quickest of the packets
    assert not recorder.events


def test_a_sensor_that_restarts_its_clock_is_told_from_a_gap_by_the_host() -> None:
    """Connection lost for 7 s, and the strap came back in the year 2000."""
    sensor = Sensor()
    packets = []
    for k in range(40):
        utc_ms = START_MS + (7000 if k >= 20 else 0)
        off_ms = 946_684_800_000 - START_MS if k >= 20 else 0
        packets.append(sensor.packet(k * N, off_ms=off_ms, received_ms=received_at(sensor, k * N, utc_ms)))
    recorder = recorded(packets)
    assert [len(page.samples) for page in recorder.pages] == [20 * N, 20 * N]
    gap, jump = recorder.events
    assert isinstance(gap, GapFound)
    assert gap.at_ms == pytest.approx(sensor.ns(20 * N) // MS + 40, abs=1)
    assert gap.missing_ms == pytest.approx(7000, abs=10)
    assert isinstance(jump, ClockJumped)
    assert jump.at_ms == pytest.approx(sensor.ns(20 * N) // MS + 7040, abs=1)  # true time goes on
    assert jump.jump_ms == pytest.approx(946_684_800_000 - START_MS - 7000, abs=10)


def test_a_sensor_set_forward_by_seconds_is_no_gap_if_the_host_saw_none() -> None:
    sensor = Sensor()
    packets = [
        sensor.packet(k * N, off_ms=5000 if k >= 20 else 0, received_ms=received_at(sensor, k * N, START_MS))
        for k in range(40)
    ]
    recorder = recorded(packets)
    assert not recorder.of(GapFound)
    assert [len(page.samples) for page in recorder.pages] == [20 * N, 20 * N]
    (jump,) = recorder.events
    assert isinstance(jump, ClockJumped)
    assert jump.jump_ms == pytest.approx(5000, abs=10)


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
def test_a_host_whose_clock_is_set_is_said_and_is_no_gap(step_ms: int) -> None:
    sensor = Sensor(start_ns=0)
    packets = [
        sensor.packet(k * N, received_ms=received_at(sensor, k * N, START_MS + (step_ms if k >= 20 else 0)))
        for k in range(60)
    ]
    recorder = recorded(packets)
    (page,) = recorder.pages
    assert page.samples.tolist() == list(range(60 * N))
    (jump,) = recorder.events
    assert isinstance(jump, ClockJumped)
    assert jump.jump_ms == pytest.approx(step_ms, abs=2)
    assert page.runs[-1][2] == pytest.approx(START_MS + 59 * N * 1000 // 130 + 40 + step_ms, abs=2)
    assert next(value for _, value, at in page.runs if abs(at - START_MS) > 10**6) == (20 + HOST_CONFIRMED - 1) * N


def test_a_stalled_connection_that_delivers_all_at_once_is_no_clock_that_was_set() -> None:
    sensor = Sensor(start_ns=0)
    true_ms = [received_at(sensor, k * N, START_MS) for k in range(60)]
    arrivals = [true_ms[34] + 5 * (k - 10) if 10 <= k <= 34 else true_ms[k] for k in range(60)]  # 13 s of silence
    recorder = recorded([sensor.packet(k * N, received_ms=arrivals[k]) for k in range(60)])
    assert recorder.pages[0].samples.tolist() == list(range(60 * N))
    assert not recorder.events


def test_the_rate_is_remembered_over_a_break() -> None:
    sensor = sensor_of(10_000)
    packets = [sensor.packet(k * N + (130 * 3600 if k >= 200 else 0)) for k in range(210)]
    recorder = recorded(packets)
    assert [type(event) for event in recorder.events] == [RateEstimated, GapFound]
    assert len(recorder.pages) == 2
    assert recorder.timeline.rate_hz == pytest.approx(sensor.rate, rel=1e-6)
    assert recorder.timeline.at_ms(0) == pytest.approx(sensor.ns(200 * N + 130 * 3600) // MS, abs=1)


# ---- anything ----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 400),
            st.one_of(st.none(), st.integers(-20_000, 20_000), st.integers(-(2**63), 2**63)),
            st.sampled_from(Stamped),
        ),
        max_size=25,
    ),
    st.fractions(100, 1000),
)
def test_whatever_comes_is_placed_or_said(lengths: list[tuple[int, int | None, Stamped]], rate: Fraction) -> None:
    recorder = Recorder(Timeline(rate, START_MS))
    first = 0
    for length, stamp_ms, stamped in lengths:
        values = np.arange(first, first + length, dtype=np.int32)
        stamp_ns = None if stamp_ms is None else (START_MS + stamp_ms) * MS
        recorder.push(Packet(values, stamp_ns, stamped))
        assert recorder.timeline.waiting <= REORDER_S * rate + length
        first += length
    recorder.finish()
    placed = np.concatenate([page.samples for page in recorder.pages])
    received = placed[placed != MISSING_UV]
    assert len(np.unique(received)) == len(received)
    if len(received) < first:
        assert recorder.of(LateDropped, OverlapDropped)
    assert len(placed) - len(received) <= len(lengths) * (GAP_FILL_MAX_S + 1) * rate


# ---- the line ----------------------------------------------------------------------------------------------------


@given(st.fractions(100, 1000), st.integers(-14_000, 14_000), st.integers(1, 5000))
def test_the_line_through_exact_stamps_is_the_sensors(rate: Fraction, ppm: int, spacing: int) -> None:
    sensor = Sensor(rate * (1_000_000 + ppm) / 1_000_000)
    line = DriftLine(rate, sensor.ns(0))
    for k in range(30):
        line.add(k * spacing, sensor.ns(k * spacing))
    far = 40 * spacing
    assume(spacing > 10)
    assert abs(line.ns_at(far) - sensor.ns(far)) <= 1000
    assert abs(line.deviation_ppm - ppm) <= 1


def test_the_line_believes_no_more_than_its_limit_and_forgets() -> None:
    sensor = Sensor(RATE * Fraction(105, 100))
    line = DriftLine(RATE, sensor.ns(0))
    for k in range(MAX_ANCHORS):
        line.add(k * 130, sensor.ns(k * 130))
    assert abs(line.deviation_ppm) <= MAX_RATE_ERROR_PERMILLE * 1100
    true, begun = Sensor(), MAX_ANCHORS * 130
    line.begin_stretch(begun, true.ns(begun))
    for k in range(2 * MAX_ANCHORS):
        line.add(begun + k * 130, true.ns(begun + k * 130))
    assert abs(line.deviation_ppm) <= 1
    assert line.rate_hz == RATE


def test_the_tolerance_follows_the_scatter_within_its_bounds() -> None:
    line, sensor = DriftLine(RATE, 0), Sensor(start_ns=0)
    assert line.tolerance_ns(0, 1000) == MAX_TOLERANCE_MS * MS
    for k in range(60):
        line.add(k * 130, sensor.ns(k * 130))
    assert line.tolerance_ns(59 * 130, 1000) == MIN_TOLERANCE_MS * MS
    rng = random.Random(3)
    for k in range(60, 400):
        line.add(k * 130, sensor.ns(k * 130) + rng.randint(-40, 40) * MS)
    assert 80 * MS <= line.tolerance_ns(399 * 130, 1000) <= 105 * MS
    assert line.tolerance_ns(399 * 130, 13) <= 55 * MS  # half of its 100 ms


# ---- the tail that was placed ------------------------------------------------------------------------------------


def a_tail(values: Sequence[int], keep: int = 1000) -> PlacedSamples:
    tail = PlacedSamples(keep)
    for part in np.array_split(np.array(values, np.int32), 7):
        tail.append(part)
    return tail


def test_a_copy_is_found_where_its_stamp_says_and_near_by() -> None:
    values = list(range(200))
    for past in (95, 100, 105):
        assert a_tail(values).compare(np.arange(100, 150, dtype=np.int32), past, 8) == Comparison(Overlap.COPY, 50)
    assert a_tail(values).compare(np.arange(190, 230, dtype=np.int32), 12, 4) == Comparison(Overlap.COPY, 10)
    assert a_tail(values).compare(np.arange(100, 150, dtype=np.int32), 115, 8).overlap is Overlap.CONFLICT


def test_a_short_coincidence_near_by_is_no_copy() -> None:
    few = np.arange(200 - MIN_SHIFTED_MATCH + 1, 220, dtype=np.int32)
    assert a_tail(range(200)).compare(few, MIN_SHIFTED_MATCH + 2, 6).overlap is Overlap.CONFLICT


def test_a_place_that_was_given_up_is_late() -> None:
    values = [*range(100), *[MISSING_UV] * 50, *range(150, 200)]
    assert a_tail(values).compare(np.arange(100, 150, dtype=np.int32), 100, 2) == Comparison(Overlap.LATE, 50)
    assert a_tail(values).compare(np.arange(130, 150, dtype=np.int32), 70, 2) == Comparison(Overlap.LATE, 20)


def test_what_is_no_longer_known_is_a_conflict() -> None:
    tail = a_tail(range(5000), keep=100)
    assert tail.compare(np.arange(3000, 3050, dtype=np.int32), 2000, 2) == Comparison(Overlap.CONFLICT, 50)
    assert PlacedSamples(10).compare(np.arange(5, dtype=np.int32), 3, 1) == Comparison(Overlap.CONFLICT, 3)
