"""Results read as one run are those that are read one by one, and nothing is given out that is not what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from sqlcipher3 import dbapi2
from tests.contracts.conftest import window

from einthoven.result_rows import to_row
from einthoven.sqlcipher_books import results_in
from einthoven.sqlcipher_result_runs import stored_run
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_migrations import create_tables
from einthoven.store_run_tags import ROWS_PER_TURN, replica_run_tags
from einthoven.store_schema import position_of
from einthoven.store_tags import RowTags
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.canonical_results import packed_results
from einthoven_protocol.packed_results import ResultRows

N_ROWS = 150
"""More than one turn's."""


@pytest.fixture
def rows() -> Iterator[SqlCipherRows]:
    connection = dbapi2.connect(":memory:", isolation_level=None)
    create_tables(connection, store_id=bytes(16), at_ms=1)
    rows = SqlCipherRows(connection)
    with rows.transaction():
        rows.append_results([replace(window(seed)[0], started_at_ms=10**11 + seed**5) for seed in range(N_ROWS)])
    yield rows
    connection.close()


@pytest.mark.parametrize(("first", "last"), [(1, N_ROWS), (1, 1), (64, 65), (3, 10**6), (N_ROWS, N_ROWS)])
def test_a_run_is_what_is_read_one_by_one(rows: SqlCipherRows, first: int, last: int) -> None:
    run = stored_run(rows, 1, first, last)
    found = list(results_in(rows, 1, first, last))
    assert run is not None
    assert run.first_counter == first
    assert run.rows.split() == [body for _, _, body, _ in found]
    assert list(run.segment_digests()) == [digest for _, _, _, digest in found]


def test_where_nothing_is_or_a_hole_there_is_no_run(rows: SqlCipherRows) -> None:
    assert stored_run(rows, 1, N_ROWS + 1, 10**6) is None
    assert stored_run(rows, 2, 1, 10) is None
    with rows.transaction():
        rows.delete("result", (position_of(1, 50),))
    assert stored_run(rows, 1, 40, 60) is None
    assert stored_run(rows, 1, 50, 60) is None
    assert stored_run(rows, 1, 40, 49) is not None


@pytest.mark.parametrize(
    "change",
    [
        "body = CAST(body || x'00' AS BLOB)",
        "body = zeroblob(78)",
        "body = CAST(substr(body, 1, 77) || x'ff' AS BLOB)",
        "segment_digest = zeroblob(32)",
        "tag = zeroblob(16)",
        "tag = (SELECT tag FROM result WHERE position % 4294967296 = 51)",
        "started_at_ms = started_at_ms + 1",
        "started_at_ms = -1",
    ],
)
def test_a_row_that_is_not_what_was_written_is_in_no_run(rows: SqlCipherRows, change: str) -> None:
    rows.connection.execute(f"UPDATE result SET {change} WHERE position = ?", (position_of(1, 50),))
    assert stored_run(rows, 1, 1, N_ROWS) is None
    assert stored_run(rows, 1, 50, 50) is None
    assert stored_run(rows, 1, 51, N_ROWS) is not None
    assert len(list(results_in(rows, 1, 1, N_ROWS))) == N_ROWS - 1


def test_two_rows_that_changed_places_are_in_no_run(rows: SqlCipherRows) -> None:
    first, second = position_of(1, 7), position_of(1, 8)
    for old, new in ((first, -1), (second, first), (-1, second)):
        rows.connection.execute("UPDATE result SET position = ? WHERE position = ?", (new, old))
    assert stored_run(rows, 1, 1, 20) is None


def test_a_long_run_gives_way(rows: SqlCipherRows) -> None:
    turns: list[int] = []
    reader = RowReader(rows.connection, rows.tags, give_way=lambda: turns.append(1))
    assert stored_run(reader, 1, 1, N_ROWS) is not None
    assert len(turns) == -(-N_ROWS // ROWS_PER_TURN)


@pytest.mark.parametrize("history", [0, 5, -1])
def test_tags_of_a_run_of_replicas_are_those_of_each(history: int) -> None:
    results = [replace(window(seed)[0], counter=3 * seed + 1) for seed in range(70)]
    octets = [encode_result_row(to_row(result)) for result in results]
    packed = packed_results(octets)
    assert isinstance(packed, ResultRows)
    tags = RowTags(bytes(range(32)))
    expected = b"".join(
        tags.tag("replica", (9, position_of(4, one.counter), one.started_at_ms, history, body))
        for one, body in zip(results, octets, strict=True)
    )
    assert replica_run_tags(tags, 9, 4, history, packed) == expected
    assert np.frombuffer(expected, np.uint8).any()
