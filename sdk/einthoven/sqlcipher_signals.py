"""Where signals lie in the store: one after the other in rows that fill a page each, whatever a signal's length.

A signal of half a minute is about as long as a page, the worst length that there is: as a row of its own it leaves a
sixth of the file empty (measured: 15.3 MB a day, 13.6 MB like this). So stored forms are written as one run of bytes,
cut into rows of ``PAGE_BODY_BYTES``; a signal's line in ``segment`` says where it begins and how long it is. The row at
the end is written again until it is full. It deliberately knows neither codec nor digest.

Invariants:
    1. Byte ``n`` of the run lies in row ``n // PAGE_BODY_BYTES``; all rows in the middle of a signal are full.
    2. Signals lie in the order of their numbers and do not overlap.
    3. A row that no signal lies in any more is removed; of a row that two shared, the part of the one that was removed
       is overwritten with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from einthoven.sqlcipher_row_reading import RowReader
    from einthoven.sqlcipher_rows import SqlCipherRows

PAGE_BODY_BYTES: Final = 3_956
"""Signal in one row: with tag and headers it fills a SQLCipher page of 4,096 bytes without an overflow page."""

Extent = tuple[int, int]
"""First byte of a signal in the run, and how many there are."""


def read_signal(rows: RowReader, first_byte: int, n_bytes: int) -> bytes | None:
    """The stored form of a signal; ``None`` if one of its rows is missing or not what was written."""
    first, last = _pages_of((first_byte, n_bytes))
    found = rows.connection.execute(
        "SELECT id, body, tag FROM signal_page WHERE id BETWEEN ? AND ? ORDER BY id", (first, last)
    ).fetchall()
    if not all(rows.tags.holds("signal_page", (page, body), tag) for page, body, tag in found):
        return None
    run = b"".join(body for _, body, _ in found)
    begin = first_byte - first * PAGE_BODY_BYTES
    signal = run[begin : begin + n_bytes]
    return signal if len(found) == last - first + 1 and len(signal) == n_bytes else None


class SignalRun:
    """The end of the run, where signals are added, and the removal of what is no longer wanted.

    Args:
        rows: All writing goes through it.
    """

    def __init__(self, rows: SqlCipherRows) -> None:
        self._rows = rows
        self._last: tuple[int, bytes] | None = None

    def forget(self) -> None:
        """Look the end up again: a transaction failed."""
        self._last = None

    def append(self, stored: bytes) -> int:
        """Write a signal's stored form; return where it begins."""
        page, body = self._end()
        first_byte = page * PAGE_BODY_BYTES + len(body)
        while stored:
            room = PAGE_BODY_BYTES - len(body)
            if room == 0:
                page, body, room = page + 1, b"", PAGE_BODY_BYTES
            before, body, stored = body, body + stored[:room], stored[room:]
            if before:
                self._rows.exchange("signal_page", (page, before), (page, body))
            else:
                self._rows.insert("signal_page", (page, body))
        self._last = (page, body)
        return first_byte

    def remove(self, removed: Iterable[tuple[int, Extent]]) -> None:
        """Remove the signals of lines that were removed.

        Args:
            removed: Of each its number and where it lay.
        """
        for number, extent in removed:
            first, last = _pages_of(extent)
            before = self._neighbour("id < ? ORDER BY id DESC", number)
            after = self._neighbour("id > ? ORDER BY id", number)
            shared = {page for page in (first, last) if _lies_in(before, page) or _lies_in(after, page)}
            for page in shared:
                self._blank(page, extent)
            kept_first, kept_last = first + (first in shared), last - (last in shared)
            self._rows.delete_where("signal_page", "WHERE id BETWEEN ? AND ?", (kept_first, kept_last))
        self._last = None

    def _end(self) -> tuple[int, bytes]:
        """The row to go on in, and what is in it: beyond every signal, also where rows at the end were lost."""
        if self._last is None:
            row = self._rows.find("signal_page", "ORDER BY id DESC LIMIT 1")
            page, body = (0, b"") if row is None else (int(row[0]), bytes(row[1]))
            line = self._rows.connection.execute(
                "SELECT first_byte + n_bytes FROM segment ORDER BY id DESC LIMIT 1"
            ).fetchone()
            if line is not None and line[0] > page * PAGE_BODY_BYTES + len(body):
                page, body = -(-line[0] // PAGE_BODY_BYTES), b""
            self._last = (page, body)
        return self._last

    def _neighbour(self, clause: str, number: int) -> Extent | None:
        statement = f"SELECT first_byte, n_bytes FROM segment WHERE {clause} LIMIT 1"  # noqa: S608 - clauses of our own
        line: Extent | None = self._rows.connection.execute(statement, (number,)).fetchone()
        return line

    def _blank(self, page: int, extent: Extent) -> None:
        row = self._rows.connection.execute("SELECT body FROM signal_page WHERE id = ?", (page,)).fetchone()
        if row is None:
            return
        body = bytearray(row[0])
        begin = max(extent[0] - page * PAGE_BODY_BYTES, 0)
        end = min(extent[0] + extent[1] - page * PAGE_BODY_BYTES, len(body))
        body[begin:end] = bytes(max(end - begin, 0))
        self._rows.put("signal_page", (page, bytes(body)))


def _pages_of(extent: Extent) -> tuple[int, int]:
    first_byte, n_bytes = extent
    return first_byte // PAGE_BODY_BYTES, (first_byte + n_bytes - 1) // PAGE_BODY_BYTES


def _lies_in(extent: Extent | None, page: int) -> bool:
    if extent is None:
        return False
    first, last = _pages_of(extent)
    return first <= page <= last
