"""What a newer version added to a row, as bytes behind it: further columns of results and notes, further registers.

It deliberately knows no meaning of any of it; that a version keeps, sums and forwards what it can't read is the point.

Layout, all integers big-endian (docs/sync-protocol-v1.md, canonical rows):

    columns    count:u8 (number:u8 value)*      value is i64 of an even number; length:u16 bytes of an odd one
    registers  count:u8 (number:u8 hlc:u64 length:u16 bytes)*

Invariants:
    1. Numbers ascend, and nothing that says nothing is listed (0, no bytes): one row, one encoding.
    2. Numbers, values and all together are within ``limits`` in both directions.
    3. Reading raises only ``ProtocolError``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.errors import DecodeError, OutOfRange
from einthoven_protocol.messages import Extra, FurtherRegister

INTEGER_BYTES: Final = 9
"""Canonical bytes of an integer column's value, its number among them."""
OCTETS_HEAD_BYTES: Final = 3
"""Canonical bytes before the value of a bytes column."""

_INTEGER: Final = struct.Struct(">Bq")
_OCTETS: Final = struct.Struct(">BH")
_REGISTER: Final = struct.Struct(">BQH")
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**63 - 1


def extra_octets(extra: Extra, max_bytes: int) -> bytes:
    """Return the canonical bytes of further columns; of none, a single 0.

    Args:
        extra: (number, value) of each.
        max_bytes: Most that they may take, their count not among them.

    Raises:
        OutOfRange: A number or value is outside its range or of the wrong type, or they take more.
    """
    parts = [bytes((len(extra) & 0xFF,))]
    last = limits.MIN_EXTRA_NUMBER - 1
    for number, value in extra:
        if not last < number <= limits.MAX_EXTRA_NUMBER:
            raise OutOfRange(f"numbers of further columns ascend from {limits.MIN_EXTRA_NUMBER}")
        last = number
        if not value or isinstance(value, int) == bool(number % 2):
            raise OutOfRange("a further column's value is a default, or of the wrong type")
        if isinstance(value, int):
            if not _MIN_INTEGER <= value <= _MAX_INTEGER:
                raise OutOfRange("a further column's value is over 64 bits")
            parts.append(_INTEGER.pack(number, value))
        else:
            if len(value) > max_bytes:
                raise OutOfRange(f"further columns take more than {max_bytes} bytes of one row")
            parts.append(_OCTETS.pack(number, len(value)) + value)
    return _within(b"".join(parts), max_bytes)


def extra_at(octets: bytes, at: int, max_bytes: int) -> tuple[Extra, int]:
    """Return the further columns at a place, and the place behind them.

    Raises:
        ProtocolError: They are none.
    """
    found: list[tuple[int, int | bytes]] = []
    try:
        start, at = at, at + 1
        for _ in range(octets[start]):
            if octets[at] % 2:
                number, length = _OCTETS.unpack_from(octets, at)
                at += _OCTETS.size
                found.append((number, octets[at : at + length]))
                at += length
            else:
                found.append(_INTEGER.unpack_from(octets, at))
                at += _INTEGER.size
    except (struct.error, IndexError) as problem:
        raise DecodeError("the further columns of a row are cut off") from problem
    extra = tuple(found)
    if extra_octets(extra, max_bytes) != octets[start:at]:
        raise DecodeError("the further columns of a row are cut off")
    return extra, at


def register_octets(registers: Sequence[FurtherRegister]) -> bytes:
    """Return the canonical bytes of further registers.

    Raises:
        OutOfRange: A number, time or value is outside its range.
    """
    parts = [bytes((len(registers) & 0xFF,))]
    last = -1
    for register in registers:
        if not last < register.number < limits.MAX_FURTHER_REGISTERS:
            raise OutOfRange(f"numbers of further registers ascend from 0 to {limits.MAX_FURTHER_REGISTERS - 1}")
        last = register.number
        if not 0 <= register.hlc <= limits.MAX_HLC or len(register.value) > limits.MAX_REGISTER_BYTES:
            raise OutOfRange(f"a further register is over {limits.MAX_REGISTER_BYTES} bytes, or its time out of range")
        if not register.hlc and not register.value:
            raise OutOfRange("a further register says nothing; leave it out")
        parts.append(_REGISTER.pack(register.number, register.hlc, len(register.value)) + register.value)
    return b"".join(parts)


def registers_at(octets: bytes, at: int) -> tuple[tuple[FurtherRegister, ...], int]:
    """Return the further registers at a place, and the place behind them.

    Raises:
        ProtocolError: They are none.
    """
    found = []
    try:
        start, at = at, at + 1
        for _ in range(octets[start]):
            number, hlc, length = _REGISTER.unpack_from(octets, at)
            at += _REGISTER.size
            found.append(FurtherRegister(number, hlc, octets[at : at + length]))
            at += length
    except (struct.error, IndexError) as problem:
        raise DecodeError("the further registers of a row are cut off") from problem
    if register_octets(found) != octets[start:at]:
        raise DecodeError("the further registers of a row are cut off")
    return tuple(found), at


def _within(octets: bytes, max_bytes: int) -> bytes:
    if len(octets) - 1 > max_bytes:
        raise OutOfRange(f"further columns take more than {max_bytes} bytes of one row")
    return octets
