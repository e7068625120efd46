"""Heart rate variability in the time domain, from NN intervals only, or the reason why there is none. Pure.

Definitions are those of the Task Force of the European Society of Cardiology and the North American Society of Pacing
and Electrophysiology, Circulation 1996;93:1043-1065, tables 1 and 2, where NN intervals are those between adjacent
normal beats. What the text leaves open: standard deviations divide by n - 1; a successive difference is taken only
between two NN intervals that share a beat; NN50 is divided by the number of NN intervals.

Intervals come in as exact integers (``rr_intervals``), measures go out as floats in milliseconds.

It deliberately interprets nothing, uses no interpolated beat (a series may be corrected first, which is counted, but
``CORRECTED`` intervals stay out of every measure), and computes no spectrum: that would need interpolation.

Invariants:
    1. ``refusal`` is ``NONE`` exactly when the measures are there.
    2. Measures depend on the order of NN intervals and on which of them touch, not on when the recording began.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.rr_artefacts import IntervalClass
from einthoven.rr_intervals import RRSeries

MIN_NN_S: Final = 60
"""Seconds of NN intervals below which nothing is said: what the Task Force needs for the fastest component alone
("approximately 1 min", section "Duration and circumstances of ECG recording")."""
RECOMMENDED_NN_S: Final = 300
"""Seconds of NN intervals that the Task Force recommends for short-term recordings: compare only measures of equal
length, best of this one."""
MIN_NN_INTERVALS: Final = 30
"""Fewest NN intervals, and fewest pairs of them; a minute at 30 a minute."""
MAX_ARTEFACT_PERMILLE: Final = 50
"""Largest share of intervals that are neither NN nor across a gap, in 1/1000; a choice, common practice is 5 %."""
DAY_NN_S: Final = 18 * 3600
"""Seconds of NN intervals that a 24-h recording must hold (Task Force: "at least 18 hours of analysable ECG")."""
SEGMENT_US: Final = 300_000_000
"""Segments of SDANN and SDNN index, microseconds."""
NN50_US: Final = 50_000
"""Successive differences above it count for pNN50, microseconds."""
BINS_PER_S: Final = 128
"""Bins of the histogram for the triangular index: 7.8125 ms (Task Force, "Geometrical methods")."""
_US: Final = 1_000_000
_MS: Final = 1_000.0


class HrvRefusal(IntEnum):
    """Why there are no measures."""

    NONE = 0
    TOO_SHORT = 1
    TOO_FEW_INTERVALS = 2
    TOO_MANY_ARTEFACTS = 3


@dataclass(frozen=True, slots=True)
class LongTermVariability:
    """Measures over a day, from its 5-min segments.

    Attributes:
        segments: Segments that are at least half filled with NN intervals: the n of both.
        sdann_ms: Standard deviation of the segments' mean NN, milliseconds.
        sdnn_index_ms: Mean of the segments' SDNN, milliseconds.
    """

    segments: int
    sdann_ms: float
    sdnn_index_ms: float


@dataclass(frozen=True, slots=True)
class VariabilityMeasures:
    """Time-domain measures of a series.

    Attributes:
        mean_nn_ms: Mean NN interval, milliseconds.
        sdnn_ms: Standard deviation of NN intervals (n - 1), milliseconds.
        rmssd_ms: Root mean square of successive differences, milliseconds.
        pnn50_percent: Successive differences above 50 ms, as percent of the number of NN intervals.
        triangular_index: Number of NN intervals over the height of their histogram in bins of 1/128 s.
        long_term: Measures over a day, where a day is there.
    """

    mean_nn_ms: float
    sdnn_ms: float
    rmssd_ms: float
    pnn50_percent: float
    triangular_index: float
    long_term: LongTermVariability | None


@dataclass(frozen=True, slots=True)
class HeartRateVariability:
    """What a series says about heart rate variability, and what that rests on.

    Attributes:
        refusal: Why there are no measures; ``NONE`` if there are.
        measures: The measures; ``None`` if refused.
        n_intervals: Intervals that are not across a gap.
        n_normal: NN intervals, the n of mean NN and SDNN.
        n_successive: Pairs of adjacent NN intervals, the n of RMSSD.
        nn_s: Seconds that the NN intervals add up to.
        artefact_permille: Intervals that are neither NN nor across a gap, of ``n_intervals``, in 1/1000, rounded up.
        corrected_permille: Those of them that were corrected, likewise.
    """

    refusal: HrvRefusal
    measures: VariabilityMeasures | None
    n_intervals: int
    n_normal: int
    n_successive: int
    nn_s: float
    artefact_permille: int
    corrected_permille: int


def heart_rate_variability(series: RRSeries) -> HeartRateVariability:
    """Return the time-domain measures of a series of RR intervals, or why there are none."""
    normal = series.normal
    paired = normal[1:] & normal[:-1]
    n_gaps, n_corrected = series.count(IntervalClass.ACROSS_GAP), series.count(IntervalClass.CORRECTED)
    n_intervals, n_normal = len(normal) - n_gaps, int(np.count_nonzero(normal))
    n_successive = int(np.count_nonzero(paired))
    nn_us = int(series.intervals_us[normal].sum())
    artefact_permille = _permille(n_intervals - n_normal, n_intervals)
    if artefact_permille > MAX_ARTEFACT_PERMILLE:
        refusal = HrvRefusal.TOO_MANY_ARTEFACTS
    elif nn_us < MIN_NN_S * _US:
        refusal = HrvRefusal.TOO_SHORT
    elif min(n_normal, n_successive) < MIN_NN_INTERVALS:
        refusal = HrvRefusal.TOO_FEW_INTERVALS
    else:
        refusal = HrvRefusal.NONE
    return HeartRateVariability(
        refusal=refusal,
        measures=None if refusal else _measures(series, normal, paired),
        n_intervals=n_intervals,
        n_normal=n_normal,
        n_successive=n_successive,
        nn_s=nn_us / _US,
        artefact_permille=artefact_permille,
        corrected_permille=_permille(n_corrected, n_intervals),
    )


def _permille(part: int, whole: int) -> int:
    return -(-1000 * part // whole) if whole else 0


def _measures(series: RRSeries, normal: NDArray[np.bool_], paired: NDArray[np.bool_]) -> VariabilityMeasures:
    nn_us = series.intervals_us[normal]
    difference_us = np.diff(series.intervals_us)[paired]
    nn_ms = nn_us / _MS
    nn50 = int(np.count_nonzero(np.abs(difference_us) > NN50_US))
    heights = np.bincount(nn_us * BINS_PER_S // _US)
    return VariabilityMeasures(
        mean_nn_ms=float(nn_ms.mean()),
        sdnn_ms=float(nn_ms.std(ddof=1)),
        rmssd_ms=float(np.sqrt(np.mean((difference_us / _MS) ** 2))),
        pnn50_percent=100 * nn50 / len(nn_us),
        triangular_index=len(nn_us) / int(heights.max()),
        long_term=_long_term(series, normal) if int(nn_us.sum()) >= DAY_NN_S * _US else None,
    )


def _long_term(series: RRSeries, normal: NDArray[np.bool_]) -> LongTermVariability | None:
    """SDANN and SDNN index; an NN interval belongs to the segment in which it begins, the first R peak being at 0."""
    at_us = series.at_us
    segment = (at_us[:-1][normal] - at_us[0]) // SEGMENT_US
    nn_us = series.intervals_us[normal]
    n = np.bincount(segment)
    total_us = np.bincount(segment, weights=nn_us)
    filled = (total_us >= SEGMENT_US / 2) & (n >= 2)
    if np.count_nonzero(filled) < 2:
        return None
    mean_us = total_us / np.maximum(n, 1)
    squares = np.bincount(segment, weights=(nn_us - mean_us[segment]) ** 2)
    sdnn_us = np.sqrt(squares[filled] / (n[filled] - 1))
    return LongTermVariability(
        segments=int(np.count_nonzero(filled)),
        sdann_ms=float(mean_us[filled].std(ddof=1) / _MS),
        sdnn_index_ms=float(sdnn_us.mean() / _MS),
    )
