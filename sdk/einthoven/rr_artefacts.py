"""Which RR intervals are not what they seem: missed, extra and ectopic beats, intervals too long or too short. Pure.

The method is that of Lipponen and Tarvainen, "A robust algorithm for heart rate variability time series artefact
correction using novel beat classification", J Med Eng Technol 2019;43(3):173-181, here from its text: differences of
successive intervals (dRR) and deviations from the median of 11 (mRR, doubled where negative), each divided by 5.2
times the quartile deviation of the 91 surrounding ones, so that a threshold follows the rhythm; then the subspaces
S12 and S22 of dRR tell the patterns apart.

Where the paper leaves a choice, or would fail, this is decided:

* The quartile deviation is that of the signed values: only so does the factor 5.2 cover 99.95 % of a normal
  distribution (5.2 x 0.6745 = 3.51 standard deviations). Of absolute values, as some libraries take it, it covers 97 %,
  and one normal beat in 33 is called an artefact.
* A threshold is ``MIN_THRESHOLD_US`` at least. In a paced rhythm the quartile deviation is next to nothing, and the
  jitter of detection would be called ectopic.
* Nothing is compared across a gap: the first interval after one has no dRR, and differences beyond it count as 0.
* A pattern in dRR is centred on its second interval: the beat between the two is the ectopic one, so that both
  intervals are marked. The same holds for both intervals at an extra beat.
* Every interval is judged by itself, not in the order of a scan. If several explanations hold, ectopic comes before
  extra, extra before missed, missed before long or short; an interval that a neighbour's extra or ectopic beat
  explains is not judged again.
* The interval after a short one begins at a beat that came early, and is marked with it.
* Where every third beat is ectopic, or the rhythm is atrial fibrillation, the thresholds are as wide as the rhythm is
  wild, and the method marks little. What is left over, and leaves both the median of 11 and a neighbour by more than
  ``MAX_CHANGE_PERMILLE`` (the filter of Malik et al., Eur Heart J 1989;10:1060-1074, made local), is ``IRREGULAR``: no
  NN interval, but nothing to correct either.
* Below ``MIN_RR_US`` and above ``MAX_RR_US`` an interval is short or long if nothing else explains it.

It deliberately makes no diagnosis: what looks ectopic may be a misplaced R peak.

Invariants:
    1. Classes depend on nothing but the intervals and where the gaps are.
    2. The number of intervals does not change, and memory is bounded by ``BATCH_ROWS`` windows.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

THRESHOLD_FACTOR: Final = 5.2
"""Alpha: covers 99.95 % of a normal distribution (Lipponen 2019, 2.1)."""
THRESHOLD_WINDOW: Final = 91
MEDIAN_WINDOW: Final = 11
"""Intervals that a threshold and a median look at (Lipponen 2019, 2.1)."""
ECTOPIC_SLOPE: Final = 0.13
ECTOPIC_OFFSET: Final = 0.17
"""c1 and c2, the borders of the ectopic areas in S12 (Lipponen 2019, 2.1)."""
MEDIAN_LIMIT: Final = 3.0
"""Normalised mRR from which an interval is long or short (Lipponen 2019, figure 1)."""
MIN_THRESHOLD_US: Final = 30_000
"""Least threshold: three times the 10 ms within which half of all R peaks are placed."""
MAX_CHANGE_PERMILLE: Final = 200
"""Change of an NN interval, in 1/1000 of the median of 11, beyond which it is none (Malik 1989)."""
MIN_RR_US: Final = 200_000
MAX_RR_US: Final = 3_000_000
"""Intervals of 300 and of 20 beats a minute."""
BATCH_ROWS: Final = 8_192
"""Windows sorted at a time."""
_CLIP_US: Final = 2**28


class IntervalClass(IntEnum):
    """What an RR interval is. Values are stored: never renumber, only append."""

    NORMAL = 0
    EXTRA = 1
    MISSED = 2
    ECTOPIC = 3
    LONG = 4
    SHORT = 5
    ACROSS_GAP = 6
    CORRECTED = 7
    IRREGULAR = 8


def classify(intervals_us: NDArray[np.int64], across_gap: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the class of each interval, uint8 [n]; none is ``CORRECTED``.

    Args:
        intervals_us: int64 [n], successive RR intervals, microseconds.
        across_gap: bool [n], which of them lie across a gap.
    """
    classes = np.zeros(len(intervals_us), np.uint8)
    classes[across_gap] = IntervalClass.ACROSS_GAP
    inside = np.flatnonzero(~across_gap)
    if not len(inside):
        return classes
    # A gap is one interval; between stretches it stands for differences that do not exist.
    rr = np.minimum(intervals_us, _CLIP_US)
    drr = np.zeros(len(rr), np.int64)
    drr[1:] = np.diff(rr)
    drr[across_gap] = 0
    drr[1:][across_gap[:-1]] = 0
    drr_there = ~across_gap
    drr_there[0] = False
    drr_there[1:] &= ~across_gap[:-1]

    medians = np.zeros(len(rr), np.int64)
    medians[inside] = _running_median(rr[inside])
    mrr = np.where(across_gap, 0, rr - medians)
    mrr = np.where(mrr < 0, 2 * mrr, mrr)

    # Most differences are below the least threshold, and need no other; those beside a large one do, for S12 and S22.
    exceeding = np.abs(drr) > MIN_THRESHOLD_US
    thresholds = _thresholds(drr, drr_there, exceeding)
    large = np.abs(drr) > thresholds
    beside = _with_neighbours(large) & ~exceeding
    d = drr / np.where(beside, _thresholds(drr, drr_there, beside), thresholds)
    m_threshold = _thresholds(mrr, ~across_gap, large | (np.abs(mrr) > MEDIAN_LIMIT * MIN_THRESHOLD_US))
    _decide(classes, rr, drr, medians, d, mrr / m_threshold, m_threshold)
    return classes


