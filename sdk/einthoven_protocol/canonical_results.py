"""The canonical bytes of a result; ``canonical`` has their layout and what holds of them.

They deliberately hold neither device nor epoch: what hashes a result prefixes them.

Invariants:
    1. As in ``canonical``. The functions for many rows do the same as those for one of each, and refuse the same; they
       hold all rows to their ranges at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.checks import require_length, require_range
from einthoven_protocol.errors import DecodeError, OutOfRange
from einthoven_protocol.extras import extra_at, extra_octets
from einthoven_protocol.few_rows import FEW_ROWS
from einthoven_protocol.messages import Extra, ResultRow
from einthoven_protocol.packed_results import (
    RESULT,
    RESULT_FIELDS,
    RESULT_FORMAT,
    RESULT_ROW_BYTES,
    ResultRows,
)

EXTENDED_RESULT_FORMAT: Final = 3

MAX_RESULT_ROW_BYTES: Final = RESULT_ROW_BYTES + 1 + limits.MAX_RESULT_EXTRA_BYTES
"""Of a result with as many further columns as it may have."""

RESULT_RANGES: Final = {
    "counter": (1, limits.MAX_COUNTER),
    "started_at_ms": (0, limits.MAX_TIME_MS),
    "duration_ms": (0, limits.MAX_DURATION_MS),
    "n_steps": (0, limits.MAX_STEPS),
    "usable_s": (0, limits.MAX_USABLE_S),
    "quality": (0, limits.MAX_QUALITY),
    "rhythm": (0, limits.MAX_ENUM),
    "confidence_permille": (0, limits.MAX_CONFIDENCE_PERMILLE),
    "tier": (0, limits.MAX_ENUM),
    "reason": (0, limits.MAX_ENUM),
    "front_end_version": (0, limits.MAX_FRONT_END_VERSION),
}
"""Smallest and largest value of a result's integer fields; logits are 32 bits, signed."""
_NARROWER: Final = tuple(
    (name, (low, high))
    for name, (low, high) in RESULT_RANGES.items()
    if low > 0 or high < 256 ** RESULT_FIELDS[name].itemsize - 1
)
"""Those of fields whose width lets more through."""


def encode_result_row(row: ResultRow) -> bytes:
    """Return the canonical bytes of a result, ``RESULT_ROW_BYTES`` long unless it has further columns.

    Raises:
        OutOfRange: A value is outside its range.
    """
    # One chained test for the rows that are fine, which is all of them; the slow path only finds the field to name.
    if not (
        1 <= row.counter <= limits.MAX_COUNTER
        and 0 <= row.started_at_ms <= limits.MAX_TIME_MS
        and 0 <= row.duration_ms <= limits.MAX_DURATION_MS
        and 0 <= row.n_steps <= limits.MAX_STEPS
        and 0 <= row.usable_s <= limits.MAX_USABLE_S
        and 0 <= row.quality <= limits.MAX_QUALITY
        and 0 <= row.confidence_permille <= limits.MAX_CONFIDENCE_PERMILLE
        and 0 <= row.front_end_version <= limits.MAX_FRONT_END_VERSION
        and len(row.model_digest) == limits.DIGEST_BYTES
    ):
        _name_bad_field(row)
    try:
        octets = _packed(row)
    except struct.error:
        _name_bad_field(row)
    return _extended(octets, row.extra) if row.extra else octets


def encode_result_rows(rows: Sequence[ResultRow]) -> list[bytes]:
    """Return the canonical bytes of each result.

    Raises:
        OutOfRange: A value is outside its range.
    """
    if isinstance(rows, ResultRows):
        return rows.split()
    if len(rows) <= FEW_ROWS:
        return [encode_result_row(row) for row in rows]
    pack = RESULT.pack
    try:
        octets = [
            pack(
                RESULT_FORMAT,
                row.counter,
                row.started_at_ms,
                row.duration_ms,
                row.n_steps,
                row.usable_s,
                row.quality,
                row.rhythm,
                row.confidence_permille,
                *row.logits,
                row.tier,
                row.reason,
                row.front_end_version,
                row.model_digest,
            )
            for row in rows
        ]
    except struct.error:
        octets = []
    # A struct would cut a digest off, or fill it up.
    if (
        len(octets) != len(rows)
        or {len(row.model_digest) for row in rows} - {limits.DIGEST_BYTES}
        or outside(_fields(octets))
    ):
        return [encode_result_row(row) for row in rows]  # slow, and it names what is wrong
    for place, row in enumerate(rows):
        if row.extra:
            octets[place] = _extended(octets[place], row.extra)
    return octets


