"""RR intervals: exact, never across a gap, artefacts named as planted ones are, corrections counted."""

from __future__ import annotations

import csv
import gzip
import time
from fractions import Fraction
from pathlib import Path

import neurokit2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.errors import InputError
from einthoven.rr_artefacts import MAX_RR_US, MIN_RR_US, IntervalClass
from einthoven.rr_intervals import (
    MAX_MOVED_RUN,
    MAX_R_PEAKS,
    MAX_SAMPLE_INDEX,
    RRSeries,
    corrected,
    instantaneous_rates_bpm,
    mean_heart_rate_bpm,
    rr_series,
    unusable_spans,
)

MITDB = Path(__file__).parents[3] / "shared" / "data" / "mitdb"
KILOHERTZ = Fraction(1000)
N, EXTRA, MISSED, ECTOPIC = IntervalClass.NORMAL, IntervalClass.EXTRA, IntervalClass.MISSED, IntervalClass.ECTOPIC
LONG, SHORT, GAP = IntervalClass.LONG, IntervalClass.SHORT, IntervalClass.ACROSS_GAP


def sinus(n: int = 300, seed: int = 0) -> NDArray[np.int64]:
    """R peaks of a breathing heart at 1000 Hz, 75 a minute."""
    rng = np.random.default_rng(seed)
    return np.cumsum(800 + 25 * np.sin(np.arange(n) / 2) + rng.normal(0, 8, n)).astype(np.int64)


def marked(series: RRSeries) -> dict[int, IntervalClass]:
    return {i: IntervalClass(value) for i, value in enumerate(series.classes.tolist()) if value}


# --- exactness


@pytest.mark.parametrize(
    ("rate", "samples", "us"),
    [
        (Fraction(1000), 800, 800_000),
        (Fraction(360), 288, 800_000),
        (Fraction(360), 1, 2_778),
        (Fraction(128), 100, 781_250),
        (Fraction(512_617, 1000), 400, 780_310),
        (Fraction(2_000_000 // 3), 2, 3),
        (Fraction(1_000_000), 1, 1),
    ],
)
def test_an_interval_is_the_exact_time_rounded_half_up(rate: Fraction, samples: int, us: int) -> None:
    exact = Fraction(samples * 1_000_000) / rate
    assert us == int(exact + Fraction(1, 2))

    assert rr_series([5, 5 + samples], rate).intervals_us.tolist() == [us]


@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=50),
    st.fractions(min_value=100, max_value=1000, max_denominator=1000),
    st.integers(0, 2**30),
)
def test_every_interval_is_within_half_a_microsecond(steps: list[int], rate: Fraction, first: int) -> None:
    series = rr_series(first + np.cumsum(steps), rate)

    for step, interval_us in zip(steps[1:], series.intervals_us.tolist(), strict=True):
        assert abs(interval_us - Fraction(step * 1_000_000) / rate) <= Fraction(1, 2)


def test_nothing_overflows_at_the_limits() -> None:
    rate = Fraction(2**20, 2**20 - 1)
    series = rr_series([0, MAX_SAMPLE_INDEX], rate)

    assert series.intervals_us[0] == series.at_us[1] == round(Fraction(MAX_SAMPLE_INDEX * 10**6) / rate)


@pytest.mark.parametrize("peaks", [[], [7]])
def test_fewer_than_two_beats_have_no_interval(peaks: list[int]) -> None:
    series = rr_series(peaks, KILOHERTZ, gaps=[(0, 3)])

    assert len(series.positions) == len(series.at_us) == len(peaks)
    assert len(series.intervals_us) == len(series.classes) == 0
    assert corrected(series).series is series
    assert mean_heart_rate_bpm(series) is None


# --- gaps


@pytest.mark.parametrize(
    ("gap", "across"),
    [
        ((0, 1000), []),
        ((0, 1001), [0]),
        ((1000, 1001), [0]),
        ((1500, 1501), [0]),
        ((2000, 2001), [0, 1]),
        ((1999, 2000), [0]),
        ((2001, 2001), []),
        ((3001, 9000), []),
        ((0, 9000), [0, 1]),
    ],
)
def test_an_interval_that_touches_a_gap_is_across_it(gap: tuple[int, int], across: list[int]) -> None:
    series = rr_series([1000, 2000, 3000], KILOHERTZ, gaps=[gap])

    assert [i for i, what in marked(series).items() if what is GAP] == across


def test_nothing_is_compared_across_a_gap() -> None:
    slow = np.arange(100) * 1200
    fast = 200_000 + np.arange(100) * 600

    series = rr_series(np.concatenate((slow, fast)), KILOHERTZ, gaps=[(150_000, 160_000)])

    assert marked(series) == {99: GAP}


