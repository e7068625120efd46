"""What the scorer sees of a candidate: small integers, from the signal and its envelope around it. Pure.

Four views: the band-passed complex and the slopes in it, both in units of its own height; the second around it, and the
envelope of the 1.7 s around it, both in units of the usual amplitude. It deliberately knows no weights
(``beat_scorer``) and keeps no state.

Invariants:
    1. Every value is an integer in [-127, 127].
    2. A signal turned upside down gives the same values: they are signed so that the main deflection is up.
    3. A signal twice as high gives the same values, but for rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_candidates import BLOCK, MAX_BLOCKS

DETAIL: Final = 20
"""Samples on either side whose band-passed value and slope are seen: 156 ms."""
STRIDE: Final = 4
"""Samples between values further away: 32 of them a second."""
SECOND: Final = (-12, 16)
"""Strides of the signal that are seen, from 0.38 s before to 0.47 s after."""
HALF_BASELINE: Final = 32
"""Samples on either side that a baseline is the mean of: 0.25 s."""
CONTEXT: Final = (-32, 23)
"""Strides of the envelope that are seen, from 1.0 s before to 0.69 s after."""
BACK: Final = -CONTEXT[0] * STRIDE
"""Values of the envelope before a candidate that are read."""
AHEAD: Final = (CONTEXT[1] - 1) * STRIDE
"""Values of the envelope after a candidate that are read."""
LIMIT: Final = 127
SHAPE: Final = slice(0, 2 * DETAIL + 1)
"""Columns of the band-passed complex."""
OWN_HEIGHT: Final = 2 * (2 * DETAIL + 1) + (SECOND[1] - SECOND[0]) - CONTEXT[0]
"""Column of the envelope at the candidate, 32 for the usual amplitude."""
FEATURES: Final = 2 * (2 * DETAIL + 1) + (SECOND[1] - SECOND[0]) + (CONTEXT[1] - CONTEXT[0]) + 1

_DETAIL = np.arange(-DETAIL, DETAIL + 1)
_DETAIL_AND_ONE = np.arange(-DETAIL, DETAIL + 2)
_CONTEXT = np.arange(*CONTEXT) * STRIDE
_NEAR = slice(DETAIL - 3, DETAIL + 4)
_SECONDS = SECOND[1] - SECOND[0]
_LEFT = HALF_BASELINE // STRIDE
# Running sums up to these give sums of STRIDE samples and of the half second around them.
_GRID = np.arange(SECOND[0] - _LEFT, SECOND[1] + _LEFT) * STRIDE - STRIDE // 2 - 1
_SLOPE = slice(SHAPE.stop, 2 * SHAPE.stop)
_LEVEL = slice(_SLOPE.stop, _SLOPE.stop + _SECONDS)
_ENVELOPE = slice(_LEVEL.stop, _LEVEL.stop + CONTEXT[1] - CONTEXT[0])
_WIDTHS = (SHAPE.stop, SHAPE.stop, _SECONDS, CONTEXT[1] - CONTEXT[0], 1)
_FACTORS = np.repeat([320.0, 480.0, 1.0, 32.0, 256.0], _WIDTHS)
# Columns of what is looked up.
_RAW = slice(len(_DETAIL), 2 * len(_DETAIL))
_RAW_AFTER = slice(_RAW.start + 1, _RAW.stop + 1)
_RUNNING = slice(_RAW_AFTER.stop, _RAW_AFTER.stop + len(_GRID))
_OWN = _RUNNING.stop - CONTEXT[0]
_EVERY = np.arange(MAX_BLOCKS * BLOCK)


def extract(
    samples: NDArray[np.float64],
    filtered: NDArray[np.float64],
    height: NDArray[np.float64],
    positions: NDArray[np.int64],
    usual: NDArray[np.int64],
    *,
    filtered_from: int,
    height_from: int,
) -> NDArray[np.float32]:
    """Describe candidates.

    Args:
        samples: [n], integers in microvolts.
        filtered: Band-passed; its first value is at ``samples[filtered_from]``.
        height: Envelope; its first value is at ``samples[height_from]``.
        positions: int64 [k], indices into ``samples``, at least ``BACK`` and ``AHEAD`` from the ends of all three.
        usual: int64 [k], the usual amplitude at each.
        filtered_from: See ``filtered``.
        height_from: See ``height``.

    Returns:
        float32 [k, FEATURES], integers in [-127, 127].
    """
    ends = np.concatenate([filtered, samples, np.cumsum(samples), height])
    found = ends.take(_places(len(filtered), len(samples), filtered_from, height_from) + positions[:, None])
    joined = np.empty((len(positions), FEATURES))
    joined[:, SHAPE] = found[:, SHAPE]
    np.subtract(found[:, _RAW_AFTER], found[:, _RAW], out=joined[:, _SLOPE])
    running = found[:, _RUNNING]
    level = running[:, _LEFT + 1 : _LEFT + 1 + _SECONDS] - running[:, _LEFT : _LEFT + _SECONDS]
    level *= 2 * HALF_BASELINE // STRIDE
    level -= running[:, 2 * _LEFT :]
    np.add(level, running[:, :_SECONDS], out=joined[:, _LEVEL])
    joined[:, _ENVELOPE] = found[:, _RUNNING.stop :]
    own = found[:, _OWN]
    joined[:, -1] = own

    near = found[:, _NEAR]
    largest = near[_EVERY[: len(near)], np.abs(near).argmax(axis=1)]
    # Quotients of integers below 2**53, each rounded once by IEEE 754 and then to the nearest integer.
    joined *= _FACTORS
    joined[:, : _LEVEL.start] /= np.copysign(own, largest)[:, None]
    joined[:, _LEVEL] /= np.copysign(usual, largest)[:, None]
    joined[:, _LEVEL.stop :] /= usual[:, None]
    np.rint(joined, out=joined)
    np.minimum(joined, LIMIT, out=joined)
    np.maximum(joined, -LIMIT, out=joined)
    return joined.astype(np.float32)


@lru_cache(maxsize=16)
def _places(n_filtered: int, n_samples: int, filtered_from: int, height_from: int) -> NDArray[np.int64]:
    """Where a candidate at 0 has its values in four arrays end to end, so that one look-up finds all of them."""
    starts = [-filtered_from, n_filtered, n_filtered + n_samples, n_filtered + 2 * n_samples - height_from]
    return np.concatenate(
        [start + offsets for start, offsets in zip(starts, (_DETAIL, _DETAIL_AND_ONE, _GRID, _CONTEXT), strict=True)]
    )
