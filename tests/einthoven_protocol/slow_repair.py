"""A second implementation of a repair, written from ``docs/sync-repair-v1.md`` alone, in plain Python and slowly.

It shares no line with the first: no array, no table, one item and one cell at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

WORD = 2**64
LABEL = bytes.fromhex("636865636b000000")


def rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) % WORD


def round_of(v: list[int]) -> None:
    v[0] = (v[0] + v[1]) % WORD
    v[1] = rotated(v[1], 13) ^ v[0]
    v[0] = rotated(v[0], 32)
    v[2] = (v[2] + v[3]) % WORD
    v[3] = rotated(v[3], 16) ^ v[2]
    v[0] = (v[0] + v[3]) % WORD
    v[3] = rotated(v[3], 21) ^ v[0]
    v[2] = (v[2] + v[1]) % WORD
    v[1] = rotated(v[1], 17) ^ v[2]
    v[2] = rotated(v[2], 32)


def siphash(key: bytes, message: bytes) -> int:
    """Section 3."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    whole = len(message) // 8 * 8
    last = message[whole:].ljust(7, b"\0") + bytes((len(message) % 256,))
    for start in range(0, whole + 8, 8):
        m = int.from_bytes((message[:whole] + last)[start : start + 8], "little")
        v[3] ^= m
        round_of(v)
        round_of(v)
        v[0] ^= m
    v[2] ^= 0xFF
    for _ in range(4):
        round_of(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def item_of(session: bytes, share: bytes) -> int:
    return siphash(session, share) % 2**32


def check_of(session: bytes, item: int) -> int:
    return siphash(session, item.to_bytes(8, "big") + LABEL) % 2**16


def cells_of(item: int, n: int) -> list[int]:
    """Section 4: the cells below ``n`` that hold an item."""
    cells, i, s = [], 0, item
    while i < n:
        cells.append(i)
        s = (s + 0x9E3779B97F4A7C15) % WORD
        z = (s ^ s >> 30) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB % WORD
        z ^= z >> 31
        u = ((z >> 11) + 1) * 2.0**-53
        i += max(1, math.ceil((i + 1.5) * (1 / math.sqrt(u) - 1)))
    return cells


def sums(session: bytes, items: Iterable[int], n: int) -> list[int]:
    cells = [0] * n
    for item in items:
        for cell in cells_of(item, n):
            cells[cell] ^= item * 2**16 + check_of(session, item)
    return cells


def symbols(session: bytes, items: Iterable[int], n: int) -> bytes:
    return b"".join(cell.to_bytes(6, "big") for cell in sums(session, items, n))


def decoded(session: bytes, own: Sequence[int], foreign: bytes) -> tuple[list[int], list[int]] | None:
    """Section 5, one pure cell at a time: places of the own rows that only this side holds, and foreign items."""
    n = len(foreign) // 6
    cells = [int.from_bytes(foreign[6 * i : 6 * i + 6], "big") for i in range(n)]
    cells = [a ^ b for a, b in zip(cells, sums(session, own, n), strict=True)]
    found: set[int] = set()
    while any(cells):
        for place, cell in enumerate(cells):
            item, check = divmod(cell, 2**16)
            if cell and check_of(session, item) == check and place in cells_of(item, n):
                break
        else:
            return None
        if item in found or len(found) == n:
            return None
        found.add(item)
        for cell in cells_of(item, n):
            cells[cell] ^= item * 2**16 + check
    return [place for place, item in enumerate(own) if item in found], sorted(found - set(own))


def sketch(items: Iterable[int]) -> bytes:
    """Section 6."""
    strata = [0] * 10
    for item in items:
        zeros = 0
        while zeros < 9 and item % 2 ** (zeros + 1) == 0:
            zeros += 1
        strata[zeros] ^= 2 ** (item // 2**26)
    return b"".join(word.to_bytes(8, "big") for word in strata)


def likelihood(own: bytes, foreign: bytes, d: float) -> float:
    """Logarithm of how likely the sketches are if ``d`` rows differ."""
    total = 0.0
    for t in range(10):
        ones = (int.from_bytes(own[8 * t : 8 * t + 8]) ^ int.from_bytes(foreign[8 * t : 8 * t + 8])).bit_count()
        f = 2.0**-9 if t == 9 else 2.0 ** -(t + 1)
        p = (1 - math.exp(-2 * d * f / 64)) / 2
        total += ones * math.log(p) + (64 - ones) * math.log(1 - p)
    return total


def half_product(a: int, b: int) -> int:
    """Section 12: of two polynomials modulo x**16 + x**12 + x**3 + x + 1."""
    product = 0
    for bit in range(16):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(30, 15, -1):
        if product >> bit & 1:
            product ^= 0x1100B << (bit - 16)
    return product


def field_product(p: int, q: int) -> int:
    """Section 12: (ay + b)(cy + d) with y**2 = y + x**13."""
    (a, b), (c, d) = divmod(p, 2**16), divmod(q, 2**16)
    ac = half_product(a, c)
    high = ac ^ half_product(a, d) ^ half_product(b, c)
    return high * 2**16 + (half_product(b, d) ^ half_product(ac, 0x2000))


def power_sums(items: Iterable[int], n: int) -> bytes:
    """Section 12: of the powers 1, 3, 5 ..., one item and one power at a time."""
    totals = [0] * n
    for item in items:
        squared, power = field_product(item, item), item
        for place in range(n):
            totals[place] ^= power
            power = field_product(power, squared)
    return b"".join(total.to_bytes(4, "big") for total in totals)
