"""Where exactly the R peak of a QRS complex is, and how high. Pure, in integers.

It deliberately does not ask whether there is a complex (``beat_scorer`` did).

Invariants:
    1. The peak lies within ``REACH`` samples of the candidate, and half a sample.
    2. A signal turned upside down has the same peaks with the opposite amplitudes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

REACH: Final = 10
"""Samples on either side of the candidate in which the peak is looked for: 78 ms."""
EDGE: Final = 24
"""Samples on either side up to which the baseline is read: 188 ms."""
TICKS: Final = 8
"""Ticks of a sample."""

_WINDOW = np.arange(-EDGE, EDGE + 1)
_INNER = slice(EDGE - REACH - 1, EDGE + REACH + 2)
_WIDTH = 2 * REACH + 3
_BESIDE = np.arange(-1, 2)
# What lies further than 14 samples (0.11 s) away makes the baseline.
_BASELINE = (np.abs(_WINDOW) > REACH + 4).astype(np.float64)
_BASELINE_SAMPLES = float(_BASELINE.sum())


def refine(samples: NDArray[np.float64], positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the main deflection around each position.

    Args:
        samples: [n], integers in microvolts; ``EDGE`` of them on either side of every position.
        positions: int64 [k], indices into ``samples``.

    Returns:
        The peaks in ticks, relative to ``samples[0]``, and their signed height over the baseline in microvolts; both
        int64 [k].
    """
    rows = samples[positions[:, None] + _WINDOW]
    baseline = rows @ _BASELINE
    baseline /= _BASELINE_SAMPLES
    np.rint(baseline, out=baseline)  # half to even, so the same upside down
    inner = rows[:, _INNER] - baseline[:, None]
    middle = inner[:, 1:-1]
    at = np.abs(middle).argmax(axis=1)
    three = inner.take((np.arange(1, len(at) * _WIDTH, _WIDTH) + at)[:, None] + _BESIDE)
    height = three[:, 1]
    before, here, after = (three * np.copysign(1.0, height)[:, None]).T
    bend = np.maximum(2 * here - before - after, 1)
    shift = np.floor((TICKS * (after - before) + bend) / (2 * bend))
    shift = np.minimum(np.maximum(shift, -TICKS // 2), TICKS // 2)
    ticks = TICKS * (positions + at - REACH) + shift.astype(np.int64)
    return ticks, height.astype(np.int64)