def _fields(octets: Sequence[bytes]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(octets), RESULT_FIELDS)


def _packed(row: ResultRow) -> bytes:
    return RESULT.pack(
        RESULT_FORMAT,
        row.counter,
        row.started_at_ms,
        row.duration_ms,
        row.n_steps,
        row.usable_s,
        row.quality,
        row.rhythm,
        row.confidence_permille,
        *row.logits,
        row.tier,
        row.reason,
        row.front_end_version,
        row.model_digest,
    )


def _extended(octets: bytes, extra: Extra) -> bytes:
    return bytes((EXTENDED_RESULT_FORMAT,)) + octets[1:] + extra_octets(extra, limits.MAX_RESULT_EXTRA_BYTES)


def decode_result_row(octets: bytes) -> ResultRow:
    """Return the result whose canonical bytes these are.

    Raises:
        ProtocolError: They are none.
    """
    form = octets[:1]
    extra: Extra = ()
    if form == b"\x03" and len(octets) > RESULT.size:
        extra, end = extra_at(octets, RESULT.size, limits.MAX_RESULT_EXTRA_BYTES)
        if not extra or end != len(octets):
            raise DecodeError("a result row ends with its further columns, and has some")
    elif len(octets) != RESULT.size or form != b"\x01":
        raise DecodeError(f"a result row is {RESULT.size} bytes and begins with {RESULT_FORMAT}")
    _, counter, started, duration, steps, usable, quality, rhythm, confidence, *rest = RESULT.unpack_from(octets)
    l0, l1, l2, l3, tier, reason, front_end, model = rest
    row = ResultRow(
        counter=counter,
        started_at_ms=started,
        duration_ms=duration,
        n_steps=steps,
        usable_s=usable,
        quality=quality,
        rhythm=rhythm,
        confidence_permille=confidence,
        logits=(l0, l1, l2, l3),
        tier=tier,
        reason=reason,
        model_digest=model,
        front_end_version=front_end,
        extra=extra,
    )
    encode_result_row(row)  # the ranges are narrower than the fields' widths
    return row


def decode_result_rows(octets: Sequence[bytes]) -> list[ResultRow]:
    """Return the results whose canonical bytes these are.

    Raises:
        ProtocolError: Some are none.
    """
    packed = packed_results(octets)
    return [decode_result_row(row) for row in octets] if packed is None else list(packed)


def packed_results(octets: Sequence[bytes]) -> ResultRows | None:
    """Return the results whose canonical bytes these are, unmade; ``None`` if some are none, or have further columns.

    Args:
        octets: ``encode_result_row`` of each, or anything.
    """
    if set(map(len, octets)) - {RESULT_ROW_BYTES}:
        return None
    return packed_results_of(b"".join(octets))


def packed_results_of(octets: bytes) -> ResultRows | None:
    """Do the same with bytes that stand one row after the other.

    Args:
        octets: A multiple of ``RESULT_ROW_BYTES``.
    """
    fields = np.frombuffer(octets, RESULT_FIELDS)
    if (fields["format"] != RESULT_FORMAT).any() or outside(fields):
        return None
    return ResultRows(octets)


def outside(fields: NDArray[np.void]) -> bool:
    """Whether a value is outside its range, though within its field's width.

    Args:
        fields: Structured array [rows] of ``RESULT_FIELDS``.
    """
    return any(
        bool((fields[name] > high).any()) or (low > 0 and bool((fields[name] < low).any()))
        for name, (low, high) in _NARROWER
    )


def _name_bad_field(row: ResultRow) -> NoReturn:
    for name, (low, high) in RESULT_RANGES.items():
        require_range(name, getattr(row, name), low, high)
    if len(row.logits) != 4:
        raise OutOfRange(f"logits are 4 integers, got {len(row.logits)}")
    for logit in row.logits:
        require_range("logit", logit, limits.MIN_LOGIT, limits.MAX_LOGIT)
    require_length("model_digest", row.model_digest, limits.DIGEST_BYTES)
    raise OutOfRange("a field of the result row is of the wrong type")
