"""What every ``Store`` holds a caller and a response to. Pure: no SQL, no file, no clock.

The adapters share the checks and the names here, and nothing else: how they keep their books is their own, so that the
in-memory store can stand as the oracle of the encrypted one.

Applying an exchange (``Store.apply_exchange``), rule by rule:
    1. A counter's fate is decided once, when the acknowledged mark passes it: refused if the response has a verdict
       for it that is neither accepted nor duplicate, held by the server otherwise. The mark moves back only by rule 6.
    2. What the server acknowledges must be here. If it acknowledges more, this store was turned back: ``SyncError``,
       and nothing is changed.
    3. An annotation that was pushed or pulled is known to be held by the server, as the merge of all that was. It is
       merged into the local one. One that was ever written here waits exactly as long as local and known differ, so
       one that was changed again while the exchange was under way goes on waiting.
    4. The cursor becomes the response's if the request went out from where the store stands; a pair that comes late
       or twice can only move it forward.
    5. The digest covers the results of rule 1 that the server holds, of all epochs, and the annotations of rule 3 as
       the server is known to hold them.
    6. A response from a new shard epoch is from a server that lost part of its history and says so. What it no longer
       acknowledges waits again with its fate undecided, and of annotations it is known to hold only what this exchange
       and later ones say. Words of others that it lost stay here, and are not this device's to send back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from einthoven.errors import InputError, NotEnrolled, SyncError
from einthoven.ports import Segment
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.segments import segment_digest
from einthoven_protocol.canonical import encode_annotation_row, encode_result_row
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import SYNC_KEY_BYTES
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    RowVerdict,
    VerdictCode,
)

FIRST_EPOCH: Final = 1
"""Epoch of a fresh store."""
SYNC_KEY_SETTING: Final = "sync_key"
"""Setting under which enrolment leaves the key of the digests."""
MAX_SETTING_NAME_CHARS: Final = 64
"""Characters of a setting's name."""
MAX_SETTING_BYTES: Final = 65_536
"""Bytes of a setting's value: settings are small, signals are segments."""
MAX_ROWS_PER_CALL: Final = 100_000
"""Results or annotations that one call may ask for."""

_HELD_BY_SERVER: Final = (VerdictCode.ACCEPTED, VerdictCode.DUPLICATE)


def check_window(result: WindowResult, segment: Segment) -> None:
    """Hold a verdict to its signal.

    Raises:
        ValueError: The verdict does not belong to the segment, or the segment is over a limit.
    """
    if result.segment_digest != segment_digest(segment):
        raise ValueError("result.segment_digest is not that of the segment")


def result_row_bytes(result: WindowResult) -> bytes:
    """Canonical bytes of a verdict's row.

    Raises:
        ValueError: It has a value that does not fit.
    """
    try:
        return encode_result_row(to_row(result))
    except ProtocolError as error:
        raise ValueError(f"the result does not fit its row: {error}") from error


def annotation_row_bytes(row: AnnotationRow) -> bytes:
    """Canonical bytes of an annotation.

    Raises:
        InputError: It is longer than the protocol allows, or has a value that does not fit.
    """
    try:
        return encode_annotation_row(row)
    except ProtocolError as error:
        raise InputError(f"the annotation can't be kept ({error})", "shorten or correct it") from error


def check_setting(name: str, value: bytes = b"") -> None:
    """Hold a setting to its limits.

    Raises:
        ValueError: Name or value is over its limit, the name is empty, or a sync key has the wrong length.
    """
    if not 0 < len(name) <= MAX_SETTING_NAME_CHARS or not name.isascii():
        raise ValueError(f"a setting's name has 1 to {MAX_SETTING_NAME_CHARS} ASCII characters")
    if len(value) > MAX_SETTING_BYTES:
        raise ValueError(f"a setting has at most {MAX_SETTING_BYTES} bytes, not {len(value)}")
    if name == SYNC_KEY_SETTING and len(value) not in (0, SYNC_KEY_BYTES):
        raise ValueError(f"a sync key has {SYNC_KEY_BYTES} bytes, not {len(value)}")


def check_limit(limit: int) -> None:
    """Hold a page size to its limit.

    Raises:
        ValueError: Negative, or over ``MAX_ROWS_PER_CALL``.
    """
    if not 0 <= limit <= MAX_ROWS_PER_CALL:
        raise ValueError(f"limit must be 0 to {MAX_ROWS_PER_CALL}, not {limit}")


def checked_sync_key(value: bytes | None) -> bytes:
    """The sync key, which an enrolled store has.

    Raises:
        NotEnrolled: There is none.
    """
    if not value:
        raise NotEnrolled("this store has no sync key", "enrol the device first")
    return value


def check_acknowledged(response: ExchangeResponse, last_counter: int | None) -> None:
    """Rule 2.

    Args:
        response: What the server said.
        last_counter: Highest counter here in the request's epoch; ``None`` if this store never had that epoch.

    Raises:
        SyncError: The server acknowledges what is not here.
    """
    if last_counter is None or response.acknowledged > last_counter:
        raise SyncError(
            "the server holds results that this store does not, so it was restored from an old copy",
            "enrol the device again",
        )


def begins_new_history(stored: Cursor, response: ExchangeResponse) -> bool:
    """Rule 6; once its cursor is stored, the same history does not begin again."""
    return response.cursor.shard_epoch > stored.shard_epoch


def refused_verdicts(response: ExchangeResponse) -> Mapping[int, RowVerdict]:
    """Rule 1: the verdicts by which a row is not held by the server."""
    return {verdict.counter: verdict for verdict in response.verdicts if verdict.code not in _HELD_BY_SERVER}


def next_cursor(stored: Cursor, request: ExchangeRequest, response: ExchangeResponse) -> Cursor:
    """Rule 4."""
    if request.cursor == stored:
        return response.cursor
    return max(stored, response.cursor)
