"""Numbers and checksums of a stored segment: what its writers and readers share. Pure.

A varint is LEB128: seven bits a byte, the lowest first, the eighth bit set on all but the last byte. A signed number
is folded first (0, -1, 1, -2 ... become 0, 1, 2, 3 ...).

It deliberately knows no layout; ``segments``, ``segment_pcodec`` and ``segment_runs`` do.

Invariants:
    1. A reader raises only ``RecordFormatError``, and never reads past the end or over the limit it is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from einthoven.errors import RecordFormatError

CHECKSUM_BYTES: Final = 8
"""Bytes kept of a SHA-256: damage goes unnoticed once in 2**64 times. A CRC-32 would miss one in 2**32 of what is worse
than a 32-bit burst, for 4 bytes less in about 4,500."""
MAX_VARINT_BYTES: Final = 7
"""Longest varint, 49 bits; the largest number stored takes 45."""


def damaged(why: str) -> RecordFormatError:
    """The refusal of a stored segment."""
    return RecordFormatError(f"a stored segment is damaged: {why}", "restore it from a backup or leave it out")


def checksum(content: bytes) -> bytes:
    """First ``CHECKSUM_BYTES`` of the SHA-256."""
    return hashlib.sha256(content).digest()[:CHECKSUM_BYTES]


def varints(numbers: Iterable[int]) -> bytes:
    """Numbers from 0 up as varints, one after another."""
    written = bytearray()
    for number in numbers:
        rest = number
        while rest > 0x7F:
            written.append(rest & 0x7F | 0x80)
            rest >>= 7
        written.append(rest)
    return bytes(written)


def folded(number: int) -> int:
    """A signed number as an unsigned one."""
    return 2 * number if number >= 0 else -2 * number - 1


def unfolded(number: int) -> int:
    """The inverse of ``folded``."""
    return number >> 1 if not number & 1 else -(number + 1 >> 1)


class FieldReader:
    """Reads varints from the front of some bytes.

    Args:
        stored: All the bytes.
        position: Where to begin.
    """

    def __init__(self, stored: bytes, position: int = 0) -> None:
        self._stored = stored
        self.position = position

    def varint(self, largest: int) -> int:
        """Read one number.

        Args:
            largest: Most it may be.

        Raises:
            RecordFormatError: The bytes end, or the number is longer or larger than allowed.
        """
        number = 0
        for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
            if self.position >= len(self._stored):
                raise damaged("it ends too early")
            byte = self._stored[self.position]
            self.position += 1
            number |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                if number > largest:
                    raise damaged(f"a number in it is {number}, allowed are {largest} at most")
                return number
        raise damaged("a number in it does not end")

    def signed(self, largest: int) -> int:
        """Read one signed number of at most ``largest`` either way.

        Raises:
            RecordFormatError: As ``varint``.
        """
        return unfolded(self.varint(2 * largest))

    def take(self, n_bytes: int) -> bytes:
        """Read that many bytes.

        Raises:
            RecordFormatError: There are fewer.
        """
        piece = self._stored[self.position : self.position + n_bytes]
        if len(piece) != n_bytes:
            raise damaged("it ends too early")
        self.position += n_bytes
        return piece

    def rest(self) -> bytes:
        """Everything that is left."""
        return self._stored[self.position :]
