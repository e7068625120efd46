"""Arithmetic of the field of 2**32 elements on arrays: what power sums are made of and solved with (``power_sums``).

An element is a uint32, ``high << 16 | low``, and stands for ``high * y + low`` with ``y**2 = y + TWIST``; the halves
are polynomials modulo x**16 + x**12 + x**3 + x + 1, which logarithms of 65,536 entries multiply. Addition is XOR.
docs/sync-repair-v1.md has every bit of it. It deliberately knows no polynomial over the field, and is not secret: its
time depends on the values.

Invariants:
    1. ``multiply`` and ``inverse`` are those of a field: 0 has no inverse, every other element one.
    2. Nothing raises but for arrays that can't be broadcast together; no array is changed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

BITS: Final = 32
TWIST: Final = 0x2000
"""x**13, the least power of x with which ``y**2 + y + TWIST`` has no root among the halves."""
_HALF: Final = np.uint32(16)
_LOW: Final = np.uint32(0xFFFF)
_MODULUS: Final = 0x1100B
_ORDER: Final = 65_535
_ZERO: Final = 3 * _ORDER + 3
"""The logarithm of 0: a sum with it in it lies above all others."""

Elements = NDArray[np.uint32]
Logarithms = NDArray[np.int64]


def _tables() -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    logarithm = np.full(_ORDER + 1, _ZERO, np.int64)
    power = np.zeros(2 * _ZERO + _ORDER + 1, np.uint32)
    value = 1
    for exponent in range(_ORDER):
        logarithm[value] = exponent
        power[exponent] = value
        value = value << 1 ^ (_MODULUS if value & 0x8000 else 0)
    for turn in (1, 2):
        power[turn * _ORDER : (turn + 1) * _ORDER] = power[:_ORDER]
    return logarithm, power


_LOGARITHM, _POWER = _tables()
_TWIST_LOGARITHM: Final = int(_LOGARITHM[TWIST])


def logarithms(values: Elements) -> tuple[Logarithms, Logarithms, Logarithms]:
    """Return what a factor of many products is looked up as: of the high half, the low one, and their sum."""
    high, low = values >> _HALF, values & _LOW
    return _LOGARITHM[high], _LOGARITHM[low], _LOGARITHM[high ^ low]


def multiply(one: Elements, other: Elements) -> Elements:
    """Return the products, element by element, shapes broadcast."""
    return multiply_by(one, logarithms(other))


def multiply_by(one: Elements, factor: tuple[Logarithms, Logarithms, Logarithms]) -> Elements:
    """Return the products with a factor whose logarithms are known."""
    high, low, both = logarithms(one)
    # Karatsuba: (ay + b)(cy + d) = ((a + b)(c + d) + bd) y + (bd + TWIST ac).
    lows = _POWER[low + factor[1]]
    product: Elements = (_POWER[both + factor[2]] ^ lows) << _HALF
    product |= lows ^ _POWER[high + factor[0] + _TWIST_LOGARITHM]
    return product


def square(values: Elements) -> Elements:
    """Return the squares."""
    return multiply(values, values)


def inverse(values: Elements) -> Elements:
    """Return the inverses; of 0, 0."""
    high, low = values >> _HALF, values & _LOW
    highs, lows, both = _LOGARITHM[high], _LOGARITHM[low], _LOGARITHM[high ^ low]
    # The conjugate of ay + b is ay + (a + b), and their product lies among the halves: TWIST a**2 + b(a + b).
    norm = _LOGARITHM[_POWER[2 * highs + _TWIST_LOGARITHM] ^ _POWER[lows + both]]
    turned = np.where(norm == _ZERO, _ZERO, _ORDER - norm)
    inverses: Elements = _POWER[highs + turned] << _HALF | _POWER[both + turned]
    return inverses