def test_an_interval_across_a_gap_is_never_split() -> None:
    peaks = np.delete(sinus(), 100)

    repaired = corrected(rr_series(peaks, KILOHERTZ, gaps=[(peaks[99] + 10, peaks[99] + 20)]))

    assert (repaired.inserted, repaired.left) == (0, 0)
    assert marked(repaired.series) == {99: GAP}


gap_lists = st.lists(st.tuples(st.integers(0, 250_000), st.integers(0, 4_000)), max_size=6)


@given(gap_lists, st.integers(0, 10_000_000), st.randoms(use_true_random=False), st.integers(0, 5))
@settings(max_examples=60)
def test_shift_and_the_order_of_gaps_change_nothing(
    gaps: list[tuple[int, int]], shift: int, chance: object, seed: int
) -> None:
    peaks = np.delete(sinus(seed=seed), [40, 120, 121])
    spans = [(start, start + length) for start, length in gaps]
    shuffled = [(start + shift, stop + shift) for start, stop in spans]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    rate = Fraction(512_617, 1000)

    one, other = rr_series(peaks, rate, gaps=spans), rr_series(peaks + shift, rate, gaps=shuffled + shuffled[:2])

    assert np.array_equal(one.classes, other.classes)
    assert np.array_equal(one.intervals_us, other.intervals_us)
    assert np.array_equal(corrected(one).series.intervals_us, corrected(other).series.intervals_us)


def test_seconds_that_quality_rejects_become_gaps() -> None:
    rate = Fraction(512_617, 1000)
    spans = unusable_spans(np.array([0, 4, 4, 0, 1], np.uint16), rate)

    # Second s is samples ceil(s rate) to ceil((s + 1) rate) - 1.
    assert spans.tolist() == [[513, 1538], [2051, 2564]]
    assert unusable_spans(np.zeros(3, np.uint16), rate).shape == (0, 2)


# --- artefacts that were planted


def test_a_sound_series_is_left_as_it_is() -> None:
    series = rr_series(sinus(), KILOHERTZ)
    repaired = corrected(series)

    assert marked(series) == {}
    assert (repaired.removed, repaired.inserted, repaired.moved, repaired.left) == (0, 0, 0, 0)
    assert np.array_equal(repaired.series.intervals_us, series.intervals_us)


def test_a_missed_beat_is_split_in_halves() -> None:
    true = sinus()
    series = rr_series(np.delete(true, 100), KILOHERTZ)
    repaired = corrected(series)

    assert marked(series) == {99: MISSED}
    assert (repaired.removed, repaired.inserted, repaired.moved, repaired.left) == (0, 1, 0, 0)
    assert marked(repaired.series) == {99: IntervalClass.CORRECTED, 100: IntervalClass.CORRECTED}
    assert repaired.series.positions[100] * 2 == (true[99] + true[101]) * 12


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
def test_an_extra_beat_is_taken_out_and_what_is_left_is_normal(part: float) -> None:
    true = sinus()
    extra = int(true[99] + part * (true[100] - true[99]))
    series = rr_series(np.sort(np.append(true, extra)), KILOHERTZ)
    repaired = corrected(series)

    assert marked(series) == {99: EXTRA, 100: EXTRA}
    assert (repaired.removed, repaired.inserted, repaired.moved, repaired.left) == (1, 0, 0, 0)
    assert marked(repaired.series) == {}
    assert np.array_equal(repaired.series.positions, true * 12)


@pytest.mark.parametrize("by_ms", [-300, -150, 150, 250])
def test_an_early_or_late_beat_is_placed_between_its_neighbours(by_ms: int) -> None:
    true = sinus()
    peaks = true.copy()
    peaks[100] += by_ms
    series = rr_series(peaks, KILOHERTZ)
    repaired = corrected(series)

    assert marked(series) == {99: ECTOPIC, 100: ECTOPIC}
    assert (repaired.removed, repaired.inserted, repaired.moved, repaired.left) == (0, 0, 1, 0)
    assert repaired.series.positions[100] == (true[99] + true[101]) * 6
    assert repaired.series.count(IntervalClass.CORRECTED) == 2


def test_a_pause_is_long_and_left_alone() -> None:
    true = sinus()
    peaks = np.concatenate((true[:100], true[100:] + 2_000))
    series = rr_series(peaks, KILOHERTZ)
    repaired = corrected(series)

    assert marked(series) == {99: LONG}
    assert repaired.left == 1
    assert np.array_equal(repaired.series.intervals_us, series.intervals_us)


