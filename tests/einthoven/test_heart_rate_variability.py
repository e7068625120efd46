"""Heart rate variability: the Task Force's definitions, equal to an independent library, or refused with a reason."""

from __future__ import annotations

import csv
import gzip
import math
from fractions import Fraction
from pathlib import Path

import neurokit2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.heart_rate_variability import (
    MAX_ARTEFACT_PERMILLE,
    MIN_NN_INTERVALS,
    MIN_NN_S,
    HrvRefusal,
    VariabilityMeasures,
    heart_rate_variability,
)
from einthoven.rr_artefacts import IntervalClass
from einthoven.rr_intervals import RRSeries, corrected, rr_series

MITDB = Path(__file__).parents[3] / "shared" / "data" / "mitdb"
KILOHERTZ = Fraction(1000)


def sinus(n: int = 400, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.cumsum(800 + 25 * np.sin(np.arange(n) / 2) + rng.normal(0, 8, n)).astype(np.int64)


def series_of(intervals_ms: list[int], classes: list[int] | None = None) -> RRSeries:
    """A series with these intervals, all normal unless told otherwise."""
    positions = np.concatenate(([0], np.cumsum(intervals_ms))).astype(np.int64) * 12
    kinds = np.array(classes or [0] * len(intervals_ms), np.uint8)
    return RRSeries(KILOHERTZ, positions, np.array(intervals_ms, np.int64) * 1000, kinds)


def measures(series: RRSeries) -> VariabilityMeasures:
    found = heart_rate_variability(series).measures
    assert found is not None
    return found


# --- by hand


def test_measures_of_a_series_that_can_be_worked_out_by_hand() -> None:
    # 120 intervals, 800 and 900 ms by turns: deviations of 50 ms, differences of 100 ms.
    found = heart_rate_variability(series_of([800, 900] * 60))

    assert (found.n_intervals, found.n_normal, found.n_successive) == (120, 120, 119)
    assert (found.nn_s, found.artefact_permille, found.corrected_permille) == (102, 0, 0)
    assert found.measures is not None
    assert found.measures.mean_nn_ms == 850
    assert found.measures.sdnn_ms == pytest.approx(50 * math.sqrt(120 / 119), rel=1e-12)
    assert found.measures.rmssd_ms == pytest.approx(100, rel=1e-12)
    assert found.measures.pnn50_percent == pytest.approx(100 * 119 / 120)
    assert found.measures.triangular_index == 2
    assert found.measures.long_term is None


def test_a_difference_of_exactly_50_ms_does_not_count_for_pnn50() -> None:
    assert measures(series_of([800, 850] * 60)).pnn50_percent == 0
    assert measures(series_of([800, 851] * 60)).pnn50_percent > 99


def test_a_difference_is_taken_only_between_normal_neighbours() -> None:
    # A gap, an ectopic pair and a corrected interval: what they touch is in no difference, and they are in no mean.
    gap, ectopic, made = IntervalClass.ACROSS_GAP, IntervalClass.ECTOPIC, IntervalClass.CORRECTED
    intervals = [800] * 50 + [5_000] + [900] * 50 + [500, 1_300] + [800] * 50 + [2_000] + [900] * 50
    classes = [0] * 50 + [gap] + [0] * 50 + [ectopic, ectopic] + [0] * 50 + [made] + [0] * 50

    found = heart_rate_variability(series_of(intervals, classes))

    assert (found.n_intervals, found.n_normal, found.n_successive) == (203, 200, 4 * 49)
    assert (found.artefact_permille, found.corrected_permille) == (15, 5)  # 3 and 1 of 203, rounded up
    assert found.measures is not None
    assert found.measures.rmssd_ms == 0
    assert found.measures.mean_nn_ms == 850


# --- against an independent library


@pytest.mark.parametrize("rate", [1000, 500, 250, 200])
@pytest.mark.parametrize("seed", range(4))
def test_measures_of_clean_series_are_those_of_neurokit(rate: int, seed: int) -> None:
    peaks = np.unique(sinus(seed=seed) * rate // 1000)
    theirs = neurokit2.hrv_time(peaks, sampling_rate=rate)

    series = rr_series(peaks, Fraction(rate))
    ours = measures(series)

    assert series.normal.all()
    assert ours.mean_nn_ms == pytest.approx(theirs["HRV_MeanNN"][0], rel=1e-9)
    assert ours.sdnn_ms == pytest.approx(theirs["HRV_SDNN"][0], rel=1e-9)
    assert ours.rmssd_ms == pytest.approx(theirs["HRV_RMSSD"][0], rel=1e-9)
    assert ours.triangular_index == pytest.approx(theirs["HRV_HTI"][0], rel=1e-9)
    # NeuroKit compares floats with 50; a difference of exactly 50 ms may fall on either side there.
    if not np.isin(np.abs(np.diff(series.intervals_us)), 50_000).any():
        assert ours.pnn50_percent == pytest.approx(theirs["HRV_pNN50"][0], rel=1e-9)


@pytest.mark.data
@pytest.mark.skipif(not MITDB.exists(), reason="shared/data/mitdb is not there")
def test_measures_of_normal_beats_of_mitdb_are_those_of_neurokit() -> None:
    beats: dict[str, list[tuple[int, str]]] = {}
    with gzip.open(MITDB / "annotations.csv.gz", "rt", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            if line["aami"]:
                beats.setdefault(line["record_id"], []).append((int(line["sample"]), line["aami"]))
    compared = 0
    for reference in beats.values():
        peaks, kinds = np.array([at for at, _ in reference]), np.array([kind for _, kind in reference])
        series = rr_series(peaks, Fraction(360))
        normal = (kinds[:-1] == "N") & (kinds[1:] == "N")
        # The reference decides here what is normal; NeuroKit gets the same NN intervals, with their times.
        judged = np.where(normal, IntervalClass.NORMAL, IntervalClass.ACROSS_GAP).astype(np.uint8)
        ours = heart_rate_variability(RRSeries(series.sampling_rate_hz, series.positions, series.intervals_us, judged))
        if ours.measures is None:
            continue
        compared += 1
        theirs = neurokit2.hrv_time({"RRI": np.diff(peaks)[normal] / 0.36, "RRI_Time": peaks[1:][normal] / 360})
        # 1/360 s is no whole number of microseconds: each interval is within 0.5 us.
        assert ours.measures.mean_nn_ms == pytest.approx(theirs["HRV_MeanNN"][0], abs=1e-3)
        assert ours.measures.sdnn_ms == pytest.approx(theirs["HRV_SDNN"][0], abs=1e-3)
        assert ours.measures.rmssd_ms == pytest.approx(theirs["HRV_RMSSD"][0], abs=1e-3)
    assert compared >= 10


# --- refusals


def test_too_little_or_too_much_wrong_is_refused_with_a_reason() -> None:
    just = [1_000] * MIN_NN_S
    made = [IntervalClass.CORRECTED]

    assert heart_rate_variability(series_of(just)).refusal is HrvRefusal.NONE
    assert heart_rate_variability(series_of(just[1:])).refusal is HrvRefusal.TOO_SHORT
    assert heart_rate_variability(series_of([2_500] * (MIN_NN_INTERVALS - 1))).refusal is HrvRefusal.TOO_FEW_INTERVALS
    few = MAX_ARTEFACT_PERMILLE * 200 // 1000
    assert heart_rate_variability(series_of([800] * 200, made * few + [0] * (200 - few))).refusal is HrvRefusal.NONE
    over = heart_rate_variability(series_of([800] * 200, made * (few + 1) + [0] * (199 - few)))
    assert over.refusal is HrvRefusal.TOO_MANY_ARTEFACTS
    assert over.measures is None
    assert (over.artefact_permille, over.corrected_permille) == (55, 55)


def test_nothing_at_all_is_too_short() -> None:
    for peaks in ([], [5]):
        found = heart_rate_variability(rr_series(peaks, KILOHERTZ))
        assert found.refusal is HrvRefusal.TOO_SHORT
        assert (found.n_intervals, found.artefact_permille) == (0, 0)


def test_atrial_fibrillation_and_bigeminy_have_no_nn_intervals_to_speak_of() -> None:
    rng = np.random.default_rng(0)
    wild = np.cumsum(rng.integers(400, 1100, 600))
    turns = np.cumsum([600, 1200] * 300)

    for peaks in (wild, turns):
        assert heart_rate_variability(rr_series(peaks, KILOHERTZ)).refusal is HrvRefusal.TOO_MANY_ARTEFACTS


def test_one_extra_and_one_missed_beat_hardly_change_the_measures_once_corrected() -> None:
    true = sinus()
    clean = measures(rr_series(true, KILOHERTZ))
    peaks = np.sort(np.append(np.delete(true, 200), true[100] + 350))

    found = measures(corrected(rr_series(peaks, KILOHERTZ)).series)

    assert found.rmssd_ms == pytest.approx(clean.rmssd_ms, rel=0.02)
    assert found.sdnn_ms == pytest.approx(clean.sdnn_ms, rel=0.02)


# --- a day


def test_a_day_has_long_term_measures() -> None:
    # 24 hours, hour by hour 750 or 900 ms, 10 ms to and fro within: 12 segments an hour of 400 or 333 1/3 beats.
    intervals: list[int] = []
    for hour in range(24):
        mean = 750 + 150 * (hour % 2)
        intervals += [mean - 10, mean + 10] * (3_600_000 // (2 * mean))
    found = measures(series_of(intervals)).long_term

    assert found is not None
    assert found.segments == 288
    assert found.sdann_ms == pytest.approx(75, rel=0.01)
    assert found.sdnn_index_ms == pytest.approx(10, rel=0.01)


def test_less_than_18_hours_have_none() -> None:
    assert measures(series_of([1_000] * (18 * 3600))).long_term is not None
    assert measures(series_of([1_000] * (18 * 3600 - 1))).long_term is None


# --- properties


@given(st.lists(st.integers(700, 900), min_size=100, max_size=200), st.integers(1, 10**6), st.integers(2, 5))
@settings(max_examples=25)
def test_shift_changes_nothing_and_scale_scales(intervals: list[int], shift: int, scale: int) -> None:
    one = measures(series_of(intervals))
    moved = series_of(intervals)
    moved = RRSeries(KILOHERTZ, moved.positions + 12 * shift, moved.intervals_us, moved.classes)
    slower = measures(series_of([interval * scale for interval in intervals]))

    assert measures(moved) == one
    assert slower.mean_nn_ms == pytest.approx(scale * one.mean_nn_ms)
    assert slower.sdnn_ms == pytest.approx(scale * one.sdnn_ms)
    assert slower.rmssd_ms == pytest.approx(scale * one.rmssd_ms)


@given(st.lists(st.integers(700, 900), min_size=100, max_size=200))
@settings(max_examples=25)
def test_the_mean_of_squared_differences_is_bounded_by_the_variance(intervals: list[int]) -> None:
    # (a - b)^2 <= 2 (a - m)^2 + 2 (b - m)^2, summed over neighbours.
    found = measures(series_of(intervals))
    n = len(intervals)

    assert found.rmssd_ms**2 <= 4 * found.sdnn_ms**2 * (n - 1) / (n - 1) + 1e-6
    assert 0 <= found.pnn50_percent <= 100
    assert 1 <= found.triangular_index <= n
