"""Rice codes of small unsigned integers: about as many bits as their spread needs, read and written without a loop.

A value's lowest ``k`` bits go into one stream as they are, the rest into another in unary; a value whose rest would be
``ESCAPE`` or more is written out whole in a third. Pure, and deliberately ignorant of what the integers mean. (R. F.
Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979.)

Layout: k (1 byte) || number of escapes (varint) || escaped values (8 bytes each, little-endian) || unary stream ||
remainders, ``k`` bits each; both streams have their most significant bit first and are padded with zeros to a byte.

Invariants:
    1. ``decode_rice(encode_rice(values), n)`` gives ``values`` again, and the number of bytes it took.
    2. One list of values has one encoding: ``k`` is the smallest of those that give the fewest bits.
    3. What is no encoding raises ``ValueError``, and nothing larger than its input's limits is ever allocated.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_REMAINDER_BITS: Final = 48
"""Largest ``k``."""
ESCAPE: Final = 24
"""Rest from which on a value is written out whole: a pause of an hour does not cost a kilobyte of ones."""

_ESCAPED_BITS: Final = 64
_TRIED_AT_ONCE: Final = 2**15
"""Numbers looked at in one go while the length of the remainder is chosen: 256 kB."""
_WORD: Final = 0x7F
_MAX_VARINT_BYTES: Final = 9


def encode_varint(value: int) -> bytes:
    """Return an unsigned integer in groups of 7 bits, the lowest first (LEB128)."""
    octets = bytearray()
    while value > _WORD:
        octets.append(value & _WORD | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def decode_varint(octets: bytes, at: int) -> tuple[int, int]:
    """Return the integer that begins at ``at``, and where it ends.

    Raises:
        ValueError: Cut off, longer than needed, or over 63 bits.
    """
    value = 0
    for length, octet in enumerate(octets[at : at + _MAX_VARINT_BYTES]):
        value |= (octet & _WORD) << 7 * length
        if octet <= _WORD:
            if octet == 0 and length:
                raise ValueError("an integer is longer than it needs to be")
            return value, at + length + 1
    raise ValueError("an integer is cut off or too long")


def encode_rice(values: NDArray[np.uint64]) -> bytes:
    """Return the code of unsigned integers.

    Args:
        values: uint64 [n], each below 2**63.
    """
    bits = _remainder_bits(values)
    rest = values >> np.uint64(bits)
    escaped = rest >= ESCAPE
    unary = np.where(escaped, ESCAPE, rest).astype(np.int64)
    # Each value ends with a one; what comes before it are zeros.
    ends = np.cumsum(unary + 1) - 1
    stream = np.zeros(int(ends[-1]) + 1 if len(ends) else 0, np.uint8)
    stream[ends] = 1
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    remainders = (values[~escaped, None] >> places & np.uint64(1)).astype(np.uint8)
    return b"".join(
        (
            bytes([bits]),
            encode_varint(int(escaped.sum())),
            values[escaped].astype("<u8").tobytes(),
            np.packbits(stream).tobytes(),
            np.packbits(remainders).tobytes(),
        )
    )


def decode_rice(octets: bytes, at: int, count: int) -> tuple[NDArray[np.uint64], int]:
    """Return ``count`` integers whose code begins at ``at``, uint64 [count], and where it ends.

    Raises:
        ValueError: It is no code of so many integers.
    """
    if at >= len(octets) or octets[at] > MAX_REMAINDER_BITS:
        raise ValueError("there is no code")
    bits = octets[at]
    n_escaped, at = decode_varint(octets, at + 1)
    if n_escaped > count or at + 8 * n_escaped > len(octets):
        raise ValueError("more escapes than values")
    whole = np.frombuffer(octets, "<u8", n_escaped, at)
    at += 8 * n_escaped
    unary, at = _read_unary(octets, at, count)
    escaped = unary == ESCAPE
    if int(escaped.sum()) != n_escaped or (unary > ESCAPE).any() or (whole >> np.uint64(63)).any():
        raise ValueError("escapes do not match")
    n_bits = bits * (count - n_escaped)
    stream, at = _read_bits(octets, at, n_bits)
    weights = np.uint64(1) << np.arange(bits - 1, -1, -1, dtype=np.uint64)
    values = np.empty(count, np.uint64)
    values[escaped] = whole
    remainders = stream.reshape(count - n_escaped, bits).astype(np.uint64) @ weights
    values[~escaped] = (unary[~escaped].astype(np.uint64) << np.uint64(bits)) + remainders
    return values, at


def _remainder_bits(values: NDArray[np.uint64]) -> int:
    """The ``k`` that gives the fewest bits, the least of them."""
    if not len(values):
        return 0
    # From here on everything is remainder, and each further bit is one more for every value.
    last = min(int(values.max()).bit_length(), MAX_REMAINDER_BITS)
    at_once = max(1, _TRIED_AT_ONCE // len(values))
    n_bits = [
        count
        for first in range(0, last + 1, at_once)
        for count in _coded_bits(values, np.arange(first, min(first + at_once, last + 1), dtype=np.uint64))
    ]
    return n_bits.index(min(n_bits))


def _coded_bits(values: NDArray[np.uint64], remainder_bits: NDArray[np.uint64]) -> list[int]:
    """How many bits the code takes with each ``k``."""
    rest = values >> remainder_bits[:, None]
    escaped = rest >= ESCAPE
    rest[escaped] = ESCAPE + _ESCAPED_BITS
    n_bits = rest.sum(axis=1) + np.uint64(len(values))
    n_bits += remainder_bits * (len(values) - np.count_nonzero(escaped, axis=1)).astype(np.uint64)
    return [int(count) for count in n_bits]


def _read_unary(octets: bytes, at: int, count: int) -> tuple[NDArray[np.int64], int]:
    longest = ((ESCAPE + 1) * count + 7) // 8
    stream = np.unpackbits(np.frombuffer(octets, np.uint8)[at : at + longest])
    ends = np.flatnonzero(stream)[:count]
    if len(ends) < count:
        raise ValueError("cut off")
    n_bits = int(ends[-1]) + 1 if count else 0
    _read_bits(octets, at, n_bits)
    return np.diff(ends, prepend=-1) - 1, at + (n_bits + 7) // 8


def _read_bits(octets: bytes, at: int, n_bits: int) -> tuple[NDArray[np.uint8], int]:
    end = at + (n_bits + 7) // 8
    if end > len(octets):
        raise ValueError("cut off")
    stream = np.unpackbits(np.frombuffer(octets, np.uint8)[at:end])
    if stream[n_bits:].any():
        raise ValueError("the padding is not zero")
    return stream[:n_bits], end
