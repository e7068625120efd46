"""What the beat classifier keeps of one beat: its wave from P to T, its QRS complex at unit size, its width. Pure.

It deliberately compares no two beats (``beat_class_rows`` does), knows no weights and keeps no state.

Invariants:
    1. Every value is an integer, small enough for all sums of products taken of it to be exact.
    2. What is kept depends on the samples from ``BACK`` before to ``AHEAD`` after the R peak alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_peaks import TICKS

BEFORE: Final = 44
"""Samples of the wave before the R peak: 344 ms, so that a P wave is seen."""
AFTER: Final = 64
"""Samples of the wave after it: 500 ms, so that a T wave is seen."""
WAVE: Final = BEFORE + 1 + AFTER
QRS_BEFORE: Final = 12
QRS: Final = 32
"""Samples of the QRS complex, from 94 ms before to 148 ms after the R peak."""
LAGS: Final = (0, -3, -1, 1, 3)
"""Samples by which a complex is shifted to find the best match: which deflection is the R peak may change."""
UNIT: Final = 1_000
"""Length of a complex of unit size, as a vector."""
MAX_WAVE_UV: Final = 2**15
"""Larger deflections are limited to this: 33 mV."""
BACK: Final = BEFORE + 1
AHEAD: Final = AFTER + 2
P_WAVE: Final = slice(BEFORE - 36, BEFORE - 9)
"""Where the P wave is looked for: 281 to 78 ms before the R peak."""

_SPREAD = slice(BEFORE - 16, BEFORE + 25)
_TIMES = np.arange(_SPREAD.stop - _SPREAD.start - 1, dtype=np.float64)
_BESIDE = np.ones(WAVE - 2)
_BESIDE[_SPREAD] = 0
_BASELINE_STRIDE: Final = 2
_STEEP_SHARE: Final = 4
"""A complex lasts as long as its slopes are above a quarter of the steepest."""
_WINDOW = np.arange(-BEFORE - 1, AFTER + 3)
_LAGGED = np.array([BEFORE - QRS_BEFORE + lag + i for lag in LAGS for i in range(QRS)])
# Cubic convolution (Keys 1981, a = -1/2) at eighths of a sample, as integers: four samples around the place.
_ONE: Final = 2 * TICKS**3
_EIGHTHS = [
    (
        -f * TICKS**2 + 2 * f**2 * TICKS - f**3,
        _ONE - 5 * f**2 * TICKS + 3 * f**3,
        f * TICKS**2 + 4 * f**2 * TICKS - 3 * f**3,
        -(f**2) * TICKS + f**3,
    )
    for f in range(TICKS)
]
_TAPS = np.array(_EIGHTHS, np.float64)

# Columns of ``Described.numbers``.
HEIGHT, AREA, SPREAD, EXTENT, ROUGHNESS, POSITIVE, NEGATIVE, P_SQUARE = range(8)
NUMBERS: Final = 8


@dataclass(frozen=True, slots=True)
class Described:
    """Beats, each by itself.

    Attributes:
        waves: float32 [k, WAVE], microvolts over the median of the wave.
        units: float32 [k, LAGS * QRS], the complex without its mean and of length ``UNIT``, at each of ``LAGS``.
        numbers: float64 [k, NUMBERS]: peak-to-peak height and area of the complex in microvolts, its spread in 1/16
            and its extent in whole samples, roughness of the wave beside it, largest and smallest deflection, sum of
            squares of the P wave.
    """

    waves: NDArray[np.float32]
    units: NDArray[np.float32]
    numbers: NDArray[np.float64]


def describe(samples: NDArray[np.float64], at_ticks: NDArray[np.int64]) -> Described:
    """Describe beats.

    Args:
        samples: float64 [n], integers in microvolts at 128 Hz.
        at_ticks: int64 [k], R peaks in 1/``TICKS`` of a sample, at least ``BACK`` and ``AHEAD`` from the ends.
    """
    wave = _waves(samples, at_ticks)
    numbers = np.empty((len(wave), NUMBERS))
    complexes = wave[:, _SPREAD]
    numbers[:, POSITIVE], numbers[:, NEGATIVE] = complexes.max(axis=1), complexes.min(axis=1)
    numbers[:, HEIGHT] = np.maximum(numbers[:, POSITIVE] - numbers[:, NEGATIVE], 1)
    numbers[:, AREA] = np.abs(complexes) @ np.ones(complexes.shape[1])
    bends = np.abs(wave[:, 2:] - 2 * wave[:, 1:-1] + wave[:, :-2])
    numbers[:, ROUGHNESS] = bends @ _BESIDE
    numbers[:, SPREAD], numbers[:, EXTENT] = _widths(np.abs(np.diff(complexes, axis=1)))
    p_wave = wave[:, P_WAVE]
    numbers[:, P_SQUARE] = (p_wave * p_wave) @ np.ones(p_wave.shape[1])
    return Described(wave.astype(np.float32), _units(wave), numbers)


def _waves(samples: NDArray[np.float64], at_ticks: NDArray[np.int64]) -> NDArray[np.float64]:
    around = samples[(at_ticks // TICKS)[:, None] + _WINDOW]
    around -= around[:, BEFORE, None]
    np.maximum(np.minimum(around, 2 * MAX_WAVE_UV, out=around), -2 * MAX_WAVE_UV, out=around)
    taps = _TAPS[at_ticks % TICKS]
    wave = taps[:, :1] * around[:, :WAVE]
    for i in range(1, 4):
        wave += taps[:, i, None] * around[:, i : i + WAVE]
    wave *= 1 / _ONE
    np.rint(wave, out=wave)
    ordered = np.sort(wave[:, ::_BASELINE_STRIDE], axis=1)
    wave -= ordered[:, ordered.shape[1] // 2, None]
    return np.asarray(np.maximum(np.minimum(wave, MAX_WAVE_UV, out=wave), -MAX_WAVE_UV, out=wave))


def _units(wave: NDArray[np.float64]) -> NDArray[np.float32]:
    """Complexes without their mean, of length ``UNIT``, at every lag."""
    shifted = wave.take(_LAGGED, axis=1).reshape(len(wave), len(LAGS), QRS)
    shifted -= np.rint((shifted @ np.ones((QRS, 1))) / QRS)
    length = np.sqrt(np.maximum((shifted * shifted) @ np.ones((QRS, 1)), 1))
    return np.rint(shifted * UNIT / length).astype(np.float32).reshape(len(wave), len(LAGS) * QRS)


def _widths(slopes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How long complexes are: spread of the slopes about their centre, and from the first steep one to the last."""
    total = np.maximum(slopes @ np.ones(len(_TIMES)), 1)
    first = slopes @ _TIMES
    second = slopes @ (_TIMES * _TIMES)
    # Both products are integers below 2**53: slopes are below 2**16, their number is 40.
    variance = np.maximum(total * second - first * first, 0) / (total * total)
    steep = slopes * _STEEP_SHARE >= np.maximum(slopes.max(axis=1, keepdims=True), 1)
    extent = slopes.shape[1] - steep[:, ::-1].argmax(axis=1) - steep.argmax(axis=1)
    return np.rint(np.sqrt(variance) * 16), extent.astype(np.float64)
