"""Tables as columns of integers, bytes or text. Bytes in, values out.

They deliberately know no row: ``tables`` says which number means what.

Invariants:
    1. An absent column stands for the default (0, or no bytes) in every row; a present one holds a value for each row.
    2. Nothing is allocated for a declared count before that count is checked against a limit or the bytes at hand.
    3. Every value is checked against its range in both directions.
    4. Decoding raises only ``ProtocolError``. Integer arithmetic is modulo 2**64, two's complement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.checks import text_from, text_octets
from einthoven_protocol.errors import DecodeError, LimitExceeded, OutOfRange
from einthoven_protocol.few_rows import DELTA, FEW_ROWS, MAX_WIDTH, WIDTH_MASK, pack_few, unpack_few
from einthoven_protocol.fields import Reader, varint, write_fields, zigzag

_UTF8_MAX_BYTES: Final = 4
"""Longest UTF-8 encoding of one character."""


class Table:
    """A received table, its row count checked.

    Args:
        octets: The table, ``None`` if it is absent.
        max_rows: Most rows allowed.
    """

    def __init__(self, octets: bytes | None, max_rows: int) -> None:
        self._rows = 0
        self._columns: dict[int, bytes] = {}
        if octets is None:
            return
        reader = Reader(octets)
        self._rows = reader.varint()
        if not self._rows:
            raise DecodeError("a table has no rows; leave it out")
        if self._rows > max_rows:
            raise LimitExceeded(f"more than {max_rows} rows in one table")
        self._columns = reader.fields()

    @property
    def rows(self) -> int:
        """How many rows it has, 0 if it is absent."""
        return self._rows

    def column(self, number: int) -> bytes | None:
        """Return a column as it came, ``None`` if it is absent."""
        return self._columns.get(number)

    def numbers(self, first: int, last: int) -> list[int]:
        """Return the numbers of the columns that are there from ``first`` to ``last``, ascending."""
        return [number for number in self._columns if first <= number <= last]

    def integers(self, number: int, name: str, low: int, high: int) -> list[int]:
        """Return an integer column, checked."""
        if 0 < self._rows <= FEW_ROWS:
            few = unpack_few(self._columns.get(number), self._rows)
            if min(few) < low or max(few) > high:
                raise OutOfRange(f"{name} is outside {low} to {high}")
            return few
        values: list[int] = self.array(number, name, low, high).tolist()
        return values

    def array(self, number: int, name: str, low: int, high: int) -> NDArray[np.int64]:
        """Return an integer column, checked, int64 [rows]."""
        if not self._rows:
            return np.zeros(0, np.int64)
        column = decode_integers(self._columns.get(number), self._rows)
        if int(column.min()) < low or int(column.max()) > high:
            raise OutOfRange(f"{name} is outside {low} to {high}")
        return column

    def fixed(self, number: int, name: str, length: int) -> list[bytes]:
        """Return a column of bytes of one length."""
        if not self._rows:
            return []
        return _require_lengths(name, decode_octets(self._columns.get(number), self._rows, length), length)

    def octets(self, number: int, name: str, max_bytes: int) -> list[bytes]:
        """Return a bytes column."""
        if not self._rows:
            return []
        return decode_octets(self._columns.get(number), self._rows, max_bytes)

    def entries(self, number: int, max_bytes: int) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return a bytes column as ``decode_entries`` does, without values that no row has; the table has rows."""
        entries, places = decode_entries(self._columns.get(number), self._rows, max_bytes)
        if len(entries) == 1:
            return entries, places
        used, places = np.unique(places, return_inverse=True)
        return [entries[place] for place in used], places

    def texts(self, number: int, name: str, max_characters: int) -> list[str]:
        """Return a text column, checked; equal texts are one object."""
        if not self._rows:
            return []
        column = decode_octets(self._columns.get(number), self._rows, _UTF8_MAX_BYTES * max_characters)
        texts = {octets: text_from(octets) for octets in set(column)}
        for text in texts.values():
            text_octets(name, text, max_characters)
        return [texts[octets] for octets in column]


def write_table(rows: int, max_rows: int, columns: Mapping[int, Sequence[bytes]]) -> list[bytes]:
    """Return the parts of a table, none for no rows.

    Raises:
        LimitExceeded: It has more than ``max_rows``.
    """
    if rows > max_rows:
        raise LimitExceeded(f"more than {max_rows} rows in one table")
    return [varint(rows), *write_fields(columns)] if rows else []


def encode_integers(
    name: str, values: Sequence[int] | NDArray[np.int64], low: int, high: int, *, delta: bool = False
) -> list[bytes]:
    """Return the parts of an integer column; no parts if every value is 0.

    Args:
        name: What to call it in an error.
        values: One integer a row; an array is int64.
        low: Smallest value allowed.
        high: Largest value allowed, at most 2**63 - 1.
        delta: Whether differences of neighbours are likely to be smaller, or more alike, than the values.

    Raises:
        OutOfRange: A value is outside ``low`` to ``high``, or no integer.
    """
    if not len(values):
        return []
    if not isinstance(values, np.ndarray) and len(values) <= FEW_ROWS and set(map(type, values)) == {int}:
        if min(values) < low or max(values) > high:
            raise OutOfRange(f"{name} is outside {low} to {high}")
        return pack_few(values, delta=delta)
    column = np.asarray(values)
    # Python integers over 64 bits, floats and text give an array of another kind.
    if column.dtype.kind != "i" or int(smallest := column.min()) < low or int(largest := column.max()) > high:
        raise OutOfRange(f"{name} is outside {low} to {high}")
    if smallest == largest:
        return [b"\x00" + zigzag(int(smallest))] if smallest else []
    if not delta:
        return _packed(column, 0, b"")
    return _packed(column[1:] - column[:-1], DELTA, zigzag(int(column[0])))


