"""What page 1 of a SQLite file says of the rest: its size, its free pages, and where each table begins. Pure.

Source: "Database File Format", sections 1.3 (Database Header), 1.5 (Freelist), 2.6 (sqlite_schema).

It deliberately does not parse SQL: which columns a table has is for the caller to know.

Invariants:
    1. Whatever the bytes, the only exception is ``DamagedPage``; a freelist's walk ends and names no page twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from einthoven.sqlite_btree import FILE_HEADER_BYTES, Lost, walk
from einthoven.sqlite_pages import DamagedPage, Pages


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The part of the database header that recovery needs.

    Attributes:
        n_pages: Pages of the file.
        first_trunk: First trunk page of the freelist, 0 if it is empty.
        n_free: Pages in the freelist.
        user_version: Number of the schema.
        application_id: Whose file it is.
    """

    n_pages: int
    first_trunk: int
    n_free: int
    user_version: int
    application_id: int


@dataclass(frozen=True, slots=True)
class SchemaEntry:
    """One line of sqlite_schema.

    Attributes:
        kind: ``table`` or ``index``.
        name: Its name.
        table: The table that it is, or is on.
        root: Its root page.
    """

    kind: str
    name: str
    table: str
    root: int


def read_file_header(pages: Pages) -> FileHeader:
    """Read the database header.

    Raises:
        DamagedPage: Page 1 is not whole.
    """
    content = pages.page(1)[:FILE_HEADER_BYTES]
    n_pages, first_trunk, n_free, user_version, application_id = (
        int.from_bytes(content[at : at + 4], "big") for at in (28, 32, 36, 60, 68)
    )
    return FileHeader(n_pages, first_trunk, n_free, user_version, application_id)


def schema_of(pages: Pages, entered: set[int]) -> tuple[list[SchemaEntry], list[Lost]]:
    """Tables and indexes with their root pages, and what of that list could not be read.

    Args:
        pages: The database.
        entered: Pages seen; those of sqlite_schema are added.
    """
    entries, lost = [], []
    for found in walk(pages, 1, entered):
        if isinstance(found, Lost):
            lost.append(found)
            continue
        match found.values:
            case ("table" | "index" as kind, str() as name, str() as table, int() as root, _):
                entries.append(SchemaEntry(kind, name, table, root))
            case _:
                lost.append(Lost(found.page, None, None))
    return entries, lost


def free_pages(pages: Pages, entered: set[int]) -> Iterator[tuple[int, bool]]:
    """The freelist.

    Args:
        pages: The database.
        entered: Pages seen; free pages are added.

    Yields:
        Page number, and whether it is a trunk (a list of leaves) and not a leaf (unused).

    Raises:
        DamagedPage: A trunk is not whole, or names a page that can't be free.
    """
    trunk = read_file_header(pages).first_trunk
    while trunk:
        _take(pages, trunk, entered)
        yield trunk, True
        content = pages.page(trunk)
        n_leaves = int.from_bytes(content[4:8], "big")
        if 8 + 4 * n_leaves > len(content):
            raise DamagedPage(trunk, "lists more free pages than fit")
        for at in range(8, 8 + 4 * n_leaves, 4):
            leaf = int.from_bytes(content[at : at + 4], "big")
            _take(pages, leaf, entered)
            yield leaf, False
        trunk = int.from_bytes(content[:4], "big")


def _take(pages: Pages, number: int, entered: set[int]) -> None:
    if number in entered or not 1 < number <= pages.n_pages:
        raise DamagedPage(number, "is free and in use, or does not exist")
    entered.add(number)
