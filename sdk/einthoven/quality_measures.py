"""Measures of one second of ECG at 128 Hz, in integers: what the quality index is computed from.

Each is a published measure of signal quality, cut down to one second and put on a logarithmic scale, so that the
network after it sees ratios (one energy over another) as differences:

    * band energies of a Hann-windowed second, among them those of pSQI (5-15 Hz over 5-40 Hz), and steps of the
      baseline over 1/8 s to 1 s, for basSQI (below 1 Hz over all): Li, Mark, Clifford, Physiol. Meas. 29 (2008) 15;
      Behar et al., IEEE Trans. Biomed. Eng. 60 (2013) 1660;
    * order statistics of the slope after a QRS band-pass, which say what kurtosis says (kSQI: Clifford et al.,
      Physiol. Meas. 33 (2012) 1419), but from 128 samples without a fourth power;
    * muscle: order statistics of a fourth difference (25-40 Hz), between the QRS complexes rather than in them;
    * how well the steepest complex of a second matches those of the three seconds before it (template matching:
      Orphanidou et al., IEEE J. Biomed. Health Inform. 19 (2015) 832), without a beat detector.

It deliberately decides nothing (``quality_network`` does), and does not see the raw samples.

Invariants:
    1. Measures depend on the samples alone, never on how they were cut into chunks.
    2. Every sum is exact: integers, or float64 below 2**53. A square root and a quotient of such are rounded as
       IEEE 754 says, which is the same on every machine.
    3. A constant added to the samples changes nothing; nor does their sign.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.quality_tables import BANDS_HZ, BEFORE, SECOND, STEPS, second_projection
from einthoven.single_thread import product

SNIPPET_HALF: Final = 10
"""Samples on either side of the steepest one that make a complex: 164 ms in all."""
LOOK_BACK: Final = 24
LOOK_AHEAD: Final = 16
"""Samples before and after a second that its measures need."""
MATCHES: Final = 3
"""Earlier seconds that a complex is compared with."""

_PROJECTION, _GROUPS = second_projection()
_PROJECTION_SCALE = 2.0**-14
_SLOPE_RANKS = (127, 124, 112, 96, 64, 32)
_MUSCLE_RANKS = (120, 96, 64, 32)
_RANKS = np.array([*_SLOPE_RANKS, *(SECOND + rank for rank in _MUSCLE_RANKS)])
_MAX_INT16 = 32_767
_MAX_SLOPE = 4 * _MAX_INT16
_SNIPPET = np.arange(-SNIPPET_HALF, SNIPPET_HALF + 1)
_SNIPPET_LENGTH = len(_SNIPPET)
_UNIT = 2.0**10

_ENERGIES = len(BANDS_HZ) + STEPS
_LOGARITHMS = _ENERGIES + len(_RANKS)
N_MEASURES: Final = _LOGARITHMS + MATCHES

_FRACTION_BITS = 8
_LOG_SHIFT = 52 - _FRACTION_BITS
_LOG_BIAS = 1023 << _FRACTION_BITS
_NONE = np.zeros((0, N_MEASURES), np.int64)


def log2_q8(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Logarithm to base 2 in 1/256, of integers from 1 to 2**53 in contiguous float64.

    Exact: exponent and top bits of the fraction as they stand in the IEEE format, which is the logarithm interpolated
    linearly between powers of two.
    """
    return (values.view(np.int64) >> _LOG_SHIFT) - _LOG_BIAS


