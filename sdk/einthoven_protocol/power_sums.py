"""Power sums of a set: as many of them as rows differ, and two holders learn exactly where theirs do.

The sums of the odd powers of all items, in a field of 2**32 elements, are linear like coded symbols (``riblt``) and
cancel where both sides hold the same; from those of a difference its items follow (PinSketch: Dodis, Ostrovsky, Reyzin
and Smith 2004, arXiv cs/0602007). Four bytes a difference where symbols take nine, for work in proportion to rows times
sums: they are for few differences. docs/sync-repair-v1.md has every bit of it.

It deliberately chooses no number of sums (``repair``), knows no row, and proves nothing: the digests have the last
word.

Invariants:
    1. The same items and number give the same bytes on every machine. The first n of m > n sums are the n sums.
    2. Decoding takes at most rows times sums multiplications, and a bounded number for the sums alone; whatever they
       are, it answers "not decoded" or a list of at most as many items.
    3. The item 0 is in no sum, and equal items of one set cancel in pairs: they are left out, never reported wrongly.
    4. Only sums of a wrong length, or too many, raise: ``ProtocolError``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from einthoven_protocol import limits
from einthoven_protocol.binary_field import Elements, logarithms, multiply_by, square
from einthoven_protocol.errors import DecodeError, LimitExceeded
from einthoven_protocol.field_polynomials import connection, roots
from einthoven_protocol.riblt import Decoded, Items

POWER_BYTES: Final = 4
"""Of one sum."""
MAX_POWERS: Final = limits.MAX_POWERS_BYTES // POWER_BYTES
_CHUNK: Final = 8_192
"""Items raised together: their state stays in a core's own cache."""


def encode(own_items: Items, n_powers: int) -> bytes:
    """Return the sums of the first ``n_powers`` odd powers of a set.

    Args:
        own_items: What ``riblt.items`` gave.
        n_powers: 0 to ``MAX_POWERS``.

    Raises:
        ValueError: The number is out of range.
    """
    if not 0 <= n_powers <= MAX_POWERS:
        raise ValueError(f"a set has 0 to {MAX_POWERS} power sums")
    return _odd_sums(own_items, n_powers).astype(">u4").tobytes()


def decode(own_items: Items, powers: bytes) -> Decoded | None:
    """Find where the own set and the one that was encoded differ.

    Args:
        own_items: What ``riblt.items`` gave for the own set.
        powers: What ``encode`` gave for the other, or anything.

    Returns:
        The differences, or ``None`` if the sums do not suffice (or are not what they should be).

    Raises:
        DecodeError: They are no whole number of sums.
        LimitExceeded: They are more than ``MAX_POWERS``.
    """
    n_powers, rest = divmod(len(powers), POWER_BYTES)
    if rest:
        raise DecodeError(f"power sums are {POWER_BYTES} bytes each")
    if n_powers > MAX_POWERS:
        raise LimitExceeded(f"more than {MAX_POWERS} power sums")
    if not n_powers:
        return None
    odd = np.frombuffer(powers, ">u4").astype(np.uint32) ^ _odd_sums(own_items, n_powers)
    polynomial = connection(_all_sums(odd))
    found = None if polynomial is None else roots(polynomial)
    # Sums that were made up, or are too few, may still have a polynomial with roots: they must be the sums of these.
    if found is None or not np.array_equal(_odd_sums(found.astype(np.uint64), n_powers), odd):
        return None
    differing = np.sort(found.astype(np.uint64))
    own = np.isin(own_items, differing)
    return Decoded(np.flatnonzero(own).astype(np.int64), np.setdiff1d(differing, own_items[own]))


def _odd_sums(own_items: Items, n_powers: int) -> Elements:
    sums = np.zeros(n_powers, np.uint32)
    for start in range(0, len(own_items), _CHUNK):
        power = own_items[start : start + _CHUNK].astype(np.uint32)
        factor = logarithms(square(power))
        for place in range(n_powers):
            sums[place] ^= np.bitwise_xor.reduce(power)
            if place < n_powers - 1:
                power = multiply_by(power, factor)
    return sums


def _all_sums(odd: Elements) -> Elements:
    """Return the sums of the powers 1, 2, 3 ... from those of 1, 3, 5 ...: that of 2 k is the square of that of k."""
    sums = np.zeros(2 * len(odd), np.uint32)
    sums[::2] = odd
    for power in range(2, len(sums) + 1, 2):
        sums[power - 1] = square(sums[power // 2 - 1 : power // 2])[0]
    return sums