def _decide(
    classes: NDArray[np.uint8],
    rr: NDArray[np.int64],
    drr: NDArray[np.int64],
    medians: NDArray[np.int64],
    d: NDArray[np.float64],
    m: NDArray[np.float64],
    m_threshold: NDArray[np.float64],
) -> None:
    """Figure 1 of the paper, on normalised dRR (``d``) and mRR (``m``), into ``classes``."""
    inside = classes == IntervalClass.NORMAL
    padded = np.concatenate(([0.0], d, [0.0, 0.0]))
    before, after, second = padded[:-3], padded[2:-1], padded[3:]
    s12 = np.where(d > 0, np.maximum(before, after), np.minimum(before, after))
    s22 = np.where(d >= 0, np.minimum(after, second), np.maximum(after, second))
    border = ECTOPIC_SLOPE * np.abs(d) + ECTOPIC_OFFSET
    ectopic = inside & (((d > 1) & (s12 < -border)) | ((d < -1) & (s12 > border)))
    # The first interval of a stretch has no dRR, so the one before an ectopic interval is always in its stretch.
    ectopic[:-1] |= ectopic[1:]

    long, short = (d > 1) & (s22 < -1), (d < -1) & (s22 > 1)
    following = np.append(rr[1:], 0)
    inside_next = np.append(inside[1:], False)
    extra = short & (np.abs(rr + following - medians) < m_threshold) & inside & inside_next
    extra &= ~ectopic & ~np.append(ectopic[1:], False)
    for first in np.flatnonzero(extra[1:] & extra[:-1]).tolist():
        if extra[first]:
            extra[first + 1] = False
    extra[1:] |= extra[:-1]

    open_ = inside & ~ectopic & ~extra
    missed = open_ & long & (np.abs(rr / 2 - medians) < m_threshold)
    open_ &= ~missed
    is_long = open_ & (long | (m > MEDIAN_LIMIT) | (rr > MAX_RR_US))
    is_short = open_ & ~is_long & (short | (m < -MEDIAN_LIMIT) | (rr < MIN_RR_US))
    is_short[1:] |= is_short[:-1] & open_[1:] & ~is_long[1:]
    most = medians * MAX_CHANGE_PERMILLE // 1000
    irregular = open_ & ~is_long & ~is_short & (np.abs(rr - medians) > most) & (_largest_change(drr) > most)
    for which, what in (
        (ectopic, IntervalClass.ECTOPIC),
        (extra, IntervalClass.EXTRA),
        (missed, IntervalClass.MISSED),
        (is_long, IntervalClass.LONG),
        (is_short, IntervalClass.SHORT),
        (irregular, IntervalClass.IRREGULAR),
    ):
        classes[which] = what


