"""Tags of many rows of one epoch at once: those of ``store_tags``, put together by NumPy. Pure.

The octets of all rows stand in one array, but for what they begin with alike, which the hash is told once; that also
has it done with its key, which it need then not hash for each row. It deliberately knows two tables, of which there are
thousands of rows in one message, and takes no row apart.

Invariants:
    1. A row's tag is ``RowTags.tag`` of it, bit for bit.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Final

import numpy as np

from einthoven.store_schema import position_of
from einthoven.store_tags import RowTags
from einthoven_protocol.packed_results import RESULT_ROW_BYTES, ResultRows

ROWS_PER_TURN: Final = 64
"""Rows whose tags are computed before a writer may have its turn: some 60 us of work."""

_RESULT: Final = np.dtype([("counter", ">u4"), ("segment_digest", "V32"), ("body", f"V{RESULT_ROW_BYTES}")])
_REPLICA: Final = np.dtype(
    [
        ("counter", ">u4"),
        ("time_type", "S1"),
        ("time", ">i8"),
        ("history_type", "S1"),
        ("history", ">i8"),
        ("body_type", "S1"),
        ("body_bytes", ">u4"),
        ("body", f"V{RESULT_ROW_BYTES}"),
    ]
)
_POSITION: Final = struct.Struct(">Q")
_INTEGER: Final = struct.Struct(">cq")
_COUNTER_BYTES: Final = 4
"""The last of a position's 8; the others are the epoch's."""


def holds_run(
    tags: RowTags,
    first_position: int,
    segments: bytes,
    results: ResultRows,
    stored: bytes,
    give_way: Callable[[], None],
) -> bool:
    """Whether tags are those of own results at consecutive positions of one epoch.

    Args:
        tags: Under the store's integrity key.
        first_position: Of the first.
        segments: Their segments' digests, one after the other.
        results: The results; their times are the caller's to hold to the columns of that name.
        stored: Their tags, one after the other.
        give_way: Called every ``ROWS_PER_TURN`` rows.
    """
    rows = np.empty(len(results), _RESULT)
    rows["counter"] = np.arange(len(results)) + (first_position - (first_position >> 32 << 32))
    rows["segment_digest"] = np.frombuffer(segments, "V32")
    rows["body"] = np.frombuffer(results.octets, f"V{RESULT_ROW_BYTES}")
    hashed = tags.begun("result")
    hashed.update(_POSITION.pack(first_position)[:-_COUNTER_BYTES])
    return hmac.compare_digest(_tags(hashed, rows.tobytes(), _RESULT.itemsize, give_way), stored)


def replica_run_tags(tags: RowTags, alias: int, epoch: int, history: int, results: ResultRows) -> bytes:
    """Tags of replicas of one device and epoch, one after the other.

    Args:
        tags: Under the store's integrity key.
        alias: Their device.
        epoch: Their epoch.
        history: In which they came.
        results: The results.
    """
    rows = np.empty(len(results), _REPLICA)
    rows["counter"] = results.fields["counter"]
    rows["time_type"] = rows["history_type"] = b"i"
    rows["time"] = results.fields["started_at_ms"]
    rows["history"] = history
    rows["body_type"], rows["body_bytes"] = b"b", RESULT_ROW_BYTES
    rows["body"] = np.frombuffer(results.octets, f"V{RESULT_ROW_BYTES}")
    hashed = tags.begun("replica")
    hashed.update(_INTEGER.pack(b"i", alias) + _INTEGER.pack(b"i", position_of(epoch, 0))[:-_COUNTER_BYTES])
    return _tags(hashed, rows.tobytes(), _REPLICA.itemsize, None)


def _tags(begun: hashlib.blake2b, octets: bytes, row_bytes: int, give_way: Callable[[], None] | None) -> bytes:
    copy = begun.copy
    tags: list[bytes] = []
    append = tags.append
    turn_bytes = ROWS_PER_TURN * row_bytes
    for begin in range(0, len(octets), turn_bytes):
        if give_way is not None:
            give_way()
        for at in range(begin, min(begin + turn_bytes, len(octets)), row_bytes):
            hashed = copy()
            hashed.update(octets[at : at + row_bytes])
            append(hashed.digest())
    return b"".join(tags)
