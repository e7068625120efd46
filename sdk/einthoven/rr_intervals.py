"""From R peaks to RR intervals: exact, none across a gap, and none made up unless it says so. Pure.

Positions are exact: 1/``SUBDIVISIONS`` of a sample, so that halves, thirds and quarters of an interval are whole
numbers. An interval in microseconds is the exact time between two positions, rounded half up; it does not depend on
where the recording begins. ``rr_artefacts`` classifies, ``corrected`` repairs what can be repaired.

It deliberately gives no rhythm and no diagnosis (``ECTOPIC`` says what an interval looks like, not what the heart did),
and corrects once: a corrected series is not looked at again, so that no correction breeds another.

Invariants:
    1. An interval within which any sample is in a gap is ``ACROSS_GAP``, whatever else it looks like.
    2. ``rr_series`` changes no interval. ``corrected`` counts each beat it removes, inserts or moves, and every
       interval that ends at an inserted or moved beat is ``CORRECTED``.
    3. Shifting all peaks and gaps by the same number of samples changes no interval and no class; nor does the order
       of the gaps, or that they overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from einthoven.errors import InputError
from einthoven.rr_artefacts import IntervalClass, classify

SUBDIVISIONS: Final = 12
"""Positions to a sample: two, three and four equal parts of an interval are exact."""
MAX_R_PEAKS: Final = 20_000_000
"""R peaks of one call: three weeks at 600 a minute."""
MAX_SAMPLE_INDEX: Final = 2**36
"""Largest sample index: two years at 1000 Hz; up to it nothing here overflows."""
MAX_MOVED_RUN: Final = 3
"""Beats in a row that are placed anew between sound ones; a longer run is left as it is."""
MIN_RATE_BPM: Final = 20
MAX_RATE_BPM: Final = 300
"""Instantaneous heart rates that are believed, beats a minute."""
_US: Final = 1_000_000
_MAX_RATE_TERM: Final = 2**20


@dataclass(frozen=True, slots=True)
class RRSeries:
    """R peaks and the intervals between them.

    Attributes:
        sampling_rate_hz: Samples a second, exact.
        positions: int64 [k], R peaks in 1/``SUBDIVISIONS`` of a sample since the first sample, strictly increasing.
        intervals_us: int64 [k-1] (none for k = 0), microseconds from each R peak to the next, rounded half up.
        classes: uint8 [k-1], values of ``IntervalClass``.
    """

    sampling_rate_hz: Fraction
    positions: NDArray[np.int64]
    intervals_us: NDArray[np.int64]
    classes: NDArray[np.uint8]

    @property
    def at_us(self) -> NDArray[np.int64]:
        """int64 [k], microseconds of each R peak since the first sample, rounded half up."""
        return _microseconds(self.positions, self.sampling_rate_hz)

    @property
    def normal(self) -> NDArray[np.bool_]:
        """bool [k-1], which intervals are NN intervals."""
        return np.equal(self.classes, IntervalClass.NORMAL)

    def count(self, what: IntervalClass) -> int:
        """How many intervals are of a class."""
        return int(np.count_nonzero(self.classes == what))


@dataclass(frozen=True, slots=True)
class CorrectedRR:
    """A corrected series, and what was done to it.

    Attributes:
        series: R peaks and intervals after the correction.
        removed: Extra beats taken out.
        inserted: Missed beats put in, halfway.
        moved: Ectopic or misplaced beats placed evenly between their neighbours.
        left: Intervals that are neither normal nor corrected, nor across a gap: nothing can be said for them.
    """

    series: RRSeries
    removed: int
    inserted: int
    moved: int
    left: int


def rr_series(r_peaks: ArrayLike, sampling_rate_hz: Fraction, *, gaps: ArrayLike = ()) -> RRSeries:
    """Return the intervals between R peaks, each with its class.

    Args:
        r_peaks: int [k], sample indices of R peaks, strictly increasing.
        sampling_rate_hz: Samples a second, exact.
        gaps: int [g, 2], half-open spans of sample indices in which beats can't be trusted: missing samples, seconds
            that quality rejects (``unusable_spans``). In any order; they may overlap.

    Raises:
        InputError: Peaks or gaps that are not whole numbers, out of order, out of range or too many, or a rate that is
            not positive or not a ratio of small numbers.
    """
    peaks = _whole_numbers(r_peaks, "R peaks").reshape(-1)
    spans = _whole_numbers(gaps, "gaps").reshape(-1, 2)
    if len(peaks) > 1 and not (np.diff(peaks) > 0).all():
        raise InputError("R peaks are not in order", "give sample indices that increase")
    if not (spans[:, 0] <= spans[:, 1]).all():
        raise InputError("a gap ends before it begins", "give gaps as first sample and one past the last")
    rate = Fraction(sampling_rate_hz)
    if not (0 < rate.numerator <= _MAX_RATE_TERM and rate.denominator <= _MAX_RATE_TERM):
        raise InputError("the sampling rate is not usable", "give it as a fraction of two numbers up to a million")
    positions = peaks * SUBDIVISIONS
    intervals_us = _microseconds(np.diff(positions), rate)
    return RRSeries(rate, positions, intervals_us, classify(intervals_us, _across(peaks, spans)))


def unusable_spans(flags: ArrayLike, sampling_rate_hz: Fraction) -> NDArray[np.int64]:
    """Return the seconds that quality rejects as gaps for ``rr_series``.

    Args:
        flags: uint16 [s], bits of ``results.Quality``; second s is samples ceil(s rate) to ceil((s + 1) rate) - 1.
        sampling_rate_hz: Samples a second, exact.

    Returns:
        int64 [g, 2], half-open spans of sample indices, in order.
    """
    unusable = np.concatenate(([False], np.asarray(flags) != 0, [False]))
    edges = np.flatnonzero(unusable[1:] != unusable[:-1])
    starts = -(-edges * sampling_rate_hz.numerator // sampling_rate_hz.denominator)
    return np.asarray(starts, np.int64).reshape(-1, 2)


def corrected(series: RRSeries) -> CorrectedRR:
    """Remove extra beats, split intervals with a missed one, and place ectopic or misplaced beats anew.

    An interval left over by a removed beat is between two true beats, and so normal. Long and short intervals without
    such an explanation are left alone, and stay out of every measure of NN intervals.
    """
    classes, positions = series.classes, series.positions
    n = len(positions)
    if n < 2:
        return CorrectedRR(series, 0, 0, 0, 0)
    extra = np.zeros(n, np.bool_)
    extra[1:-1] = (classes[:-1] == IntervalClass.EXTRA) & (classes[1:] == IntervalClass.EXTRA)
    # Two extra beats in a row share an interval; the classes come in pairs, so every second one is meant.
    for first in np.flatnonzero(extra[1:] & extra[:-1]).tolist():
        if extra[first]:
            extra[first + 1] = False
    moved = _movable(classes, n)
    placed = positions.copy()
    if moved.any():
        sound = np.flatnonzero(~moved)
        placed[moved] = np.rint(np.interp(np.flatnonzero(moved), sound, positions[sound] - positions[0])).astype(
            np.int64
        )
        placed[moved] += positions[0]
    split = np.flatnonzero(classes == IntervalClass.MISSED)
    halfway = (positions[split] + positions[split + 1]) // 2
    kept = ~extra
    new_positions = np.concatenate((placed[kept], halfway))
    made = np.concatenate((moved[kept], np.ones(len(split), np.bool_)))
    # The class of the interval that begins at each beat, where that interval is still there.
    begins = np.append(classes, np.uint8(IntervalClass.NORMAL))
    begins[np.append(classes == IntervalClass.EXTRA, False)] = IntervalClass.NORMAL
    begins = np.concatenate((begins[kept], np.zeros(len(split), np.uint8)))
    order = np.argsort(new_positions, kind="stable")
    new_positions, made, begins = new_positions[order], made[order], begins[order]
    new_classes = np.where(made[1:] | made[:-1], np.uint8(IntervalClass.CORRECTED), begins[:-1])
    intervals_us = _microseconds(np.diff(new_positions), series.sampling_rate_hz)
    repaired = replace(series, positions=new_positions, intervals_us=intervals_us, classes=new_classes)
    explained = (IntervalClass.NORMAL, IntervalClass.CORRECTED, IntervalClass.ACROSS_GAP)
    left = int(np.count_nonzero(~np.isin(new_classes, explained)))
    return CorrectedRR(repaired, int(extra.sum()), len(split), int(moved.sum()), left)


def mean_heart_rate_bpm(series: RRSeries, start_us: int = 0, stop_us: int | None = None) -> float | None:
    """Return beats a minute over a span; ``None`` if no interval lies within it.

    All intervals count that lie in the span and are the time between two beats of the heart, ectopic ones too; not
    those across a gap, and not those with a missed or extra beat (give a corrected series to have these counted).

    Args:
        series: Intervals.
        start_us: First microsecond of the span since the first sample.
        stop_us: Its end; ``None`` for the end of the series.
    """
    at_us = series.at_us
    counted = ~np.isin(series.classes, (IntervalClass.ACROSS_GAP, IntervalClass.MISSED, IntervalClass.EXTRA))
    counted &= at_us[:-1] >= start_us
    if stop_us is not None:
        counted &= at_us[1:] <= stop_us
    total_us = int(series.intervals_us[counted].sum())
    return 60 * _US * int(np.count_nonzero(counted)) / total_us if total_us else None


def instantaneous_rates_bpm(series: RRSeries) -> NDArray[np.float64]:
    """Return float64 [k-1], beats a minute of each interval.

    NaN where there is none: across a gap, at a missed or extra beat, and outside ``MIN_RATE_BPM`` to ``MAX_RATE_BPM``.
    """
    rates_bpm = 60 * _US / np.maximum(series.intervals_us, 1)
    unknown = np.isin(series.classes, (IntervalClass.ACROSS_GAP, IntervalClass.MISSED, IntervalClass.EXTRA))
    rates_bpm[unknown | (rates_bpm < MIN_RATE_BPM) | (rates_bpm > MAX_RATE_BPM)] = np.nan
    return rates_bpm


def _whole_numbers(values: ArrayLike, what: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros((0,), np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"{what} are of type {array.dtype}", "give sample indices as integers")
    if array.ndim != (2 if what == "gaps" else 1) or (array.ndim == 2 and array.shape[1] != 2):
        raise InputError(f"{what} are of shape {list(array.shape)}", "give R peaks as [k] and gaps as [g, 2]")
    if len(array) > MAX_R_PEAKS:
        raise InputError(f"{len(array)} {what}", f"give at most {MAX_R_PEAKS} at a time")
    if array.min() < 0 or array.max() > MAX_SAMPLE_INDEX:
        raise InputError(f"{what} lie outside any recording", f"give sample indices from 0 to {MAX_SAMPLE_INDEX}")
    return array.astype(np.int64)


def _microseconds(positions: NDArray[np.int64], rate: Fraction) -> NDArray[np.int64]:
    """The time of positions (1/``SUBDIVISIONS`` samples), rounded half up, int64 [n]."""
    per_second = rate.numerator * SUBDIVISIONS
    seconds, rest = np.divmod(positions * rate.denominator, per_second)
    return np.asarray(seconds * _US + (2 * _US * rest + per_second) // (2 * per_second), np.int64)


def _across(peaks: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which intervals hold a sample of a gap, both R peaks included, bool [k-1]."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    if len(peaks) < 2 or not len(spans):
        return np.zeros(max(0, len(peaks) - 1), np.bool_)
    begun = np.searchsorted(np.sort(spans[:, 0]), peaks[1:], side="right")
    ended = np.searchsorted(np.sort(spans[:, 1]), peaks[:-1], side="right")
    return np.greater(begun, ended)


def _movable(classes: NDArray[np.uint8], n_beats: int) -> NDArray[np.bool_]:
    """Which beats lie between two ectopic intervals, in runs of ``MAX_MOVED_RUN`` at most, bool [k]."""
    moved = np.zeros(n_beats, np.bool_)
    ectopic = classes == IntervalClass.ECTOPIC
    moved[1:-1] = ectopic[:-1] & ectopic[1:]
    edges = np.flatnonzero(np.diff(np.concatenate(([False], moved, [False])).astype(np.int8))).reshape(-1, 2)
    for start, stop in edges[edges[:, 1] - edges[:, 0] > MAX_MOVED_RUN].tolist():
        moved[start:stop] = False
    return moved
