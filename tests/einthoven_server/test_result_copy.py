"""The bytes of a COPY of results, read back by the letter of the manual; a database reads them in contract tests."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from einthoven_protocol.messages import RejectReason
from einthoven_server.database import Scope
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import NewResults
from einthoven_server.records.changes import NO_ROWS, PushedRow, PushedRows
from einthoven_server.records.result_copy import COPY_PART_MAX_ROWS, RESULT_COLUMNS, copied_results

SCOPE = Scope(7, "tenant-\u00e9")


def device(alias: int, patient: str) -> Device:
    key = PatientKey(SCOPE.tenant, patient, 5, bytes(32))
    return Device("d", alias, patient, bytes(32), bytes(32), False, key)


def read(octets: bytes) -> Iterator[tuple[bytes, ...]]:
    """Rows of a binary COPY: signature, flags, extension; tuples; -1."""
    assert octets[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    at = 19
    while (count := struct.unpack_from(">h", octets, at)[0]) != -1:
        at += 2
        row = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", octets, at)
            row.append(octets[at + 4 : at + 4 + length])
            assert len(row[-1]) == length
            at += 4 + length
        yield tuple(row)
    assert at + 2 == len(octets)


def expected(new: NewResults) -> list[tuple[bytes, ...]]:
    one = new.device
    return [
        (
            struct.pack(">i", SCOPE.shard),
            SCOPE.tenant.encode(),
            struct.pack(">i", one.alias),
            struct.pack(">i", new.epoch),
            struct.pack(">i", row.counter),
            one.patient_id.encode(),
            row.stored,
            struct.pack(">i", 5),
            row.share.to_bytes(16, "big"),
            struct.pack(">q", seq),
        )
        for row, seq in zip(new.rows, new.seqs, strict=True)
    ]


def rows(first: int, *lengths: int) -> PushedRows:
    return PushedRows.of(
        PushedRow(counter, b"", 2**127 + counter, RejectReason.NONE, bytes((counter % 256,)) * length)
        for counter, length in enumerate(lengths, first)
    )


@pytest.mark.parametrize(
    "lengths", [(108,), (108, 108, 108), (108, 120, 108, 0, 120), (108,) * (COPY_PART_MAX_ROWS + 1)]
)
def test_a_copy_holds_every_row_once(lengths: tuple[int, ...]) -> None:
    last = 2**31 - 1 - len(lengths)
    new = [
        NewResults(device(3, "p"), 1, rows(1, *lengths), range(2**40, 2**40 + len(lengths))),
        NewResults(device(4, "another"), 9, NO_ROWS, ()),
        NewResults(device(4, "another"), 2**31 - 1, rows(last, *lengths), range(1, 1 + len(lengths))),
    ]
    parts = list(copied_results(SCOPE, new))
    found = list(read(b"".join(parts)))
    assert sorted(found) == sorted(row for some in new for row in expected(some))
    assert all(len(row) == len(RESULT_COLUMNS) for row in found)
    widest = max(map(sum, (map(len, row) for row in found))) + 4 * len(RESULT_COLUMNS) + 2
    assert max(map(len, parts)) <= COPY_PART_MAX_ROWS * widest
