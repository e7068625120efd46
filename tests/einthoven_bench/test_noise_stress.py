"""The signal-to-noise ratio really is what was asked for, on signals whose powers are known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from einthoven_bench.noise_stress import (
    at_rate,
    noise_gain,
    noise_power_uv2,
    signal_power_uv2,
    tiled_noise,
    trimmed_mean,
    with_noise,
)

RATE = Fraction(360)


def square_beats(height_uv: int, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Beats whose peak-to-peak amplitude is exact."""
    samples = np.zeros(360 * (n + 1), np.int32)
    beats = 360 * np.arange(1, n + 1, dtype=np.int64)
    for beat in beats:
        samples[beat - 5 : beat + 5] = height_uv
    return samples, beats


def test_signal_power_is_that_of_a_sine_as_high_as_the_qrs() -> None:
    samples, beats = square_beats(1_000)
    assert signal_power_uv2(samples, beats, RATE) == pytest.approx(1_000**2 / 8)


def test_five_percent_at_each_end_do_not_count() -> None:
    samples, beats = square_beats(1_000)
    for beat in beats[:5]:
        samples[beat - 5 : beat + 5] = 30_000
    for beat in beats[5:10]:
        samples[beat - 5 : beat + 5] = 0
    assert signal_power_uv2(samples, beats, RATE) == pytest.approx(1_000**2 / 8)
    assert trimmed_mean(np.array([1.0, 3.0])) == 2.0


def test_beats_whose_window_leaves_the_record_do_not_count() -> None:
    samples, _ = square_beats(1_000, n=2)
    assert signal_power_uv2(samples, np.array([3, len(samples) - 3]), RATE) is None
    assert signal_power_uv2(samples, np.zeros(0, np.int64), RATE) is None


def test_noise_power_leaves_slow_drift_out() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 50, 360 * 300)
    drifting = noise + 2_000 * np.sin(np.arange(len(noise)) / 360 / 60)
    power = noise_power_uv2(noise, RATE)
    assert power == pytest.approx(2_500, rel=0.02)
    assert noise_power_uv2(drifting, RATE) == pytest.approx(power, rel=0.05)
    assert noise_power_uv2(noise[:100], RATE) is None


@pytest.mark.parametrize("snr_db", [24, 12, 6, 0, -6])
def test_the_ratio_of_what_is_added_is_what_was_asked_for(snr_db: int) -> None:
    """Measured on the sum, by plain means: no definition of the code under test is used."""
    samples, beats = square_beats(1_000)
    noise = np.random.default_rng(1).normal(0, 37, len(samples))
    signal_uv2, noise_uv2 = signal_power_uv2(samples, beats, RATE), noise_power_uv2(noise, RATE)
    assert signal_uv2 is not None
    assert noise_uv2 is not None
    noisy = with_noise(samples, noise, noise_gain(signal_uv2, noise_uv2, snr_db))
    assert noisy.dtype == np.int32
    added = (noisy - samples).astype(np.float64)
    assert 10 * np.log10(1_000**2 / 8 / added.var()) == pytest.approx(snr_db, abs=0.1)


def test_noise_without_power_is_refused() -> None:
    with pytest.raises(ValueError, match="no power"):
        noise_gain(1.0, 0.0, 6)


def test_noise_covers_the_whole_record_and_its_start_follows_from_the_name() -> None:
    pieces = [np.full(10, float(i)) for i in range(5)]
    noises = {name: tiled_noise(pieces, name, 120) for name in ("a", "b", "c", "d", "e", "f", "g")}
    for name, noise in noises.items():
        assert len(noise) == 120
        assert np.array_equal(noise, tiled_noise(pieces, name, 120))
        assert np.array_equal(noise[:50], noise[50:100])
        assert set(noise) == {0, 1, 2, 3, 4}
    assert len({noise[0] for noise in noises.values()}) > 1


def test_another_rate_keeps_length_and_shape() -> None:
    noise = np.sin(np.arange(3_600) / 360)
    half = at_rate(noise, Fraction(360), Fraction(180))
    assert len(half) == 1_800
    assert np.allclose(half, noise[::2])
    assert at_rate(noise, Fraction(360), Fraction(360)) is noise
