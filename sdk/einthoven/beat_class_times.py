"""A beat's place in its rhythm, in small integers: its intervals against those of the person's recent beats. Pure.

A premature beat comes early for this heart at this time; in atrial fibrillation every beat comes early or late. So the
intervals before and after a beat are set against the last one, the usual ones near and far, and the irregularity
around. It deliberately looks at no wave (``beat_class_shapes``).

Invariants:
    1. Every value is an integer; those out of [-127, 127] are limited by the caller.
    2. Two intervals a and b are compared by (a - b) / (a + b): the same at any heart rate, and bounded.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_class_rows import ALIKE, NEAR, RR, TICKS, USUAL_RR, Crowd
from einthoven.beat_features import LIMIT

NEXT_TICKS: Final = 2 * 1024
"""A beat that comes later than this (2 s) is not waited for."""
RECENT: Final = 8
"""Intervals that are recent."""
OUT_OF_LINE: Final = 12
"""An interval is out of line where it differs from the usual one by more hundredths than this."""
LEAST_SOUND: Final = 3
"""Intervals between dominant beats from which on the usual interval is theirs."""

Numbers = NDArray[np.float64]


def contrast(a: Numbers, b: Numbers, scale: int = 2 * LIMIT) -> Numbers:
    """(a - b) / (a + b) times ``scale``, rounded; 0 where either is unknown (0)."""
    return np.asarray(np.rint((a - b) * scale / np.maximum(a + b, 1)) * ((a > 0) & (b > 0)))


def ranked(ordered: Numbers, n: NDArray[np.int64], hundredths: int) -> Numbers:
    """Of the last ``n`` in each row of sorted values [k, w], the one above so many hundredths; 0 without any."""
    width = ordered.shape[1]
    at = width - n + np.minimum(n * hundredths // 100, np.maximum(n - 1, 0))
    return np.asarray(ordered[np.arange(len(ordered)), np.minimum(at, width - 1)] * (n > 0))


def row_sums(values: NDArray[np.bool_] | Numbers) -> Numbers:
    """Sum of each row, exact; a product with ones costs less than a sum along a short axis."""
    return np.asarray(values @ np.ones(values.shape[1]))


def mean_of(values: Numbers, chosen: NDArray[np.bool_]) -> Numbers:
    """Rounded mean of the chosen ones of each row; 0 without any."""
    return np.asarray(np.rint(row_sums(values * chosen) / np.maximum(row_sums(chosen), 1)))


def share(count: Numbers, of: Numbers) -> Numbers:
    """Hundredths, rounded."""
    return np.asarray(np.rint(100 * count / np.maximum(of, 1)))


def extract(own: Numbers, next_ticks: Numbers, after: NDArray[np.bool_], near: Crowd, far: Crowd) -> list[Numbers]:
    """Describe beats by their times.

    Args:
        own: float64 [k, NUMBERS], their rows.
        next_ticks: float64 [k], R peak of the row after each.
        after: bool [k], whether that is the next beat within ``NEXT_TICKS``.
        near: The beats just before each.
        far: Those that are kept longer.

    Returns:
        Columns float64 [k].
    """
    rr = near.column(RR)
    have = rr > 0
    n = row_sums(have).astype(np.int64)
    ordered = np.sort(rr, axis=1)
    low, median, high, top = (ranked(ordered, n, hundredths) for hundredths in (25, 50, 75, 90))
    recent = np.sort(rr[:, -RECENT:], axis=1)
    recent_n = row_sums(recent > 0).astype(np.int64)
    recent_low, recent_median, recent_high = (ranked(recent, recent_n, hundredths) for hundredths in (0, 50, 100))
    usual = _usual(near, rr, median)
    far_rr = np.sort(far.column(USUAL_RR), axis=1)
    far_n = row_sums(far_rr > 0).astype(np.int64)
    far_low, far_median, far_high = (ranked(far_rr, far_n, hundredths) for hundredths in (20, 50, 80))
    pre, one, two, three = own[:, RR], rr[:, -1], rr[:, -2], rr[:, -3]
    post = np.where(after, next_ticks - own[:, TICKS], NEXT_TICKS)
    both, known = pre + post * (pre > 0), (pre == 0) * 100.0
    return [
        *(
            contrast(pre, other)
            for other in (one, post, recent_low, recent_median, recent_high, low, median, high, top)
        ),
        *(contrast(pre, other) for other in (usual, far_low, far_median, far_high)),
        *(contrast(post, other) for other in (recent_median, median, usual, far_median)),
        *(contrast(both * (pre > 0), 2 * other, 4 * LIMIT) for other in (recent_median, usual, far_median)),
        *(contrast(one, other) for other in (two, usual, far_median)),
        contrast(two, usual),
        contrast(three, usual),
        *(contrast(usual, other) for other in (median, recent_median, far_low, far_median, far_high)),
        contrast(high, low),
        contrast(far_high, far_low),
        np.rint(pre / 10) * (pre > 0) - 70 * (pre > 0),
        np.rint(post / 10) - 90,
        np.rint(usual / 10) - 80,
        known,
        ~after * 100.0,
        np.asarray(row_sums(near.known) * 5),
        np.asarray(row_sums(far.known) * 7),
        *_irregularity(near, rr, have, usual),
        mean_of(contrast(rr, usual[:, None]), (near.likeness >= ALIKE) & have),
    ]


def _usual(near: Crowd, rr: Numbers, median: Numbers) -> Numbers:
    """The usual interval from one dominant beat to the next; the median of all where there are too few."""
    sound = _sound(near, rr)
    n = row_sums(sound).astype(np.int64)
    return np.where(n >= LEAST_SOUND, ranked(np.sort(rr * sound, axis=1), n, 50), median)


def _sound(near: Crowd, rr: Numbers) -> NDArray[np.bool_]:
    sound = near.dominant & (rr > 0)
    sound[:, 1:] &= near.dominant[:, :-1]
    return sound


def _irregularity(near: Crowd, rr: Numbers, have: NDArray[np.bool_], usual: Numbers) -> list[Numbers]:
    """How much intervals change from one to the next, and how many are out of line."""
    steps = np.abs(contrast(rr[:, 1:], rr[:, :-1]))
    pairs = have[:, 1:] & have[:, :-1]
    n_pairs = row_sums(pairs).astype(np.int64)
    ordered = np.sort((steps + 1) * pairs, axis=1)
    sound = _sound(near, rr)
    sound_pairs = sound[:, 1:] & sound[:, :-1]
    off = (np.abs(rr - usual[:, None]) * 100 > usual[:, None] * OUT_OF_LINE) & have
    early = (rr * 100 < usual[:, None] * (100 - OUT_OF_LINE)) & have
    n, recent_n = row_sums(have), row_sums(have[:, NEAR - RECENT :])
    return [
        *(ranked(ordered, n_pairs, hundredths) for hundredths in (25, 50, 75)),
        mean_of(steps[:, -RECENT:], pairs[:, -RECENT:]),
        mean_of(steps, sound_pairs),
        share(row_sums(off), n),
        share(row_sums(off & sound), row_sums(sound)),
        share(row_sums(early), n),
        share(row_sums(off[:, NEAR - RECENT :]), recent_n),
        share(row_sums(early[:, NEAR - RECENT :]), recent_n),
    ]
