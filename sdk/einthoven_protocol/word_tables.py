"""The tables of what people write: annotations, notes, superseded writes.

They deliberately know neither messages nor compression.

Invariants:
    1. A column's number and meaning never change; a new column takes a new number.
    2. The row count is checked before any column is read.
    3. Every value is checked against ``limits`` in both directions.
    4. Registers and columns of a newer version (``limits.MIN_EXTRA_NUMBER`` on) stay with their rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from einthoven_protocol import limits
from einthoven_protocol.checks import author_octets, text_octets
from einthoven_protocol.columns import Table, encode_integers, encode_octets, write_table
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.extra_columns import decode_extras, decode_registers, encode_extras, encode_registers
from einthoven_protocol.messages import AnnotationRow, NoteRow, Register, ResultId, Superseded

_IDENTITY_RANGES: Final = {
    "device_alias": (0, limits.MAX_DEVICE_ALIAS),
    "epoch": (1, limits.MAX_EPOCH),
    "counter": (1, limits.MAX_COUNTER),
}
_AUTHOR: Final = 4
_RHYTHM_BASE: Final = 9
_COMMENT_BASE: Final = 10
_ALL_NOUGHT: Final = b"\x00\x00"
"""A column whose every value is 0, written all the same: it says that there are base marks."""


def encode_annotations(rows: Sequence[AnnotationRow], bases: Sequence[tuple[int, int]] = ()) -> list[bytes]:
    """Return the parts of a table of annotations, none for no rows.

    Args:
        rows: The annotations.
        bases: Of each, the base marks of rhythm and comment; or none at all.

    Raises:
        OutOfRange: A value is outside its range, or there is not one pair of marks for each row.
        LimitExceeded: There are too many rows.
    """
    if not rows and not bases:
        return []
    columns = identity_columns([row.target for row in rows])
    columns[_AUTHOR] = encode_octets([author_octets(row.author) for row in rows])
    columns[5] = encode_integers("rhythm hlc", [row.rhythm.hlc for row in rows], 0, limits.MAX_HLC, delta=True)
    columns[6] = encode_octets([text_octets("rhythm", row.rhythm.value, limits.MAX_RHYTHM_CHARACTERS) for row in rows])
    columns[7] = encode_integers("comment hlc", [row.comment.hlc for row in rows], 0, limits.MAX_HLC, delta=True)
    columns[8] = encode_octets(
        [text_octets("comment", row.comment.value, limits.MAX_COMMENT_CHARACTERS) for row in rows]
    )
    if bases:
        if len(bases) != len(rows):
            raise OutOfRange("there is not one pair of base marks for each annotation")
        rhythm, comment = ([pair[place] for pair in bases] for place in (0, 1))
        columns[_RHYTHM_BASE] = encode_integers("base mark", rhythm, 0, limits.MAX_BASE_MARK) or [_ALL_NOUGHT]
        columns[_COMMENT_BASE] = encode_integers("base mark", comment, 0, limits.MAX_BASE_MARK)
    columns |= encode_registers([row.further for row in rows])
    return write_table(len(rows), limits.MAX_ANNOTATIONS_PER_EXCHANGE, columns)


def decode_annotations(octets: bytes | None) -> tuple[AnnotationRow, ...]:
    """Return the annotations of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_ANNOTATIONS_PER_EXCHANGE)
    rhythm_hlcs = table.integers(5, "rhythm hlc", 0, limits.MAX_HLC)
    rhythms = table.texts(6, "rhythm", limits.MAX_RHYTHM_CHARACTERS)
    comment_hlcs = table.integers(7, "comment hlc", 0, limits.MAX_HLC)
    comments = table.texts(8, "comment", limits.MAX_COMMENT_CHARACTERS)
    return tuple(
        AnnotationRow(
            target=ResultId(*target),
            author=author,
            rhythm=Register(*rhythm),
            comment=Register(*comment),
            further=further,
        )
        for target, author, rhythm, comment, further in zip(
            identities(table),
            authors(table),
            zip(rhythms, rhythm_hlcs, strict=True),
            zip(comments, comment_hlcs, strict=True),
            decode_registers(table),
            strict=True,
        )
    )


