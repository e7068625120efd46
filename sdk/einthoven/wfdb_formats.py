"""The storage formats of WFDB signal files: bytes -> counts. Pure.

By the WFDB Applications Guide, signal(5). The formats 508, 516 and 524 are FLAC streams and are not decoded here.

Our own decoders, because wfdb's take a record's samples at once, want a folder of files they can believe, and don't
run on a phone in little time; in the tests wfdb is the oracle for every one of them.

It deliberately knows no header, no gain and no file.

Invariants:
    1. ``decode`` makes exactly the samples that it is asked for, from exactly ``n_bytes`` bytes.
    2. Counts are exact integers of the format's own width, sign included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StorageFormat:
    """How samples are packed.

    Attributes:
        unit_samples: Samples that share bytes.
        unit_bytes: Bytes they share.
        invalid: Count that stands for an invalid sample; format 8 has none.
        unpack: Units [k, unit_bytes] of uint8 -> their samples in order, int32 [k * unit_samples].
        differences: Whether counts are first differences.
    """

    unit_samples: int
    unit_bytes: int
    invalid: int | None
    unpack: Callable[[NDArray[np.uint8]], Counts]
    differences: bool = False

    def n_bytes(self, n_samples: int) -> int:
        """Bytes that the first ``n_samples`` samples of a file take; a last, incomplete unit may be cut off."""
        units, rest = divmod(n_samples, self.unit_samples)
        return units * self.unit_bytes + -(-rest * self.unit_bytes // self.unit_samples)

    def n_samples(self, n_bytes: int) -> int:
        """Whole samples in so many bytes."""
        units, rest = divmod(n_bytes, self.unit_bytes)
        held = max(n for n in range(self.unit_samples) if self.n_bytes(n) <= rest)
        return units * self.unit_samples + held

    def decode(self, content: bytes, n_samples: int) -> Counts:
        """Return the first samples of ``content``, int32 [n_samples]; it holds ``n_bytes(n_samples)`` at least."""
        used = content[: self.n_bytes(n_samples)]
        used += bytes(-len(used) % self.unit_bytes)
        return self.unpack(np.frombuffer(used, dtype=np.uint8).reshape(-1, self.unit_bytes))[:n_samples]


def _signed(values: NDArray[np.int32], bits: int) -> Counts:
    """Two's complement numbers of ``bits`` bits, given without sign."""
    sign = np.int32(1 << (bits - 1))
    return (values ^ sign) - sign


def _integers(dtype: str, zero: int = 0) -> Callable[[NDArray[np.uint8]], Counts]:
    return lambda units: units.view(dtype).ravel().astype(np.int32) - np.int32(zero)


def _unpack_24(units: NDArray[np.uint8]) -> Counts:
    low, middle, high = units.astype(np.int32).T
    return _signed(low | middle << 8 | high << 16, 24)


def _unpack_212(units: NDArray[np.uint8]) -> Counts:
    """Two samples of 12 bits; the middle byte has the upper four bits of both."""
    low, middle, high = units.astype(np.int32).T
    pairs = np.stack((low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4), axis=1)
    return _signed(pairs.ravel(), 12)


def _unpack_310(units: NDArray[np.uint8]) -> Counts:
    """Three samples of 10 bits in two words: bits 1-10 of each, and the upper five of both."""
    first, second = units.view("<u2").astype(np.int32).T
    triples = np.stack(((first & 0x7FF) >> 1, (second & 0x7FF) >> 1, first >> 11 | (second >> 11) << 5), axis=1)
    return _signed(triples.ravel(), 10)


def _unpack_311(units: NDArray[np.uint8]) -> Counts:
    """Three samples of 10 bits in a word of 32, from the lowest bit on."""
    word = units.view("<u4").ravel()
    triples = np.stack([(word >> np.uint32(shift)) & np.uint32(0x3FF) for shift in (0, 10, 20)], axis=1)
    return _signed(triples.ravel().astype(np.int32), 10)


FORMATS: Final = {
    "8": StorageFormat(1, 1, None, _integers("i1"), differences=True),
    "16": StorageFormat(1, 2, -(2**15), _integers("<i2")),
    "24": StorageFormat(1, 3, -(2**23), _unpack_24),
    "32": StorageFormat(1, 4, -(2**31), _integers("<i4")),
    "61": StorageFormat(1, 2, -(2**15), _integers(">i2")),
    "80": StorageFormat(1, 1, -(2**7), _integers("u1", 2**7)),
    "160": StorageFormat(1, 2, -(2**15), _integers("<u2", 2**15)),
    "212": StorageFormat(2, 3, -(2**11), _unpack_212),
    "310": StorageFormat(3, 4, -(2**9), _unpack_310),
    "311": StorageFormat(3, 4, -(2**9), _unpack_311),
}
"""The formats of signal(5) that are packed integers, by their number."""
FLAC_BITS: Final = {"508": 8, "516": 16, "524": 24}
"""The formats that are FLAC streams, and the bits of a sample that they allow at most."""
