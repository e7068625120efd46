"""Polynomials over the field of ``binary_field``: which power sums come from, and their roots.

Coefficients are uint32, that of x**0 first. It deliberately knows nothing of sets or sessions (``power_sums``), and is
quick only for degrees of some hundreds.

Invariants:
    1. ``roots`` returns all roots of a polynomial that is a product of different linear factors, and ``None`` for any
       other: work is bounded by the degree, whatever the coefficients.
"""

from __future__ import annotations

import numpy as np

from einthoven_protocol.binary_field import BITS, Elements, inverse, logarithms, multiply, multiply_by, square

_BASIS = np.uint32(1) << np.arange(BITS, dtype=np.uint32)


def connection(sums: Elements) -> Elements | None:
    """Return the polynomial whose roots have these power sums (Berlekamp 1968, Massey 1969), leading coefficient 1.

    Args:
        sums: uint32 [2 t]: sums of the first, second, third and so on powers; that of the power 2 k is the square of
            that of k, as in any field in which 1 + 1 = 0.

    Returns:
        uint32 [degree + 1]; ``None`` if no polynomial of degree t or less fits.
    """
    size = len(sums) // 2 + 1
    now, before = np.zeros(size, np.uint32), np.zeros(size, np.uint32)
    now[0] = before[0] = 1
    length, gap, last = 0, 1, np.ones(1, np.uint32)
    for n in range(0, len(sums), 2):
        # Of the sums at odd places nothing new follows: their discrepancy is 0 (Berlekamp's binary case).
        products = multiply(now[: length + 1], sums[n - length : n + 1][::-1])
        discrepancy = np.bitwise_xor.reduce(products, keepdims=True)
        if not discrepancy[0]:
            gap += 2
            continue
        changed = now.copy()
        changed[gap:] ^= multiply(multiply(discrepancy, inverse(last)), before[: size - gap])
        if 2 * length <= n:
            length, before, last, gap = n + 1 - length, now, discrepancy, 0
            if length >= size:
                return None
        now, gap = changed, gap + 2
    return now[: length + 1][::-1].copy() if now[length] else None


def roots(polynomial: Elements) -> Elements | None:
    """Return the roots, in no order (Berlekamp's trace algorithm, 1970).

    Args:
        polynomial: uint32 [degree + 1], leading coefficient 1.

    Returns:
        uint32 [degree]; ``None`` if it is no product of different linear factors.
    """
    degree = len(polynomial) - 1
    if degree < 1:
        return np.empty(0, np.uint32)
    powers = _frobenius(polynomial)
    if powers is None:
        return None
    found: list[Elements] = []
    waiting = [(polynomial, powers, 0)]
    while waiting:
        part, part_powers, first = waiting.pop()
        if len(part) == 2:
            found.append(part[:1])
            continue
        for place in range(first, BITS):
            divisor = _common(part, _trace(part_powers, place))
            if 1 < len(divisor) < len(part):
                rest, _ = _divided(part[None, :], divisor)
                waiting.append((divisor, _divided(part_powers, divisor)[1], place + 1))
                waiting.append((rest[0], _divided(part_powers, rest[0])[1], place + 1))
                break
        else:
            return None
    return np.concatenate(found)


def _frobenius(polynomial: Elements) -> Elements | None:
    """Return x to the powers 1, 2, 4 ... 2**31 modulo it, uint32 [32, degree]; ``None`` if x**(2**32) is not x."""
    degree = len(polynomial) - 1
    low = polynomial[:-1]
    even = np.zeros((degree, degree), np.uint32)
    one = np.zeros(degree, np.uint32)
    one[0] = 1
    for exponent in range(2 * degree - 1):
        if exponent % 2 == 0:
            even[exponent // 2] = one
        carried = one[-1:]
        one = np.concatenate((np.zeros(1, np.uint32), one[:-1])) ^ multiply(carried, low)
    factors = logarithms(even)
    powers = np.zeros((BITS, degree), np.uint32)
    now = np.zeros(degree, np.uint32)
    if degree == 1:
        now[0] = low[0]
    else:
        now[1] = 1
    start = now
    for turn in range(BITS):
        powers[turn] = now
        now = np.bitwise_xor.reduce(multiply_by(square(now)[:, None], factors), axis=0)
    return powers if (now == start).all() else None


def _trace(powers: Elements, place: int) -> Elements:
    """Return the trace of 2**place times x, modulo what the powers are of."""
    factor, terms = _BASIS[place : place + 1], []
    for _ in range(BITS):
        terms.append(factor)
        factor = square(factor)
    trace: Elements = np.bitwise_xor.reduce(multiply(powers, np.array(terms)), axis=0)
    return trace


def _divided(rows: Elements, divisor: Elements) -> tuple[Elements, Elements]:
    """Divide polynomials by one with leading coefficient 1; return quotients and remainders.

    Args:
        rows: uint32 [k, n].
        divisor: uint32 [m].

    Returns:
        uint32 [k, max(n - m + 1, 0)] and [k, min(n, m - 1)].
    """
    left, degree = rows.copy(), len(divisor) - 1
    factors = logarithms(divisor[None, :-1])
    for top in range(rows.shape[1] - 1, degree - 1, -1):
        left[:, top - degree : top] ^= multiply_by(left[:, top : top + 1], factors)
    return left[:, degree:], left[:, :degree]


def _common(one: Elements, other: Elements) -> Elements:
    """Return the greatest common divisor, leading coefficient 1; of a polynomial and 0, the polynomial."""
    while True:
        held = np.flatnonzero(other)
        if not len(held):
            return one
        other = other[: held[-1] + 1]
        other = multiply(other, inverse(other[-1:]))
        one, other = other, _divided(one[None, :], other)[1][0]
