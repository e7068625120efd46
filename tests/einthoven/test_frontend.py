"""The integer front end: the same bits in any chunking, and what SciPy's float path would give."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.errors import SamplingRateError
from einthoven.frontend import MIN_SCALE_UV, BaselineRemover, Conditioner, FrontEnd, Normalizer
from einthoven.models import load_model
from einthoven.ports import MISSING_UV
from einthoven.resampling import MAX_AMPLITUDE_UV, MODEL_RATE_HZ, Resampler, ResamplerTable

RATES = [Fraction(rate) for rate in (100, 130, 250, 257, 300, 360, 500, 512, 1000)] + [
    Fraction("512.617"),
    Fraction(1000, 3),
]
COEFFICIENTS = load_model().coefficients
TABLES = {rate: ResamplerTable(COEFFICIENTS, rate) for rate in RATES}
RESAMPLER_ERROR_UV = 4
"""Bound for white noise of +-3,000 uV: table interpolation, coefficient and output rounding together."""


def noisy_signal(rate: Fraction, seconds: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    samples = rng.integers(-3000, 3000, int(rate * seconds)).astype(np.int32)
    samples[rng.random(len(samples)) < 0.02] = MISSING_UV
    return samples


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RATES), st.integers(0, 2**32), st.data())
def test_same_bits_in_any_chunking(rate: Fraction, seed: int, data: st.DataObject) -> None:
    samples = noisy_signal(rate, 12, seed)
    samples[: data.draw(st.integers(0, 300))] = MISSING_UV
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=40)))
    front_end = FrontEnd(TABLES[rate])
    pieces = [front_end.push(piece) for piece in np.split(samples, cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), FrontEnd(TABLES[rate]).push(samples))


@pytest.mark.parametrize("rate", [Fraction(130), Fraction(300), Fraction("512.617")])
def test_same_bits_sample_by_sample(rate: Fraction) -> None:
    samples = noisy_signal(rate, 10, 1)
    front_end = FrontEnd(TABLES[rate])
    pieces = [front_end.push(samples[i : i + 1]) for i in range(len(samples))]
    whole = FrontEnd(TABLES[rate]).push(samples)
    assert len(whole) >= 8
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("rate", RATES)
def test_resampler_stays_within_its_stated_error_of_the_float_filter(rate: Fraction) -> None:
    signal = pytest.importorskip("scipy.signal", reason="SciPy is the oracle")
    samples = np.random.default_rng(2).integers(-3000, 3000, int(rate * 6))
    samples[0] = 0
    half = len(COEFFICIENTS.half_kernel) - 1
    half_s = half / COEFFICIENTS.grid_hz
    found = Resampler(TABLES[rate]).push(samples.astype(np.int64))
    # The same prototype evaluated in float at the exact distances: a Kaiser-windowed sinc of 43.5 Hz.
    window = signal.windows.kaiser(2 * half + 1, signal.kaiser_beta(50.0))
    grid = np.arange(-half, half + 1) / COEFFICIENTS.grid_hz
    wanted = np.empty(len(found))
    for n in range(len(found)):
        position = n * rate / MODEL_RATE_HZ
        near = np.arange(int(position) - TABLES[rate].half_taps, int(position) + TABLES[rate].half_taps + 2)
        distance_s = np.array([float((int(i) - position) / rate) for i in near])
        inside = np.abs(distance_s) < half_s
        taps = np.where(inside, np.sinc(2 * 43.5 * distance_s) * np.interp(distance_s, grid, window), 0)
        taps /= taps.sum()
        wanted[n] = (taps * np.where(near >= 0, samples[np.clip(near, 0, len(samples) - 1)], 0)).sum()
    assert np.abs(found - wanted).max() <= RESAMPLER_ERROR_UV


@pytest.mark.parametrize("rate", RATES)
def test_every_phase_has_unity_gain_at_dc(rate: Fraction) -> None:
    assert (TABLES[rate].taps.sum(axis=1) == 2**18).all()


@pytest.mark.parametrize("rate", [rate for rate in RATES if TABLES[rate].periodic])
def test_matrix_and_gather_paths_give_the_same_bits(rate: Fraction) -> None:
    samples = np.random.default_rng(3).integers(-(2**20), 2**20, int(rate * 5)).astype(np.int64)
    gathering = ResamplerTable(COEFFICIENTS, rate)
    gathering.periodic = False
    np.testing.assert_array_equal(Resampler(gathering).push(samples), Resampler(TABLES[rate]).push(samples))


def level_db(rate: Fraction, frequency_hz: float) -> float:
    amplitude = 100_000
    time_s = np.arange(int(rate * 20)) / float(rate)
    samples = np.rint(amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.int32)
    clean = Conditioner(TABLES[rate]).push(samples)[5 * 128 : -5 * 128]
    return 20 * np.log10(np.sqrt(2 * np.mean(clean.astype(float) ** 2)) / amplitude + 1e-9)


@pytest.mark.parametrize("rate", [Fraction(250), Fraction(300), Fraction("512.617")])
def test_passes_the_ecg_and_stops_mains_and_wander(rate: Fraction) -> None:
    for frequency_hz in (2.3, 10, 20, 35):
        assert abs(level_db(rate, frequency_hz)) < 0.5
    for mains_hz in (50, 60):
        assert level_db(rate, mains_hz) < -45
    assert level_db(rate, 0.1) < -20


def test_what_the_sensor_aliases_is_out_of_reach() -> None:
    """At 100 Hz a tone of 60 Hz is a tone of 40 Hz before anything here sees it."""
    assert level_db(Fraction(100), 60) > -6


def test_filters_are_linear_phase() -> None:
    """A symmetric pulse at a whole second comes out symmetric around that second."""
    rate = Fraction(300)
    samples = np.zeros(3000, np.int32)
    samples[1495:1506] = 1000 * np.array([1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1])
    clean = Conditioner(TABLES[rate]).push(samples)
    centre = 5 * MODEL_RATE_HZ
    assert np.argmax(clean) == centre
    np.testing.assert_allclose(clean[centre - 60 : centre][::-1], clean[centre + 1 : centre + 61], atol=1)


def test_a_constant_signal_is_zero_whatever_its_level() -> None:
    samples = np.full(3000, 123_456, np.int32)
    assert not Conditioner(TABLES[Fraction(300)]).push(samples).any()


def test_missing_samples_hold_the_last_value() -> None:
    samples = noisy_signal(Fraction(300), 10, 4)
    held = samples.copy()
    first = int(np.argmax(samples != MISSING_UV))
    held[:first] = samples[first]
    for i in range(1, len(held)):
        if held[i] == MISSING_UV:
            held[i] = held[i - 1]
    table = TABLES[Fraction(300)]
    np.testing.assert_array_equal(FrontEnd(table).push(samples), FrontEnd(table).push(held))


def test_absurd_amplitudes_are_limited_not_overflowed() -> None:
    samples = np.tile(np.array([2**31 - 1, -(2**31) + 1], np.int32), 1500)
    limited = np.tile(np.array([MAX_AMPLITUDE_UV, -MAX_AMPLITUDE_UV], np.int32), 1500)
    table = TABLES[Fraction(300)]
    np.testing.assert_array_equal(FrontEnd(table).push(samples), FrontEnd(table).push(limited))


def test_baseline_remover_is_two_moving_averages() -> None:
    samples = np.random.default_rng(5).integers(-3000, 3000, 2000)
    kernel = np.convolve(np.ones(128), np.ones(128)) / 128**2
    found = BaselineRemover().push(samples.astype(np.int64))
    wanted = samples - np.convolve(samples, kernel, mode="full")[127 : 127 + len(samples)]
    assert len(found) == len(samples) - 127
    assert np.abs(found - wanted[: len(found)]).max() <= 0.5


def test_normalizer_puts_a_typical_peak_at_64() -> None:
    seconds = np.zeros((20, 128), np.int64)
    seconds[:, 60] = 700
    assert (Normalizer().push(seconds.reshape(-1))[:, 60] == 64).all()


def test_one_artefact_does_not_shrink_the_beats_after_it() -> None:
    seconds = np.zeros((20, 128), np.int64)
    seconds[:, 60] = 700
    seconds[10, 30] = 50_000
    steps = Normalizer().push(seconds.reshape(-1))
    assert steps[10, 30] == 127
    assert (steps[:, 60] == 64).all()


def test_a_signal_under_the_floor_is_not_blown_up() -> None:
    seconds = np.zeros((10, 128), np.int64)
    seconds[:, ::2] = 5
    assert np.abs(Normalizer().push(seconds.reshape(-1))).max() <= -(-5 * 64 // MIN_SCALE_UV)


def test_normalizer_remembers_eight_seconds() -> None:
    loud = np.zeros((8, 128), np.int64)
    loud[:, 60] = 2000
    quiet = np.zeros((12, 128), np.int64)
    quiet[:, 60] = 500
    steps = Normalizer().push(np.concatenate([loud, quiet]).reshape(-1))
    assert steps[8, 60] == 16  # 500 / 2000 * 64
    assert steps[-1, 60] == 64


@pytest.mark.parametrize(
    "rate", [Fraction(99), Fraction(1001), Fraction(0), Fraction(-300), Fraction(10**9 + 1, 10**7)]
)
def test_other_rates_are_refused(rate: Fraction) -> None:
    with pytest.raises(SamplingRateError):
        ResamplerTable(COEFFICIENTS, rate)


def test_too_fine_a_fraction_is_refused() -> None:
    with pytest.raises(SamplingRateError, match="limit_denominator"):
        ResamplerTable(COEFFICIENTS, Fraction(300) + Fraction(1, 10**7))


def test_nothing_in_nothing_out() -> None:
    front_end = FrontEnd(TABLES[Fraction(300)])
    assert front_end.push(np.zeros(0, np.int32)).shape == (0, 128)
    assert front_end.push(np.full(3000, MISSING_UV, np.int32)).any() == np.False_
