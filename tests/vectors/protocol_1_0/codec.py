"""Bytes of the two messages of an exchange, and of the rows in them (docs/sync-protocol-v1.md has the tables).

It deliberately checks form and ranges only; whether a response fits its request is ``exchange``'s business, and what
a server makes of a row its own.

Invariants:
    1. ``decode(encode(message)) == message``. Unlike a row's, a message's bytes are not unique: never hash them.
    2. Decoding raises only ``ProtocolError``, and holds no more than a few times ``limits.MAX_DECODED_BYTES``.
    3. Results in a message have contiguous, ascending counters; a seal's run lies within them when there are any.
    4. Fields and columns with unknown numbers are skipped. No unknown column ever takes part in a row's canonical
       bytes: what would must come with a new row format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.vectors.protocol_1_0 import limits
from tests.vectors.protocol_1_0.canonical import (
    decode_annotation_row,
    decode_result_row,
    encode_annotation_row,
    encode_result_row,
)
from tests.vectors.protocol_1_0.errors import DecodeError, LimitExceeded, OutOfRange
from tests.vectors.protocol_1_0.fields import Reader, varint, write_fields
from tests.vectors.protocol_1_0.frame import REQUEST, RESPONSE, close_frame, open_frame
from tests.vectors.protocol_1_0.messages import Cursor, Digest, ExchangeRequest, ExchangeResponse, ResultRow, Seal
from tests.vectors.protocol_1_0.tables import (
    decode_annotations,
    decode_results,
    decode_seals,
    decode_verdicts,
    encode_annotations,
    encode_results,
    encode_seals,
    encode_verdicts,
)

__all__ = [
    "CONTENT_TYPE",
    "decode_annotation_row",
    "decode_request",
    "decode_response",
    "decode_result_row",
    "encode_annotation_row",
    "encode_request",
    "encode_response",
    "encode_result_row",
]

CONTENT_TYPE: Final = "application/vnd.einthoven.sync"
"""Media type of both messages."""

# Field numbers. Of the request:
_ALIAS, _EPOCH, _AT_SHARD_EPOCH, _AT_COMMIT_SEQ = 1, 2, 3, 4
_RESULTS, _ANNOTATIONS, _SEALS = 16, 17, 18
# Of the response:
_ACKNOWLEDGED, _SHARD_EPOCH, _COMMIT_SEQ, _DIGEST_COUNT, _DIGEST_TOTAL, _MORE, _SERVER_TIME = 1, 2, 3, 4, 5, 6, 7
_VERDICTS, _NEW_ANNOTATIONS = 16, 17


def encode_request(request: ExchangeRequest) -> bytes:
    """Return the bytes of a request.

    Raises:
        OutOfRange: A value is outside its range, or counters are not contiguous.
        LimitExceeded: It has too many rows.
    """
    _require_runs(request.results, request.seals)
    return close_frame(
        REQUEST,
        write_fields(
            {
                _ALIAS: _scalar("device_alias", request.device_alias, 0, limits.MAX_DEVICE_ALIAS),
                _EPOCH: _scalar("epoch", request.epoch, 1, limits.MAX_EPOCH),
                _AT_SHARD_EPOCH: _scalar("shard_epoch", request.cursor.shard_epoch, 0, limits.MAX_SHARD_EPOCH),
                _AT_COMMIT_SEQ: _scalar("commit_seq", request.cursor.commit_seq, 0, limits.MAX_COMMIT_SEQ),
                _RESULTS: encode_results(request.results),
                _ANNOTATIONS: encode_annotations(request.annotations),
                _SEALS: encode_seals(request.seals),
            }
        ),
    )


def decode_request(body: bytes) -> ExchangeRequest:
    """Return the request whose bytes these are.

    Raises:
        ProtocolError: They are none that this version accepts.
    """
    fields = Reader(open_frame(body, REQUEST)).fields()
    request = ExchangeRequest(
        device_alias=_read(fields, _ALIAS, "device_alias", 0, limits.MAX_DEVICE_ALIAS),
        epoch=_read(fields, _EPOCH, "epoch", 1, limits.MAX_EPOCH),
        results=decode_results(fields.get(_RESULTS)),
        annotations=decode_annotations(fields.get(_ANNOTATIONS)),
        seals=decode_seals(fields.get(_SEALS)),
        cursor=Cursor(
            _read(fields, _AT_SHARD_EPOCH, "shard_epoch", 0, limits.MAX_SHARD_EPOCH),
            _read(fields, _AT_COMMIT_SEQ, "commit_seq", 0, limits.MAX_COMMIT_SEQ),
        ),
    )
    _require_runs(request.results, request.seals)
    return request


def encode_response(response: ExchangeResponse) -> bytes:
    """Return the bytes of a response.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: It has too many rows.
    """
    total = response.digest.total
    if not 0 <= total < 1 << (8 * limits.SUM_BYTES):
        raise OutOfRange("digest total is outside 0 to 2**128 - 1")
    return close_frame(
        RESPONSE,
        write_fields(
            {
                _ACKNOWLEDGED: _scalar("acknowledged", response.acknowledged, 0, limits.MAX_COUNTER),
                _SHARD_EPOCH: _scalar("shard_epoch", response.cursor.shard_epoch, 0, limits.MAX_SHARD_EPOCH),
                _COMMIT_SEQ: _scalar("commit_seq", response.cursor.commit_seq, 0, limits.MAX_COMMIT_SEQ),
                _DIGEST_COUNT: _scalar("digest count", response.digest.count, 0, limits.MAX_DIGEST_COUNT),
                _DIGEST_TOTAL: [total.to_bytes(limits.SUM_BYTES, "big")] if total else [],
                _MORE: _scalar("more", int(response.more), 0, 1),
                _SERVER_TIME: _scalar("server_time_ms", response.server_time_ms, 0, limits.MAX_TIME_MS),
                _VERDICTS: encode_verdicts(response.verdicts),
                _NEW_ANNOTATIONS: encode_annotations(response.annotations),
            }
        ),
    )


def decode_response(body: bytes) -> ExchangeResponse:
    """Return the response whose bytes these are.

    Raises:
        ProtocolError: They are none that this version accepts.
    """
    fields = Reader(open_frame(body, RESPONSE)).fields()
    total = fields.get(_DIGEST_TOTAL, bytes(limits.SUM_BYTES))
    if len(total) != limits.SUM_BYTES:
        raise DecodeError(f"a digest total is {limits.SUM_BYTES} bytes")
    return ExchangeResponse(
        acknowledged=_read(fields, _ACKNOWLEDGED, "acknowledged", 0, limits.MAX_COUNTER),
        verdicts=decode_verdicts(fields.get(_VERDICTS)),
        annotations=decode_annotations(fields.get(_NEW_ANNOTATIONS)),
        cursor=Cursor(
            _read(fields, _SHARD_EPOCH, "shard_epoch", 0, limits.MAX_SHARD_EPOCH),
            _read(fields, _COMMIT_SEQ, "commit_seq", 0, limits.MAX_COMMIT_SEQ),
        ),
        digest=Digest(
            _read(fields, _DIGEST_COUNT, "digest count", 0, limits.MAX_DIGEST_COUNT), int.from_bytes(total, "big")
        ),
        more=bool(_read(fields, _MORE, "more", 0, 1)),
        server_time_ms=_read(fields, _SERVER_TIME, "server_time_ms", 0, limits.MAX_TIME_MS),
    )


def _scalar(name: str, value: int, low: int, high: int) -> list[bytes]:
    """Return the content of a number's field: a varint, and nothing for 0."""
    if not low <= value <= high:
        raise OutOfRange(f"{name} is outside {low} to {high}")
    return [varint(value)] if value else []


def _read(fields: dict[int, bytes], number: int, name: str, low: int, high: int) -> int:
    value = 0
    if number in fields:
        reader = Reader(fields[number])
        value = reader.varint()
        if not reader.at_end:
            raise DecodeError(f"{name} is not one varint")
    if not low <= value <= high:
        raise OutOfRange(f"{name} is outside {low} to {high}")
    return value


def _require_runs(results: Sequence[ResultRow], seals: Sequence[Seal]) -> None:
    """Check invariant 3, and counts that the tables have no say in."""
    if len(results) > limits.MAX_RESULTS_PER_EXCHANGE:
        raise LimitExceeded(f"more than {limits.MAX_RESULTS_PER_EXCHANGE} results in one message")
    first = results[0].counter if results else 1
    last = first + len(results) - 1
    if [row.counter for row in results] != list(range(first, last + 1)):
        raise OutOfRange("the counters of a message's results are not contiguous")
    for seal in seals:
        if seal.first_counter > seal.last_counter:
            raise OutOfRange("a seal's run ends before it begins")
        if results and not first <= seal.first_counter <= seal.last_counter <= last:
            raise OutOfRange("a seal's run lies outside the message's results")
