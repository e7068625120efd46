"""Says in words what a repair could not keep: which rows, as far as anything that is whole still names them.

A table has lost something exactly where the sums of the tags that were kept are not those that were written. What it
was is read off the counters (results), off the numbers of rows (whatever has numbers), and off the index by name or
digest, which lies on pages of its own (signals, settings, annotations, refusals).

It deliberately keeps nothing and mends nothing (``store_repair``).

Invariants:
    1. A place holds keys and numbers, never content.
    2. A table that lost a row is named at least once, a table that lost none is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.sqlcipher_signals import PAGE_BODY_BYTES, Extent
from einthoven.sqlite_btree import Row, walk
from einthoven.sqlite_pages import Pages
from einthoven.sqlite_records import Value
from einthoven.sqlite_schema_pages import schema_of
from einthoven.store_check import missing_results, spelled
from einthoven.store_salvage import LostRows
from einthoven.store_schema import CONTENT_KINDS, TABLE_BY_NAME, TABLES_BY_POSITION, Table, place_of
from einthoven.store_tags import TableSums
from einthoven.store_values import ContentKind, DamageReason

MAX_LOSSES: Final = 1_000
"""Lines that one repair puts into the quarantine; what goes beyond is said in one line."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that could not be kept.

    Attributes:
        kind: What it was.
        place: Its key, range of keys, or page.
        reason: How it was found.
    """

    kind: ContentKind
    place: str
    reason: DamageReason


def losses_of(
    connection: dbapi2.Connection,
    pages: Pages,
    lost: list[LostRows],
    written: TableSums | None,
    kept: TableSums,
) -> list[Loss]:
    """What was lost, ``MAX_LOSSES`` lines and one more at most.

    Args:
        connection: To the new file, with every row in it that was kept and no other.
        pages: The damaged file's.
        lost: What its salvage could not read.
        written: What the damaged file's tables should have added up to; ``None`` if nobody knows any more.
        kept: What the new file's do.
    """
    damaged = sorted({place.table for place in lost if place.table})
    tables = damaged if written is None else kept.differing(written)
    losses = []
    for name in tables:
        reason = _reason(name, lost)
        places = _places(connection, pages, name, lost)
        named = 0
        for place in places:
            named += 1
            losses.append(Loss(CONTENT_KINDS[name], place, reason))
            if len(losses) >= MAX_LOSSES:
                return [*losses, Loss(CONTENT_KINDS[name], "and more", reason)]
        if not named and written is not None:
            missing = written.count(name) - kept.count(name)
            place = f"{name}: {missing} rows" if missing > 0 else f"{name}: changed"
            losses.append(Loss(CONTENT_KINDS[name], place, reason))
    return losses


def _reason(name: str, lost: list[LostRows]) -> DamageReason:
    of_table = [place for place in lost if place.table in {name, ""}]
    if any(not place.tag_wrong for place in of_table):
        return DamageReason.PAGE_UNREADABLE
    # Rows whose pages are whole, and which are not what was counted: an older page was put back.
    return DamageReason.TAG_WRONG if of_table else DamageReason.PAGE_TURNED_BACK


def _places(connection: dbapi2.Connection, pages: Pages, name: str, lost: list[LostRows]) -> Iterator[str]:
    table = TABLE_BY_NAME[name]
    if name == "result":
        yield from missing_results(connection)
    elif name == "signal_page":
        yield from (digest.hex() for _, digest in broken_signals(connection))
    elif name == "segment" or not table.row_id:
        yield from _missing_of_index(connection, pages, table)
    else:
        places = [place for place in lost if place.table == name]
        if not places and name not in TABLES_BY_POSITION:
            # The page that says where the table begins is lost, and with it where in the table something is missing.
            places = [LostRows(name, 0, None, None)]
        yield from _missing_numbers(connection, table, places)


def broken_signals(connection: dbapi2.Connection) -> Iterator[tuple[int, bytes]]:
    """Signals of which some bytes are gone: number and digest."""
    lines = connection.execute("SELECT id, digest, first_byte, n_bytes FROM segment ORDER BY id").fetchall()
    for number, digest, first_byte, n_bytes in lines:
        first, last = pages_of_extent((first_byte, n_bytes))
        count, n_found = connection.execute(
            "SELECT count(*), ifnull(sum(length(body)), 0) FROM signal_page WHERE id BETWEEN ? AND ?", (first, last)
        ).fetchone()
        # All rows in the middle of a signal are full, so a sum tells whether the last one is long enough.
        if count != last - first + 1 or n_found < first_byte + n_bytes - first * PAGE_BODY_BYTES:
            yield number, digest


def pages_of_extent(extent: Extent) -> tuple[int, int]:
    """First and last row that a signal lies in."""
    first_byte, n_bytes = extent
    return first_byte // PAGE_BODY_BYTES, (first_byte + max(n_bytes, 1) - 1) // PAGE_BODY_BYTES


def _missing_of_index(connection: dbapi2.Connection, pages: Pages, table: Table) -> Iterator[str]:
    """Keys that the old file's index by key still names, and that the new file has no row for."""
    columns = ("digest",) if table.name == "segment" else table.key
    found = f"SELECT 1 FROM {table.name} WHERE " + " AND ".join(f"{column} = ?" for column in columns)  # noqa: S608
    entered: set[int] = set()
    for entry in schema_of(pages, entered)[0]:
        if entry.name != f"sqlite_autoindex_{table.name}_1":
            continue
        for row in walk(pages, entry.root, entered):
            if isinstance(row, Row) and len(row.values) == len(columns) + 1:
                key = row.values[:-1]
                if connection.execute(found, key).fetchone() is None:
                    yield place_of(table.name, _with_key(table, columns, key))  # type: ignore[arg-type]


def _with_key(table: Table, columns: tuple[str, ...], key: tuple[Value, ...]) -> list[Value]:
    values: list[Value] = [None] * len(table.columns)
    for column, value in zip(columns, key, strict=True):
        values[table.columns.index(column)] = value
    return values


def _missing_numbers(connection: dbapi2.Connection, table: Table, lost: list[LostRows]) -> Iterator[str]:
    """Numbers between those of the rows that were kept, where a page was lost; without an end, ``first-``."""
    key = table.key[0]
    for place in lost:
        first = place.after[0] + 1 if place.after and isinstance(place.after[0], int) else 1
        last = place.until[0] if place.until and isinstance(place.until[0], int) else None
        if place.tag_wrong and last is not None:
            first = last
        awaited = first
        rows = connection.execute(
            f"SELECT {key} FROM {table.name} WHERE {key} >= ? AND {key} <= ? ORDER BY {key}",  # noqa: S608
            (first, 2**63 - 1 if last is None else last),
        )
        for (number,) in rows:
            if number > awaited:
                yield _stretch(table.name, awaited, number - 1)
            awaited = number + 1
        if last is None:
            yield f"{table.name} {awaited}-"
        elif awaited <= last:
            yield _stretch(table.name, awaited, last)


def _stretch(name: str, first: int, last: int) -> str:
    if name in TABLES_BY_POSITION:
        return f"{name} {spelled(first, last)}"
    return f"{name} {first}" if first == last else f"{name} {first}-{last}"
