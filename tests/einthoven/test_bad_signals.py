"""Attack 27: what is no ECG, or not what it is said to be, is inconclusive with a reason, and never an exception."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from einthoven.analysis import MAX_RATE_BPM, MIN_RATE_BPM, analyze_window
from einthoven.events import Event, GapFound, WindowAnalyzed
from einthoven.models import Model, load_model
from einthoven.ports import MISSING_UV, Packet, Stamped
from einthoven.results import InconclusiveReason, Quality, RiskTier, WindowResult
from einthoven.runner_litert import LiteRtRunner
from einthoven.session import Session
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


def heart(seconds: int, rate: Fraction = RATE) -> np.ndarray:
    source = SimulatedSource(SimulatedRhythm(duration_s=seconds, sampling_rate_hz=rate))
    return np.concatenate(list(source.chunks()))


def results(events: list[Event]) -> list[WindowResult]:
    return [event.result for event in events if isinstance(event, WindowAnalyzed)]


def verdict(model: Model, runner: LiteRtRunner, samples: object) -> WindowResult:
    session = Session.open(model, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=START_MS, runner=runner)
    return results(session.push(samples) + session.close())[0]


ECG = heart(30)
NOISE = np.random.default_rng(27)


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (np.zeros(7_500), Quality.FLAT),
        (np.full(7_500, 3_000_000), Quality.GAP),  # no sensor gives three volts: as if not received
        (np.clip(ECG * 20, -900, 900), Quality.CLIPPED),
        (np.full(7_500, np.nan), Quality.GAP),
        (np.where(np.arange(7_500) % 250 < 130, ECG, MISSING_UV), Quality.GAP),
        (ECG / 1_000, Quality.FLAT),  # millivolts said to be microvolts
        (ECG.astype(np.float64) * 1e6, Quality.GAP),  # microvolts said to be volts
        (NOISE.normal(0, 400, 7_500), None),
        (np.cumsum(NOISE.normal(0, 60, 7_500)), None),
        (500 * np.sign(np.sin(np.arange(7_500) / 250 * 2 * np.pi * 50)), Quality.MAINS),
    ],
    ids=["flat", "rail", "clipped", "NaN", "half missing", "mV as uV", "uV as V", "white noise", "wander", "mains"],
)
def test_no_ecg_gets_no_label(model: Model, runner: LiteRtRunner, samples: np.ndarray, fault: Quality | None) -> None:
    found = verdict(model, runner, samples)
    assert found.tier is RiskTier.INCONCLUSIVE
    assert found.reason is not InconclusiveReason.NONE
    assert found.usable_s < 15
    if fault is not None:
        assert found.quality & fault


@pytest.mark.parametrize(
    ("bpm", "reason"),
    [
        (15, InconclusiveReason.POOR_SIGNAL),
        (20, InconclusiveReason.POOR_SIGNAL),
        (245, InconclusiveReason.RATE_OUT_OF_RANGE),
        (265, InconclusiveReason.RATE_OUT_OF_RANGE),
    ],
)
def test_a_heart_rate_that_is_none_is_inconclusive(
    model: Model, runner: LiteRtRunner, bpm: int, reason: InconclusiveReason
) -> None:
    """A sampling rate that is wrong by a large factor shows so."""
    since_beat_s = np.mod(np.arange(7_500) / 250, 60 / bpm) - 0.05
    samples = (1_000 * np.exp(-((since_beat_s / 0.012) ** 2))).astype(np.int32)
    found = analyze_window(model, runner, samples, RATE)
    assert found.heart_rate_bpm is not None
    assert not MIN_RATE_BPM <= found.heart_rate_bpm <= MAX_RATE_BPM
    assert found.reason is reason


def test_the_median_rate_of_a_window_is_its_hearts(model: Model, runner: LiteRtRunner) -> None:
    found = analyze_window(model, runner, ECG, RATE)
    assert found.heart_rate_bpm is not None
    assert 50 < found.heart_rate_bpm < 110


def test_packets_in_reverse_or_twice_do_not_change_the_verdict(model: Model, runner: LiteRtRunner) -> None:
    pieces = np.split(ECG, 60)
    packets = [
        Packet(piece, START_MS * 10**6 + i * 500_000_000, Stamped.FIRST, START_MS + 500 * i + 500)
        for i, piece in enumerate(pieces)
    ]
    mistreated = [packets[0]]
    for i in range(1, 58, 3):
        mistreated += [packets[i + 2], packets[i], packets[i], packets[i + 1]]
    mistreated += packets[58:]

    def record(sent: list[Packet]) -> list[Event]:
        session = Session.open(model, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=START_MS, runner=runner)
        return [event for packet in sent for event in session.push_packet(packet)] + session.close()

    straight, crooked = record(packets), record(mistreated)
    assert not [event for event in crooked if isinstance(event, GapFound)]
    assert results(crooked) == results(straight)
    assert results(crooked)[0].reason is InconclusiveReason.NONE
