"""Arrays of integers inside JSON, as Base64 of little-endian integers of the narrowest type: half of what digits take.

It deliberately knows no table: what the integers mean, and which are too large, is said by whoever reads them.

Invariants:
    1. ``pack_integers`` and ``PackedIntegers.values`` are each other's reverse: the same integers, the same shape.
    2. What is not whole (other lengths, not Base64) raises ``ValueError``; nothing is guessed or padded.
"""

from __future__ import annotations

import base64
from math import prod
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_VALUES: Final = 2**20
"""Integers of one array."""
MAX_DIMENSIONS: Final = 2

IntegerType = Literal["i1", "i2", "i4", "i8"]
TYPES: Final[tuple[IntegerType, ...]] = ("i1", "i2", "i4", "i8")
"""Signed, of so many bytes, from the narrowest on."""
_Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_VALUES)]


class PackedIntegers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One array.

    Attributes:
        type: Of each integer, little-endian.
        shape: Sizes, the slowest first.
        base64: The integers, row after row (RFC 4648, section 4).
    """

    type: IntegerType
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(min_length=1, max_length=MAX_DIMENSIONS)]
    base64: str

    def values(self) -> NDArray[np.int64]:
        """The integers, int64 of ``shape``.

        Raises:
            ValueError: Not Base64, or not as many integers as ``shape`` says.
        """
        count = prod(self.shape)
        if count > MAX_VALUES:
            raise ValueError("too many integers")
        content = base64.b64decode(self.base64, validate=True)
        return np.frombuffer(content, f"<{self.type}").reshape(self.shape).astype(np.int64)


def pack_integers(values: NDArray[np.int64]) -> PackedIntegers:
    """The array as it goes into JSON.

    Args:
        values: int64, one or two dimensions, not empty.
    """
    for kind in TYPES:
        limits = np.iinfo(kind)
        if limits.min <= values.min() and values.max() <= limits.max:
            break
    content = np.ascontiguousarray(values, f"<{kind}").tobytes()
    return PackedIntegers(type=kind, shape=values.shape, base64=base64.b64encode(content).decode("ascii"))
