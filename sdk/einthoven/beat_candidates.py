"""Where a QRS complex may be: band-pass, envelope, its local maxima, and the amplitude that is usual here. Pure.

Nearly every complex is among the candidates, and so are P and T waves and noise: ``beat_scorer`` tells them apart. It
deliberately decides nothing and keeps no state; the caller (``beat_detector``) supplies the samples on both sides.

Invariants:
    1. Every value is an integer; where it is kept as a float, it is small enough for the sum to be exact.
    2. A signal turned upside down gives the same candidates: rounding is symmetric, and only magnitudes are compared.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SMOOTHING: Final = 5
"""Samples of the moving sum that turns the rectified signal into an envelope: 39 ms."""
REACH: Final = 7
"""A candidate is the largest value of the envelope within this many samples (55 ms) on either side."""
BLOCK: Final = 32
"""Samples of a block, a quarter of a second: the detector's step, and the grain of the usual amplitude."""
SPAN_BLOCKS: Final = 4
"""Blocks of a span, one second: long enough to hold a beat."""
SPANS: Final = 16
"""Spans, one beginning every second block, whose largest values the usual amplitude is the median of."""
BLOCKS_AHEAD: Final = 2
"""Blocks after a candidate's own that its usual amplitude takes in."""
BLOCKS_BACK: Final = 2 * (SPANS - 1) + SPAN_BLOCKS - BLOCKS_AHEAD - 1
"""Blocks before a candidate's own that its usual amplitude takes in: 7.75 s."""
MIN_ENVELOPE: Final = 40
"""Below this (8 uV on average) there is nothing to see."""
FLOOR_SHIFT: Final = 5
"""A candidate has at least 1/32 of the usual amplitude."""
FILTER_SHIFT: Final = 12
"""The band-pass gain is 2**12 before this shift."""
MAX_BLOCKS: Final = 512
"""Most blocks at a time."""
_SPANS = np.arange(MAX_BLOCKS)[:, None] + np.arange(0, 2 * SPANS, 2)

NEVER: Final = -1
"""Largest value of a block before the signal began."""


def band_passed(samples: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter and round.

    Args:
        samples: float64 [n + len(taps) - 1], integers in microvolts.
        taps: float64 [odd], symmetric integers.

    Returns:
        float64 [n], integers.
    """
    filtered = np.convolve(samples, taps, "valid")
    filtered *= 2.0**-FILTER_SHIFT
    return np.rint(filtered, out=filtered)


def envelope(filtered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moving sum of ``SMOOTHING`` magnitudes: [n + SMOOTHING - 1] -> [n], exact."""
    magnitude = np.abs(filtered)
    two = magnitude[:-1] + magnitude[1:]
    total = two[:-3] + two[2:-1]
    total += magnitude[4:]
    return np.asarray(total)


def block_maxima(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest value of each whole block: [n * BLOCK] -> [n]."""
    return np.asarray(values.reshape(-1, BLOCK).max(axis=1))


def usual_amplitudes(maxima: NDArray[np.float64]) -> NDArray[np.int64]:
    """The envelope's usual peak, block by block.

    Args:
        maxima: [BLOCKS_BACK + n + BLOCKS_AHEAD] with n up to ``MAX_BLOCKS``: largest value of each block, ``NEVER``
            before the beginning.

    Returns:
        int64 [n], never below ``MIN_ENVELOPE``: the upper median of the largest values of ``SPANS`` spans, those from
        before the beginning left out.
    """
    pairs = np.maximum(maxima[:-1], maxima[1:])
    spans = np.maximum(pairs[:-2], pairs[2:])
    n = len(spans) - 2 * SPANS + 2
    rows = spans.take(_SPANS[:n])
    rows.sort(axis=1)  # the unknown ones first
    if rows[0, 0] >= 0:
        usual = rows[:, SPANS // 2]
    else:
        known = (rows >= 0).sum(axis=1)
        usual = rows[np.arange(n), np.minimum(SPANS - known + known // 2, SPANS - 1)]
    return np.asarray(np.maximum(usual, MIN_ENVELOPE), np.int64)


def local_maxima(values: NDArray[np.float64], usual: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the candidates.

    Args:
        values: Envelope, [REACH + n + REACH].
        usual: The usual amplitude of each block, int64 [n / BLOCK].

    Returns:
        int64 [k], ascending, relative to ``values[REACH]``: above all ``REACH`` values before, not below any after.
    """
    n = len(values) - 2 * REACH
    two = np.maximum(values[:-1], values[1:])
    four = np.maximum(two[:-2], two[2:])
    seven = np.maximum(four[:-3], four[3:])
    centre = values[REACH : REACH + n]
    at = ((centre > seven[:n]) & (centre >= seven[REACH + 1 : REACH + 1 + n])).nonzero()[0]
    return np.asarray(at[centre[at] >= np.maximum(usual >> FLOOR_SHIFT, MIN_ENVELOPE)[at // BLOCK]])
