"""SQLite's record format: varints, serial types, values. Pure.

Source: "Database File Format", sections 2.1 (Record Format) and 1.6 (varint), sqlite.org/fileformat2.html.

Only what SQLite itself writes is read: a record fills its payload to the last byte, text is UTF-8. It deliberately
knows no page and no column name.

Invariants:
    1. Whatever the bytes, the only exception is ``MalformedRecord``, and nothing is made that is longer than they are.
"""

from __future__ import annotations

import struct
from typing import Final

from einthoven.sqlite_pages import MalformedRecord

Value = int | float | str | bytes | None
"""What a column holds."""

MAX_VARINT_BYTES: Final = 9
"""Longest varint: eight bytes of seven bits, one of eight."""

_INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_FIRST_BLOB_OR_TEXT: Final = 12


def read_varint(content: bytes, position: int) -> tuple[int, int]:
    """Read a varint.

    Args:
        content: Where it is.
        position: Where it begins.

    Returns:
        Its 64 bits as an unsigned number, and where the next field begins.

    Raises:
        MalformedRecord: The bytes end within it.
    """
    number = 0
    for count in range(MAX_VARINT_BYTES):
        if not 0 <= position < len(content):
            raise MalformedRecord("it ends within a number")
        byte = content[position]
        position += 1
        if count == MAX_VARINT_BYTES - 1:
            return number << 8 | byte, position
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return number, position


def as_signed(number: int) -> int:
    """A varint's 64 bits as two's complement, as a rowid has them."""
    return number - 2**64 if number >= 2**63 else number


def decode_record(payload: bytes) -> tuple[Value, ...]:
    """The columns of a record.

    Raises:
        MalformedRecord: The bytes are no record.
    """
    header_bytes, position = read_varint(payload, 0)
    if not position <= header_bytes <= len(payload):
        raise MalformedRecord("its header is longer than the row")
    serial_types = []
    header = payload[:header_bytes]
    while position < header_bytes:
        serial_type, position = read_varint(header, position)
        serial_types.append(serial_type)
    values: list[Value] = []
    for serial_type in serial_types:
        end = position + _content_bytes(serial_type)
        if end > len(payload):
            raise MalformedRecord("a value is longer than the row")
        values.append(_value(serial_type, payload[position:end]))
        position = end
    if position != len(payload):
        raise MalformedRecord("it is longer than its values")
    return tuple(values)


def _content_bytes(serial_type: int) -> int:
    if serial_type >= _FIRST_BLOB_OR_TEXT:
        return (serial_type - _FIRST_BLOB_OR_TEXT) // 2
    if serial_type == 7:
        return 8
    if serial_type in {10, 11}:
        raise MalformedRecord("it has a type that is reserved")
    return _INTEGER_BYTES.get(serial_type, 0)


def _value(serial_type: int, content: bytes) -> Value:
    if serial_type >= _FIRST_BLOB_OR_TEXT:
        return _text(content) if serial_type & 1 else content
    if serial_type == 0:
        return None
    if serial_type == 7:
        (number,) = struct.unpack(">d", content)
        # SQLite stores no NaN: it writes NULL instead, and reads one as NULL.
        return float(number) if number == number else None  # noqa: PLR0124
    if serial_type >= 8:
        return serial_type - 8
    return int.from_bytes(content, "big", signed=True)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecord("a text in it is not UTF-8") from error
