"""The signal path: the same bits in any chunking, beats at input samples, nothing found where nothing was received."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.errors import InputError, SamplingRateError
from einthoven.models import load_model
from einthoven.ports import MISSING_UV
from einthoven.results import Quality
from einthoven.signal_path import BLOCK_MS, TICKS_HZ, SignalChunk, SignalPath, ticks_to_samples
from einthoven.signals import analyze_signal
from einthoven.simulator import SimulatedRhythm
from einthoven.source_simulated import SimulatedSource

COEFFICIENTS = load_model().coefficients
RATES = [Fraction(100), Fraction(130), Fraction(300), Fraction("511.422"), Fraction(1000, 3), Fraction(1000)]


def heart(rate: Fraction, seconds: int, **options) -> np.ndarray:
    source = SimulatedSource(SimulatedRhythm(duration_s=seconds, sampling_rate_hz=rate, **options))
    return np.concatenate(list(source.chunks()))


SIGNALS = {rate: heart(rate, 20) for rate in RATES}


def through(samples: np.ndarray, rate: Fraction, cuts: list[int], block_ms: int = BLOCK_MS) -> list[SignalChunk]:
    path = SignalPath(COEFFICIENTS, rate, block_ms=block_ms)
    return [*(path.push(piece) for piece in np.split(samples, cuts)), path.finish()]


def joined(chunks: list[SignalChunk]) -> list[np.ndarray]:
    beats, seconds = [chunk.beats for chunk in chunks], [chunk.seconds for chunk in chunks]
    return [
        np.concatenate([one.r_peaks for one in beats]),
        np.concatenate([one.scores for one in beats]),
        np.concatenate([one.amplitudes_uv for one in beats]),
        np.concatenate([one.after_gap for one in beats]),
        np.concatenate([one.classes for one in beats]),
        np.concatenate([one.class_permille for one in beats]),
        np.concatenate([one.flags for one in seconds]),
        np.concatenate([one.index for one in seconds]),
    ]


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(RATES), st.integers(0, 2**32), st.data())
def test_same_bits_in_any_chunking(rate: Fraction, seed: int, data: st.DataObject) -> None:
    samples = SIGNALS[rate].copy()
    chance = np.random.default_rng(seed)
    for start in chance.integers(0, len(samples), data.draw(st.integers(0, 4))):
        samples[start : start + int(chance.integers(1, rate))] = MISSING_UV
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=40)))
    block_ms = data.draw(st.sampled_from([50, 125, 1_000, 3_000, 60_000]))
    assert_same(joined(through(samples, rate, cuts, block_ms)), joined(through(samples, rate, [])))


@pytest.mark.parametrize("rate", [Fraction(130), Fraction("511.422")])
def test_same_bits_sample_by_sample(rate: Fraction) -> None:
    samples = SIGNALS[rate][: int(12 * rate)]
    assert_same(joined(through(samples, rate, list(range(1, len(samples))), 50)), joined(through(samples, rate, [])))


@pytest.mark.parametrize("rate", RATES)
def test_finds_the_beats_of_a_simulated_heart_at_any_rate(rate: Fraction) -> None:
    found = analyze_signal(SIGNALS[rate], rate)
    rr_s = np.diff(found.r_peaks) / float(rate)
    assert 15 <= len(found.r_peaks) <= 40
    assert rr_s.min() > 0.4
    assert rr_s.max() < 1.6
    assert found.inverted is False
    assert len(found.flags) == len(found.quality_index) == int(len(SIGNALS[rate]) / rate)
    # An R peak is the highest sample for 60 ms either side.
    for peak in found.r_peaks[1:-1]:
        reach = int(rate * 60 / 1000)
        near = SIGNALS[rate][peak - reach : peak + reach + 1]
        assert abs(int(np.argmax(near)) - reach) <= max(2, rate * 10 / 1000)


def test_electrodes_the_wrong_way_round_give_the_same_beats() -> None:
    rate = Fraction(300)
    upright, inverted = analyze_signal(SIGNALS[rate], rate), analyze_signal(-SIGNALS[rate], rate)
    assert len(upright.r_peaks) == len(inverted.r_peaks)
    assert np.abs(upright.r_peaks - inverted.r_peaks).max() <= 3
    assert inverted.inverted is True


def test_no_beat_where_nothing_was_received() -> None:
    rate = Fraction(250)
    samples = heart(rate, 40)
    samples[10 * 250 : 13 * 250] = MISSING_UV
    samples[20 * 250 : 20 * 250 + 5] = MISSING_UV  # 20 ms: no gap
    found = analyze_signal(samples, rate)
    assert not np.any((found.r_peaks >= 10 * 250 - 12) & (found.r_peaks < 13 * 250 + 12))
    assert all(found.flags[second] & Quality.GAP for second in (10, 11, 12))
    assert not found.flags[20] & Quality.GAP
    assert np.count_nonzero(found.r_peaks > 13 * 250) > 20
    beats = joined(through(samples, rate, list(range(100, len(samples), 100)), 125))
    after = np.flatnonzero(beats[3])
    assert beats[0][after].tolist() == [found.r_peaks[found.r_peaks > 13 * 250][0]]


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.int32),
        np.zeros(1, np.int32),
        np.full(6_000, MISSING_UV, np.int32),
        np.full(6_000, 2**31 - 1, np.int32),
        np.full(6_000, -(2**31) + 1, np.int32),
        np.zeros(6_000, np.int32),
        np.tile(np.array([2**31 - 1, -(2**31) + 1], np.int32), 3_000),
        np.random.default_rng(1).integers(-(2**31), 2**31, 6_000).astype(np.int32),
    ],
    ids=["nothing", "one", "missing", "upper rail", "lower rail", "zero", "rail to rail", "noise"],
)
def test_what_is_no_ecg_is_not_usable(samples: np.ndarray) -> None:
    found = analyze_signal(samples, 300)
    assert len(found.flags) == len(samples) // 300
    assert np.all(found.flags != 0)
    assert len(found.r_peaks) <= len(samples) / 300 * 5


@pytest.mark.parametrize("block_ms", [0, 49, 60_001])
def test_a_block_out_of_range_is_refused(block_ms: int) -> None:
    with pytest.raises(InputError, match="50 to 60000 ms"):
        SignalPath(COEFFICIENTS, Fraction(300), block_ms=block_ms)


def test_a_rate_out_of_range_and_words_are_refused() -> None:
    with pytest.raises(SamplingRateError):
        analyze_signal([1, 2, 3], 99)
    with pytest.raises(InputError):
        analyze_signal([[1], [2]], 300)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 100 * 86_400 * TICKS_HZ), min_size=1, max_size=5),
    st.fractions(100, 1000, max_denominator=1_000_000),
)
def test_ticks_become_the_nearest_sample_exactly(ticks: list[int], rate: Fraction) -> None:
    found = ticks_to_samples(np.array(ticks, np.int64), rate)
    assert found.tolist() == [int(Fraction(tick, TICKS_HZ) * rate + Fraction(1, 2)) for tick in ticks]


def test_gaps_without_beats_do_not_pile_up() -> None:
    path = SignalPath(COEFFICIENTS, Fraction(100))
    samples = np.zeros(1_000, np.int32)
    samples[::20] = MISSING_UV
    samples[5::20] = MISSING_UV
    samples[:5] = samples[10:20] = MISSING_UV
    for _ in range(300):
        path.push(samples)
    assert len(path._gaps._spans) < 200
