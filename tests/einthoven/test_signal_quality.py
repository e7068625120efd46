"""What is called usable, which reason is named when it is not, and that no bit depends on chunking."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.errors import SamplingRateError
from einthoven.frontend import Filler
from einthoven.models import load_model
from einthoven.ports import MISSING_UV
from einthoven.resampling import Resampler, ResamplerTable
from einthoven.results import Quality
from einthoven.signal_quality import DELAY_S, EMPTY_SECONDS, USABLE_INDEX, AssessedSeconds, SignalQuality
from einthoven.simulator import SimulatedRhythm, simulate

RATES = (Fraction(300), Fraction(130), Fraction("511.422"))
DURATION_S = 40
NOISY = slice(10, 30)
"""Seconds that the constructed cases put their noise in."""


def resample(samples: NDArray[np.int32], rate: Fraction) -> NDArray[np.int64]:
    """The whole signal at 128 Hz, its right edge held."""
    table = ResamplerTable(load_model().coefficients, rate)
    resampler = Resampler(table)
    filled = Filler().push(samples)
    held = np.full(table.half_taps + 9, filled[-1] if len(filled) else 0)
    found = np.concatenate([resampler.push(filled), resampler.push(held)])
    return found[: -(-len(samples) * table.denominator // table.numerator)]


def joined(parts: Sequence[AssessedSeconds]) -> AssessedSeconds:
    return AssessedSeconds(np.concatenate([one.flags for one in parts]), np.concatenate([one.index for one in parts]))


def assess(samples: NDArray[np.int32], rate: Fraction) -> AssessedSeconds:
    quality = SignalQuality(rate)
    return joined([quality.push(samples, resample(samples, rate)), quality.finish()])


def clean(rate: Fraction = Fraction(300), **options: object) -> NDArray[np.int32]:
    return simulate(SimulatedRhythm(duration_s=DURATION_S, sampling_rate_hz=rate, seed=3, **options)).samples_uv  # type: ignore[arg-type]


def with_noise(rate: Fraction, noise: NDArray[np.float64], *, instead: bool = False) -> NDArray[np.int32]:
    """Clean ECG with noise added, or in its place, from second 10 to 30."""
    samples = clean(rate)
    seconds = np.arange(len(samples)) / float(rate)
    inside = (seconds >= NOISY.start) & (seconds < NOISY.stop)
    added = noise if instead else samples + noise
    return np.where(inside, np.rint(added), samples).astype(np.int32)


def time_s(rate: Fraction) -> NDArray[np.float64]:
    return np.arange(int(rate * DURATION_S)) / float(rate)


def muscle(rate: Fraction) -> NDArray[np.float64]:
    """White noise below 90 Hz, as an amplifier lets it through."""
    n = int(rate * DURATION_S)
    spectrum = np.fft.rfft(np.random.default_rng(4).normal(size=n))
    spectrum[np.fft.rfftfreq(n, 1 / float(rate)) > 90] = 0
    noise = np.fft.irfft(spectrum, n)
    return 500 * noise / noise.std()


def electrode_motion(rate: Fraction) -> NDArray[np.float64]:
    """Steps that decay, about two a second, one to four times as high as an R wave."""
    rng, seconds = np.random.default_rng(5), time_s(rate)
    noise = np.zeros(len(seconds))
    for start in np.arange(9, 31, 0.45):
        after = seconds >= start
        height = rng.choice([-1, 1]) * rng.uniform(1_500, 4_500)
        noise[after] += height * np.exp(-(seconds[after] - start) / 0.25)
    return noise


def assert_named(found: AssessedSeconds, reason: Quality, share: float = 0.9) -> None:
    """Nearly all noisy seconds have the reason; hardly any other second has a flag."""
    named = found.flags[NOISY] & int(reason) != 0
    assert named.mean() >= share, found.flags[NOISY]
    outside = np.delete(found.flags, np.r_[NOISY])
    assert np.count_nonzero(outside) <= 3, outside


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_clean_ecg_is_usable(rate: Fraction) -> None:
    found = assess(clean(rate), rate)
    assert not found.flags.any()
    assert found.index.mean() > 85


@pytest.mark.parametrize(
    "options",
    [
        {"inverted": True},
        {"r_amplitude_uv": 200.0, "noise_uv": 3.0, "wander_uv": 10.0, "respiration_uv": 30.0},
        {"heart_rate_bpm": 40.0},
        {"heart_rate_bpm": 170.0},
        {"af_episodes": ((0.0, 40.0),)},
        {"pvc_at_s": tuple(range(2, 38, 3))},
        {"pac_at_s": tuple(range(2, 38, 4))},
    ],
    ids=["inverted", "low voltage", "slow", "fast", "irregular", "ectopic", "early"],
)
def test_no_rhythm_or_lead_is_poor_quality(options: dict[str, object]) -> None:
    assert np.count_nonzero(assess(clean(**options), Fraction(300)).flags) <= 1


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_baseline_wander_is_named(rate: Fraction) -> None:
    assert_named(
        assess(with_noise(rate, 10_000 * np.sin(0.6 * np.pi * time_s(rate))), rate), Quality.BASELINE_WANDER, 0.8
    )


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_electrode_motion_is_named(rate: Fraction) -> None:
    assert_named(assess(with_noise(rate, electrode_motion(rate)), rate), Quality.ELECTRODE_MOTION, 0.8)


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_muscle_is_named(rate: Fraction) -> None:
    assert_named(assess(with_noise(rate, muscle(rate)), rate), Quality.MUSCLE, 0.8)


@pytest.mark.parametrize("hz", [50, 60, 49.8, 60.2])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_mains_is_named(rate: Fraction, hz: float) -> None:
    noise = 400 * np.sin(2 * np.pi * hz * time_s(rate))
    assert_named(assess(with_noise(rate, noise), rate), Quality.MAINS, 1.0)


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("kind", ["amplifier noise", "fall back from saturation", "mains alone"])
def test_a_lead_that_is_off_is_named(rate: Fraction, kind: str) -> None:
    seconds, rng = time_s(rate), np.random.default_rng(6)
    noise = rng.normal(0, 8, len(seconds))
    if kind == "fall back from saturation":
        noise += 8_000 * np.exp(-(seconds - 10) / 2)
    elif kind == "mains alone":
        noise += 800 * np.sin(2 * np.pi * 50 * seconds)
    assert_named(assess(with_noise(rate, noise, instead=True), rate), Quality.LEAD_OFF, 0.85)


def test_a_line_at_the_rail_is_flat_and_off() -> None:
    found = assess(with_noise(Fraction(300), np.full(12_000, 5_000.0), instead=True), Fraction(300))
    assert_named(found, Quality.FLAT, 1.0)
    assert_named(found, Quality.LEAD_OFF)


def test_clipping_is_named() -> None:
    samples = clean()
    samples = np.clip(4 * samples.astype(np.int64), -1_000, 1_000).astype(np.int32)
    found = assess(samples, Fraction(300))
    assert (found.flags & int(Quality.CLIPPED) != 0).mean() > 0.5
    assert not assess(clean(), Fraction(300)).flags.any()


def test_a_gap_is_named_where_it_is_and_hardly_elsewhere() -> None:
    samples = clean().copy()
    samples[15 * 300 : 17 * 300] = MISSING_UV
    found = assess(samples, Fraction(300))
    assert found.flags[15:17].tolist() == [int(Quality.GAP)] * 2
    assert np.count_nonzero(np.delete(found.flags, [15, 16])) <= 2


def test_nothing_received_is_a_gap_only() -> None:
    found = assess(np.full(3_000, MISSING_UV, np.int32), Fraction(300))
    assert found.flags.tolist() == [int(Quality.GAP)] * 10
    assert (found.index < USABLE_INDEX).all()


def test_no_samples_and_less_than_a_second_give_nothing() -> None:
    assert len(EMPTY_SECONDS) == 0
    for n in (0, 1, 299):
        assert len(assess(np.zeros(n, np.int32), Fraction(300))) == 0


def test_one_second_is_judged_by_itself() -> None:
    assert len(assess(clean()[:300], Fraction(300))) == 1


def test_extreme_values_do_not_overflow() -> None:
    samples = np.tile(np.array([2**31 - 1, -(2**31) + 1], np.int32), 1_500)
    assert (assess(samples, Fraction(300)).flags & int(Quality.CLIPPED) != 0).all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([*RATES, Fraction(100), Fraction(1000)]), st.integers(0, 2**32), st.data())
def test_same_bits_in_any_chunking_and_flags_agree_with_the_index(
    rate: Fraction, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    samples = np.cumsum(rng.normal(0, 30, int(rate * 9)) * rng.choice([1, 1, 1, 40], int(rate * 9))).astype(np.int32)
    for value in (MISSING_UV, 5_000, 0, -(2**20)):
        start = int(rng.integers(len(samples)))
        samples[start : start + int(rng.integers(int(2 * rate)))] = value
    signal = resample(samples, rate)
    whole = assess(samples, rate)
    assert len(whole) == len(samples) // rate
    assert ((whole.flags == 0) == (whole.index >= USABLE_INDEX)).all()
    assert whole.index.max() <= 100
    pieces = data.draw(st.integers(1, 30))
    raw_cuts = np.sort(rng.integers(0, len(samples) + 1, pieces))
    cuts = np.sort(rng.integers(0, len(signal) + 1, pieces))
    quality = SignalQuality(rate)
    pairs = zip(np.split(samples, raw_cuts), np.split(signal, cuts), strict=True)
    found = joined([*(quality.push(raw, part) for raw, part in pairs), quality.finish()])
    np.testing.assert_array_equal(found.flags, whole.flags)
    np.testing.assert_array_equal(found.index, whole.index)


def test_single_samples_give_the_same_within_the_stated_delay() -> None:
    rate = Fraction(128)
    samples = clean(rate)[: 128 * 12]
    signal = samples.astype(np.int64)  # what a perfect resampler would say, with no delay of its own
    quality, seen = SignalQuality(rate), []
    for i in range(len(samples)):
        part = quality.push(samples[i : i + 1], signal[i : i + 1])
        seen.append(part)
        done = sum(len(one) for one in seen)
        assert done >= (i + 1) / 128 - DELAY_S - 1
        assert done * 128 <= i + 1
    parts = joined([*seen, quality.finish()])
    bulk = SignalQuality(rate)
    whole = joined([bulk.push(samples, signal), bulk.finish()])
    np.testing.assert_array_equal(parts.flags, whole.flags)
    np.testing.assert_array_equal(parts.index, whole.index)


def test_a_long_push_needs_little_memory() -> None:
    import tracemalloc

    rate = Fraction(128)
    samples = np.tile(clean(rate), 90)  # an hour
    signal = samples.astype(np.int64)
    quality = SignalQuality(rate)
    tracemalloc.start()
    found = quality.push(samples, signal)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) > 3_590
    assert peak < 4_000_000


def test_samples_may_be_changed_after_a_push() -> None:
    samples = clean()[: 300 * 5].copy()
    signal = resample(samples, Fraction(300))
    expected = assess(samples, Fraction(300))
    quality = SignalQuality(Fraction(300))
    parts = []
    for i in range(0, 1_500, 100):
        buffer, tail = samples[i : i + 100].copy(), signal[i * 128 // 300 : (i + 100) * 128 // 300].copy()
        parts.append(quality.push(buffer, tail))
        buffer[:] = 0
        tail[:] = 0
    found = joined([*parts, quality.finish()])
    np.testing.assert_array_equal(found.index, expected.index)


def test_other_rates_are_refused() -> None:
    with pytest.raises(SamplingRateError):
        SignalQuality(Fraction(10))
