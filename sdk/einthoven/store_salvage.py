"""Every row of a damaged store that an intact page still holds. Pure over ``sqlite_pages.Pages``.

First each table's tree is walked, around what is damaged. Where something was (a lost interior page hides its whole
subtree, a lost page 1 hides every table), all pages that no tree and no freelist named are looked at, and rows are told
by their table's shape and their tag. Rows are streamed: memory is in proportion to pages, not to rows.

It deliberately writes nothing and compares no two versions of a row: a row found off the trees may be one that its tree
holds as well, or one that was deleted and whose page was put back; it comes after all rows of the trees, and whoever
keeps rows by primary key lets the first one stand.

Invariants:
    1. A row that is given out is valid: of its table's shape, and ``is_valid``.
    2. Every valid row on an intact page that is not free is given out, unless it runs on to a damaged page.
    3. Of a tree, each row is given out once.
    4. Whatever the bytes, it ends and raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from einthoven.sqlite_btree import Key, Lost, Row, leaf_rows, read_btree_page, walk
from einthoven.sqlite_pages import DamagedPage, Pages
from einthoven.sqlite_records import Value
from einthoven.sqlite_schema_pages import free_pages, schema_of
from einthoven.table_shapes import TableShape

IsValid = Callable[[str, tuple[Value, ...]], bool]
"""Whether these are values that were written to this table: its tag's word."""


@dataclass(frozen=True, slots=True)
class SalvagedRow:
    """A row that is whole.

    Attributes:
        table: Its table.
        values: In the order of the table's columns.
        in_tree: Whether its table's tree led to it.
    """

    table: str
    values: tuple[Value, ...]
    in_tree: bool


@dataclass(frozen=True, slots=True)
class LostRows:
    """Where rows were lost.

    Attributes:
        table: Of this table; empty where that is not known.
        page: The page that was damaged, or that the row was on.
        after: Key that they came after; ``None`` if not known.
        until: Key that they did not come after; ``None`` if not known.
        tag_wrong: Whether the page is whole and a row on it is not what was written.
    """

    table: str
    page: int
    after: Key | None
    until: Key | None
    tag_wrong: bool = False


class Salvage:
    """One reading of a damaged store.

    Attributes:
        lost: What could not be read or is not valid; complete once ``rows`` was read to its end. What lay below a lost
            interior page is named here even where it was found again off the trees.
        damaged_pages: Numbers of the pages that were not whole; likewise.
    """

    def __init__(self, pages: Pages, shapes: Sequence[TableShape], is_valid: IsValid) -> None:
        """Name what to read; nothing is read yet.

        Args:
            pages: The damaged file's pages.
            shapes: Tables to look for.
            is_valid: Asked once for each row.
        """
        self._pages = pages
        self._shapes = tuple(shapes)
        self._is_valid = is_valid
        self._entered: set[int] = set()
        self.lost: list[LostRows] = []
        self.damaged_pages: set[int] = set()

    def rows(self) -> Iterator[SalvagedRow]:
        """All valid rows, those of the trees first, table by table in the order of the shapes."""
        entries, lost = schema_of(self._pages, self._entered)
        self._note("", lost)
        roots = {entry.name: entry.root for entry in entries}
        for shape in self._shapes:
            if shape.name in roots:
                yield from self._of_tree(shape, roots[shape.name])
        shaped = {shape.name for shape in self._shapes}
        for entry in entries:
            if entry.name not in shaped:
                # Indexes hold nothing of their own; their pages are not to be taken for strays.
                for found in walk(self._pages, entry.root, self._entered):
                    if isinstance(found, Lost):
                        self._note_unreadable(found.page)
        if self.lost or not shaped <= roots.keys():
            self._leave_out_free_pages()
            yield from self._strays()

    def _of_tree(self, shape: TableShape, root: int) -> Iterator[SalvagedRow]:
        for found in walk(self._pages, root, self._entered):
            if isinstance(found, Lost):
                self._note(shape.name, [found])
                continue
            values = shape.row(found)
            if values is not None and self._is_valid(shape.name, values):
                yield SalvagedRow(shape.name, values, in_tree=True)
            else:
                key = None if values is None else shape.key(values)
                self.lost.append(LostRows(shape.name, found.page, key, key, tag_wrong=True))

    def _strays(self) -> Iterator[SalvagedRow]:
        for number in range(1, self._pages.n_present + 1):
            if number in self._entered:
                continue
            try:
                page = read_btree_page(self._pages, number)
            except DamagedPage:
                self._note_unreadable(number)
                continue
            for found in leaf_rows(self._pages, page, self._entered):
                row = None if isinstance(found, Lost) else self._told_by_shape(found)
                if row is not None:
                    yield row

    def _told_by_shape(self, stored: Row) -> SalvagedRow | None:
        """The row of the one table that it can be of."""
        told = []
        for shape in self._shapes:
            values = shape.row(stored)
            if values is not None and self._is_valid(shape.name, values):
                told.append(SalvagedRow(shape.name, values, in_tree=False))
        return told[0] if len(told) == 1 else None

    def _leave_out_free_pages(self) -> None:
        try:
            for _ in free_pages(self._pages, self._entered):
                pass
        except DamagedPage as error:
            # Free pages hold zeros (secure_delete), so one that is not known to be free shows no row.
            self.damaged_pages.add(error.number)

    def _note(self, table: str, lost: Sequence[Lost]) -> None:
        for at in lost:
            self._note_unreadable(at.page)
            self.lost.append(LostRows(table, at.page, at.after, at.until))

    def _note_unreadable(self, number: int) -> None:
        """Note a page as damaged if it is: one that is whole but free, or of an overflow chain, is not."""
        try:
            self._pages.page(number)
        except DamagedPage:
            self.damaged_pages.add(number)
