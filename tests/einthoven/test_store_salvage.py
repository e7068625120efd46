"""Salvage: every row that an intact page holds, with a page, or several, taken away; and none that is not valid."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from tests.einthoven.sqlite_files import PlainPages

from einthoven.sqlite_btree import INDEX_LEAF, TABLE_LEAF
from einthoven.sqlite_records import Value
from einthoven.store_salvage import Salvage, SalvagedRow
from einthoven.table_shapes import Column, TableShape, shapes_of

SCHEMA = (
    "CREATE TABLE result (position INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, body BLOB NOT NULL) STRICT",
    "CREATE INDEX result_at ON result (at_ms)",
    "CREATE TABLE named (name TEXT PRIMARY KEY, value BLOB, often INTEGER) STRICT",
    "CREATE TABLE keyed (x TEXT, y INTEGER, z BLOB NOT NULL, note TEXT, PRIMARY KEY (y, x)) STRICT, WITHOUT ROWID",
)
Rows = dict[str, dict[tuple[Value, ...], tuple[Value, ...]]]


def made(seed: int, rows: int = 300) -> tuple[bytes, tuple[TableShape, ...]]:
    chance = random.Random(seed)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("PRAGMA secure_delete = ON")
        for statement in SCHEMA:
            connection.execute(statement)
        for number in range(rows):
            body = chance.randbytes(chance.choice([20, 60, 90, 2_000]))
            connection.execute("INSERT INTO result VALUES (?, ?, ?)", (number + 2**32, number * 30_000, body))
            connection.execute("INSERT INTO named VALUES (?, ?, ?)", (f"n{number}", body[:70], number or None))
            connection.execute("INSERT INTO keyed VALUES (?, ?, ?, NULL)", (str(number), number % 17, body))
        connection.execute("DELETE FROM result WHERE position % 10 < 3")
        return connection.serialize(), shapes_of(SCHEMA)


def stored(content: bytes, shapes: tuple[TableShape, ...]) -> Rows:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        return {
            shape.name: {shape.key(row): row for row in connection.execute(f"SELECT * FROM {shape.name}")}
            for shape in shapes
        }


def kept(found: list[SalvagedRow], shapes: tuple[TableShape, ...]) -> Rows:
    """As whoever writes them keeps them: the first row of a key stands."""
    rows: Rows = {shape.name: {} for shape in shapes}
    by_name = {shape.name: shape for shape in shapes}
    for row in found:
        rows[row.table].setdefault(by_name[row.table].key(row.values), row.values)
    return rows


def everything_valid(_table: str, _values: tuple[Value, ...]) -> bool:
    return True


def written(rows: Rows) -> Callable[[str, tuple[Value, ...]], bool]:
    """As tags do: only what was ever written is valid."""
    known = {(table, values) for table, keyed in rows.items() for values in keyed.values()}
    return lambda table, values: (table, values) in known


def pages_of_rows(content: bytes, shapes: tuple[TableShape, ...]) -> dict[tuple[str, tuple[Value, ...]], set[int]]:
    """All pages that each row lies on: its cell's and its overflow chain's, found by taking each page away."""
    whole = stored(content, shapes)
    on: dict[tuple[str, tuple[Value, ...]], set[int]] = {}
    for number in range(1, PlainPages(content).n_pages + 1):
        # An oracle that knows nothing of trees: zero the page, and see which leaf cells can no longer be made out.
        pages = PlainPages(content, frozenset({number}))
        found = kept(list(Salvage(pages, shapes, written(whole)).rows()), shapes)
        for table, rows in whole.items():
            for key in rows.keys() - found[table].keys():
                on.setdefault((table, key), set()).add(number)
    return on


def test_shapes_are_read_off_a_database() -> None:
    _, (result, named, keyed) = made(1, rows=1)
    assert (result.rowid_alias, named.rowid_alias, keyed.rowid_alias) == (0, None, None)
    assert keyed.without_rowid
    assert keyed.key_columns == (1, 0)
    assert keyed.key(("a", 5, b"", None)) == (5, "a")
    assert result.columns[1] == Column("at_ms", "INTEGER", nullable=False, key_rank=0)
    assert named.columns[1].nullable


def test_of_a_whole_file_every_row_once_and_nothing_lost() -> None:
    content, shapes = made(2)
    salvage = Salvage(PlainPages(content), shapes, everything_valid)
    found = list(salvage.rows())
    assert len(found) == sum(len(rows) for rows in stored(content, shapes).values())
    assert all(row.in_tree for row in found)
    assert kept(found, shapes) == stored(content, shapes)
    assert (salvage.lost, salvage.damaged_pages) == ([], set())


@pytest.mark.parametrize("seed", range(2))
def test_each_page_taken_away_costs_only_rows_that_lay_on_it(seed: int) -> None:
    """What a page's own bytes hold bounds the loss: a leaf of 512 bytes, or one row through an overflow page."""
    content, shapes = made(seed, rows=30)
    whole = stored(content, shapes)
    is_valid = written(whole)
    for number in range(1, PlainPages(content).n_pages + 1):
        pages = PlainPages(content, frozenset({number}))
        salvage = Salvage(pages, shapes, is_valid)
        found = kept(list(salvage.rows()), shapes)
        raw = PlainPages(content).page(number)
        kind = raw[100 if number == 1 else 0]
        lost = {(table, key) for table, rows in whole.items() for key in rows.keys() - found[table].keys()}
        n_cells = int.from_bytes(raw[3:5], "big")
        if kind in {5, 13}:
            most = n_cells if kind == TABLE_LEAF else 0
        elif kind in {2, INDEX_LEAF}:
            most = n_cells
        else:
            most = 1
        assert len(lost) <= (0 if number == 1 else most), (number, kind)
        assert all(found[table][key] == whole[table][key] for table in whole for key in found[table])
        assert salvage.damaged_pages == {number} or not lost
        if number == 1:
            assert salvage.damaged_pages == {1}


