"""Integer sines, and the projections of a second on waves and steps, computed the same on every machine.

It deliberately uses no floating-point function: a sine from a C library differs in its last bit between machines.

Invariants:
    1. Every column of a projection sums to zero, so that a constant vanishes exactly.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.resampling import MODEL_RATE_HZ

SECOND: Final = MODEL_RATE_HZ
BEFORE: Final = 16
"""Samples before a second that its steps are also taken from."""
BANDS_HZ: Final = ((1, 2), (3, 4), (5, 7), (8, 10, 12), (14, 16), (18, 20, 22), (24, 26), (28, 30, 32), (34, 37, 40))
"""Frequencies whose energies make a band; a Hann window of a second is 2 Hz wide at half its height."""
WAVE_BITS: Final = 10
"""Bits of a wave's largest value. Its rounding must not let a baseline of 10 mV through."""
STEPS: Final = 8
"""Haar steps: the two halves, the halves of each half, of each quarter, and the step from the second before."""

_SINE_BITS = 14
_TWO_PI_Q64 = 115904311329233965478


def integer_sine(turns: Fraction, bits: int) -> int:
    """``round(2**bits * sin(2 pi * turns))`` by Taylor's series in 64-bit fixed point, within one unit."""
    part = turns % 1
    if 2 * part > 1:
        return -integer_sine(1 - part, bits)
    x = _TWO_PI_Q64 * part.numerator // part.denominator
    square = x * x >> 64
    total, term = 0, x
    for k in range(1, 24):
        total += term
        term = -(term * square >> 64) // (2 * k * (2 * k + 1))
    return (total + (1 << (63 - bits))) >> (64 - bits)


def hann(position: int, length: int, bits: int) -> int:
    """``2**(bits + 1) * sin(pi * position / length)**2``: a window that is 0 at position 0."""
    return (1 << bits) - integer_sine(Fraction(position, length) + Fraction(1, 4), bits)


class _Sines(dict[int, int]):
    """Sines of parts of a turn, each computed when it is first asked for.

    Args:
        period: Parts of a whole turn.
    """

    def __init__(self, period: int) -> None:
        self._period = period

    def __missing__(self, part: int) -> int:
        self[part] = sine = integer_sine(Fraction(part, self._period), _SINE_BITS)
        return sine


def windowed_waves(frequencies_hz: tuple[Fraction, ...], rate_hz: Fraction, length: int) -> NDArray[np.float64]:
    """Hann-windowed cosines, then sines, as integers of ``WAVE_BITS`` bits: float64 [length, 2 * frequencies]."""
    waves = np.zeros((length, 2 * len(frequencies_hz)))
    window = [hann(n, length, _SINE_BITS) for n in range(length)]
    steps = [hz / rate_hz for hz in frequencies_hz]
    # Turns in whole parts of one period, so that a sine that comes again is not computed again.
    period = lcm(4, *(step.denominator for step in steps))
    sines = _Sines(period)
    for i, step in enumerate(steps):
        for half, quarter in enumerate((1, 0)):
            shift = 2 * _SINE_BITS + 1 - WAVE_BITS
            part, first = int(step * period), quarter * period // 4
            column = [
                (window[n] * sines[(part * n + first) % period] + (1 << (shift - 1))) >> shift for n in range(length)
            ]
            # What the sum is off is taken off where the window is highest, a unit a sample.
            rest = sum(column)
            first = (length - abs(rest)) // 2
            for n in range(first, first + abs(rest)):
                column[n % length] -= 1 if rest > 0 else -1
            waves[:, i + half * len(frequencies_hz)] = column
    return waves


def second_projection() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a second is projected on, and which projections' energies are added up.

    Returns:
        Integers [BEFORE + SECOND, projections], and 0 or 1 [projections, bands + steps].
    """
    frequencies = tuple(Fraction(hz) for band in BANDS_HZ for hz in band)
    waves = np.zeros((BEFORE + SECOND, 2 * len(frequencies) + STEPS))
    waves[BEFORE:, : 2 * len(frequencies)] = windowed_waves(frequencies, Fraction(SECOND), SECOND)
    groups = np.zeros((waves.shape[1], len(BANDS_HZ) + STEPS))
    column = 0
    for _ in range(2):
        for band, members in enumerate(BANDS_HZ):
            groups[column : column + len(members), band] = 1
            column += len(members)
    # Steps are scaled so that a step of 1 uV weighs about what a wave of 1 uV does.
    edges = [(BEFORE, SECOND, 512)] + [(BEFORE + i * 64, 64, 1_024) for i in range(2)]
    edges += [(BEFORE + i * 32, 32, 2_048) for i in range(4)] + [(0, 32, 2_048)]
    for i, (start, length, height) in enumerate(edges):
        half = length // 2
        waves[start : start + half, column + i] = -height
        waves[start + half : start + length, column + i] = height
        groups[column + i, len(BANDS_HZ) + i] = 1
    return waves, groups
