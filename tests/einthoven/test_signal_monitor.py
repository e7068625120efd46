"""Beats and quality as events of a session, and what a recording keeps of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from einthoven import beat_classes
from einthoven.beat_detector import DELAY_S
from einthoven.events import BeatDetected, Event, LineEnded, QualityChanged, SecondAssessed
from einthoven.heart_rate_variability import HrvRefusal
from einthoven.heart_summary import summarize_heart
from einthoven.models import Model, load_model
from einthoven.recordings import analyze
from einthoven.results import Quality
from einthoven.runner_litert import LiteRtRunner
from einthoven.session import Session
from einthoven.signal_monitor import SignalTally
from einthoven.signal_path import BLOCK_MS
from einthoven.signals import SignalAnalysis, analyze_signal
from einthoven.simulator import SimulatedRhythm
from einthoven.source_simulated import SimulatedSource
from einthoven.store_memory import MemoryStore

RATE = Fraction(250)
START_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


@pytest.fixture(scope="module")
def runner(model: Model) -> LiteRtRunner:
    return LiteRtRunner(model)


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    source = SimulatedSource(SimulatedRhythm(duration_s=100, sampling_rate_hz=RATE))
    return np.concatenate(list(source.chunks()))


def of_kind(events: list[Event], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_a_session_says_each_beat_and_each_second_once(model: Model, runner: LiteRtRunner, ecg: np.ndarray) -> None:
    session = Session.open(model, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=START_MS, runner=runner)
    events = [event for second in np.split(ecg, 100) for event in session.push(second)] + session.close()
    whole = analyze_signal(ecg, RATE)
    beats = of_kind(events, BeatDetected)
    assert [beat.r_peak for beat in beats] == whole.r_peaks.tolist()
    assert [beat.at_ms for beat in beats] == [START_MS + peak * 4 for peak in whole.r_peaks.tolist()]
    assert beats[0].rr_ms is None
    assert [beat.rr_ms for beat in beats[1:]] == (np.diff(whole.r_peaks) * 4).tolist()
    assert [int(beat.beat_class) for beat in beats] == whole.classes.tolist()
    assert [beat.class_permille for beat in beats] == whole.class_permille.tolist()
    seconds = of_kind(events, SecondAssessed)
    assert [second.at_ms for second in seconds] == [START_MS + 1000 * i for i in range(100)]
    assert [int(second.quality) for second in seconds] == whole.flags.tolist()


@pytest.mark.parametrize("block_ms", [100, BLOCK_MS])
def test_a_beat_is_said_within_its_stated_delay(
    model: Model, runner: LiteRtRunner, ecg: np.ndarray, block_ms: int
) -> None:
    session = Session.open(
        model, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=START_MS, runner=runner, block_ms=block_ms
    )
    late_ms = [
        START_MS + (end + 25) * 4 - beat.at_ms
        for end in range(0, 5_000, 25)
        for beat in of_kind(session.push(ecg[end : end + 25]), BeatDetected)
    ]
    assert len(late_ms) > 15
    # A beat is held until the next one tells its class.
    assert (
        max(late_ms) <= 1000 * (DELAY_S + beat_classes.DELAY_S) + block_ms + 200 + 100
    )  # the resampler's look-ahead, and a piece of ours


def test_no_interval_across_a_gap_and_none_across_lines(model: Model, runner: LiteRtRunner, ecg: np.ndarray) -> None:
    session = Session.open(model, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=START_MS, runner=runner)
    events = session.push(ecg[: 20 * 250], START_MS)
    events += session.push(ecg[22 * 250 : 42 * 250], START_MS + 22_000)  # a gap of 2 s
    events += session.push(ecg[: 20 * 250], START_MS + 3_600_000)  # an hour later
    events += session.close()
    unknown = [beat for beat in of_kind(events, BeatDetected) if beat.rr_ms is None]
    assert len(unknown) == 3
    assert len(of_kind(events, LineEnded)) == 1
    tally = SignalTally(RATE)
    tally.take(events)
    heart = summarize_heart(tally.signal, RATE)
    assert heart.beats == len(of_kind(events, BeatDetected))
    assert heart.seconds == 42 + 1 + 20
    assert heart.highest_bpm is not None
    assert heart.highest_bpm < 120
    assert heart.lowest_bpm is not None
    assert heart.lowest_bpm > 40


def test_quality_changes_are_said(model: Model, runner: LiteRtRunner, ecg: np.ndarray) -> None:
    flat = ecg.copy()
    flat[30 * 250 : 40 * 250] = flat[30 * 250]
    session = Session.open(model, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=START_MS, runner=runner)
    changes = of_kind(session.push(flat) + session.close(), QualityChanged)
    assert any(change.quality & Quality.FLAT for change in changes)
    assert changes[-1].quality == Quality.USABLE
    assert all(28 <= (change.at_ms - START_MS) / 1000 <= 44 for change in changes)


def test_a_recording_knows_its_heart_rate(model: Model, runner: LiteRtRunner) -> None:
    source = SimulatedSource(SimulatedRhythm(duration_s=100, sampling_rate_hz=RATE))
    heart = analyze(model, MemoryStore(), source, runner=runner).heart
    assert heart.seconds == 100
    assert heart.usable_s >= 98
    assert heart.inverted is False
    assert heart.mean_bpm == pytest.approx(heart.beats / 100 * 60, rel=0.03)
    assert heart.variability.refusal is HrvRefusal.NONE
    assert heart.variability.measures is not None
    assert heart.variability.measures.mean_nn_ms == pytest.approx(60_000 / heart.mean_bpm, rel=0.01)


def test_nothing_is_made_of_nothing() -> None:
    nothing = np.zeros(0, np.int64)
    empty = SignalAnalysis(
        nothing,
        nothing.astype(np.uint8),
        nothing,
        nothing.astype(np.uint16),
        nothing.astype(np.uint8),
        nothing.astype(np.uint8),
        nothing.astype(np.uint16),
    )
    heart = summarize_heart(empty, RATE)
    assert (heart.beats, heart.seconds, heart.mean_bpm, heart.inverted) == (0, 0, None, None)
    assert heart.variability.refusal is HrvRefusal.TOO_SHORT
