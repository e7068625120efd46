"""A session's risk: the order of beats, seconds and verdicts; chunking; what waits and for how long."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.einthoven.risk_streams import START_MS, a_window

from einthoven import beat_classes, beat_detector
from einthoven.events import (
    BeatDetected,
    EpisodeEnded,
    EpisodeFound,
    Event,
    LineEnded,
    RiskChanged,
    RiskEvent,
    SecondAssessed,
)
from einthoven.models import load_model
from einthoven.results import BeatClass, Quality, Rhythm, RiskTier
from einthoven.risk_monitor import DELAY_S, SETTLE_S, WINDOWS_MAX, RiskMonitor
from einthoven.runner_litert import LiteRtRunner
from einthoven.session import Session
from einthoven.simulator import SimulatedRhythm
from einthoven.source_simulated import SimulatedSource
from einthoven.store_memory import MemoryStore

RATE = Fraction(250)


def a_second(n: int, quality: Quality = Quality.USABLE) -> SecondAssessed:
    return SecondAssessed(START_MS + n * 1000, quality, 0 if quality else 100)


def a_beat(at_ms: int, rr_ms: int | None, kind: BeatClass = BeatClass.NORMAL) -> BeatDetected:
    return BeatDetected(START_MS + at_ms, at_ms // 4, rr_ms, 1_000, 255, kind, 950)


def beats_each(rr_ms: int, until_ms: int) -> list[BeatDetected]:
    return [a_beat(at_ms, rr_ms if at_ms > rr_ms else None) for at_ms in range(rr_ms, until_ms, rr_ms)]


def followed(beats: list[BeatDetected], seconds: list[SecondAssessed]) -> RiskMonitor:
    monitor = RiskMonitor(RATE)
    monitor.take([*beats, *seconds])
    monitor.finish(START_MS + len(seconds) * 1000)
    return monitor


def rules_of(monitor: RiskMonitor) -> list[str]:
    return [one.rule for one in monitor.assessment.evidence]


def test_a_pause_in_usable_seconds_is_one():
    beats = [*beats_each(800, 8_000), a_beat(11_200, 4_000), a_beat(12_000, 800)]
    assert rules_of(followed(beats, [a_second(n) for n in range(20)])) == ["pause_3s"]


@pytest.mark.parametrize("quality", [Quality.MUSCLE, Quality.GAP, Quality.FLAT, Quality.CLIPPED | Quality.LEAD_OFF])
def test_a_pause_with_one_unusable_second_in_it_is_none(quality):
    beats = [*beats_each(800, 8_000), a_beat(11_200, 4_000), a_beat(12_000, 800)]
    seconds = [a_second(n, quality if n == 9 else Quality.USABLE) for n in range(20)]
    assert rules_of(followed(beats, seconds)) == []


def test_a_pause_that_quality_takes_for_a_loose_electrode_is_told_as_unsure():
    beats = [*beats_each(800, 8_000), a_beat(11_200, 4_000), a_beat(12_000, 800)]
    seconds = [a_second(n, Quality.LEAD_OFF if n in (8, 9, 10) else Quality.USABLE) for n in range(20)]
    assert rules_of(followed(beats, seconds)) == ["pause_unsure"]


def test_nothing_is_measured_from_one_line_to_the_next():
    monitor = RiskMonitor(RATE)
    monitor.take([*beats_each(800, 4_000), *(a_second(n) for n in range(4)), LineEnded(START_MS + 4_000)])
    monitor.take([a_beat(500, 5_000), a_beat(1_300, 800), *(a_second(n) for n in range(20))])
    monitor.finish(START_MS + 20_000)
    assert rules_of(monitor) == []
    assert monitor.assessment.periods.whole.beats == 6


def test_beats_in_what_is_left_of_a_second_are_not_usable():
    monitor = followed(beats_each(800, 6_500), [a_second(n) for n in range(5)])
    whole = monitor.assessment.periods.whole
    assert (whole.beats, whole.unusable) == (6, 2)


def test_a_verdict_waits_for_its_beats_and_no_longer():
    monitor = RiskMonitor(RATE)
    assert monitor.add(a_window(1)) == []
    said: list[RiskEvent] = []
    for n in range(31 + SETTLE_S):
        said += monitor.take([a_second(n)])
        assert bool(said) is (n == 30 + SETTLE_S)
    assert [(one.previous, one.tier) for one in said] == [(RiskTier.INCONCLUSIVE, RiskTier.ROUTINE)]
    assert monitor.take([a_second(40)]) == []


def test_verdicts_that_wait_are_bounded():
    monitor = RiskMonitor(RATE)
    for counter in range(1, WINDOWS_MAX + 1):
        assert monitor.add(a_window(counter)) == []
    assert len(monitor.add(a_window(WINDOWS_MAX + 1, Rhythm.AF))) == 1
    assert monitor.assessment.windows == 1


def test_beats_are_known_when_their_second_settles():
    """Second s + SETTLE_S is out no sooner than its own end and a look-ahead of two seconds."""
    assert beat_detector.DELAY_S + beat_classes.DELAY_S <= SETTLE_S + 2
    assert DELAY_S < 10


def timeline_events() -> list[Event]:
    """A minute with a run, a pause and a bad second, in the order of its time."""
    beats = [*beats_each(800, 20_000)]
    at_ms = beats[-1].at_ms - START_MS
    for _ in range(5):
        at_ms += 400
        beats.append(a_beat(at_ms, 400, BeatClass.VENTRICULAR))
    at_ms += 3_400
    beats.append(a_beat(at_ms, 3_400))
    while at_ms < 59_000:
        at_ms += 800
        beats.append(a_beat(at_ms, 800))
    seconds = [a_second(n, Quality.MUSCLE if n == 40 else Quality.USABLE) for n in range(60)]
    events: list[tuple[int, int, Event]] = [(beat.at_ms + 3_900, 0, beat) for beat in beats]
    events += [(second.at_ms + 4_000, 1, second) for second in seconds]
    return [event for _, _, event in sorted(events, key=lambda one: one[:2])]


@given(st.lists(st.integers(0, 130), max_size=10))
def test_any_chunking_of_events_says_the_same(cuts):
    def run(parts: list[list[Event]]) -> tuple[list[RiskEvent], object]:
        monitor, said = RiskMonitor(RATE), []
        windows = [a_window(1, Rhythm.OTHER), a_window(2)]
        for part in parts:
            for event in part:
                if windows and isinstance(event, SecondAssessed) and event.at_ms >= START_MS + 30_000:
                    said += monitor.add(windows.pop(0))
            said += monitor.take(part)
        for window in windows:
            said += monitor.add(window)
        said += monitor.finish(START_MS + 60_000)
        return said, monitor.assessment

    events = timeline_events()
    edges = [0, *sorted(cuts), len(events)]
    one_by_one = run([[event] for event in events])
    assert run([events[first:last] for first, last in pairwise(edges)]) == one_by_one
    kinds = [type(one).__name__ for one in one_by_one[0]]
    assert kinds.count("EpisodeFound") == kinds.count("EpisodeEnded") == 2


def ectopic_ecg() -> NDArray[np.int32]:
    """A hundred seconds of a made-up rhythm that beats fast from the middle on."""
    slow = SimulatedSource(SimulatedRhythm(duration_s=60, sampling_rate_hz=RATE, heart_rate_bpm=60))
    fast = SimulatedSource(SimulatedRhythm(duration_s=70, sampling_rate_hz=RATE, heart_rate_bpm=150))
    return np.concatenate([*slow.chunks(), *fast.chunks()])


@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(0, 32_000), max_size=8))
def test_any_chunking_of_samples_says_the_same(cuts):
    ecg = ectopic_ecg()

    def said(chunks: list[NDArray[np.int32]]) -> tuple[list[Event], object]:
        events: list[Event] = []
        with Session.open(
            MODEL, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=START_MS, runner=RUNNER
        ) as session:
            for chunk in chunks:
                events += session.push(chunk)
            events += session.close()
        kinds = (RiskChanged, EpisodeFound, EpisodeEnded)
        return [event for event in events if isinstance(event, kinds)], session.assessment

    whole = said([ecg])
    assert said(list(np.split(ecg, sorted(cuts)))) == whole
    assert any(isinstance(event, EpisodeFound) and event.rule == "tachycardia_fast" for event in whole[0])


MODEL = load_model()
RUNNER = LiteRtRunner(MODEL)


def test_evidence_of_a_change_is_what_was_known_then():
    monitor = RiskMonitor(RATE)
    said = monitor.take(timeline_events()) + monitor.finish(START_MS + 60_000)
    (change,) = [one for one in said if isinstance(one, RiskChanged)]
    assert (change.previous, change.tier) == (RiskTier.INCONCLUSIVE, RiskTier.URGENT)
    assert [one.rule for one in change.evidence] == ["vt_run", "pvc"]
    assert change.evidence[1].count == 3, "the run had three beats by then"
    found = [one for one in said if isinstance(one, EpisodeFound)]
    ended = [one for one in said if isinstance(one, EpisodeEnded)]
    assert {(one.rule, one.started_at_ms) for one in found} == {(one.rule, one.started_at_ms) for one in ended}
    assert replace(change, evidence=()).at_ms == found[0].at_ms
