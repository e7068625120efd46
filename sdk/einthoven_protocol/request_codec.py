"""Bytes of an exchange's request (docs/sync-protocol-v1.md, messages on the wire).

It deliberately checks form and ranges only: what a server makes of a row is its own business.

Invariants:
    1. As in ``codec``.
    2. Results, and notes, have contiguous, ascending counters; alerts ascend, and lie behind the results. Notes are of
       the request's device and epoch.
    3. A seal covers only results and alerts of its message, if it has any.
"""

from __future__ import annotations

from collections.abc import Sequence

from einthoven_protocol import limits
from einthoven_protocol.errors import LimitExceeded, OutOfRange
from einthoven_protocol.fields import Reader, write_fields
from einthoven_protocol.frame import REQUEST, close_frame, open_frame
from einthoven_protocol.messages import Capability, Cursor, ExchangeRequest, NoteRow, ResultRow, Seal
from einthoven_protocol.packed_results import ResultRows
from einthoven_protocol.result_tables import decode_results, encode_results
from einthoven_protocol.scalars import read_number, write_number
from einthoven_protocol.tables import decode_seals, decode_tombstones, encode_seals, encode_tombstones
from einthoven_protocol.word_tables import (
    decode_annotation_bases,
    decode_annotations,
    decode_notes,
    encode_annotations,
    encode_notes,
)

_ALIAS, _EPOCH, _SHARD_EPOCH, _COMMIT_SEQ, _CAPABILITIES, _OWNERS_KNOWN = 1, 2, 3, 4, 5, 6
_RESULTS, _ANNOTATIONS, _SEALS, _ALERTS, _NOTES, _DELETIONS = 16, 17, 18, 19, 20, 21


def encode_request(request: ExchangeRequest, peer: int = 0) -> bytes:
    """Return the bytes of a request.

    Args:
        request: The request.
        peer: ``Capability`` bits that the server announced.

    Raises:
        OutOfRange: A value is outside its range, or counters are not contiguous.
        LimitExceeded: It has too many rows.
    """
    _require_runs(request)
    packed = bool(peer & Capability.PACKED)
    return close_frame(
        REQUEST,
        write_fields(
            {
                _ALIAS: write_number("device_alias", request.device_alias, 0, limits.MAX_DEVICE_ALIAS),
                _EPOCH: write_number("epoch", request.epoch, 1, limits.MAX_EPOCH),
                _SHARD_EPOCH: write_number("shard_epoch", request.cursor.shard_epoch, 0, limits.MAX_SHARD_EPOCH),
                _COMMIT_SEQ: write_number("commit_seq", request.cursor.commit_seq, 0, limits.MAX_COMMIT_SEQ),
                _CAPABILITIES: write_number("capabilities", request.capabilities, 0, limits.MAX_CAPABILITIES),
                _OWNERS_KNOWN: write_number("owners_known", request.owners_known, 0, limits.MAX_OWNERS),
                _RESULTS: encode_results(request.results, packed=packed),
                _ANNOTATIONS: encode_annotations(request.annotations, request.annotation_bases),
                _SEALS: encode_seals(request.seals),
                _ALERTS: encode_results(request.alerts, limits.MAX_ALERTS_PER_EXCHANGE),
                _NOTES: encode_notes(request.notes),
                _DELETIONS: encode_tombstones(request.deletions, limits.MAX_DELETIONS_PER_EXCHANGE),
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
        device_alias=read_number(fields, _ALIAS, "device_alias", 0, limits.MAX_DEVICE_ALIAS),
        epoch=read_number(fields, _EPOCH, "epoch", 1, limits.MAX_EPOCH),
        cursor=Cursor(
            read_number(fields, _SHARD_EPOCH, "shard_epoch", 0, limits.MAX_SHARD_EPOCH),
            read_number(fields, _COMMIT_SEQ, "commit_seq", 0, limits.MAX_COMMIT_SEQ),
        ),
        capabilities=read_number(fields, _CAPABILITIES, "capabilities", 0, limits.MAX_CAPABILITIES),
        owners_known=read_number(fields, _OWNERS_KNOWN, "owners_known", 0, limits.MAX_OWNERS),
        results=decode_results(fields.get(_RESULTS)),
        annotations=decode_annotations(fields.get(_ANNOTATIONS)),
        annotation_bases=decode_annotation_bases(fields.get(_ANNOTATIONS)),
        seals=decode_seals(fields.get(_SEALS)),
        alerts=tuple(decode_results(fields.get(_ALERTS), limits.MAX_ALERTS_PER_EXCHANGE)),
        notes=decode_notes(fields.get(_NOTES)),
        deletions=decode_tombstones(fields.get(_DELETIONS), limits.MAX_DELETIONS_PER_EXCHANGE),
    )
    _require_runs(request)
    return request


def _require_runs(request: ExchangeRequest) -> None:
    """Check invariants 2 and 3, and counts that the tables have no say in."""
    if len(request.results) > limits.MAX_RESULTS_PER_EXCHANGE:
        raise LimitExceeded(f"more than {limits.MAX_RESULTS_PER_EXCHANGE} results in one message")
    _require_contiguous("results", request.results)
    _require_contiguous("notes", request.notes)
    if any((note.device_alias, note.epoch) != (request.device_alias, request.epoch) for note in request.notes):
        raise OutOfRange("a note is of another device or epoch than its request")
    behind = request.results[-1].counter if request.results else 0
    for alert in request.alerts:
        if alert.counter <= behind:
            raise OutOfRange("the counters of a message's alerts do not ascend from behind its results")
        behind = alert.counter
    _require_covered(request)


def _require_contiguous(name: str, rows: Sequence[ResultRow] | Sequence[NoteRow]) -> None:
    first = rows[0].counter if rows else 1
    counters = rows.fields["counter"].tolist() if isinstance(rows, ResultRows) else [row.counter for row in rows]
    if counters != list(range(first, first + len(rows))):
        raise OutOfRange(f"the counters of a message's {name} are not contiguous")


def _require_covered(request: ExchangeRequest) -> None:
    alerts = {alert.counter for alert in request.alerts}
    for seal in request.seals:
        if seal.first_counter > seal.last_counter:
            raise OutOfRange("a seal's run ends before it begins")
        if (request.results or alerts) and not _covers(seal, request.results, alerts):
            raise OutOfRange("a seal's run lies outside the message's results")


def _covers(seal: Seal, results: Sequence[ResultRow], alerts: set[int]) -> bool:
    first, last = seal.first_counter, seal.last_counter
    if results and results[0].counter <= first <= last <= results[-1].counter:
        return True
    return last - first < len(alerts) and alerts.issuperset(range(first, last + 1))
