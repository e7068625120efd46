"""What rows of a table look like in its b-tree, so that a page whose table is no longer known can be told. Pure.

Source: "Database File Format", sections 2.3 (Representation Of SQL Tables) and 2.4 (WITHOUT ROWID Tables).

Shapes are read off the statements that made the tables, and only as far as ours go: this is deliberately no parser of
SQL.

Invariants:
    1. ``TableShape.row`` never raises; what is not of this shape is ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from einthoven.sqlite_btree import Row
from einthoven.sqlite_records import Value

_CREATE: Final = re.compile(r"\s*CREATE TABLE (?P<name>\w+) \((?P<columns>.*)\)(?P<options>[^)]*)\Z", re.DOTALL)
_KEY: Final = re.compile(r",\s*PRIMARY KEY\s*\((?P<names>[^)]*)\)")
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "INTEGER": int,
    "INT": int,
    "TEXT": str,
    "BLOB": bytes,
    "REAL": (int, float),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its name.
        declared: Its declared type, one of a STRICT table.
        nullable: Whether it may be NULL.
        key_rank: Its place in the primary key, from 1; 0 if it is not part of it.
    """

    name: str
    declared: str
    nullable: bool
    key_rank: int

    def takes(self, value: Value) -> bool:
        """Whether a STRICT table would keep this value here."""
        return self.nullable if value is None else isinstance(value, _TYPES.get(self.declared, object))


@dataclass(frozen=True, slots=True)
class TableShape:
    """One table.

    Attributes:
        name: Its name.
        columns: In the order of their declaration.
        without_rowid: Whether it lies in an index b-tree, its key first.
    """

    name: str
    columns: tuple[Column, ...]
    without_rowid: bool

    @property
    def key_columns(self) -> tuple[int, ...]:
        """Places of the primary key's columns, in key order."""
        ranked = [(column.key_rank, place) for place, column in enumerate(self.columns) if column.key_rank]
        return tuple(place for _, place in sorted(ranked))

    @property
    def rowid_alias(self) -> int | None:
        """Place of the INTEGER PRIMARY KEY, if there is one."""
        key = self.key_columns
        if self.without_rowid or len(key) != 1 or self.columns[key[0]].declared != "INTEGER":
            return None
        return key[0]

    def row(self, stored: Row) -> tuple[Value, ...] | None:
        """A row's values in the order of the columns; ``None`` if it is none of this table."""
        if (stored.rowid is None) != self.without_rowid or len(stored.values) != len(self.columns):
            return None
        values = list(stored.values)
        if self.without_rowid:
            key = self.key_columns
            rest = [place for place in range(len(self.columns)) if place not in key]
            for place, value in zip((*key, *rest), stored.values, strict=True):
                values[place] = value
        alias = self.rowid_alias
        if alias is not None:
            if values[alias] is not None:
                return None
            values[alias] = stored.rowid
        if not all(column.takes(value) for column, value in zip(self.columns, values, strict=True)):
            return None
        return tuple(values)

    def key(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """The primary key of a row."""
        return tuple(values[place] for place in self.key_columns)


def shapes_of(statements: Iterable[str]) -> tuple[TableShape, ...]:
    """Shapes of the tables that these statements make, in their order; other statements are passed over.

    Args:
        statements: As ``store_schema`` writes them: columns first, then a key of several columns, each constraint in
            parentheses of its own.
    """
    return tuple(_shape(found) for found in map(_CREATE.match, statements) if found)


def _shape(found: re.Match[str]) -> TableShape:
    parts = _strip_parentheses(found["columns"]).split(",")
    key = _KEY.search(found["columns"])
    names = [name.strip() for name in key["names"].split(",")] if key else []
    columns = []
    for part in parts:
        words = part.split()
        if not words or words[0] in {"PRIMARY", "FOREIGN", "CHECK", "UNIQUE"}:
            continue
        name, declared = words[:2]
        inline_key = "PRIMARY KEY" in part
        key_rank = names.index(name) + 1 if name in names else int(inline_key)
        # A key that is not the rowid's alias may hold NULL, unless the table is STRICT and WITHOUT ROWID.
        columns.append(Column(name, declared, nullable="NOT NULL" not in part and not key_rank, key_rank=key_rank))
    return TableShape(found["name"], tuple(columns), "WITHOUT ROWID" in found["options"])


def _strip_parentheses(text: str) -> str:
    """The text without what stands in parentheses, so that commas left over part columns."""
    kept, depth = [], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth == 0 and character != ")":
            kept.append(character)
    return "".join(kept)
