"""New results as PostgreSQL's binary COPY takes them: thousands of rows as one array, not value by value. Pure.

It deliberately knows one table only: every other takes few rows, and statements with values in arrays.

Invariants:
    1. What it gives is a COPY of ``RESULT_COLUMNS``, all of them and in their order ("COPY", binary format, in
       PostgreSQL's manual): signature, flags, no extension; for each row the number of its columns, for each column its
       length and its bytes; integers big-endian.
    2. No part holds more than ``COPY_PART_MAX_ROWS`` rows, so that a batch is not held twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.limits import SUM_BYTES
from einthoven_server.database import Scope
from einthoven_server.records.change_store import NewResults

RESULT_COLUMNS: Final = (
    "shard",
    "tenant",
    "device_alias",
    "epoch",
    "counter",
    "patient_id",
    "row_sealed",
    "key_version",
    "row_sum",
    "commit_seq",
)
COPY_PART_MAX_ROWS: Final = 4_096

_BEGIN: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_INT: Final = struct.Struct(">ii")
"""Length and value of an int."""
_LENGTH: Final = struct.Struct(">i")
_COUNT: Final = struct.Struct(">h")
_LONG_BYTES: Final = 8


def copied_results(scope: Scope, new: Sequence[NewResults]) -> Iterator[bytes]:
    """The parts of a COPY of results.

    Args:
        scope: Shard and tenant.
        new: The results.
    """
    yield _BEGIN
    for some in new:
        for begin in range(0, len(some.rows), COPY_PART_MAX_ROWS):
            yield from _part(scope, some, range(begin, min(begin + COPY_PART_MAX_ROWS, len(some.rows))))
    yield _END


def _part(scope: Scope, new: NewResults, places: range) -> Iterator[bytes]:
    stored = new.rows.stored
    by_length: dict[int, Sequence[int]] = {}
    lengths = {len(stored[place]) for place in places}
    if len(lengths) == 1:
        by_length[lengths.pop()] = places
    else:
        # Rows with further columns are longer. Which stands first in a COPY does not matter.
        for length in lengths:
            by_length[length] = [place for place in places if len(stored[place]) == length]
    for length, alike in by_length.items():
        yield _alike(scope, new, alike, length)


def _alike(scope: Scope, new: NewResults, places: Sequence[int], stored_bytes: int) -> bytes:
    """Rows whose columns are all of one length: a frame that repeats, and four columns that differ."""
    device, rows = new.device, new.rows
    before = b"".join(
        (
            _COUNT.pack(len(RESULT_COLUMNS)),
            _INT.pack(4, scope.shard),
            _text(scope.tenant),
            _INT.pack(4, device.alias),
            _INT.pack(4, new.epoch),
            _LENGTH.pack(4),
        )
    )
    between = _text(device.patient_id) + _LENGTH.pack(stored_bytes)
    after = _INT.pack(4, device.patient_key.version) + _LENGTH.pack(SUM_BYTES)
    parts: tuple[bytes | NDArray[np.uint8], ...] = (
        before,
        _integers([rows.counters[place] for place in places], ">i4"),
        between,
        _octets([rows.stored[place] for place in places], stored_bytes),
        after,
        _octets([rows.shares[place].to_bytes(SUM_BYTES, "big") for place in places], SUM_BYTES),
        _LENGTH.pack(_LONG_BYTES),
        _integers([new.seqs[place] for place in places], ">i8"),
    )
    n_rows = len(places)
    columns = [
        np.broadcast_to(np.frombuffer(part, np.uint8), (n_rows, len(part))) if isinstance(part, bytes) else part
        for part in parts
    ]
    return np.concatenate(columns, axis=1).tobytes()


def _text(value: str) -> bytes:
    octets = value.encode()
    return _LENGTH.pack(len(octets)) + octets


def _integers(values: Sequence[int], kind: str) -> NDArray[np.uint8]:
    return np.array(values, kind).view(np.uint8).reshape(len(values), -1)


def _octets(values: Sequence[bytes], length: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), length)
