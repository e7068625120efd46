"""What the reader of SQLite's file format asks of whoever holds the pages, and how it says that one is not whole.

Pure. It deliberately knows no cipher (``sqlcipher_pages``) and no layout within a page (``sqlite_btree``).

Invariants:
    1. A page is either whole or ``DamagedPage``; there is nothing between.
"""

from __future__ import annotations

from typing import Protocol

from einthoven.errors import StoreDamaged

REMEDY = "repair the store, or restore it from a backup"
"""What a person can do about damage."""


class DamagedPage(StoreDamaged):
    """A page whose bytes are not what was written, or that is not there.

    Args:
        number: Its number, from 1.
        why: What was found, without a full stop.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"page {number} of the store {why}", REMEDY)
        self.number = number


class MalformedRecord(StoreDamaged):
    """A record that can't be read: some length or type in it does not hold together.

    Args:
        why: What was found, without a full stop.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"a row of the store can't be read: {why}", REMEDY)


class ByteSource(Protocol):
    """Bytes that can be read anywhere: a file, or memory."""

    @property
    def n_bytes(self) -> int:
        """How many there are."""
        ...

    def read_at(self, position: int, n_bytes: int) -> bytes:
        """Read that many, fewer where they end."""
        ...


class BytesInMemory:
    """A ``ByteSource`` over bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def n_bytes(self) -> int:
        """See ``ByteSource``."""
        return len(self._content)

    def read_at(self, position: int, n_bytes: int) -> bytes:
        """See ``ByteSource``."""
        return self._content[position : position + n_bytes]


class Pages(Protocol):
    """The pages of one database at one moment."""

    @property
    def n_pages(self) -> int:
        """How many there should be."""
        ...

    @property
    def n_present(self) -> int:
        """How many there can be at most, from 1 on: the bound of a look at every page."""
        ...

    @property
    def usable_bytes(self) -> int:
        """Bytes of a page that SQLite lays its cells out in."""
        ...

    def page(self, number: int) -> bytes:
        """A page's content, ``usable_bytes`` long.

        Args:
            number: From 1.

        Raises:
            DamagedPage: It is not what was written, or not there.
        """
        ...
