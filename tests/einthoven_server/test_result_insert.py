"""What one INSERT of results is given, cut again as the database cuts it; a database does so in contract tests."""

from __future__ import annotations

import pytest

from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import RejectReason
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import NewResults
from einthoven_server.records.changes import NO_ROWS, PushedRow, PushedRows
from einthoven_server.records.result_insert import INSERT_MAX_ROWS, ResultInsert, result_inserts


def device(alias: int, patient: str) -> Device:
    key = PatientKey("tenant", patient, 5, bytes(32))
    return Device("d", alias, patient, bytes(32), bytes(32), False, key)


def rows(first: int, *lengths: int) -> PushedRows:
    return PushedRows.of(
        PushedRow(counter, b"", 2**127 + counter, RejectReason.NONE, bytes((counter % 256,)) * length)
        for counter, length in enumerate(lengths, first)
    )


def cut(insert: ResultInsert) -> list[tuple[object, ...]]:
    """The rows of an insert."""
    found: list[tuple[object, ...]] = []
    for place, run in enumerate(insert.runs):
        common = [column[run - 1] for column in (insert.aliases, insert.epochs, insert.patients, insert.key_versions)]
        stored = insert.stored[place * insert.stored_bytes :][: insert.stored_bytes]
        share = insert.sums[place * SUM_BYTES :][:SUM_BYTES]
        found.append((*common, insert.counters[place], stored, share, insert.commit_seqs[place]))
    return found


def expected(new: NewResults) -> list[tuple[object, ...]]:
    one = new.device
    return [
        (one.alias, new.epoch, one.patient_id, 5, row.counter, row.stored, row.share.to_bytes(SUM_BYTES, "big"), seq)
        for row, seq in zip(new.rows, new.seqs, strict=True)
    ]


@pytest.mark.parametrize("lengths", [(108,), (108, 108, 108), (108, 120, 108, 0, 120), (108,) * (INSERT_MAX_ROWS + 1)])
def test_inserts_hold_every_row_once(lengths: tuple[int, ...]) -> None:
    last = 2**31 - 1 - len(lengths)
    new = [
        NewResults(device(3, "p"), 1, rows(1, *lengths), range(2**40, 2**40 + len(lengths))),
        NewResults(device(4, "another"), 9, NO_ROWS, ()),
        NewResults(device(4, "another"), 2**31 - 1, rows(last, *lengths), range(1, 1 + len(lengths))),
    ]
    inserts = list(result_inserts(new))
    assert sorted(row for insert in inserts for row in cut(insert)) == sorted(
        row for some in new for row in expected(some)
    )
    assert max(len(insert.runs) for insert in inserts) <= INSERT_MAX_ROWS


def test_many_small_pushes_are_one_insert() -> None:
    new = [NewResults(device(alias, "p"), 1, rows(1, 108), (alias,)) for alias in range(1, 101)]
    assert len(list(result_inserts(new))) == 1
