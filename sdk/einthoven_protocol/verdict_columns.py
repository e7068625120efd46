"""What a verdict adds to its logits, as one column of the few combinations that occur: results' columns 19 and 20.

A window's usable seconds, quality, rhythm, tier and reason go together, and its rhythm and confidence follow from its
logits where those are logarithms of odds in 1/1024 octave, as with every model so far. So a table holds the distinct
combinations once, which row has which, and by how much a confidence differs from what the logits say. It deliberately
takes no part in what a verdict is: any values go through unchanged, some in more bytes than without it.

Invariants:
    1. ``unpack(pack(verdicts)) == verdicts``, whatever the values.
    2. Integers only: every machine expects the same confidence of the same logits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.errors import OutOfRange

CLASSES: Final = 4
"""Logits of a result."""
OCTAVE: Final = 1_024
"""Steps of a logit in a factor of two of the odds."""
ENTRY_BYTES: Final = 7
"""Usable seconds, quality, rhythm against the highest logit, tier, reason."""

_ENTRY: Final = struct.Struct(">HHBBB")
_ONE_BITS: Final = 30
_POWERS: Final = np.floor(np.exp2(_ONE_BITS - np.arange(OCTAVE) / OCTAVE)).astype(np.int64)
"""2**(30 - k/1024), rounded down. None lies so near to an integer that a machine's last bit could matter."""
_PERMILLE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Columns of a table of results.

    Attributes:
        usable_s: Usable seconds.
        quality: Quality flags.
        rhythm: Rhythm classes.
        tier: Risk tiers.
        reason: Reasons of inconclusive ones.
        confidence_permille: Confidences.
    """

    usable_s: Sequence[int]
    quality: Sequence[int]
    rhythm: Sequence[int]
    tier: Sequence[int]
    reason: Sequence[int]
    confidence_permille: Sequence[int]


def pack(verdicts: Verdicts, logits: NDArray[np.int64]) -> tuple[list[bytes], list[int]]:
    """Return each row's entry, ``ENTRY_BYTES`` long, and how far its confidence is from the expected one.

    Args:
        verdicts: Columns, checked by the caller.
        logits: int64 [rows, 4].
    """
    likeliest, expected = _expected(logits)
    # A byte is enough: 0 where the rhythm is the class of the highest logit.
    relative = (np.array(verdicts.rhythm) - likeliest) & 0xFF
    pack_entry = _ENTRY.pack
    entries = [
        pack_entry(*row)
        for row in zip(
            verdicts.usable_s, verdicts.quality, relative.tolist(), verdicts.tier, verdicts.reason, strict=True
        )
    ]
    surprises: list[int] = (np.array(verdicts.confidence_permille) - expected).tolist()
    return entries, surprises


def unpack(entries: Sequence[bytes], surprises: Sequence[int], logits: NDArray[np.int64]) -> Verdicts:
    """Return the columns of rows whose entries and surprises these are; their ranges are the caller's to check.

    Raises:
        OutOfRange: An entry is not ``ENTRY_BYTES`` long.
    """
    likeliest, expected = _expected(logits)
    fields: dict[bytes, tuple[int, ...]] = {}
    for entry in set(entries):
        if len(entry) != ENTRY_BYTES:
            raise OutOfRange(f"a verdict's entry is not {ENTRY_BYTES} bytes long")
        fields[entry] = _ENTRY.unpack(entry)
    usable, quality, relative, tier, reason = zip(*map(fields.__getitem__, entries), strict=True)
    return Verdicts(
        usable_s=usable,
        quality=quality,
        rhythm=((np.array(relative) + likeliest) & 0xFF).tolist(),
        tier=tier,
        reason=reason,
        confidence_permille=(np.array(surprises) + expected).tolist(),
    )


def _expected(logits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class of the highest logit (the first of equals), and its share in 1/1000: what the others leave to it."""
    likeliest = logits.argmax(axis=1)
    below = logits.max(axis=1, keepdims=True) - logits
    weights = _POWERS[below % OCTAVE] >> np.minimum(below // OCTAVE, _ONE_BITS + 1)
    shares = weights * _PERMILLE // weights.sum(axis=1, keepdims=True)
    own = np.take_along_axis(shares, likeliest[:, None], axis=1)[:, 0]
    return likeliest, _PERMILLE - shares.sum(axis=1) + own
