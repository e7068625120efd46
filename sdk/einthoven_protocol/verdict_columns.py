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
from typing import Final, TypeAlias

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


Column: TypeAlias = Sequence[int] | NDArray[np.int64]


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

    usable_s: Column
    quality: Column
    rhythm: Column
    tier: Column
    reason: Column
    confidence_permille: Column


@dataclass(frozen=True, slots=True)
class PackedVerdicts:
    """The two columns.

    Attributes:
        entries: Distinct combinations in order of appearance, ``ENTRY_BYTES`` long.
        places: int64 [rows], which of them each row has.
        surprises: int64 [rows], how far its confidence is from the expected one.
    """

    entries: list[bytes]
    places: NDArray[np.int64]
    surprises: NDArray[np.int64]


def pack(verdicts: Verdicts, logits: NDArray[np.int64]) -> PackedVerdicts:
    """Return each row's entry, and how far its confidence is from the expected one.

    Args:
        verdicts: Columns, checked by the caller.
        logits: int64 [rows, 4].
    """
    likeliest, expected = _expected(logits)
    # A byte is enough: 0 where the rhythm is the class of the highest logit.
    relative = (np.asarray(verdicts.rhythm) - likeliest) & 0xFF
    # An entry fits one integer, by which it is found far quicker than by its bytes.
    names = np.asarray(verdicts.usable_s)
    for column, bits in ((verdicts.quality, 16), (relative, 8), (verdicts.tier, 8), (verdicts.reason, 8)):
        names = names << bits | np.asarray(column)
    found, first, places = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first)
    entries = [int(name).to_bytes(ENTRY_BYTES, "big") for name in found[order]]
    return PackedVerdicts(entries, np.argsort(order)[places], np.asarray(verdicts.confidence_permille) - expected)


def unpack(packed: PackedVerdicts, logits: NDArray[np.int64]) -> Verdicts:
    """Return the columns of rows whose entries and surprises these are; their ranges are the caller's to check.

    Raises:
        OutOfRange: An entry is not ``ENTRY_BYTES`` long.
    """
    if set(map(len, packed.entries)) - {ENTRY_BYTES}:
        raise OutOfRange(f"a verdict's entry is not {ENTRY_BYTES} bytes long")
    likeliest, expected = _expected(logits)
    fields = np.array([_ENTRY.unpack(entry) for entry in packed.entries], np.int64)
    usable, quality, relative, tier, reason = fields[packed.places].T
    return Verdicts(
        usable_s=usable,
        quality=quality,
        rhythm=(relative + likeliest) & 0xFF,
        tier=tier,
        reason=reason,
        confidence_permille=packed.surprises + expected,
    )


def _expected(logits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class of the highest logit (the first of equals), and its share in 1/1000: what the others leave to it."""
    likeliest = logits.argmax(axis=1)
    below = logits.max(axis=1, keepdims=True) - logits
    weights = _POWERS[below % OCTAVE] >> np.minimum(below // OCTAVE, _ONE_BITS + 1)
    shares = weights * _PERMILLE // weights.sum(axis=1, keepdims=True)
    own = np.take_along_axis(shares, likeliest[:, None], axis=1)[:, 0]
    return likeliest, _PERMILLE - shares.sum(axis=1) + own
