"""The canonical bytes of what people write: annotations, notes, superseded writes. ``canonical`` has their layout.

They deliberately hold no compression, and know nothing of who may write what.

Invariants:
    1. As in ``canonical``.
"""

from __future__ import annotations

import struct
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.checks import author_octets, prefixed, require_range, text_at, text_octets
from einthoven_protocol.errors import DecodeError
from einthoven_protocol.extras import extra_at, extra_octets, register_octets, registers_at
from einthoven_protocol.messages import AnnotationRow, NoteRow, Register, ResultId, Superseded

ANNOTATION_FORMAT: Final = 2
EXTENDED_ANNOTATION_FORMAT: Final = 4
NOTE_FORMAT: Final = 5
SUPERSEDED_FORMAT: Final = 6

_IDENTITY: Final = struct.Struct(">BIII")
_TIME: Final = struct.Struct(">Q")
_FIELD: Final = struct.Struct(">BQ")


def encode_annotation_row(row: AnnotationRow) -> bytes:
    """Return the canonical bytes of an annotation.

    Raises:
        OutOfRange: A value is outside its range.
    """
    target = row.target
    require_range("rhythm hlc", row.rhythm.hlc, 0, limits.MAX_HLC)
    require_range("comment hlc", row.comment.hlc, 0, limits.MAX_HLC)
    head = _identity(
        EXTENDED_ANNOTATION_FORMAT if row.further else ANNOTATION_FORMAT,
        target.device_alias,
        target.epoch,
        target.counter,
    )
    return b"".join(
        (
            head,
            prefixed(author_octets(row.author)),
            _TIME.pack(row.rhythm.hlc),
            prefixed(text_octets("rhythm", row.rhythm.value, limits.MAX_RHYTHM_CHARACTERS)),
            _TIME.pack(row.comment.hlc),
            prefixed(text_octets("comment", row.comment.value, limits.MAX_COMMENT_CHARACTERS)),
            register_octets(row.further) if row.further else b"",
        )
    )


def decode_annotation_row(octets: bytes) -> AnnotationRow:
    """Return the annotation whose canonical bytes these are.

    Raises:
        ProtocolError: They are none.
    """
    try:
        kind, alias, epoch, counter = _IDENTITY.unpack_from(octets)
        author, at = text_at(octets, _IDENTITY.size)
        (rhythm_hlc,) = _TIME.unpack_from(octets, at)
        rhythm, at = text_at(octets, at + _TIME.size)
        (comment_hlc,) = _TIME.unpack_from(octets, at)
        comment, at = text_at(octets, at + _TIME.size)
    except struct.error as problem:
        raise DecodeError("the annotation row is cut off") from problem
    further, at = registers_at(octets, at) if kind == EXTENDED_ANNOTATION_FORMAT else ((), at)
    row = AnnotationRow(
        target=ResultId(alias, epoch, counter),
        author=author,
        rhythm=Register(rhythm, rhythm_hlc),
        comment=Register(comment, comment_hlc),
        further=further,
    )
    _require_same(octets, encode_annotation_row(row), "an annotation row begins with 2 or, with registers, 4")
    return row


def encode_note_row(row: NoteRow) -> bytes:
    """Return the canonical bytes of a note.

    Raises:
        OutOfRange: A value is outside its range.
    """
    require_range("at_ms", row.at_ms, 0, limits.MAX_TIME_MS)
    return b"".join(
        (
            _identity(NOTE_FORMAT, row.device_alias, row.epoch, row.counter),
            prefixed(author_octets(row.author)),
            _TIME.pack(row.at_ms),
            prefixed(text_octets("text", row.text, limits.MAX_NOTE_CHARACTERS)),
            extra_octets(row.extra, limits.MAX_EXTRA_BYTES),
        )
    )


def decode_note_row(octets: bytes) -> NoteRow:
    """Return the note whose canonical bytes these are.

    Raises:
        ProtocolError: They are none.
    """
    try:
        _, alias, epoch, counter = _IDENTITY.unpack_from(octets)
        author, at = text_at(octets, _IDENTITY.size)
        (at_ms,) = _TIME.unpack_from(octets, at)
        text, at = text_at(octets, at + _TIME.size)
    except struct.error as problem:
        raise DecodeError("the note row is cut off") from problem
    extra, _ = extra_at(octets, at, limits.MAX_EXTRA_BYTES)
    row = NoteRow(device_alias=alias, epoch=epoch, counter=counter, author=author, at_ms=at_ms, text=text, extra=extra)
    _require_same(octets, encode_note_row(row), "a note row begins with 5")
    return row


def encode_superseded_row(row: Superseded) -> bytes:
    """Return the canonical bytes of a superseded write.

    Raises:
        OutOfRange: A value is outside its range.
    """
    target = row.target
    require_range("field", row.field, 1, limits.MAX_ENUM)
    require_range("hlc", row.hlc, 0, limits.MAX_HLC)
    return b"".join(
        (
            _identity(SUPERSEDED_FORMAT, target.device_alias, target.epoch, target.counter),
            prefixed(author_octets(row.author)),
            _FIELD.pack(row.field, row.hlc),
            prefixed(text_octets("value", row.value, limits.MAX_COMMENT_CHARACTERS)),
        )
    )


def decode_superseded_row(octets: bytes) -> Superseded:
    """Return the superseded write whose canonical bytes these are.

    Raises:
        ProtocolError: They are none.
    """
    try:
        _, alias, epoch, counter = _IDENTITY.unpack_from(octets)
        author, at = text_at(octets, _IDENTITY.size)
        field, hlc = _FIELD.unpack_from(octets, at)
        value, _ = text_at(octets, at + _FIELD.size)
    except struct.error as problem:
        raise DecodeError("the superseded row is cut off") from problem
    row = Superseded(ResultId(alias, epoch, counter), author, field, hlc, value)
    _require_same(octets, encode_superseded_row(row), "a superseded row begins with 6")
    return row


def _identity(kind: int, device_alias: int, epoch: int, counter: int) -> bytes:
    require_range("device_alias", device_alias, 0, limits.MAX_DEVICE_ALIAS)
    require_range("epoch", epoch, 1, limits.MAX_EPOCH)
    require_range("counter", counter, 1, limits.MAX_COUNTER)
    return _IDENTITY.pack(kind, device_alias, epoch, counter)


def _require_same(octets: bytes, again: bytes, what: str) -> None:
    """One row, one encoding: this catches another format byte, and anything behind the row."""
    if octets != again:
        raise DecodeError(f"{what}, and has nothing behind it")