def decode_annotation_bases(octets: bytes | None) -> tuple[tuple[int, int], ...]:
    """Return the base marks in a table of annotations; none if its writer gave none.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_ANNOTATIONS_PER_EXCHANGE)
    if not table.numbers(_RHYTHM_BASE, _COMMENT_BASE):
        return ()
    return tuple(
        zip(
            table.integers(_RHYTHM_BASE, "base mark", 0, limits.MAX_BASE_MARK),
            table.integers(_COMMENT_BASE, "base mark", 0, limits.MAX_BASE_MARK),
            strict=True,
        )
    )


def encode_notes(rows: Sequence[NoteRow]) -> list[bytes]:
    """Return the parts of a table of notes, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
    columns = identity_columns(rows)
    columns[_AUTHOR] = encode_octets([author_octets(row.author) for row in rows])
    columns[5] = encode_integers("at_ms", [row.at_ms for row in rows], 0, limits.MAX_TIME_MS, delta=True)
    columns[6] = encode_octets([text_octets("text", row.text, limits.MAX_NOTE_CHARACTERS) for row in rows])
    columns |= encode_extras([row.extra for row in rows], limits.MAX_EXTRA_BYTES)
    return write_table(len(rows), limits.MAX_NOTES_PER_EXCHANGE, columns)


def decode_notes(octets: bytes | None) -> tuple[NoteRow, ...]:
    """Return the notes of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_NOTES_PER_EXCHANGE)
    times = table.integers(5, "at_ms", 0, limits.MAX_TIME_MS)
    texts = table.texts(6, "text", limits.MAX_NOTE_CHARACTERS)
    extras = decode_extras(table, limits.MAX_EXTRA_BYTES)
    return tuple(
        NoteRow(device_alias=alias, epoch=epoch, counter=counter, author=author, at_ms=at_ms, text=text, extra=extra)
        for (alias, epoch, counter), author, at_ms, text, extra in zip(
            identities(table), authors(table), times, texts, extras, strict=True
        )
    )


def encode_superseded(rows: Sequence[Superseded]) -> list[bytes]:
    """Return the parts of a table of superseded writes, none for no rows.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    if not rows:
        return []
    columns = identity_columns([row.target for row in rows])
    columns[_AUTHOR] = encode_octets([author_octets(row.author) for row in rows])
    columns[5] = encode_integers("field", [row.field for row in rows], 1, limits.MAX_ENUM)
    columns[6] = encode_integers("hlc", [row.hlc for row in rows], 0, limits.MAX_HLC, delta=True)
    columns[7] = encode_octets([text_octets("value", row.value, limits.MAX_COMMENT_CHARACTERS) for row in rows])
    return write_table(len(rows), limits.MAX_SUPERSEDED_PER_EXCHANGE, columns)


def decode_superseded(octets: bytes | None) -> tuple[Superseded, ...]:
    """Return the superseded writes of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    if octets is None:
        return ()
    table = Table(octets, limits.MAX_SUPERSEDED_PER_EXCHANGE)
    fields = table.integers(5, "field", 1, limits.MAX_ENUM)
    times = table.integers(6, "hlc", 0, limits.MAX_HLC)
    values = table.texts(7, "value", limits.MAX_COMMENT_CHARACTERS)
    return tuple(
        Superseded(ResultId(*target), author, field, hlc, value)
        for target, author, field, hlc, value in zip(
            identities(table), authors(table), fields, times, values, strict=True
        )
    )


def identity_columns(rows: Sequence[Any], first: int = 1) -> dict[int, list[bytes]]:
    """Return the columns of device alias, epoch and counter of rows that have them.

    Args:
        rows: Anything with those attributes.
        first: Number of the first of the three columns.

    Raises:
        OutOfRange: A value is outside its range.
    """
    return {
        number: encode_integers(name, [getattr(row, name) for row in rows], *_IDENTITY_RANGES[name], delta=True)
        for number, name in enumerate(_IDENTITY_RANGES, first)
    }


def identities(table: Table, first: int = 1) -> list[tuple[int, int, int]]:
    """Return device alias, epoch and counter of each row; the reverse of ``identity_columns``.

    Raises:
        ProtocolError: A column is damaged, or a value outside its range.
    """
    alias, epoch, counter = (
        table.integers(number, name, *_IDENTITY_RANGES[name]) for number, name in enumerate(_IDENTITY_RANGES, first)
    )
    return list(zip(alias, epoch, counter, strict=True))


def authors(table: Table) -> list[str]:
    """Return the author of each row.

    Raises:
        ProtocolError: The column is damaged, or a row has none.
    """
    column = table.texts(_AUTHOR, "author", limits.MAX_AUTHOR_CHARACTERS)
    if "" in column:
        raise OutOfRange("an annotation has no author")
    return column
