"""Many verdicts as the bytes of their rows, quickly. Pure.

A device stores a verdict every half minute, but a recording that is read in, or a store that is filled again, brings
tens of thousands. One ``struct.pack`` a verdict writes position, segment digest and canonical row at once; what the
fields' widths do not refuse is held to the protocol's ranges by NumPy over all rows together. It deliberately names no
bad field: who brings one pays for the slow way, ``store_rules.result_row_bytes``, which does.

Invariants:
    1. The canonical bytes within are those of ``einthoven_protocol.canonical.encode_result_row``, bit for bit.
    2. What that refuses is refused here, with the same error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.results import WindowResult
from einthoven.store_rules import result_row_bytes
from einthoven.store_schema import position_of
from einthoven_protocol import limits
from einthoven_protocol.canonical import RESULT_FORMAT, RESULT_RANGES, RESULT_ROW_BYTES
from einthoven_protocol.packed_results import RESULT, RESULT_FIELDS

HEAD_BYTES: Final = 8 + limits.DIGEST_BYTES
"""Position and segment digest, before the canonical row."""
PACKED_ROW_BYTES: Final = HEAD_BYTES + RESULT_ROW_BYTES
"""Position, segment digest and canonical row of one result."""
TIME_DIGITS: Final = 15
"""Decimal digits of the latest time in ms."""

_N_LOGITS: Final = 4
_ROW: Final = struct.Struct(">Q32s" + RESULT.format.removeprefix(">"))
_FIELDS: Final = np.dtype(
    [
        ("position", ">u8"),
        ("segment_digest", "V32"),
        *RESULT_FIELDS.descr,
    ]
)
# What a field's width lets through and its range does not.
_NARROWER: Final = tuple(
    (name, high)
    for name, (_, high) in RESULT_RANGES.items()
    if high < 256 ** _FIELDS.fields[name][0].itemsize - 1  # type: ignore[index]
)


@dataclass(frozen=True, slots=True)
class PackedResults:
    """Rows of results, ready to be stored.

    Attributes:
        rows: Of each, ``PACKED_ROW_BYTES``: position, segment digest, canonical row.
        times: Of all, their start as ``TIME_DIGITS`` decimal digits each, in ASCII.
    """

    rows: list[bytes]
    times: bytes


def pack_results(results: Sequence[WindowResult], epoch: int, first_counter: int) -> PackedResults:
    """Number results and pack them.

    Args:
        results: Any; their counters are ignored.
        epoch: The epoch that they are stored in.
        first_counter: Counter of the first; the others follow.

    Raises:
        ValueError: One of them does not fit its row.
    """
    try:
        rows = _packed(results, epoch, first_counter)
    except (struct.error, TypeError, ValueError) as error:
        raise _named(results, first_counter) from error
    fields = np.frombuffer(b"".join(rows), _FIELDS)
    if any((fields[name] > high).any() for name, high in _NARROWER):
        raise _named(results, first_counter)
    return PackedResults(rows, decimal_digits(fields["started_at_ms"].astype(np.int64)))


def _packed(results: Sequence[WindowResult], epoch: int, first_counter: int) -> list[bytes]:
    pack = _ROW.pack
    rows: list[bytes] = []
    append = rows.append
    position = position_of(epoch, first_counter)
    counter = first_counter
    for result in results:
        segment_digest, model_digest = result.segment_digest, result.model_digest
        # A struct would cut them off or fill them up.
        if len(segment_digest) != 32 or len(model_digest) != 32:
            raise ValueError("a digest is not 32 bytes long")
        append(
            pack(
                position,
                segment_digest,
                RESULT_FORMAT,
                counter,
                result.started_at_ms,
                result.duration_ms,
                result.n_steps,
                result.usable_s,
                result.quality,
                result.rhythm,
                result.confidence_permille,
                *result.logits,
                result.tier,
                result.reason,
                result.front_end_version,
                model_digest,
            )
        )
        position += 1
        counter += 1
    return rows


def _named(results: Sequence[WindowResult], first_counter: int) -> ValueError:
    """The error that says what is wrong with the first bad one."""
    for counter, result in enumerate(results, first_counter):
        logits: Sequence[int] = result.logits
        if len(logits) != _N_LOGITS:
            return ValueError(f"logits are {_N_LOGITS} integers, got {len(logits)}")
        try:
            result_row_bytes(replace(result, counter=counter))
        except ValueError as error:
            return error
        if len(result.segment_digest) != limits.DIGEST_BYTES:
            return ValueError(f"segment_digest is not {limits.DIGEST_BYTES} bytes long")
    return ValueError("a field of a result is of the wrong type")


def decimal_digits(numbers: NDArray[np.int64]) -> bytes:
    """Decimal digits of each number, ``TIME_DIGITS`` wide: what SQL can read out of a blob."""
    digits = np.empty((len(numbers), TIME_DIGITS), np.uint8)
    for column in range(TIME_DIGITS - 1, -1, -1):
        numbers, digits[:, column] = np.divmod(numbers, 10)
    return (digits + ord("0")).tobytes()