class SecondMeasures:
    """Measures whole seconds as resampled samples arrive.

    Args:
        least_s: Wait for this many seconds to be complete; what they cost is mostly what a call costs.
    """

    def __init__(self, *, least_s: int = 1) -> None:
        self._least_s = least_s
        self._pending: NDArray[np.int64] | None = None  # from LOOK_BACK samples before the next second
        self._snippets = np.zeros((MATCHES, _SNIPPET_LENGTH))

    def push(self, resampled: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take samples int64 [n] at 128 Hz, microvolts.

        Returns:
            int64 [k, N_MEASURES]: the seconds whose look-ahead is complete now.
        """
        return self._take(resampled, self._least_s)

    def finish(self) -> NDArray[np.int64]:
        """The last whole seconds [k, N_MEASURES], as if the last sample went on."""
        if self._pending is None:
            return _NONE
        return self._take(np.full(LOOK_AHEAD, self._pending[-1]), 1)

    def _take(self, resampled: NDArray[np.int64], least_s: int) -> NDArray[np.int64]:
        if self._pending is None:
            if not len(resampled):
                return _NONE
            self._pending = np.full(LOOK_BACK, resampled[0])
        pending = np.concatenate((self._pending, resampled))
        count = (len(pending) - LOOK_BACK - LOOK_AHEAD) // SECOND
        if count < least_s:
            self._pending = pending
            return _NONE
        self._pending = pending[count * SECOND :].copy()
        used = pending[: LOOK_BACK + count * SECOND + LOOK_AHEAD]
        return self._measure(used - used[0], count)

    def _measure(self, x: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        out = np.empty((count, N_MEASURES))
        out[:, :_ENERGIES] = _energies(x.astype(np.float64), count)
        x32 = x.astype(np.int32)  # under 2**23: what follows has gains up to 16
        slope = _slope(x32)
        magnitude = np.empty((count, 2, SECOND), np.int16)
        steepness = np.abs(slope[LOOK_BACK - 4 : LOOK_BACK - 4 + count * SECOND]) >> 2
        magnitude[:, 0] = steepness.reshape(count, SECOND)
        magnitude[:, 1] = _muscle(x32, count).reshape(count, SECOND)
        steepest = magnitude[:, 0].argmax(axis=1)
        magnitude.sort(axis=2)
        out[:, _ENERGIES:_LOGARITHMS] = magnitude.reshape(count, 2 * SECOND).take(_RANKS, axis=1)
        out[:, _LOGARITHMS:] = 0
        out += 1
        measures = log2_q8(out)
        measures[:, _LOGARITHMS:] = self._matches(slope, steepest, count)
        return measures

    def _matches(self, slope: NDArray[np.int32], steepest: NDArray[np.intp], count: int) -> NDArray[np.float64]:
        """Correlation, in 1/256, of each second's steepest complex with those of the three seconds before it."""
        centre = steepest + np.arange(LOOK_BACK - 4, LOOK_BACK - 4 + count * SECOND, SECOND)
        snippets = slope.take(centre[:, None] + _SNIPPET).astype(np.float64)
        energy = (snippets * snippets).sum(axis=1)
        # To unit length, in integers of ten bits.
        snippets *= (_UNIT / np.sqrt(energy + 1))[:, None]
        np.trunc(snippets, out=snippets)
        joined = np.concatenate((self._snippets, snippets))
        self._snippets = joined[count:].copy()
        step = joined.strides[0]
        earlier = np.ndarray((count, MATCHES, _SNIPPET_LENGTH), np.float64, joined, 0, (step, step, 8))
        products = np.matmul(earlier, snippets[:, :, None])[:, :, 0]
        return np.asarray(np.trunc(products * 2.0**-12))


def _energies(x: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Energies of bands and steps [count, _ENERGIES]."""
    first = 8 * (LOOK_BACK - BEFORE)
    seconds = np.ndarray((count, BEFORE + SECOND), np.float64, x, first, (8 * SECOND, 8))
    projected = product(seconds, _PROJECTION)
    projected *= _PROJECTION_SCALE
    np.trunc(projected, out=projected)
    projected *= projected
    return product(projected, _GROUPS)


def _slope(x: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sum of four samples, then the difference over five: a band-pass around 12 Hz; item n is of sample n + 4."""
    two = x[1:] + x[:-1]
    four = two[2:] + two[:-2]
    return np.asarray(np.minimum(np.maximum(four[5:] - four[:-5], -_MAX_SLOPE), _MAX_SLOPE))


def _muscle(x: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Size of ``x[n-4] - 4 x[n-2] + 6 x[n] - 4 x[n+2] + x[n+4]``: gain 16 at 32 Hz, under 1 below 10 Hz."""
    part = x[LOOK_BACK - 4 : LOOK_BACK + 4 + count * SECOND]
    for _ in range(4):
        part = part[2:] - part[:-2]
    return np.minimum(np.abs(part), _MAX_INT16)
