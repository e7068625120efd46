"""Varints, and numbered fields by their length: how messages and tables hold their parts.

They deliberately know no meaning of any number.

Invariants:
    1. Field numbers ascend from 1, so none comes twice; a field that nobody asks for is skipped by its length.
    2. A reader never passes the end, and a varint has one spelling.
    3. Reading raises only ``DecodeError`` and ``LimitExceeded``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.errors import DecodeError, LimitExceeded

_MAX_VARINT_BYTES: Final = 10
_WORD: Final = 1 << 64
_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x80))
"""The varints of one byte: most of them are."""


class Reader:
    """A position in bytes that only moves forward and never past the end.

    Args:
        octets: What to read.
    """

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self._at == len(self._octets)

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes.

        Raises:
            DecodeError: There are fewer.
        """
        end = self._at + length
        if end > len(self._octets):
            raise DecodeError("the message is cut off")
        taken = self._octets[self._at : end]
        self._at = end
        return taken

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._octets) - self._at)

    def varint(self) -> int:
        """Return the next varint, 0 to 2**64 - 1 (LEB128: 7 bits a byte, least significant first).

        Raises:
            DecodeError: It is cut off, too large, or longer than it need be.
        """
        if self._at < len(self._octets) and (octet := self._octets[self._at]) < 0x80:
            self._at += 1
            return octet
        value = 0
        for position in range(_MAX_VARINT_BYTES):
            octet = self.take(1)[0]
            value |= (octet & 0x7F) << (7 * position)
            if octet < 0x80:
                if value >= _WORD or (position and not octet):
                    break
                return value
        raise DecodeError("a varint is over 64 bits or longer than it need be")

    def zigzag(self) -> int:
        """Return the next zigzag varint, modulo 2**64.

        Raises:
            DecodeError: As ``varint``.
        """
        folded = self.varint()
        return ((folded >> 1) ^ -(folded & 1)) % _WORD

    def fields(self) -> dict[int, bytes]:
        """Return every field left, by number.

        Raises:
            DecodeError: A field is cut off, or the numbers do not ascend.
            LimitExceeded: There are more than ``limits.MAX_COLUMNS_PER_TABLE``.
        """
        found: dict[int, bytes] = {}
        last, end, varint = 0, len(self._octets), self.varint
        while self._at != end:
            number = varint()
            if number <= last:
                raise DecodeError("field numbers do not ascend")
            if len(found) == limits.MAX_COLUMNS_PER_TABLE:
                raise LimitExceeded(f"more than {limits.MAX_COLUMNS_PER_TABLE} fields")
            found[number] = self.take(varint())
            last = number
        return found


def varint(value: int) -> bytes:
    """Return the varint of 0 to 2**64 - 1."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def zigzag(value: int) -> bytes:
    """Return the zigzag varint of a signed 64-bit integer: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def write_fields(fields: Mapping[int, Sequence[bytes]]) -> list[bytes]:
    """Return the parts of numbered fields; a field is given as the parts of its content, an empty one is left out."""
    parts = []
    for number, content in sorted(fields.items()):
        length = sum(map(len, content))
        if length:
            parts += [varint(number) + varint(length), *content]
    return parts