def _packed(values: NDArray[np.int64], flags: int, head: bytes) -> list[bytes]:
    """Write what is left above the smallest value, in as few bytes as the largest needs, one byte plane after another.

    Planes, not rows: the high bytes of small numbers are alike, and compress to nothing when they stand together.
    """
    low = values.min()
    above = (values - low).astype("<u8")
    width = (int(above.max()).bit_length() + 7) // 8
    planes = above.view(np.uint8).reshape(len(above), MAX_WIDTH)[:, :width].T
    return [bytes((flags | width,)) + head + zigzag(int(low)), *(plane.tobytes() for plane in planes)]


def decode_integers(octets: bytes | None, rows: int) -> NDArray[np.int64]:
    """Return an integer column, int64 [rows].

    Args:
        octets: The column, ``None`` if it is absent.
        rows: Rows of the table, at least 1, checked by the caller.

    Raises:
        DecodeError: The column does not hold ``rows`` values.
    """
    if octets is None:
        return np.zeros(rows, np.int64)
    reader = Reader(octets)
    flags = reader.take(1)[0]
    width = flags & WIDTH_MASK
    if flags & ~(WIDTH_MASK | DELTA) or width > MAX_WIDTH:
        raise DecodeError("an integer column is packed in an unknown way")
    first = reader.zigzag() if flags & DELTA else 0
    low = reader.zigzag()
    count = rows - 1 if flags & DELTA else rows
    planes = np.frombuffer(reader.take(width * count), np.uint8).reshape(width, count)
    if not reader.at_end:
        raise DecodeError("an integer column does not hold one value a row")
    wide = np.zeros((count, MAX_WIDTH), np.uint8)
    wide[:, :width] = planes.T
    values = wide.view("<u8").reshape(count).astype(np.uint64) + np.uint64(low)
    if flags & DELTA:
        values = np.concatenate((np.array([first], np.uint64), values)).cumsum(dtype=np.uint64)
    return values.view(np.int64)


def encode_octets(values: Sequence[bytes]) -> list[bytes]:
    """Return the parts of a bytes column: its distinct values in order of appearance, then which row has which."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return encode_entries(list(places), [places[value] for value in values])


def encode_entries(entries: Sequence[bytes], places: Sequence[int] | NDArray[np.int64]) -> list[bytes]:
    """Return the parts of a bytes column.

    Args:
        entries: Its distinct values, in order of appearance.
        places: Which of them each row has; an array is int64.
    """
    if not any(entries):
        return []
    octets = b"".join(varint(len(value)) + value for value in entries)
    return [varint(len(entries)) + octets, *encode_integers("place", places, 0, len(entries) - 1, delta=True)]


def decode_octets(octets: bytes | None, rows: int, max_bytes: int) -> list[bytes]:
    """Return a bytes column, one value a row.

    Args:
        octets: The column, ``None`` if it is absent.
        rows: Rows of the table, at least 1, checked by the caller.
        max_bytes: Longest value allowed.

    Raises:
        DecodeError: The column does not hold ``rows`` values, or one is too long.
    """
    if octets is None:
        return [b""] * rows
    if rows > FEW_ROWS:
        entries, found = decode_entries(octets, rows, max_bytes)
        return [entries[place] for place in found.tolist()]
    entries, left = _dictionary(octets, rows, max_bytes)
    places = unpack_few(left, rows)
    if min(places) < 0 or max(places) >= len(entries):
        raise _outside_dictionary()
    return [entries[place] for place in places]


def decode_entries(octets: bytes | None, rows: int, max_bytes: int) -> tuple[list[bytes], NDArray[np.int64]]:
    """Return a bytes column as its distinct values and which of them each row has, int64 [rows].

    Args:
        octets: The column, ``None`` if it is absent.
        rows: Rows of the table, at least 1, checked by the caller.
        max_bytes: Longest value allowed.

    Raises:
        DecodeError: The column does not hold ``rows`` values, or one is too long.
    """
    if octets is None:
        return [b""], np.zeros(rows, np.int64)
    entries, left = _dictionary(octets, rows, max_bytes)
    places = decode_integers(left, rows)
    if int(places.min()) < 0 or int(places.max()) >= len(entries):
        raise _outside_dictionary()
    return entries, places


def _dictionary(octets: bytes, rows: int, max_bytes: int) -> tuple[list[bytes], bytes | None]:
    """The distinct values of a bytes column, and what says which row has which."""
    reader = Reader(octets)
    count = reader.varint()
    if not 1 <= count <= rows:
        raise DecodeError("a dictionary has no entries, or more than rows")
    entries = []
    for _ in range(count):
        length = reader.varint()
        if length > max_bytes:
            raise DecodeError(f"a value is over {max_bytes} bytes")
        entries.append(reader.take(length))
    return entries, None if reader.at_end else reader.rest()


def _outside_dictionary() -> DecodeError:
    return DecodeError("a row points outside its dictionary")


def encode_fixed(name: str, values: list[bytes], length: int) -> list[bytes]:
    """Return the parts of a column of bytes of one length.

    Raises:
        OutOfRange: A value is of another length.
    """
    return encode_octets(_require_lengths(name, values, length))


def _require_lengths(name: str, values: list[bytes], length: int) -> list[bytes]:
    if set(map(len, values)) - {length}:
        raise OutOfRange(f"{name} is not {length} bytes long")
    return values