@pytest.mark.parametrize("seed", range(3))
def test_many_pages_at_once_cost_no_more_than_each_alone(seed: int) -> None:
    content, shapes = made(7, rows=30)
    whole = stored(content, shapes)
    on = pages_of_rows(content, shapes)
    chance = random.Random(seed)
    n_pages = PlainPages(content).n_pages
    damaged = frozenset(chance.sample(range(1, n_pages + 1), n_pages // chance.choice([3, 5, 20])))
    salvage = Salvage(PlainPages(content, damaged), shapes, written(whole))
    found = kept(list(salvage.rows()), shapes)
    expected = {
        (table, key) for table, rows in whole.items() for key in rows if not on.get((table, key), set()) & damaged
    }
    assert expected <= {(table, key) for table, rows in found.items() for key in rows}
    assert salvage.damaged_pages <= damaged


def test_a_row_that_is_not_valid_is_named_and_not_given_out() -> None:
    content, shapes = made(3)
    key = (2**32 + 8,)
    forged = stored(content, shapes)["result"][key]
    salvage = Salvage(PlainPages(content), shapes, lambda table, values: values != forged)
    found = kept(list(salvage.rows()), shapes)
    assert key not in found["result"]
    assert [(place.table, place.after, place.until, place.tag_wrong) for place in salvage.lost] == [
        ("result", key, key, True)
    ]
    assert salvage.damaged_pages == set()


def test_a_stray_that_two_tables_might_hold_is_of_none() -> None:
    """Without tags and without page 1, a shape alone says which table a row is of; where it does not, it is left."""
    content, shapes = made(4, rows=40)
    twin = TableShape("twin", shapes[0].columns, without_rowid=False)
    found = list(Salvage(PlainPages(content, frozenset({1})), (*shapes, twin), everything_valid).rows())
    assert {row.table for row in found} == {"named", "keyed"}
    assert not any(row.in_tree for row in found)


def test_free_pages_and_indexes_are_no_strays() -> None:
    """A page that is in the freelist shows no row even where an old page was put in its place."""
    content, shapes = made(5)
    whole = stored(content, shapes)
    pages = PlainPages(content)
    leaf = next(n for n in range(2, pages.n_pages) if pages.page(n)[0] == TABLE_LEAF)
    from einthoven.sqlite_schema_pages import free_pages

    free = [number for number, trunk in free_pages(pages, set()) if not trunk]
    assert free
    old = bytearray(content)
    old[(free[0] - 1) * 512 : free[0] * 512] = pages.page(leaf)
    salvage = Salvage(PlainPages(bytes(old), frozenset({2})), shapes, written(whole))
    keys = [row.values[0] for row in salvage.rows() if row.table == "result"]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("seed", range(15))
def test_hostile_bytes_give_valid_rows_or_none(seed: int) -> None:
    chance = random.Random(seed)
    content, shapes = made(6, rows=60)
    whole = stored(content, shapes)
    damaged = bytearray(content)
    for _ in range(chance.choice([10, 300, 5_000])):
        place = chance.randrange(21, len(damaged))
        damaged[place] = chance.randrange(256)
    found = kept(list(Salvage(PlainPages(bytes(damaged)), shapes, written(whole)).rows()), shapes)
    for table, rows in found.items():
        assert rows.items() <= whole[table].items()
