"""Integer columns of a handful of rows, without arrays: most messages of a device's day are that short.

It deliberately knows no other spelling than ``columns`` does, and checks no ranges.

Invariants:
    1. ``pack_few`` writes what ``columns.encode_integers`` would with an array, byte for byte.
    2. ``unpack_few`` reads, and refuses, what ``columns.decode_integers`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from einthoven_protocol.errors import DecodeError
from einthoven_protocol.fields import Reader, zigzag

WIDTH_MASK: Final = 0x0F
DELTA: Final = 0x10
MAX_WIDTH: Final = 8
FEW_ROWS: Final = 16
"""Rows up to which values one by one are cheaper than an array of them."""
_WORD: Final = 1 << 64
_SIGN: Final = 1 << 63
_OCTET: Final = 0xFF


def pack_few(values: Sequence[int], *, delta: bool) -> list[bytes]:
    """Return the parts of an integer column; no parts if every value is 0.

    Args:
        values: At least one, all plain integers of 64 bits.
        delta: Whether differences of neighbours are written.
    """
    first = values[0]
    if values.count(first) == len(values):
        return [b"\x00" + zigzag(first)] if first else []
    flags, head = 0, b""
    if delta:
        flags, head = DELTA, zigzag(first)
        values = [_signed(after - before) for before, after in pairwise(values)]
    low = min(values)
    above = [(value - low) % _WORD for value in values]
    width = (max(above).bit_length() + 7) // 8
    planes = [bytes([value >> shift & _OCTET for value in above]) for shift in range(0, 8 * width, 8)]
    return [bytes((flags | width,)) + head + zigzag(low), *planes]


def unpack_few(octets: bytes | None, rows: int) -> list[int]:
    """Return an integer column, one value a row.

    Args:
        octets: The column, ``None`` if it is absent.
        rows: Rows of the table, at least 1, checked by the caller.

    Raises:
        DecodeError: The column does not hold ``rows`` values.
    """
    if octets is None:
        return [0] * rows
    reader = Reader(octets)
    flags = reader.take(1)[0]
    width = flags & WIDTH_MASK
    if flags & ~(WIDTH_MASK | DELTA) or width > MAX_WIDTH:
        raise DecodeError("an integer column is packed in an unknown way")
    first = reader.zigzag() if flags & DELTA else 0
    low = reader.zigzag()
    count = rows - 1 if flags & DELTA else rows
    planes = reader.take(width * count)
    if not reader.at_end:
        raise DecodeError("an integer column does not hold one value a row")
    values = [low] * count
    for place in range(width):
        shift = 8 * place
        for row, octet in enumerate(planes[place * count : place * count + count]):
            values[row] += octet << shift
    if flags & DELTA:
        values = list(accumulate(values, initial=first))
    return [_signed(value) for value in values]


def _signed(value: int) -> int:
    """The value modulo 2**64, as a signed integer."""
    value %= _WORD
    return value if value < _SIGN else value - _WORD
