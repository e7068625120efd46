"""Reads rows out of SQLite's b-trees page by page, so that a damaged page costs what lay on it and nothing else.

SQLite itself stops at the first page that it can't read. This walks on: a damaged child of an interior page is named,
with the keys between which its rows lay, and its siblings are read. Pure; pages come from ``sqlite_pages.Pages``.

Source: "Database File Format", sections 1.5 (Freelist), 1.6 (B-tree Pages), 1.7 (Cell Payload Overflow Pages).

It deliberately reads no schema but the one of ``schema_of``, decides nothing about a row's validity, and reads neither
pointer-map pages nor databases with auto-vacuum or UTF-16.

Invariants:
    1. Whatever the bytes, the only exceptions are ``DamagedPage`` and ``MalformedRecord``, and a walk raises none: what
       can't be read is yielded as ``Lost``.
    2. A walk ends: it enters no page twice, whatever the pointers say, and an overflow chain has no more pages than
       its payload needs.
    3. A payload is no longer than the pages that there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from einthoven.sqlite_pages import DamagedPage, MalformedRecord, Pages
from einthoven.sqlite_records import Value, as_signed, decode_record, read_varint

INDEX_INTERIOR: Final = 2
TABLE_INTERIOR: Final = 5
INDEX_LEAF: Final = 10
TABLE_LEAF: Final = 13
PAGE_KINDS: Final = frozenset({INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF})
"""First byte of a b-tree page."""
FILE_HEADER_BYTES: Final = 100
"""Database header, before the b-tree header of page 1."""

_INTERIOR: Final = frozenset({INDEX_INTERIOR, TABLE_INTERIOR})
_TABLE: Final = frozenset({TABLE_INTERIOR, TABLE_LEAF})

Key = tuple[Value, ...]
"""Values that rows of a tree are ordered by: the rowid alone, or a record's first columns."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or one entry of an index.

    Attributes:
        rowid: ``None`` in an index and in a table WITHOUT ROWID.
        values: Columns as they are stored; the alias of the rowid is stored as ``None``.
        page: Number of the page that its cell is on.
    """

    rowid: int | None
    values: tuple[Value, ...]
    page: int


@dataclass(frozen=True, slots=True)
class Lost:
    """What could not be read.

    Attributes:
        page: Number of the damaged page.
        after: Key that what was lost comes after; ``None`` for the beginning of the tree, or not known.
        until: Key that it does not come after (it may have it itself); ``None`` for the end, or not known.
    """

    page: int
    after: Key | None
    until: Key | None


@dataclass(frozen=True, slots=True)
class BtreePage:
    """A b-tree page, taken apart as far as its cell pointers.

    Attributes:
        number: Its page number.
        kind: One of ``PAGE_KINDS``.
        content: All its usable bytes.
        cells: Where each cell begins, in order of key.
        right_child: Last child of an interior page, else 0.
    """

    number: int
    kind: int
    content: bytes
    cells: tuple[int, ...]
    right_child: int

    @property
    def of_table(self) -> bool:
        """Whether its cells have rowids."""
        return self.kind in _TABLE

    @property
    def interior(self) -> bool:
        """Whether it has children."""
        return self.kind in _INTERIOR


def read_btree_page(pages: Pages, number: int) -> BtreePage:
    """Take a page apart.

    Raises:
        DamagedPage: It is not whole, or no b-tree page.
    """
    content = pages.page(number)
    start = FILE_HEADER_BYTES if number == 1 else 0
    kind = content[start]
    if kind not in PAGE_KINDS:
        raise DamagedPage(number, "is no page of a table or index")
    pointers = start + (12 if kind in _INTERIOR else 8)
    n_cells = int.from_bytes(content[start + 3 : start + 5], "big")
    cells_from = pointers + 2 * n_cells
    if cells_from > len(content):
        raise DamagedPage(number, "claims more rows than fit")
    cells = tuple(int.from_bytes(content[at : at + 2], "big") for at in range(pointers, cells_from, 2))
    if any(not cells_from <= cell < len(content) for cell in cells):
        raise DamagedPage(number, "has a row outside itself")
    right_child = int.from_bytes(content[start + 8 : start + 12], "big") if kind in _INTERIOR else 0
    return BtreePage(number, kind, content, cells, right_child)


def leaf_rows(pages: Pages, page: BtreePage, entered: set[int]) -> Iterator[Row | Lost]:
    """The rows of one page, without its children.

    Args:
        pages: Where overflow chains lead.
        page: Any b-tree page; interior pages of tables hold no rows.
        entered: Pages seen; overflow pages are added.
    """
    if page.kind == TABLE_INTERIOR:
        return
    for cell in page.cells:
        yield _row(pages, page, cell, entered)


def walk(pages: Pages, root: int, entered: set[int]) -> Iterator[Row | Lost]:
    """All rows of a tree in order of key, and what could not be read.

    Args:
        pages: The database.
        root: Root page of the tree.
        entered: Pages seen so far, by any walk: none of them is entered again. Pages entered are added.
    """
    todo: list[tuple[int, Key | None, Key | None] | Row | Lost] = [(root, None, None)]
    of_table: bool | None = None
    while todo:
        item = todo.pop()
        if not isinstance(item, tuple):
            yield item
            continue
        number, after, until = item
        try:
            page = _enter(pages, number, entered)
        except DamagedPage as error:
            yield Lost(error.number, after, until)
            continue
        of_table = page.of_table if of_table is None else of_table
        if page.of_table != of_table:
            yield Lost(number, after, until)
        elif page.interior:
            todo += reversed(list(_children(pages, page, after, until, entered)))
        else:
            yield from leaf_rows(pages, page, entered)


def _enter(pages: Pages, number: int, entered: set[int]) -> BtreePage:
    if number in entered or not 1 <= number <= pages.n_pages:
        raise DamagedPage(number, "is pointed to twice, or does not exist")
    entered.add(number)
    return read_btree_page(pages, number)


def _children(
    pages: Pages, page: BtreePage, after: Key | None, until: Key | None, entered: set[int]
) -> Iterator[tuple[int, Key | None, Key | None] | Row | Lost]:
    """Children of an interior page with the keys they lie between; of an index, also the rows between them."""
    for cell in page.cells:
        child = int.from_bytes(page.content[cell : cell + 4], "big")
        between: Row | Lost | None = None
        key: Key | None = None
        if page.of_table:
            try:
                key = (as_signed(read_varint(page.content, cell + 4)[0]),)
            except MalformedRecord:
                between = Lost(page.number, after, until)
        else:
            between = _row(pages, page, cell, entered)
            key = between.values if isinstance(between, Row) else None
        yield (child, after, key)
        if between is not None:
            yield between
        after = key
    yield (page.right_child, after, until)


def _row(pages: Pages, page: BtreePage, cell: int, entered: set[int]) -> Row | Lost:
    rowid: int | None = None
    try:
        position = cell + 4 if page.interior else cell
        payload_bytes, position = read_varint(page.content, position)
        if page.of_table:
            number, position = read_varint(page.content, position)
            rowid = as_signed(number)
        payload = _payload(pages, page, position, payload_bytes, entered)
        return Row(rowid, decode_record(payload), page.number)
    except (DamagedPage, MalformedRecord) as error:
        number = error.number if isinstance(error, DamagedPage) else page.number
        return Lost(number, None if rowid is None else (rowid - 1,), None if rowid is None else (rowid,))


def _payload(pages: Pages, page: BtreePage, position: int, payload_bytes: int, entered: set[int]) -> bytes:
    """A cell's payload, put together from its page and its overflow chain (section 1.6, "payload")."""
    usable = pages.usable_bytes
    if payload_bytes > usable * pages.n_pages:
        raise MalformedRecord("it is longer than the file")
    most = usable - 35 if page.of_table else (usable - 12) * 64 // 255 - 23
    local_bytes = payload_bytes
    if payload_bytes > most:
        least = (usable - 12) * 32 // 255 - 23
        local_bytes = least + (payload_bytes - least) % (usable - 4)
        if local_bytes > most:
            local_bytes = least
    local = page.content[position : position + local_bytes]
    if len(local) != local_bytes:
        raise MalformedRecord("it is longer than its page")
    if local_bytes == payload_bytes:
        return local
    position += local_bytes
    pieces = [local]
    following = page.content[position : position + 4]
    missing = payload_bytes - local_bytes
    while missing > 0:
        number = int.from_bytes(following, "big")
        if len(following) != 4 or number in entered or not 1 < number <= pages.n_pages:
            raise MalformedRecord("its continuation is nowhere")
        entered.add(number)
        content = pages.page(number)
        following = content[:4]
        pieces.append(content[4 : 4 + missing])
        missing -= len(pieces[-1])
    return b"".join(pieces)
