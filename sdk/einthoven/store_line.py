"""What the salvage of a store rests on: its own line, the shapes of its tables, and validity by tag. Pure.

It deliberately opens nothing; pages come from ``sqlite_pages.Pages``.

Invariants:
    1. A line that is given out can be used: every field has its length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, cast

from einthoven.sqlite_pages import Pages
from einthoven.sqlite_records import Value
from einthoven.store_salvage import IsValid, Salvage
from einthoven.store_schema import INTEGRITY_KEY_BYTES, NEWEST_VERSION, STORE_ID_BYTES, TABLE_BY_NAME
from einthoven.store_tags import RowTags, TableSums
from einthoven.table_shapes import TableShape, shapes_of

STORE_SHAPES: Final[tuple[TableShape, ...]] = shapes_of(NEWEST_VERSION)
"""Shapes of all tables of the version that this software writes."""
TAGGED_SHAPES: Final = tuple(shape for shape in STORE_SHAPES if shape.name in TABLE_BY_NAME)
"""Those whose rows have tags: all but ``store``."""

_STORE_SHAPE: Final = tuple(shape for shape in STORE_SHAPES if shape.name == "store")
_TAG_PLACE: Final = {table.name: table.stored_columns.index("tag") for table in TABLE_BY_NAME.values()}
_AUDIT_HEAD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class StoreLine:
    """The one line of table ``store``.

    Attributes:
        store_id: Identity, 16 bytes.
        integrity_key: Key of the tags, 32 bytes.
        commit_seq: Number of the last commit.
        sums: What the tables should add up to.
        audit_head: Hash of the last audit entry.
    """

    store_id: bytes
    integrity_key: bytes = field(repr=False)
    commit_seq: int
    sums: TableSums
    audit_head: bytes


def find_store_line(pages: Pages) -> StoreLine | None:
    """The store's own line, looked for off its tree as well; the newest, if an old page was put somewhere."""
    newest: StoreLine | None = None
    for row in Salvage(pages, _STORE_SHAPE, lambda _table, _values: True).rows():
        line = _line(row.values)
        if line is not None and row.in_tree:
            return line
        if line is not None and (newest is None or line.commit_seq > newest.commit_seq):
            newest = line
    return newest


def valid_by_tag(tags: RowTags | None) -> IsValid:
    """Validity of a row of a table other than ``store``.

    Args:
        tags: Under the store's integrity key. Where that is lost, a page's HMAC is all the proof there is.
    """
    if tags is None:
        return lambda _table, _values: True

    def is_valid(table: str, values: tuple[Value, ...]) -> bool:
        return tags.holds(table, untagged(table, values), values[_TAG_PLACE[table]])

    return is_valid


def untagged(table: str, values: tuple[Value, ...]) -> tuple[int | str | bytes | None, ...]:
    """A stored row without its tag, in the order of ``store_schema.TABLES``, which have no column of real numbers."""
    place = _TAG_PLACE[table]
    return cast(tuple[int | str | bytes | None, ...], (*values[:place], *values[place + 1 :]))


def _line(values: tuple[Value, ...]) -> StoreLine | None:
    match values:
        case (1, bytes() as store_id, bytes() as key, int() as commit_seq, bytes() as sums, bytes() as head):
            lengths = (len(store_id), len(key), len(head))
            if lengths != (STORE_ID_BYTES, INTEGRITY_KEY_BYTES, _AUDIT_HEAD_BYTES) or commit_seq < 0:
                return None
            try:
                return StoreLine(store_id, key, commit_seq, TableSums.decode(sums), head)
            except ValueError:
                return None
        case _:
            return None
