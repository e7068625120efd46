"""Rows to ciphertext and back, each bound to its table and identity.

It deliberately holds no key; a patient's key comes with the device or from ``patient_keys``.
"""

from __future__ import annotations

from einthoven_protocol.codec import (
    decode_annotation_row,
    decode_result_row,
    encode_annotation_row,
)
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import AnnotationRow, ResultId, ResultRow
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import EnvelopeRefused

RESULTS = "result_row"
QUARANTINE = "quarantined_row"
ANNOTATIONS = "annotation"
_COLUMN = "row_sealed"


def seal_result(key: PatientKey, table: str, result: ResultId, canonical: bytes) -> bytes:
    """Seal a result's canonical bytes for its row."""
    return key.seal(canonical, table, _COLUMN, _row_of(result))


def open_result(key: PatientKey, result: ResultId, sealed: bytes) -> ResultRow:
    """Open a stored result.

    Raises:
        EnvelopeRefused: It was not sealed for this patient and row.
    """
    try:
        return decode_result_row(key.open(sealed, RESULTS, _COLUMN, _row_of(result)))
    except ProtocolError as error:
        raise _unreadable() from error


def seal_annotation(key: PatientKey, row: AnnotationRow) -> bytes:
    """Seal an annotation for its row."""
    return key.seal(encode_annotation_row(row), ANNOTATIONS, _COLUMN, _row_of(row.target, row.author))


def open_annotation(key: PatientKey, target: ResultId, author: str, sealed: bytes) -> AnnotationRow:
    """Open a stored annotation.

    Raises:
        EnvelopeRefused: It was not sealed for this patient and row.
    """
    try:
        return decode_annotation_row(key.open(sealed, ANNOTATIONS, _COLUMN, _row_of(target, author)))
    except ProtocolError as error:
        raise _unreadable() from error


def _row_of(result: ResultId, author: str = "") -> str:
    # Numbers first: an author, whatever it holds, can't make one row look like another.
    return f"{result.device_alias}/{result.epoch}/{result.counter}/{author}"


def _unreadable() -> EnvelopeRefused:
    return EnvelopeRefused("a stored row is not of a form this version reads", "use the version that wrote it")
