"""QRS detection: the same bits in any chunking, exact, in time, whichever way up, and right on real hearts."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.einthoven import slow_beat_detector

from einthoven.beat_detector import DELAY_S, EMPTY_BEATS, REFRACTORY, TICKS_HZ, BeatDetector, DetectedBeats
from einthoven.frontend import Filler
from einthoven.models import load_model
from einthoven.resampling import MAX_AMPLITUDE_UV, MODEL_RATE_HZ, Resampler, ResamplerTable
from einthoven.simulator import SimulatedRhythm, simulate

DATA = Path(__file__).parents[3] / "shared" / "data"
COEFFICIENTS = load_model().coefficients
WINDOW_TICKS = round(0.150 * TICKS_HZ)
LIMIT = 2 * MAX_AMPLITUDE_UV


def resampled(samples_uv: np.ndarray, rate: Fraction) -> np.ndarray:
    filler, resampler = Filler(), Resampler(ResamplerTable(COEFFICIENTS, rate))
    return resampler.push(filler.push(np.pad(samples_uv, (0, 200), mode="edge")))


def simulated(seconds: int, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Signal at 128 Hz and R peaks in ticks."""
    ecg = simulate(SimulatedRhythm(duration_s=seconds, sampling_rate_hz=Fraction(256), **options))
    return resampled(ecg.samples_uv, Fraction(256))[: seconds * MODEL_RATE_HZ], ecg.r_peaks * (TICKS_HZ // 256)


def joined(parts: list[DetectedBeats]) -> np.ndarray:
    return np.array(
        [
            np.concatenate([part.at_ticks for part in parts]),
            np.concatenate([part.score for part in parts]).astype(np.int64),
            np.concatenate([part.amplitude_uv for part in parts]),
        ]
    )


def detect(samples: np.ndarray, cuts: list[int] | None = None) -> np.ndarray:
    detector = BeatDetector()
    parts = [detector.push(part) for part in np.split(samples, cuts or [])]
    return joined([*parts, detector.finish()])


def true_positives(found: np.ndarray, wanted: np.ndarray) -> int:
    return int((np.abs(found[:, None] - wanted[None, :]) <= WINDOW_TICKS).any(axis=0).sum())


def rough_signal(seed: int, seconds: int) -> np.ndarray:
    """A simulated heart, noise, steps and flat stretches."""
    rng = np.random.default_rng(seed)
    samples, _ = simulated(seconds, seed=seed % 1000)
    samples = samples + rng.integers(-150, 150, len(samples))
    for _ in range(3):
        at = int(rng.integers(0, len(samples)))
        samples[at:] += int(rng.integers(-4000, 4000))
        samples[at : at + int(rng.integers(1, 200))] = samples[at]
    return np.asarray(samples - samples[0], np.int64)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_same_bits_in_any_chunking(seed: int, data: st.DataObject) -> None:
    samples = rough_signal(seed, 20)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=40)))
    np.testing.assert_array_equal(detect(samples, cuts), detect(samples))


def test_same_bits_sample_by_sample() -> None:
    samples = rough_signal(5, 30)
    whole = detect(samples)
    assert whole.shape[1] > 20
    np.testing.assert_array_equal(detect(samples, list(range(1, len(samples)))), whole)


def test_same_bits_in_one_push_longer_than_a_batch() -> None:
    samples = rough_signal(6, 120)
    np.testing.assert_array_equal(detect(samples), detect(samples, list(range(0, len(samples), 1000))))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_number_is_that_of_plain_integer_arithmetic(seed: int) -> None:
    samples = rough_signal(seed, 16)
    wanted = np.array(slow_beat_detector.detect(samples.tolist())).T
    assert wanted.shape[1] > 8
    np.testing.assert_array_equal(detect(samples), wanted)


def test_exact_at_the_limits_of_the_front_end() -> None:
    samples = np.random.default_rng(4).integers(-LIMIT, LIMIT, 5 * MODEL_RATE_HZ)
    wanted = np.array(slow_beat_detector.detect(samples.tolist()), np.int64).reshape(-1, 3).T
    np.testing.assert_array_equal(detect(samples), wanted)


def test_upside_down_gives_the_same_beats_with_opposite_amplitudes() -> None:
    samples = rough_signal(7, 60)
    up, down = detect(samples), detect(-samples)
    np.testing.assert_array_equal(up[:2], down[:2])
    np.testing.assert_array_equal(up[2], -down[2])
    assert up.shape[1] > 40


