"""Bytes of an exchange's response (docs/sync-protocol-v1.md, messages on the wire).

It deliberately checks form and ranges only: whether a response fits its request is ``exchange``'s business.

Invariants:
    1. As in ``codec``.
"""

from __future__ import annotations

from einthoven_protocol import limits
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.fields import Reader, write_fields
from einthoven_protocol.frame import RESPONSE, close_frame, open_frame
from einthoven_protocol.messages import Capability, Cursor, Digest, ExchangeResponse, ServerLimits
from einthoven_protocol.result_tables import decode_identified_results, encode_identified_results
from einthoven_protocol.scalars import read_number, read_octets, write_number
from einthoven_protocol.tables import (
    decode_digests,
    decode_documents,
    decode_owners,
    decode_refused,
    decode_tombstones,
    decode_verdicts,
    encode_digests,
    encode_documents,
    encode_owners,
    encode_refused,
    encode_tombstones,
    encode_verdicts,
)
from einthoven_protocol.word_tables import (
    decode_annotations,
    decode_notes,
    decode_superseded,
    encode_annotations,
    encode_notes,
    encode_superseded,
)

_ACKNOWLEDGED, _SHARD_EPOCH, _COMMIT_SEQ, _DIGEST_COUNT, _DIGEST_TOTAL, _MORE, _SERVER_TIME = 1, 2, 3, 4, 5, 6, 7
_CAPABILITIES, _NOTES_ACKNOWLEDGED, _REBASELINE, _MAX_RESULTS, _MAX_ANNOTATIONS, _MIN_INTERVAL = 8, 9, 10, 11, 12, 13
_VERDICTS, _ANNOTATIONS, _REFUSED, _RESULTS, _NOTES, _TOMBSTONES, _DOCUMENTS = 16, 17, 18, 19, 20, 21, 22
_SUPERSEDED, _DIGESTS, _OWNERS = 23, 24, 25


def encode_response(response: ExchangeResponse, peer: int = 0) -> bytes:
    """Return the bytes of a response.

    Args:
        response: The response.
        peer: ``Capability`` bits that the device announced.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: It has too many rows.
    """
    return close_frame(RESPONSE, write_fields(_numbers(response) | _tables(response, bool(peer & Capability.PACKED))))


def _numbers(response: ExchangeResponse) -> dict[int, list[bytes]]:
    asked = response.limits
    return {
        _ACKNOWLEDGED: write_number("acknowledged", response.acknowledged, 0, limits.MAX_COUNTER),
        _SHARD_EPOCH: write_number("shard_epoch", response.cursor.shard_epoch, 0, limits.MAX_SHARD_EPOCH),
        _COMMIT_SEQ: write_number("commit_seq", response.cursor.commit_seq, 0, limits.MAX_COMMIT_SEQ),
        _DIGEST_COUNT: write_number("digest count", response.digest.count, 0, limits.MAX_DIGEST_COUNT),
        _DIGEST_TOTAL: _total(response.digest.total),
        _MORE: write_number("more", int(response.more), 0, 1),
        _SERVER_TIME: write_number("server_time_ms", response.server_time_ms, 0, limits.MAX_TIME_MS),
        _CAPABILITIES: write_number("capabilities", response.capabilities, 0, limits.MAX_CAPABILITIES),
        _NOTES_ACKNOWLEDGED: write_number("notes_acknowledged", response.notes_acknowledged, 0, limits.MAX_COUNTER),
        _REBASELINE: write_number("rebaseline", int(response.rebaseline), 0, 1),
        _MAX_RESULTS: write_number("max_results", asked.max_results, 0, limits.MAX_ANNOUNCED),
        _MAX_ANNOTATIONS: write_number("max_annotations", asked.max_annotations, 0, limits.MAX_ANNOUNCED),
        _MIN_INTERVAL: write_number("min_interval_s", asked.min_interval_s, 0, limits.MAX_ANNOUNCED),
    }


def _tables(response: ExchangeResponse, packed: bool) -> dict[int, list[bytes]]:
    return {
        _VERDICTS: encode_verdicts(response.verdicts),
        _ANNOTATIONS: encode_annotations(response.annotations),
        _REFUSED: encode_refused(response.refused),
        _RESULTS: encode_identified_results(response.results, packed=packed),
        _NOTES: encode_notes(response.notes),
        _TOMBSTONES: encode_tombstones(response.tombstones),
        _DOCUMENTS: encode_documents(response.documents),
        _SUPERSEDED: encode_superseded(response.superseded),
        _DIGESTS: encode_digests(response.digests),
        _OWNERS: encode_owners(response.owners),
    }


def decode_response(body: bytes) -> ExchangeResponse:
    """Return the response whose bytes these are.

    Raises:
        ProtocolError: They are none that this version accepts.
    """
    fields = Reader(open_frame(body, RESPONSE)).fields()
    return ExchangeResponse(
        acknowledged=read_number(fields, _ACKNOWLEDGED, "acknowledged", 0, limits.MAX_COUNTER),
        notes_acknowledged=read_number(fields, _NOTES_ACKNOWLEDGED, "notes_acknowledged", 0, limits.MAX_COUNTER),
        verdicts=decode_verdicts(fields.get(_VERDICTS)),
        refused=decode_refused(fields.get(_REFUSED)),
        annotations=decode_annotations(fields.get(_ANNOTATIONS)),
        results=decode_identified_results(fields.get(_RESULTS)),
        notes=decode_notes(fields.get(_NOTES)),
        superseded=decode_superseded(fields.get(_SUPERSEDED)),
        tombstones=decode_tombstones(fields.get(_TOMBSTONES)),
        documents=decode_documents(fields.get(_DOCUMENTS)),
        owners=decode_owners(fields.get(_OWNERS)),
        cursor=Cursor(
            read_number(fields, _SHARD_EPOCH, "shard_epoch", 0, limits.MAX_SHARD_EPOCH),
            read_number(fields, _COMMIT_SEQ, "commit_seq", 0, limits.MAX_COMMIT_SEQ),
        ),
        digest=Digest(
            read_number(fields, _DIGEST_COUNT, "digest count", 0, limits.MAX_DIGEST_COUNT),
            int.from_bytes(read_octets(fields, _DIGEST_TOTAL, "a digest total", limits.SUM_BYTES), "big"),
        ),
        digests=decode_digests(fields.get(_DIGESTS)),
        more=bool(read_number(fields, _MORE, "more", 0, 1)),
        rebaseline=bool(read_number(fields, _REBASELINE, "rebaseline", 0, 1)),
        server_time_ms=read_number(fields, _SERVER_TIME, "server_time_ms", 0, limits.MAX_TIME_MS),
        capabilities=read_number(fields, _CAPABILITIES, "capabilities", 0, limits.MAX_CAPABILITIES),
        limits=_limits(fields),
    )


def _limits(fields: dict[int, bytes]) -> ServerLimits:
    return ServerLimits(
        max_results=read_number(fields, _MAX_RESULTS, "max_results", 0, limits.MAX_ANNOUNCED),
        max_annotations=read_number(fields, _MAX_ANNOTATIONS, "max_annotations", 0, limits.MAX_ANNOUNCED),
        min_interval_s=read_number(fields, _MIN_INTERVAL, "min_interval_s", 0, limits.MAX_ANNOUNCED),
    )


def _total(total: int) -> list[bytes]:
    if not 0 <= total < 1 << (8 * limits.SUM_BYTES):
        raise OutOfRange("digest total is outside 0 to 2**128 - 1")
    return [total.to_bytes(limits.SUM_BYTES, "big")] if total else []
