"""Rows to ciphertext and back, each bound to its table and identity.

It deliberately holds no key; a patient's key comes with the device or from ``patient_keys``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np

from einthoven_protocol.canonical import (
    decode_annotation_row,
    decode_note_row,
    decode_result_row,
    decode_result_rows,
    decode_superseded_row,
    encode_annotation_row,
    encode_note_row,
    encode_superseded_row,
)
from einthoven_protocol.canonical_results import packed_results
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import AnnotationRow, IdentifiedResult, NoteRow, ResultId, ResultRow, Superseded
from einthoven_protocol.packed_results import IdentifiedResults
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import EnvelopeRefused

RESULTS: Final = "result_row"
QUARANTINE: Final = "quarantined_row"
ANNOTATIONS: Final = "annotation"
NOTES: Final = "note"
SUPERSEDED: Final = "superseded_write"
DOCUMENTS: Final = "document"
_COLUMN: Final = "row_sealed"
_BODY: Final = "body"
T = TypeVar("T")


def seal_result(key: PatientKey, table: str, result: ResultId, canonical: bytes) -> bytes:
    """Seal a result's canonical bytes for its row."""
    return key.seal(canonical, table, _COLUMN, _row_of(result))


def seal_results(
    key: PatientKey, alias: int, epoch: int, counters: Sequence[int], canonical: Sequence[bytes]
) -> list[bytes]:
    """Seal many results of one device and epoch."""
    rows = list(map(f"{alias}/{epoch}/%d/".__mod__, counters))
    return key.seal_all(canonical, RESULTS, _COLUMN, rows)


def open_result(key: PatientKey, result: ResultId, sealed: bytes) -> ResultRow:
    """Open a stored result.

    Raises:
        EnvelopeRefused: It was not sealed for this patient and row.
    """
    return _read(decode_result_row, key.open(sealed, RESULTS, _COLUMN, _row_of(result)))


def open_results(
    key: PatientKey, results: Sequence[tuple[int, int, int]], sealed: Sequence[bytes]
) -> Sequence[IdentifiedResult]:
    """Open many stored results; ``results`` are their identities (``ResultId``).

    Raises:
        EnvelopeRefused: One was not sealed for this patient and row.
    """
    if not results:
        return ()
    canonical = key.open_all(sealed, RESULTS, _COLUMN, list(map("%d/%d/%d/".__mod__, results)))
    aliases, epochs, _ = zip(*results, strict=True)
    try:
        packed = packed_results(canonical)
        if packed is not None:
            # What is sent on is made of these bytes: nobody looks at a row.
            return IdentifiedResults(np.array(aliases, np.int64), np.array(epochs, np.int64), packed)
        rows = decode_result_rows(canonical)
    except ProtocolError as error:
        raise _unreadable() from error
    return tuple(
        IdentifiedResult(device_alias=alias, epoch=epoch, row=row)
        for alias, epoch, row in zip(aliases, epochs, rows, strict=True)
    )


def seal_annotation(key: PatientKey, row: AnnotationRow) -> bytes:
    """Seal an annotation for its row."""
    return key.seal(encode_annotation_row(row), ANNOTATIONS, _COLUMN, _row_of(row.target, row.author))


def open_annotation(key: PatientKey, target: ResultId, author: str, sealed: bytes) -> AnnotationRow:
    """Open a stored annotation.

    Raises:
        EnvelopeRefused: It was not sealed for this patient and row.
    """
    return _read(decode_annotation_row, key.open(sealed, ANNOTATIONS, _COLUMN, _row_of(target, author)))


def seal_note(key: PatientKey, row: NoteRow) -> bytes:
    """Seal a note for its row."""
    return key.seal(encode_note_row(row), NOTES, _COLUMN, _row_of(_note_id(row)))


def open_note(key: PatientKey, place: ResultId, sealed: bytes) -> NoteRow:
    """Open a stored note; ``place`` is its identity.

    Raises:
        EnvelopeRefused: It was not sealed for this patient and row.
    """
    return _read(decode_note_row, key.open(sealed, NOTES, _COLUMN, _row_of(place)))


def seal_superseded(key: PatientKey, row: Superseded, share: int) -> bytes:
    """Seal an overtaken write for its row, which its share is part of the name of."""
    octets = share.to_bytes(SUM_BYTES, "big")
    place = _superseded_row(row.target, row.author, row.field, row.hlc, octets)
    return key.seal(encode_superseded_row(row), SUPERSEDED, _COLUMN, place)


def open_superseded(
    key: PatientKey, target: ResultId, author: str, field: int, hlc: int, share: bytes, sealed: bytes
) -> Superseded:
    """Open a stored overtaken write.

    Raises:
        EnvelopeRefused: It was not sealed for this patient and row.
    """
    place = _superseded_row(target, author, field, hlc, share)
    return _read(decode_superseded_row, key.open(sealed, SUPERSEDED, _COLUMN, place))


def seal_document(key: PatientKey, name: str, version: int, body: bytes) -> bytes:
    """Seal the body of a patient's document."""
    return key.seal(body, DOCUMENTS, _BODY, f"{version}/{name}")


def open_document(key: PatientKey, name: str, version: int, sealed: bytes) -> bytes:
    """Open the body of a patient's document.

    Raises:
        EnvelopeRefused: It was not sealed for this patient and row.
    """
    return key.open(sealed, DOCUMENTS, _BODY, f"{version}/{name}")


def _row_of(result: ResultId, author: str = "") -> str:
    # Numbers first: an author, whatever it holds, can't make one row look like another.
    return f"{result.device_alias}/{result.epoch}/{result.counter}/{author}"


def _superseded_row(target: ResultId, author: str, field: int, hlc: int, share: bytes) -> str:
    return f"{target.device_alias}/{target.epoch}/{target.counter}/{field}/{hlc}/{share.hex()}/{author}"


def _note_id(row: NoteRow) -> ResultId:
    return ResultId(row.device_alias, row.epoch, row.counter)


def _read(decode: Callable[[bytes], T], octets: bytes) -> T:
    try:
        return decode(octets)
    except ProtocolError as error:
        raise _unreadable() from error


def _unreadable() -> EnvelopeRefused:
    return EnvelopeRefused("a stored row is not of a form this version reads", "use the version that wrote it")