@pytest.mark.parametrize(("step", "what"), [(MAX_RR_US // 1000 + 1, LONG), (MIN_RR_US // 1000 - 1, SHORT)])
def test_what_no_heart_does_for_long_is_not_normal(step: int, what: IntervalClass) -> None:
    series = rr_series(np.arange(20) * step, KILOHERTZ)

    assert set(series.classes.tolist()) == {what}


def test_a_paced_rhythm_with_a_jitter_of_one_sample_is_normal() -> None:
    rng = np.random.default_rng(1)
    series = rr_series(np.arange(500) * 308 + rng.integers(-1, 2, 500) + 1, Fraction(360))

    assert marked(series) == {}


def test_one_beat_in_two_ectopic_is_no_normal_rhythm() -> None:
    bigeminy = np.cumsum(np.tile([600, 1200], 100))
    series = rr_series(bigeminy, KILOHERTZ)

    assert np.count_nonzero(series.normal) < len(series.classes) * 0.6
    assert corrected(series).inserted == 0


def test_a_long_run_of_ectopic_beats_is_not_invented_anew() -> None:
    series = rr_series(sinus(), KILOHERTZ)
    run = MAX_MOVED_RUN + 1
    for n_ectopic, moved in ((run, MAX_MOVED_RUN), (run + 1, 0)):
        classes = series.classes.copy()
        classes[100 : 100 + n_ectopic] = ECTOPIC
        repaired = corrected(RRSeries(KILOHERTZ, series.positions, series.intervals_us, classes))
        assert repaired.moved == moved
        assert repaired.left == (0 if moved else n_ectopic)
    assert len(repaired.series.positions) == len(series.positions)


def test_two_extra_beats_in_a_row_are_both_taken_out() -> None:
    series = rr_series(np.arange(40) * 400, KILOHERTZ)
    classes = np.zeros(39, np.uint8)
    classes[10:14] = EXTRA
    repaired = corrected(RRSeries(KILOHERTZ, series.positions, series.intervals_us, classes))

    assert repaired.removed == 2
    assert repaired.series.intervals_us[9:13].tolist() == [400_000, 800_000, 800_000, 400_000]


@given(
    st.lists(st.integers(1, 3_000), max_size=120),
    gap_lists,
    st.fractions(min_value=100, max_value=1000, max_denominator=100),
)
@settings(max_examples=200)
def test_any_series_is_corrected_without_a_beat_out_of_place(
    steps: list[int], gaps: list[tuple[int, int]], rate: Fraction
) -> None:
    series = rr_series(np.cumsum(np.array(steps, np.int64)), rate, gaps=[(a, a + n) for a, n in gaps])
    repaired = corrected(series)

    assert (np.diff(repaired.series.positions) > 0).all()
    assert len(repaired.series.positions) == len(steps) - repaired.removed + repaired.inserted
    assert (
        len(repaired.series.intervals_us) == len(repaired.series.classes) == max(0, len(repaired.series.positions) - 1)
    )
    assert repaired.series.count(EXTRA) == repaired.series.count(MISSED) == 0
    assert repaired.series.count(GAP) == series.count(GAP)
    if steps:
        assert repaired.series.positions[[0, -1]].tolist() == series.positions[[0, -1]].tolist()


@given(st.integers(0, 50), st.integers(20, 270), st.sampled_from(["missed", "extra", "early"]))
@settings(max_examples=40, deadline=None)
def test_planted_artefacts_are_what_neurokit_calls_them(seed: int, where: int, what: str) -> None:
    true = sinus(seed=seed)
    match what:
        case "missed":
            peaks = np.delete(true, where)
        case "extra":
            peaks = np.sort(np.append(true, true[where] + 400))
        case _:
            peaks = true.copy()
            peaks[where] -= 250
    info, _ = neurokit2.signal_fixpeaks(peaks, sampling_rate=1000, iterative=False, method="Kubios")

    series = rr_series(peaks, KILOHERTZ)

    # NeuroKit numbers intervals by the beat at their end. It calls 3 % of normal beats ectopic (absolute differences
    # in the quartile deviation), so it must name the planted one, and ours must name nothing else.
    match what:
        case "missed":
            assert where in info["missed"]
            assert marked(series) == {where - 1: MISSED}
        case "extra":
            assert where + 1 in info["extra"]
            assert marked(series) == {where: EXTRA, where + 1: EXTRA}
        case _:
            assert where + 1 in info["ectopic"]
            assert marked(series) == {where - 1: ECTOPIC, where: ECTOPIC}


# --- heart rate


def test_heart_rate_counts_beats_over_the_time_they_take() -> None:
    series = rr_series([0, 500, 1500, 2500, 9000, 10_000], KILOHERTZ, gaps=[(3_000, 8_000)])

    assert marked(series)[3] is GAP
    assert mean_heart_rate_bpm(series) == pytest.approx(60 * 4 / 3.5)
    assert mean_heart_rate_bpm(series, 500_000, 2_500_000) == pytest.approx(60)
    assert mean_heart_rate_bpm(series, 2_500_000, 9_000_000) is None


def test_an_instantaneous_rate_is_there_or_not_a_number() -> None:
    series = rr_series([0, 1000, 2000, 2150, 8000, 9000, 10_000], KILOHERTZ, gaps=[(9_500, 9_600)])

    rates = instantaneous_rates_bpm(series)

    assert rates[:2].tolist() == [60, 60]
    assert np.isnan(rates[[2, 3, 5]]).all()


# --- bad input


@pytest.mark.parametrize(
    ("peaks", "rate", "gaps", "why"),
    [
        ([3, 3], KILOHERTZ, (), "not in order"),
        ([3, 2], KILOHERTZ, (), "not in order"),
        ([-1, 2], KILOHERTZ, (), "outside any recording"),
        ([1, MAX_SAMPLE_INDEX + 1], KILOHERTZ, (), "outside any recording"),
        ([1.0, 2.0], KILOHERTZ, (), "of type float64"),
        ([[1, 2]], KILOHERTZ, (), "of shape"),
        ([1, 2], Fraction(0), (), "rate is not usable"),
        ([1, 2], Fraction(1, 2**21), (), "rate is not usable"),
        ([1, 2], KILOHERTZ, [(5, 4)], "ends before it begins"),
        ([1, 2], KILOHERTZ, [1, 2], "of shape"),
        ([1, 2], KILOHERTZ, [(1, 2, 3)], "of shape"),
        (np.zeros(MAX_R_PEAKS + 1, np.int8), KILOHERTZ, (), "R peaks; give at most"),
    ],
)
def test_bad_input_is_refused_in_one_line(peaks: object, rate: Fraction, gaps: object, why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        rr_series(peaks, rate, gaps=gaps)  # type: ignore[arg-type]

    assert "\n" not in str(refused.value)


# --- a day, and real hearts


def test_a_day_of_beats_takes_less_than_a_second() -> None:
    peaks = sinus(100_000)
    started = time.process_time()
    corrected(rr_series(peaks, KILOHERTZ))

    assert time.process_time() - started < 1  # 30-60 ms on an idle core; loose, for busy ones


@pytest.mark.data
@pytest.mark.skipif(not MITDB.exists(), reason="shared/data/mitdb is not there")
def test_normal_beats_of_mitdb_are_normal_and_few_ectopic_ones_pass() -> None:
    beats: dict[str, list[tuple[int, str]]] = {}
    sinus_spans: dict[str, list[tuple[int, int]]] = {}
    with gzip.open(MITDB / "annotations.csv.gz", "rt", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            if line["aami"]:
                beats.setdefault(line["record_id"], []).append((int(line["sample"]), line["aami"]))
    with gzip.open(MITDB / "rhythms.csv.gz", "rt", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            if line["rhythm"] == "N":
                sinus_spans.setdefault(line["record_id"], []).append((int(line["start"]), int(line["end"])))
    n_sinus = n_marked = n_ectopic = n_found = 0
    for record, reference in beats.items():
        peaks, kinds = np.array([at for at, _ in reference]), np.array([kind for _, kind in reference])
        series = rr_series(peaks, Fraction(360))
        in_sinus = np.zeros(len(series.classes), np.bool_)
        for start, stop in sinus_spans.get(record, []):
            in_sinus |= (peaks[:-1] >= start) & (peaks[1:] <= stop)
        in_sinus &= (kinds[:-1] == "N") & (kinds[1:] == "N")
        ectopic = np.isin(kinds[:-1], ("V", "S")) | np.isin(kinds[1:], ("V", "S"))
        n_sinus, n_marked = n_sinus + in_sinus.sum(), n_marked + (in_sinus & ~series.normal).sum()
        n_ectopic, n_found = n_ectopic + ectopic.sum(), n_found + (ectopic & ~series.normal).sum()

    assert n_sinus > 10_000  # 37,971 in the 26 records
    assert n_marked / n_sinus < 0.02  # 0.77 %
    assert n_found / n_ectopic > 0.6  # 68 %: every second record is full of them, and some come in time
