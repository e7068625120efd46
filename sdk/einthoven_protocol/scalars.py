"""Fields of a message that hold one number or a few bytes, not a table.

They deliberately know no field's number.

Invariants:
    1. A field of the default, 0 or no bytes, is left out; a reader takes an absent one for it.
    2. Every value is checked in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping

from einthoven_protocol.errors import DecodeError, OutOfRange
from einthoven_protocol.fields import Reader, varint


def write_number(name: str, value: int, low: int, high: int) -> list[bytes]:
    """Return the content of a number's field: a varint, and nothing for 0.

    Raises:
        OutOfRange: It is outside ``low`` to ``high``.
    """
    if not low <= value <= high:
        raise OutOfRange(f"{name} is outside {low} to {high}")
    return [varint(value)] if value else []


def read_number(fields: Mapping[int, bytes], number: int, name: str, low: int, high: int) -> int:
    """Return the number in a field, 0 if it is absent.

    Raises:
        DecodeError: The field is not one varint.
        OutOfRange: It is outside ``low`` to ``high``.
    """
    value = 0
    if number in fields:
        reader = Reader(fields[number])
        value = reader.varint()
        if not reader.at_end:
            raise DecodeError(f"{name} is not one varint")
    if not low <= value <= high:
        raise OutOfRange(f"{name} is outside {low} to {high}")
    return value


def read_octets(fields: Mapping[int, bytes], number: int, name: str, length: int) -> bytes:
    """Return the bytes in a field, none if it is absent.

    Raises:
        DecodeError: They are neither none nor ``length``.
    """
    octets = fields.get(number, b"")
    if number in fields and len(octets) != length:
        raise DecodeError(f"{name} is {length} bytes")
    return octets
