"""Beat classes: the same bits in any chunking, none lost, right on simulated and real hearts, whichever way up."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.beat_class_context import FEATURES
from einthoven.beat_class_rows import ALIKE, FAR, NEAR, STRIDE
from einthoven.beat_class_stream import ALL_SETTLED, BATCH, LEAST_BEATS, BeatDescriber, BeatsInContext
from einthoven.beat_class_times import NEXT_TICKS, contrast, ranked
from einthoven.beat_class_waves import AHEAD, BACK, BEFORE, LAGS, MAX_WAVE_UV, QRS, SPREAD, UNIT, WAVE, describe
from einthoven.beat_classes import DELAY_S, NO_CLASSES, BeatClassifier, ClassifiedBeats, decide
from einthoven.beat_detector import EMPTY_BEATS, TICKS_HZ, BeatDetector, DetectedBeats
from einthoven.beat_features import LIMIT
from einthoven.beat_scorer import LOGIT_ONE
from einthoven.resampling import MAX_AMPLITUDE_UV, MODEL_RATE_HZ
from einthoven.results import BeatClass
from einthoven.simulator import SimulatedRhythm, simulate

TICKS = TICKS_HZ // MODEL_RATE_HZ


def simulated(seconds: int, **options: object) -> np.ndarray:
    """Signal at 128 Hz, from its first sample."""
    ecg = simulate(SimulatedRhythm(duration_s=seconds, sampling_rate_hz=Fraction(128), **options))
    samples = ecg.samples_uv.astype(np.int64)
    return samples - samples[0]


def rough(seed: int, seconds: int) -> np.ndarray:
    """A simulated heart with ectopic beats, noise, steps, flat stretches and values at the limit."""
    rng = np.random.default_rng(seed)
    samples = simulated(seconds, seed=seed, pvc_at_s=(8.0, 14.0), pac_at_s=(11.0, 17.0))
    samples += rng.normal(0, rng.choice([5, 60, 400]), len(samples)).astype(np.int64)
    for _ in range(rng.integers(4)):
        start = int(rng.integers(len(samples)))
        stop = start + int(rng.integers(1, 400))
        samples[start:stop] = rng.choice([0, samples[start], 2 * MAX_AMPLITUDE_UV, -2 * MAX_AMPLITUDE_UV])
    return samples


def joined(parts: list[ClassifiedBeats]) -> list[np.ndarray]:
    parts = [NO_CLASSES, *parts]
    return [np.concatenate([getattr(part, name) for part in parts]) for name in ("at_ticks", "classes", "permille")]


def classified(samples: np.ndarray, cuts: list[int] | None = None) -> list[np.ndarray]:
    detector, classifier, parts = BeatDetector(), BeatClassifier(), []
    for piece in np.split(samples, cuts or []):
        beats = detector.push(piece)
        parts.append(classifier.push(piece, beats, detector.settled))
    parts.append(classifier.push(samples[:0], detector.finish(), detector.settled))
    return joined([*parts, classifier.finish()])


def all_beats(samples: np.ndarray) -> DetectedBeats:
    detector = BeatDetector()
    parts = [detector.push(samples), detector.finish()]
    return DetectedBeats(
        np.concatenate([part.at_ticks for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.amplitude_uv for part in parts]),
    )


def described(samples: np.ndarray, beats: DetectedBeats, after_gap: np.ndarray | None = None) -> BeatsInContext:
    describer = BeatDescriber()
    parts = [*describer.push(samples, beats, ALL_SETTLED, after_gap), *describer.finish()]
    return BeatsInContext(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in BeatsInContext.__slots__)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_same_bits_in_any_chunking(seed: int, data: st.DataObject) -> None:
    samples = rough(seed, 25)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=40)))
    for one, other in zip(classified(samples), classified(samples, cuts), strict=True):
        np.testing.assert_array_equal(one, other)


def test_same_bits_sample_by_sample() -> None:
    samples = rough(5, 20)
    for one, other in zip(classified(samples), classified(samples, list(range(1, len(samples)))), strict=True):
        np.testing.assert_array_equal(one, other)


def test_beats_are_not_worked_on_differently_in_batches() -> None:
    """More than a batch at once, against a few at a time; long enough for the far memory to turn over."""
    samples = simulated(600, heart_rate_bpm=75.0, pvc_at_s=tuple(np.arange(20.0, 580.0, 17.0)))
    whole = classified(samples)
    assert len(whole[0]) > 2 * BATCH > (FAR + 1) * STRIDE
    for one, other in zip(whole, classified(samples, list(range(0, len(samples), 640))), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_beat_is_lost_and_none_moves() -> None:
    for seed in range(5):
        samples = rough(seed, 30)
        np.testing.assert_array_equal(classified(samples)[0], all_beats(samples).at_ticks)


@pytest.mark.parametrize("inverted", [False, True])
def test_a_simulated_heart(inverted: bool) -> None:
    pvc, pac = tuple(np.arange(30.0, 170.0, 11.0)), tuple(np.arange(35.0, 170.0, 11.0))
    ecg = simulate(
        SimulatedRhythm(
            duration_s=180, sampling_rate_hz=Fraction(128), pvc_at_s=pvc, pac_at_s=pac, inverted=inverted, noise_uv=5.0
        )
    )
    samples = ecg.samples_uv.astype(np.int64) - ecg.samples_uv[0]
    at, classes, permille = classified(samples)
    wanted = np.array([str(kind) for kind in ecg.beat_kinds])
    nearest = np.abs(at[:, None] / TICKS - ecg.r_peaks[None, :]).argmin(axis=1)
    found = {
        kind: np.bincount(classes[wanted[nearest] == kind], minlength=4)
        for kind in sorted(set(wanted[nearest].tolist()))
    }
    ventricular = next(
        counts for kind, counts in found.items() if "pvc" in kind.lower() or kind.lower().startswith("v")
    )
    assert ventricular[BeatClass.VENTRICULAR] >= 0.9 * ventricular.sum()
    assert (classes == BeatClass.NORMAL).sum() > 0.7 * len(classes)
    assert (permille[classes != BeatClass.UNKNOWN] >= 200).all()
    assert np.median(permille) > 900


def test_a_signal_upside_down_gives_the_same_classes() -> None:
    samples = simulated(120, pvc_at_s=(40.0, 60.0, 80.0), pac_at_s=(50.0, 70.0))
    for one, other in zip(classified(samples)[1:], classified(-samples)[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_gain_hardly_matters() -> None:
    samples = simulated(120, pvc_at_s=(40.0, 60.0, 80.0), r_amplitude_uv=900.0)
    one, other = classified(samples)[1], classified(samples * 3)[1]
    assert (one == other).mean() > 0.98


def test_the_first_beats_are_not_judged() -> None:
    _, classes, permille = classified(simulated(20))
    assert classes[:LEAST_BEATS].tolist() == [BeatClass.UNKNOWN] * LEAST_BEATS
    assert permille[:LEAST_BEATS].tolist() == [0] * LEAST_BEATS
    assert (classes[LEAST_BEATS:] != BeatClass.UNKNOWN).all()


def test_a_class_is_out_within_its_stated_delay() -> None:
    samples = simulated(40)
    samples[20 * MODEL_RATE_HZ : 28 * MODEL_RATE_HZ] = samples[20 * MODEL_RATE_HZ]  # no next beat for long
    detector, classifier = BeatDetector(), BeatClassifier()
    known: dict[int, int] = {}
    for at, piece in enumerate(np.split(samples, range(16, len(samples), 16))):
        beats = detector.push(piece)
        settled = detector.settled
        for tick in classifier.push(piece, beats, settled).at_ticks.tolist():
            known[tick] = settled
        late = [tick for tick in known if known[tick] > tick / TICKS + DELAY_S * MODEL_RATE_HZ + 48]
        assert not late, at
    assert len(known) > 25


def test_a_gap_is_no_interval() -> None:
    samples = simulated(60)
    beats = all_beats(samples)
    gap = np.zeros(len(beats), np.bool_)
    gap[30] = True
    plain, cut = described(samples, beats), described(samples, beats, gap)
    changed = (plain.features != cut.features).any(axis=1)
    assert changed[29]
    assert changed[30]
    assert not changed[:29].any()


def test_features_are_small_integers_whatever_comes() -> None:
    for seed in range(6):
        samples = rough(seed, 30)
        features = described(samples, all_beats(samples)).features
        assert features.shape[1] == FEATURES
        assert np.abs(features).max() <= LIMIT
        assert (features == np.rint(features)).all()


def test_nothing_comes_of_nothing() -> None:
    classifier = BeatClassifier()
    assert len(classifier.push(np.zeros(0, np.int64), EMPTY_BEATS, 0)) == 0
    assert len(classifier.push(np.zeros(5_000, np.int64), EMPTY_BEATS, 4_000)) == 0
    assert len(classifier.finish()) == 0
    assert len(BeatClassifier().finish()) == 0


def test_a_beat_at_either_end() -> None:
    samples = simulated(5)
    ticks = np.array([0, 900, len(samples) * TICKS - 1])
    beats = DetectedBeats(ticks, np.full(3, 200, np.uint8), np.full(3, 900))
    classifier = BeatClassifier()
    parts = [classifier.push(samples, beats, len(samples)), classifier.finish()]
    assert joined(parts)[0].tolist() == ticks.tolist()


def test_memory_is_bounded() -> None:
    samples = simulated(60)
    classifier, detector = BeatClassifier(), BeatDetector()

    def minute() -> None:
        for piece in np.split(samples, 60):
            classifier.push(piece, detector.push(piece), detector.settled)

    minute()
    tracemalloc.start()
    minute()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5):
        minute()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 300_000  # the rows of the beats alone would be 800 kB


def test_waves_agree_with_plain_arithmetic() -> None:
    """Cubic convolution in fractions, the median, the unit complex: with Python's own numbers."""
    rng = np.random.default_rng(3)
    samples = rng.integers(-2_000, 2_000, 400).astype(np.float64)
    ticks = np.array([BACK * TICKS, 100 * TICKS + 3, (400 - AHEAD - 1) * TICKS + 7])
    found = describe(samples, ticks)
    for row, tick in enumerate(ticks.tolist()):
        at, t = tick // TICKS, Fraction(tick % TICKS, TICKS)
        taps = [
            (-t + 2 * t**2 - t**3) / 2,
            (2 - 5 * t**2 + 3 * t**3) / 2,
            (t + 4 * t**2 - 3 * t**3) / 2,
            (-(t**2) + t**3) / 2,
        ]
        around = [int(value) - int(samples[at - 1]) for value in samples[at - BEFORE - 1 : at - BEFORE + WAVE + 2]]
        wave = [round(sum(tap * around[i + j] for j, tap in enumerate(taps))) for i in range(WAVE)]
        median = sorted(wave[::2])[len(wave[::2]) // 2]
        wave = [value - median for value in wave]
        assert found.waves[row].tolist() == wave
        complex_ = wave[BEFORE - 12 : BEFORE - 12 + QRS]
        centred = [value - round(sum(complex_) / QRS) for value in complex_]
        length = sum(value * value for value in centred) ** 0.5
        assert found.units[row, :QRS].tolist() == [round(value * UNIT / length) for value in centred]
    units = found.units.reshape(len(ticks), len(LAGS), QRS)
    assert np.abs((units.astype(np.int64) ** 2).sum(axis=2) - UNIT**2).max() < ALIKE // 20


def test_huge_deflections_are_limited() -> None:
    samples = np.zeros(400)
    samples[200] = 2 * MAX_AMPLITUDE_UV
    found = describe(samples, np.array([195 * TICKS]))
    assert np.abs(found.waves).max() <= MAX_WAVE_UV
    assert 0 <= found.numbers[0, SPREAD] < 40 * 16


def test_intervals_are_compared_at_any_rate() -> None:
    a, b = np.array([500.0, 1_000.0, 0.0, 300.0]), np.array([1_000.0, 2_000.0, 700.0, 0.0])
    assert contrast(a, b).tolist() == [-85, -85, 0, 0]
    assert ranked(np.array([[0.0, 0.0, 1.0, 2.0, 3.0]]), np.array([3]), 50).tolist() == [2.0]
    assert ranked(np.array([[0.0, 0.0]]), np.array([0]), 50).tolist() == [0.0]


@given(st.lists(st.integers(-(2**13), 2**13), min_size=3, max_size=3))
def test_probabilities_are_those_of_the_softmax(logits: list[int]) -> None:
    classes, permille = decide(np.array([logits]), (0, 0, 0))
    shares = np.exp((np.array(logits) - max(logits)) / LOGIT_ONE)
    assert logits[classes[0]] == max(logits)
    assert permille[0] == pytest.approx(1000 * shares[classes[0]] / shares.sum(), abs=1.6)


def test_offsets_decide_but_do_not_make_it_more_probable() -> None:
    classes, permille = decide(np.array([[0, 100, 0]]), (200, 0, 0))
    assert classes.tolist() == [BeatClass.NORMAL]
    assert permille[0] < 334


def test_memories_are_as_long_as_said() -> None:
    """A beat further back than both memories changes nothing."""
    samples = simulated(420, heart_rate_bpm=80.0, noise_uv=20.0)
    beats = all_beats(samples)
    n = len(beats)
    kept = (FAR + 1) * STRIDE
    assert n > kept + NEAR + 60
    first = n - 1 - kept
    other = samples.copy()
    other[: int(beats.at_ticks[first - 2]) // TICKS - 4 * AHEAD] //= 2
    plain, changed = described(samples, beats), described(other, beats)
    same = (plain.features == changed.features).all(axis=1)
    assert same[-1]
    assert not same[: first // 2].all()


def test_a_next_beat_too_late_is_none() -> None:
    samples = simulated(30)
    ticks = np.array([1_000, 2_000, 3_000, 4_000, 4_000 + NEXT_TICKS + 1, 8_000])
    beats = DetectedBeats(ticks, np.full(6, 200, np.uint8), np.full(6, 900))
    first = described(samples, beats).features[3]
    moved = DetectedBeats(np.array([*ticks[:4], ticks[4] + 700, 9_000]), beats.score, beats.amplitude_uv)
    np.testing.assert_array_equal(first, described(samples, moved).features[3])