@pytest.mark.parametrize("gain", [Fraction(1, 4), Fraction(3), Fraction(20)])
def test_beats_do_not_depend_on_the_gain(gain: Fraction) -> None:
    samples, peaks = simulated(60)
    found = detect(samples * gain.numerator // gain.denominator)
    assert found.shape[1] == detect(samples).shape[1]
    assert true_positives(found[0], peaks) >= len(peaks) - 1


@pytest.mark.parametrize("options", [{}, {"inverted": True}, {"seed": 9}])
def test_every_beat_of_a_simulated_heart_at_its_r_peak(options: dict[str, object]) -> None:
    samples, peaks = simulated(120, **options)
    found = detect(samples)[0]
    whole = peaks[(peaks > 60) & (peaks < len(samples) * 8 - 60)]
    assert abs(len(found) - len(whole)) <= 1
    error = np.abs(found[:, None] - whole[None, :]).min(axis=0)
    assert np.median(error) <= 0.010 * TICKS_HZ
    assert error.max() <= WINDOW_TICKS


def test_a_beat_is_out_within_the_delay_and_none_comes_before_settled() -> None:
    samples = rough_signal(8, 60)
    detector = BeatDetector()
    n_beats = 0
    for end in range(1, len(samples) + 1):
        settled = detector.settled
        beats = detector.push(samples[end - 1 : end])
        n_beats += len(beats)
        for at in (beats.at_ticks / 8).tolist():
            assert end - at <= DELAY_S * MODEL_RATE_HZ
            assert at >= settled
    assert n_beats > 40
    assert DELAY_S <= 2.0


def test_peaks_strictly_increase_and_lie_a_refractory_period_apart() -> None:
    noise = np.random.default_rng(9).integers(-3000, 3000, 100_000).cumsum() // 8
    for samples in (rough_signal(10, 120), noise - noise[0]):
        at = detect(np.asarray(samples, np.int64))[0]
        assert (np.diff(at) > 0).all()
        assert (at >= 0).all()
        assert len(at) <= len(samples) / REFRACTORY + 1


@pytest.mark.parametrize("length", [0, 1, 2, 31, 32, 33, 200])
def test_a_signal_of_any_length_ends_well(length: int) -> None:
    assert detect(np.zeros(length, np.int64)).shape == (3, 0)
    assert len(BeatDetector().push(np.zeros(length, np.int64))) == 0


def test_nothing_in_a_flat_line_and_little_around_a_step() -> None:
    flat = np.zeros(60 * MODEL_RATE_HZ, np.int64)
    assert detect(flat).shape[1] == 0
    flat[30 * MODEL_RATE_HZ :] = 5_000
    assert detect(flat).shape[1] <= 2


@pytest.mark.parametrize("kind", ["extremes", "square", "ramp", "impulses", "tiny"])
def test_absurd_signals_are_taken_without_an_exception(kind: str) -> None:
    rng = np.random.default_rng(11)
    n = 40 * MODEL_RATE_HZ
    samples = {
        "extremes": rng.choice([-LIMIT, LIMIT], n),
        "square": np.where(np.arange(n) // 40 % 2, LIMIT, -LIMIT),
        "ramp": np.linspace(-LIMIT, LIMIT, n).astype(np.int64),
        "impulses": np.where(np.arange(n) % 97 == 0, LIMIT, 0),
        "tiny": rng.integers(-2, 3, n),
    }[kind]
    found = detect(samples.astype(np.int64))
    assert (np.diff(found[0]) > 0).all()
    if kind in {"ramp", "tiny"}:
        assert found.shape[1] <= 2


def test_memory_is_bounded_in_one_push_of_hours() -> None:
    samples = np.tile(rough_signal(12, 60), 180)
    detector = BeatDetector()
    detector.push(samples[: 60 * MODEL_RATE_HZ])
    tracemalloc.start()
    try:
        detector.push(samples)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * samples.nbytes


def test_no_beat_is_a_value() -> None:
    assert len(EMPTY_BEATS) == 0
    assert EMPTY_BEATS.score.dtype == np.uint8


@pytest.mark.skipif(not (DATA / "mitdb").is_dir(), reason="the recordings are not here")
@pytest.mark.parametrize(("record_id", "least_f1"), [("101", 0.995), ("119", 0.995), ("208", 0.985), ("230", 0.998)])
def test_f1_on_a_real_recording(record_id: str, least_f1: float) -> None:
    from einthoven_conversion.beats.matching import compare, f1
    from einthoven_conversion.beats.recordings import read_references

    recording = next(one for one in read_references(DATA, "mitdb") if one.record_id == record_id)
    found = detect(recording.samples)[0] / TICKS_HZ
    comparison = compare(recording.beats_s, found, recording.left_out)
    assert f1([comparison]) >= least_f1
    assert np.median(np.abs(comparison.errors_s)) <= 0.010
