"""Rows of the store, read: none is given out whose tag is wrong.

It deliberately opens no connection, writes nothing, and does not search for what is missing (``store_check``).

Invariants:
    1. A row that is given out is the one that was written under its key.
    2. Of one that is not, whoever asked to be told is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged
from einthoven.store_schema import TABLES, Table, place_of
from einthoven.store_tags import RowTags, Value
from einthoven.store_values import DamageReason

ROWS_PER_TURN: Final = 16
"""Rows that are read before a writer may have its turn: some 100 us of work."""

Row = tuple[Any, ...]
"""A row's columns but the tag, in the order of ``store_schema.TABLES``."""
Report = Callable[[str, Sequence[Value], DamageReason], None]
"""Told of each row that is left out: its table, its columns, and how it was found."""


def row_with_key(table: Table) -> str:
    """The clause that finds a table's row by its key."""
    return "WHERE " + " AND ".join(f"{column} = ?" for column in table.key)


def _select(table: Table) -> str:
    return f"SELECT {', '.join(table.columns)}, tag FROM {table.name} "  # noqa: S608 - names of our own


_SELECT: Final = {table.name: _select(table) for table in TABLES}
_SELECT_BY_KEY: Final = {table.name: _select(table) + row_with_key(table) for table in TABLES}


def _go_on() -> None:
    """Who reads alone gives way to nobody."""


def ignore_damage(table: str, values: Sequence[Value], reason: DamageReason) -> None:
    """Who reads without being told leaves damaged rows out all the same."""


class RowReader:
    """Reads rows over one connection, and no row whose tag is wrong.

    Args:
        connection: Any that has the tables.
        tags: Under the store's integrity key.
        report: Told of each row that is left out.
        give_way: Called every ``ROWS_PER_TURN`` rows, so that a writer is not kept waiting for the interpreter.

    Attributes:
        connection: For questions that no row answers (counts, sizes).
        tags: As given.
        give_way: As given.
    """

    def __init__(
        self,
        connection: dbapi2.Connection,
        tags: RowTags,
        report: Report = ignore_damage,
        give_way: Callable[[], None] = _go_on,
    ) -> None:
        self.connection = connection
        self.tags = tags
        self._report = report
        self.give_way = give_way

    def select(self, table: str, clause: str = "", parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Yield the rows that ``SELECT * FROM table clause`` gives; a damaged one is reported and left out."""
        holds = self.tags.holds
        for number, line in enumerate(self.connection.execute(_SELECT[table] + clause, parameters)):
            if number % ROWS_PER_TURN == 0:
                self.give_way()
            values = line[:-1]
            if holds(table, values, line[-1]):
                yield values
            else:
                self._report(table, values, DamageReason.TAG_WRONG)

    def find(self, table: str, clause: str, parameters: Sequence[Value] = ()) -> Row | None:
        """The first row that ``SELECT * FROM table clause`` gives.

        Raises:
            StoreDamaged: It is not what was written; it was reported.
        """
        return self._checked(table, self.connection.execute(_SELECT[table] + clause, parameters).fetchone())

    def get(self, table: str, key: Sequence[Value]) -> Row | None:
        """The row of this key.

        Raises:
            StoreDamaged: See ``find``.
        """
        return self._checked(table, self.connection.execute(_SELECT_BY_KEY[table], key).fetchone())

    def damaged(self, table: str, values: Sequence[Value], reason: DamageReason) -> StoreDamaged:
        """Report a row, and return the error to raise for it."""
        self._report(table, values, reason)
        return StoreDamaged(f"{table} {place_of(table, values)} is not what was written", "run a repair of the store")

    def _checked(self, table: str, line: Row | None) -> Row | None:
        if line is None:
            return None
        values = line[:-1]
        if not self.tags.holds(table, values, line[-1]):
            raise self.damaged(table, values, DamageReason.TAG_WRONG)
        return values
