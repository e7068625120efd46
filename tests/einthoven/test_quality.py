"""Per-second flags from raw samples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.errors import SamplingRateError
from einthoven.ports import MISSING_UV
from einthoven.quality import QualityMeter
from einthoven.results import Quality

RATE = Fraction(300)


def ecg_like(seconds: int, amplitude_uv: int = 1000) -> np.ndarray:
    """Noise of 30 uV with a triangular pulse a second."""
    samples = np.random.default_rng(0).integers(-15, 16, seconds * 300)
    for second in range(seconds):
        for i in range(10):
            samples[second * 300 + 150 + i] += amplitude_uv * (10 - abs(i - 5)) // 10
    return samples.astype(np.int32)


def flags(samples: np.ndarray, rate: Fraction = RATE) -> list[Quality]:
    return QualityMeter(rate).push(samples)


def test_a_clean_signal_is_usable() -> None:
    assert flags(ecg_like(5)) == [Quality.USABLE] * 5


def test_more_than_40_ms_missing_is_a_gap() -> None:
    samples = ecg_like(3)
    samples[300 : 300 + 12] = MISSING_UV  # exactly 40 ms
    assert flags(samples)[1] is Quality.USABLE
    samples[400] = MISSING_UV
    assert flags(samples) == [Quality.USABLE, Quality.GAP, Quality.USABLE]


def test_a_second_without_any_sample_is_a_gap_only() -> None:
    assert flags(np.full(600, MISSING_UV, np.int32)) == [Quality.GAP, Quality.GAP]


@pytest.mark.parametrize(("range_uv", "expected"), [(9, Quality.FLAT), (10, Quality.USABLE), (0, Quality.FLAT)])
def test_a_range_under_10_uv_is_flat(range_uv: int, expected: Quality) -> None:
    samples = np.tile(np.array([0, range_uv], np.int32), 150)
    assert flags(samples + np.int32(4321)) == [expected]


def test_a_plateau_at_the_extreme_is_clipped() -> None:
    samples = np.minimum(ecg_like(3, 4000) * 2, 3000).astype(np.int32)
    wide = ecg_like(3)
    wide[450:470] = 3000
    assert flags(samples)[1] is Quality.USABLE  # a plateau of a few samples
    assert flags(wide) == [Quality.USABLE, Quality.CLIPPED, Quality.USABLE]
    assert flags(-wide) == [Quality.USABLE, Quality.CLIPPED, Quality.USABLE]


def test_an_isoelectric_plateau_is_not_clipped() -> None:
    samples = np.zeros(300, np.int32)
    samples[100:110] = 900
    samples[105] = 901
    assert flags(samples) == [Quality.USABLE]


def test_the_front_ends_limit_is_clipped() -> None:
    samples = ecg_like(1)
    samples[17] = 2**20
    assert flags(samples) == [Quality.CLIPPED]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Fraction(300), Fraction(130), Fraction("512.617"), Fraction(1000, 3)]), st.data())
def test_same_flags_in_any_chunking(rate: Fraction, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    samples = (rng.integers(-30, 30, int(rate * 6)) * rng.choice([0, 1, 100])).astype(np.int32)
    for _ in range(4):
        start = int(rng.integers(len(samples)))
        samples[start : start + int(rng.integers(200))] = rng.choice([MISSING_UV, 5000, -5000, 0])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=20)))
    meter = QualityMeter(rate)
    pieces = [flag for piece in np.split(samples, cuts) for flag in meter.push(piece)]
    assert pieces == flags(samples, rate)
    assert len(pieces) == len(samples) // rate


def test_seconds_of_a_fractional_rate_have_their_own_lengths() -> None:
    rate = Fraction(1000, 3)  # seconds begin at 0, 334, 667, 1000
    samples = np.tile(np.array([0, 50], np.int32), 500)
    samples[334:667] = 7
    assert flags(samples, rate) == [Quality.USABLE, Quality.FLAT, Quality.USABLE]


def test_long_signals_are_taken_in_batches() -> None:
    samples = np.tile(np.array([0, 50], np.int32), 100 * 1500 // 2)
    samples[100 * 1400 : 100 * 1401] = 0
    found = flags(samples, Fraction(100))
    assert len(found) == 1500
    assert [i for i, flag in enumerate(found) if flag] == [1400]


def test_other_rates_are_refused() -> None:
    with pytest.raises(SamplingRateError):
        QualityMeter(Fraction(10))