def _largest_change(drr: NDArray[np.int64]) -> NDArray[np.int64]:
    """To the interval before or the one after, whichever is more, int64 [n]."""
    change = np.abs(drr)
    return np.asarray(np.maximum(change, np.append(change[1:], 0)), np.int64)


def _with_neighbours(which: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Also the one before and the two after, bool [n]."""
    wider = which.copy()
    wider[:-1] |= which[1:]
    wider[1:] |= which[:-1]
    wider[2:] |= which[:-2]
    return wider


def _thresholds(values: NDArray[np.int64], there: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Time-varying threshold where it is asked for, the least one elsewhere; microseconds, float64 [n].

    Args:
        values: int64 [n], dRR or mRR.
        there: bool [n], which of them exist; only these fill the windows.
        asked: bool [n], where to work out the threshold.
    """
    thresholds = np.full(len(values), float(MIN_THRESHOLD_US))
    asked = asked & there
    index = np.cumsum(there) - 1
    deviation = _quartile_deviation(values[there].astype(np.int32), index[asked])
    thresholds[asked] = np.maximum(float(MIN_THRESHOLD_US), THRESHOLD_FACTOR * deviation)
    return thresholds


def _quartile_deviation(values: NDArray[np.int32], at: NDArray[np.int64]) -> NDArray[np.float64]:
    """(Q3 - Q1) / 2 of the window around each index of ``at``, float64; windows are cut off at the ends."""
    half = THRESHOLD_WINDOW // 2
    deviations = np.empty(len(at), np.float64)
    whole = (at >= half) & (at < len(values) - half)
    for i in np.flatnonzero(~whole).tolist():
        window = np.sort(values[max(0, at[i] - half) : at[i] + half + 1])
        deviations[i] = (_quantile(window, 3) - _quantile(window, 1)) / 2
    rows = np.flatnonzero(whole)
    if len(rows):
        windows = sliding_window_view(values, THRESHOLD_WINDOW)
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            ordered = np.sort(windows[at[batch] - half], axis=1)
            deviations[batch] = (_quantile(ordered, 3) - _quantile(ordered, 1)) / 2
    return deviations


def _quantile(ordered: NDArray[np.int32], quarter: int) -> NDArray[np.float64]:
    """The first or third quartile along the last axis of sorted values, interpolated linearly."""
    low, rest = divmod(quarter * (ordered.shape[-1] - 1), 4)
    below = ordered[..., low].astype(np.float64)
    above = ordered[..., min(low + 1, ordered.shape[-1] - 1)]
    return np.asarray(below + (above - below) * (rest / 4), np.float64)


def _running_median(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Median of the window of ``MEDIAN_WINDOW`` around each value, int64 [n]; windows are cut off at the ends."""
    half = MEDIAN_WINDOW // 2
    medians = np.empty(len(values), np.int64)
    narrow = values.astype(np.int32)
    if len(values) >= MEDIAN_WINDOW:
        windows = sliding_window_view(narrow, MEDIAN_WINDOW)
        for start in range(0, len(windows), BATCH_ROWS):
            stop = min(start + BATCH_ROWS, len(windows))
            medians[start + half : stop + half] = np.sort(windows[start:stop], axis=1)[:, half]
    edges = {*range(min(half, len(values))), *range(max(0, len(values) - half), len(values))}
    for i in edges:
        medians[i] = int(np.median(narrow[max(0, i - half) : i + half + 1]))
    return medians
