"""What the verdict network sees of a window: its seconds' logits, its rhythm, its average beat. Integers. Pure.

The rhythm network looks at shapes over some 16 s; whether beats come regularly, early or late over the whole window,
and whether a P wave stays when its beats are laid over each other, is said here in numbers that have been measured for
this since long before networks:

* irregularity of RR intervals: Task Force 1996 (doi:10.1161/01.CIR.93.5.1043); entropy of short records, Lake and
  Moorman 2011 (doi:10.1152/ajpheart.00561.2010), here as its two match counts; distinct and concentrated changes of
  interval, Sarkar, Ritscher and Mehra 2008 (doi:10.1109/TBME.2007.903707);
* early beats and the pauses after them, and beats of the classes S and V (``beat_classes``);
* P wave, QRS width and likeness of beats in the window's median beat.

It deliberately weighs nothing (``verdict``), and looks at no quality that was learnt from rhythm recordings.

Invariants:
    1. Every value is an integer in [-``LIMIT``, ``LIMIT``], the same on every machine: sums are exact, and quotients
       and square roots are rounded once by IEEE 754 and then down.
    2. A signal turned upside down, or twice as high, changes no value but for rounding and ``HEIGHT``.
    3. A view without seconds or with fewer than ``LEAST_INTERVALS`` intervals has zeros where they would count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_detector import TICKS_HZ
from einthoven.beat_peaks import TICKS
from einthoven.results import BeatClass

LIMIT: Final = 2**15 - 1
LEAST_INTERVALS: Final = 3
LEAST_BEATS: Final = 3
"""Beats that a median beat is taken of at least."""
BEFORE, AFTER = 48, 64
"""Samples of the median beat on either side of the R peak at 128 Hz: 375 and 500 ms."""
BEATS_MAX: Final = 200
"""Beats of a window that are looked at: 400 a minute for 30 s."""

Integers = NDArray[np.int64]
_QRS = slice(BEFORE - 12, BEFORE + 18)
_CORE = slice(BEFORE - 10, BEFORE + 10)
_P = slice(BEFORE - 34, BEFORE - 8)
_T = slice(BEFORE + 16, BEFORE + 64)
_EARLY, _LATE = 850, 1150
"""Intervals in 1/1000 of the median that count as early and as late."""
_ALIKE = 60
"""Intervals within this many 1/1000 of the median match."""
_BIN_TICKS: Final = 26
"""Changes of interval are told apart in steps of 25 ms (Sarkar et al. 2008)."""


@dataclass(frozen=True, slots=True)
class WindowView:
    """What of a window the verdict rests on.

    Attributes:
        logits: int64 [n, 4], the pooled seconds' logits in 1/1024 octave.
        at_ticks: int64 [k], R peaks in 1/1024 s since the window's first sample.
        after_gap: bool [k], whether samples are missing before a peak.
        amplitudes_uv: int64 [k], signed heights of the R peaks.
        scores: int64 [k], how sure the detector is, 0-255.
        classes: int64 [k], ``BeatClass``.
        resampled: int64 [m], the window at 128 Hz, microvolts.
    """

    logits: Integers
    at_ticks: Integers
    after_gap: NDArray[np.bool_]
    amplitudes_uv: Integers
    scores: Integers
    classes: Integers
    resampled: Integers


def merged(views: Sequence[WindowView]) -> WindowView:
    """Consecutive windows as one; no interval reaches from one into the next."""
    if len(views) == 1:
        return views[0]
    starts = np.cumsum([0, *(len(view.resampled) for view in views)]) * TICKS
    return WindowView(
        np.concatenate([view.logits for view in views]),
        np.concatenate([view.at_ticks + start for view, start in zip(views, starts, strict=False)]),
        np.concatenate([_first_after_gap(view.after_gap) for view in views]),
        np.concatenate([view.amplitudes_uv for view in views]),
        np.concatenate([view.scores for view in views]),
        np.concatenate([view.classes for view in views]),
        np.concatenate([view.resampled for view in views]),
    )


def _first_after_gap(after_gap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    flags = after_gap.copy()
    flags[:1] = True
    return flags


def window_features(view: WindowView) -> Integers:
    """Describe a window, int64 [``FEATURES``]."""
    parts = [_of_seconds(view.logits), _of_intervals(view), _of_shape(view), _of_classes(view)]
    return np.clip(np.concatenate(parts), -LIMIT, LIMIT)


def _of_seconds(logits: Integers) -> Integers:
    """Means, medians, quarters and majorities of the seconds' logits."""
    n = len(logits)
    if not n:
        return np.zeros(SECONDS, np.int64)
    ordered = np.sort(logits, axis=0)
    quarter = max(1, n // 4)
    wins = np.bincount(logits.argmax(axis=1), minlength=4) * 1000 // n
    low, high = ordered[:quarter].sum(axis=0) // quarter, ordered[-quarter:].sum(axis=0) // quarter
    return np.concatenate([logits.sum(axis=0) // n, low, high, ordered[n // 2], wins, [n]])


def _of_intervals(view: WindowView) -> Integers:
    """Irregularity, in 1/1000 of the median interval where it is a time."""
    all_rr = np.diff(view.at_ticks)
    whole = ~view.after_gap[1:]
    rr = all_rr[whole]
    n = len(rr)
    if n < LEAST_INTERVALS:
        return np.zeros(INTERVALS, np.int64)
    middle = max(int(_at(np.sort(rr), 500)), 1)
    share = rr * 1000 // middle
    # Neighbours in time: intervals with no gap between or within them.
    together = whole[1:] & whole[:-1]
    change_ticks = (all_rr[1:] - all_rr[:-1])[together]
    before, after = (all_rr[:-1] * 1000 // middle)[together], (all_rr[1:] * 1000 // middle)[together]
    pairs = max(len(change_ticks), 1)
    change = change_ticks * 1000 // middle
    size = np.sort(np.abs(change)) if len(change) else np.zeros(1, np.int64)
    ordered = np.sort(share)
    off = share - share.sum() // n
    turns = (change[1:] * change[:-1] < 0) & (_reaches(change[1:], 80)) & (_reaches(change[:-1], 80))
    bins = np.unique(change_ticks // _BIN_TICKS, return_counts=True)[1] if len(change) else np.zeros(1, np.int64)
    values = [
        60 * TICKS_HZ // middle,
        _root(off @ off // n),
        int(_at(np.sort(np.abs(share - 1000)), 500)),
        _root(change @ change // pairs),
        *(int(_at(size, part)) for part in (250, 500, 750)),
        int((np.abs(change_ticks) > TICKS_HZ // 20).sum()) * 1000 // pairs,
        int((np.abs(change_ticks) > TICKS_HZ // 10).sum()) * 1000 // pairs,
        int((np.abs(change) > 100).sum()) * 1000 // pairs,
        int(np.abs(change).sum()) // pairs,
        *(int(_at(ordered, part)) for part in (0, 50, 100, 250, 750, 900, 950, 1000)),
        int((share < _EARLY).sum()) * 1000 // n,
        int((share > _LATE).sum()) * 1000 // n,
        int(((before < 880) & (after > 1060)).sum()) * 1000 // pairs,
        int(turns.sum()) * 1000 // pairs,
        *_matches(share),
        len(bins) * 1000 // pairs,
        int((bins * bins).sum()) * 1000 // (pairs * pairs),
        *(_correlation(off, lag) for lag in (1, 2, 3)),
        n,
    ]
    return np.array(values, np.int64)


def _reaches(values: Integers, limit: int) -> NDArray[np.bool_]:
    """Where a value is that far from 0 or further."""
    return np.asarray(np.abs(values) >= limit)


def _matches(share: Integers) -> tuple[int, int]:
    """How often two intervals are alike, and how often the next ones are too (the parts of sample entropy, m = 1)."""
    alike = np.abs(share[:, None] - share[None]) < _ALIKE
    above = np.triu(np.ones(alike.shape, np.bool_), 1)[:-1, :-1]
    first = alike[:-1, :-1] & above
    both = first & alike[1:, 1:]
    matches = int(first.sum())
    return (int(both.sum()) + 1) * 1000 // (matches + 1), (matches + 1) * 1000 // (int(above.sum()) + 1)


def _correlation(off: Integers, lag: int) -> int:
    """Autocorrelation in 1/1000."""
    if len(off) <= lag + 3:
        return 0
    return int(off[lag:] @ off[:-lag]) * 1000 // max(int(off @ off), 1)


def _of_shape(view: WindowView) -> Integers:
    """The median beat: P wave, QRS, T, and how alike the beats are."""
    at = view.at_ticks[:BEATS_MAX] // TICKS
    at = at[(at >= BEFORE) & (at + AFTER < len(view.resampled))]
    if len(at) < LEAST_BEATS:
        return np.zeros(SHAPE, np.int64)
    beats = view.resampled[at[:, None] + np.arange(-BEFORE, AFTER)]
    beats -= np.sort(beats, axis=1)[:, (BEFORE + AFTER) // 2][:, None]
    median = np.sort(beats, axis=0)[len(beats) // 2]
    if -median[_CORE].min() > median[_CORE].max():
        median, beats = -median, -beats
    height = max(int(median[_CORE].max()), 20)
    p_wave, quiet = median[_P], np.sort(median[: _P.start])
    spans = np.sort(np.ptp(beats[:, _QRS], axis=1))
    alike_qrs, alike_p, alike_t = (np.sort(_likeness(beats[:, part], median[part])) for part in (_QRS, _P, _T))
    values = [
        (int(p_wave.max()) - int(p_wave[-1])) * 1000 // height,
        (int(p_wave.max()) - int(quiet[len(quiet) // 2])) * 1000 // height,
        int(p_wave.argmax()),
        *(int(_at(alike_p, part)) for part in (200, 500)),
        *(int(_at(alike_qrs, part)) for part in (100, 500)),
        int((alike_qrs < 800).sum()) * 1000 // len(at),
        int(_at(alike_t, 500)),
        int(_at(np.sort(np.abs(beats - median).sum(axis=1)), 500)) * 1000 // (height * (BEFORE + AFTER)),
        int((2 * median[_QRS] > height).sum()),
        int((5 * np.abs(median[_QRS]) > height).sum()),
        int(median[_T].max()) * 1000 // height,
        int(median[_T].min()) * 1000 // height,
        int(_at(spans, 900)) * 1000 // max(int(_at(spans, 500)), 1),
        int(np.abs(np.diff(median)).max()) * 1000 // height,
        height,
        int((np.sign(view.amplitudes_uv) != np.sign(np.median(view.amplitudes_uv))).sum()) * 1000 // len(view.at_ticks),
        int(view.scores.sum()) // len(view.scores),
        int(_at(np.sort(view.scores), 100)),
    ]
    return np.array(values, np.int64)


def _likeness(beats: Integers, median: Integers) -> Integers:
    """Correlation of each beat with the median beat, in 1/1000, int64 [k]."""
    width = len(median)
    # Means are left out by whole numbers: the product of lengths is below 2**53 for any beat of under 500 mV.
    off = (beats - beats.sum(axis=1)[:, None] // width).astype(np.float64)
    about = (median - median.sum() // width).astype(np.float64)
    lengths = np.sqrt(np.einsum("ks,ks->k", off, off)) * np.sqrt(about @ about)
    return np.asarray(np.floor(1000 * np.einsum("ks,s->k", off, about) / np.maximum(lengths, 1.0)), np.int64)


def _of_classes(view: WindowView) -> Integers:
    """Beats of the classes S and V, alone and one after the other."""
    n = len(view.classes)
    if not n:
        return np.zeros(CLASSES, np.int64)
    early, wide = view.classes == BeatClass.SUPRAVENTRICULAR, view.classes == BeatClass.VENTRICULAR
    seconds = max(len(view.resampled) // 128, 1)
    values = [
        int(early.sum()) * 1000 // n,
        int(wide.sum()) * 1000 // n,
        int((wide[1:] & wide[:-1]).sum()) * 1000 // n,
        int((early[1:] & early[:-1]).sum()) * 1000 // n,
        min(int(early.sum()), 8),
        min(int(wide.sum()), 8),
        n * 1000 // seconds,
    ]
    return np.array(values, np.int64)


def _at(ordered: Integers, permille: int) -> np.int64:
    """The value at a share of a sorted list."""
    return np.int64(ordered[(len(ordered) - 1) * permille // 1000])


def _root(value: int | np.int64) -> int:
    """Whole square root."""
    return int(np.sqrt(np.float64(value)))


SECONDS: Final = 21
INTERVALS: Final = 31
SHAPE: Final = 20
CLASSES: Final = 7
FEATURES: Final = SECONDS + INTERVALS + SHAPE + CLASSES
HEIGHT: Final = SECONDS + INTERVALS + 16
"""Column of the median beat's height in microvolts."""
