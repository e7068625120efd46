"""Bytes of the two messages of a repair (docs/sync-repair-v1.md); rows travel in the tables of an exchange.

It deliberately checks form and ranges only: whether an answer fits its request is ``repair_checks``'s business, and
what a server makes of what it is given its own.

Invariants:
    1. ``decode(encode(message)) == message``. A message's bytes are not unique: never hash them.
    2. Decoding raises only ``ProtocolError``.
    3. Symbols or power sums, never both, and a sketch come with a session; results are given only of the owner that
       asks, of its records, with a root and a signature.
    4. Whoever can repair reads packed verdicts (``Capability.PACKED``), announced or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.columns import Table, encode_integers, write_table
from einthoven_protocol.errors import DecodeError, LimitExceeded, OutOfRange
from einthoven_protocol.fields import Reader, write_fields
from einthoven_protocol.frame import REPAIR_REQUEST, REPAIR_RESPONSE, close_frame, open_frame
from einthoven_protocol.messages import BucketKind, Cursor, Digest, RepairRequest, RepairResponse, Run
from einthoven_protocol.power_sums import POWER_BYTES
from einthoven_protocol.repair_answer import UNDECODED
from einthoven_protocol.result_tables import decode_identified_results, encode_identified_results
from einthoven_protocol.riblt import SYMBOL_BYTES
from einthoven_protocol.scalars import read_number, read_octets, write_number
from einthoven_protocol.word_tables import (
    decode_annotations,
    decode_notes,
    decode_superseded,
    encode_annotations,
    encode_notes,
    encode_superseded,
)

# Field numbers. Of the request:
_ALIAS, _OWNER, _KIND, _PAGE, _SESSION, _SYMBOLS, _SKETCH, _SEGMENTS_ROOT, _SIGNATURE = 1, 2, 3, 4, 5, 6, 7, 8, 9
_POWERS = 10
_WANTED, _GIVEN = 16, 19
# Of the response:
_DECODED, _SHARD_EPOCH, _COMMIT_SEQ, _DIGEST_COUNT, _DIGEST_TOTAL, _MORE, _DIFFERENCES, _ABSENT = 1, 2, 3, 4, 5, 6, 7, 8
_HELD, _ANNOTATIONS, _VERDICTS, _RESULTS, _NOTES, _SUPERSEDED = 16, 17, 18, 19, 20, 23

_MAX_KIND: Final = limits.MAX_ENUM
_MAX_PAGE: Final = 2**31 - 1
_MAX_DIFFERENCES: Final = 2**31 - 1
_MAX_TOTAL: Final = (1 << (8 * limits.SUM_BYTES)) - 1
_MAX_ITEM: Final = (1 << (8 * limits.ITEM_BYTES)) - 1


def encode_repair_request(request: RepairRequest) -> bytes:
    """Return the bytes of a request.

    Raises:
        OutOfRange: A value is outside its range, or parts that belong together don't come together.
        LimitExceeded: It has too many rows or symbols.
    """
    _require_whole(request)
    return close_frame(
        REPAIR_REQUEST,
        write_fields(
            {
                _ALIAS: write_number("device_alias", request.device_alias, 0, limits.MAX_DEVICE_ALIAS),
                _OWNER: write_number("owner", request.owner, 0, limits.MAX_DEVICE_ALIAS),
                _KIND: write_number("kind", request.kind, 1, _MAX_KIND),
                _PAGE: write_number("page", request.page + 1, 0, _MAX_PAGE),
                _SESSION: [request.session],
                _SYMBOLS: [request.symbols],
                _SKETCH: [request.sketch],
                _SEGMENTS_ROOT: [request.segments_root],
                _SIGNATURE: [request.signature],
                _POWERS: [request.powers],
                _WANTED: _encode_runs(request.wanted),
                _GIVEN: encode_identified_results(request.given, limits.MAX_GIVEN_PER_REPAIR, packed=True),
            }
        ),
    )


def decode_repair_request(body: bytes) -> RepairRequest:
    """Return the request whose bytes these are.

    Raises:
        ProtocolError: They are none that this version accepts.
    """
    fields = Reader(open_frame(body, REPAIR_REQUEST)).fields()
    request = RepairRequest(
        device_alias=read_number(fields, _ALIAS, "device_alias", 0, limits.MAX_DEVICE_ALIAS),
        owner=read_number(fields, _OWNER, "owner", 0, limits.MAX_DEVICE_ALIAS),
        kind=read_number(fields, _KIND, "kind", 1, _MAX_KIND),
        page=read_number(fields, _PAGE, "page", 0, _MAX_PAGE) - 1,
        session=read_octets(fields, _SESSION, "a session", limits.SESSION_BYTES),
        symbols=fields.get(_SYMBOLS, b""),
        powers=fields.get(_POWERS, b""),
        sketch=read_octets(fields, _SKETCH, "a sketch", limits.SKETCH_BYTES),
        segments_root=read_octets(fields, _SEGMENTS_ROOT, "segments_root", limits.DIGEST_BYTES),
        signature=read_octets(fields, _SIGNATURE, "a signature", limits.SIGNATURE_BYTES),
        wanted=_decode_runs(fields.get(_WANTED)),
        given=tuple(decode_identified_results(fields.get(_GIVEN), limits.MAX_GIVEN_PER_REPAIR)),
    )
    _require_whole(request)
    return request


def encode_repair_response(response: RepairResponse) -> bytes:
    """Return the bytes of a response.

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: It has too many rows.
    """
    total = response.digest.total
    if not 0 <= total <= _MAX_TOTAL:
        raise OutOfRange("digest total is outside 0 to 2**128 - 1")
    return close_frame(
        REPAIR_RESPONSE,
        write_fields(
            {
                _DECODED: write_number("decoded", response.decoded, 0, UNDECODED),
                _SHARD_EPOCH: write_number("shard_epoch", response.cursor.shard_epoch, 0, limits.MAX_SHARD_EPOCH),
                _COMMIT_SEQ: write_number("commit_seq", response.cursor.commit_seq, 0, limits.MAX_COMMIT_SEQ),
                _DIGEST_COUNT: write_number("digest count", response.digest.count, 0, limits.MAX_DIGEST_COUNT),
                _DIGEST_TOTAL: [total.to_bytes(limits.SUM_BYTES, "big")] if total else [],
                _MORE: write_number("more", int(response.more), 0, 1),
                _DIFFERENCES: write_number("differences", response.differences, 0, _MAX_DIFFERENCES),
                _ABSENT: _encode_items(response.absent),
                _HELD: _encode_runs(response.held),
                _ANNOTATIONS: encode_annotations(response.annotations),
                _VERDICTS: _encode_codes(response.verdicts),
                _RESULTS: encode_identified_results(response.results, packed=True),
                _NOTES: encode_notes(response.notes),
                _SUPERSEDED: encode_superseded(response.superseded),
            }
        ),
    )


def decode_repair_response(body: bytes) -> RepairResponse:
    """Return the response whose bytes these are.

    Raises:
        ProtocolError: They are none that this version accepts.
    """
    fields = Reader(open_frame(body, REPAIR_RESPONSE)).fields()
    return RepairResponse(
        decoded=read_number(fields, _DECODED, "decoded", 0, UNDECODED),
        differences=read_number(fields, _DIFFERENCES, "differences", 0, _MAX_DIFFERENCES),
        absent=_decode_items(fields.get(_ABSENT, b"")),
        results=tuple(decode_identified_results(fields.get(_RESULTS))),
        annotations=decode_annotations(fields.get(_ANNOTATIONS)),
        notes=decode_notes(fields.get(_NOTES)),
        superseded=decode_superseded(fields.get(_SUPERSEDED)),
        more=bool(read_number(fields, _MORE, "more", 0, 1)),
        verdicts=_decode_codes(fields.get(_VERDICTS)),
        held=_decode_runs(fields.get(_HELD)),
        digest=Digest(
            read_number(fields, _DIGEST_COUNT, "digest count", 0, limits.MAX_DIGEST_COUNT),
            int.from_bytes(read_octets(fields, _DIGEST_TOTAL, "a digest total", limits.SUM_BYTES), "big"),
        ),
        cursor=Cursor(
            read_number(fields, _SHARD_EPOCH, "shard_epoch", 0, limits.MAX_SHARD_EPOCH),
            read_number(fields, _COMMIT_SEQ, "commit_seq", 0, limits.MAX_COMMIT_SEQ),
        ),
    )


def _require_whole(request: RepairRequest) -> None:
    """Check invariant 3, and lengths that no table has a say in."""
    if len(request.symbols) > limits.MAX_SYMBOLS_BYTES:
        raise LimitExceeded(f"more than {limits.MAX_SYMBOLS_BYTES} bytes of coded symbols")
    if len(request.symbols) % SYMBOL_BYTES:
        raise OutOfRange(f"coded symbols are {SYMBOL_BYTES} bytes each")
    if len(request.powers) > limits.MAX_POWERS_BYTES:
        raise LimitExceeded(f"more than {limits.MAX_POWERS_BYTES} bytes of power sums")
    if len(request.powers) % POWER_BYTES:
        raise OutOfRange(f"power sums are {POWER_BYTES} bytes each")
    if request.symbols and request.powers:
        raise OutOfRange("coded symbols and power sums come in requests of their own")
    compares = bool(request.symbols or request.powers)
    lengths = (
        ("session", len(request.session), limits.SESSION_BYTES, compares),
        ("sketch", len(request.sketch), limits.SKETCH_BYTES, bool(request.sketch)),
        ("segments_root", len(request.segments_root), limits.DIGEST_BYTES, bool(request.given)),
        ("signature", len(request.signature), limits.SIGNATURE_BYTES, bool(request.given)),
    )
    for name, length, right, needed in lengths:
        if length != (right if needed else 0):
            raise OutOfRange(f"{name} is {right} bytes long where it belongs, and absent where not")
    if request.sketch and not compares:
        raise OutOfRange("a sketch comes with coded symbols or power sums")
    if request.given and (request.kind != BucketKind.RECORDS or request.owner != request.device_alias):
        raise OutOfRange("results are given only to the giver's own records")
    if any(result.device_alias != request.owner for result in request.given):
        raise OutOfRange("a result is given that is not the giver's own")


def _encode_runs(runs: Sequence[Run]) -> list[bytes]:
    if any(run.first > run.last for run in runs):
        raise OutOfRange("a run ends before it begins")
    if any(run.last > limits.MAX_COUNTER for run in runs):
        raise OutOfRange(f"last counter is outside 1 to {limits.MAX_COUNTER}")
    columns = {
        1: encode_integers("epoch", [run.epoch for run in runs], 1, limits.MAX_EPOCH),
        2: encode_integers("first counter", [run.first for run in runs], 1, limits.MAX_COUNTER, delta=True),
        3: encode_integers("run length", [run.last - run.first for run in runs], 0, limits.MAX_COUNTER),
    }
    return write_table(len(runs), limits.MAX_RUNS_PER_REPAIR, columns)


def _decode_runs(octets: bytes | None) -> tuple[Run, ...]:
    table = Table(octets, limits.MAX_RUNS_PER_REPAIR)
    epochs = table.integers(1, "epoch", 1, limits.MAX_EPOCH)
    firsts = table.integers(2, "first counter", 1, limits.MAX_COUNTER)
    lengths = table.integers(3, "run length", 0, limits.MAX_COUNTER)
    lasts = [first + length for first, length in zip(firsts, lengths, strict=True)]
    if any(last > limits.MAX_COUNTER for last in lasts):
        raise OutOfRange(f"last counter is outside 1 to {limits.MAX_COUNTER}")
    return tuple(map(Run, epochs, firsts, lasts))


def _encode_items(values: Sequence[int]) -> list[bytes]:
    if len(values) > limits.MAX_ABSENT_PER_REPAIR:
        raise LimitExceeded(f"more than {limits.MAX_ABSENT_PER_REPAIR} absent rows in one message")
    if values and not 0 <= min(values) <= max(values) <= _MAX_ITEM:
        raise OutOfRange("an absent row's item is outside 0 to 2**32 - 1")
    return [value.to_bytes(limits.ITEM_BYTES, "big") for value in values]


def _decode_items(octets: bytes) -> tuple[int, ...]:
    count, rest = divmod(len(octets), limits.ITEM_BYTES)
    if rest:
        raise DecodeError(f"absent rows are {limits.ITEM_BYTES} bytes each")
    if count > limits.MAX_ABSENT_PER_REPAIR:
        raise LimitExceeded(f"more than {limits.MAX_ABSENT_PER_REPAIR} absent rows in one message")
    starts = range(0, len(octets), limits.ITEM_BYTES)
    return tuple(int.from_bytes(octets[at : at + limits.ITEM_BYTES], "big") for at in starts)


def _encode_codes(codes: Sequence[int]) -> list[bytes]:
    columns = {1: encode_integers("verdict code", codes, 0, limits.MAX_ENUM)}
    return write_table(len(codes), limits.MAX_GIVEN_PER_REPAIR, columns)


def _decode_codes(octets: bytes | None) -> tuple[int, ...]:
    return tuple(Table(octets, limits.MAX_GIVEN_PER_REPAIR).integers(1, "verdict code", 0, limits.MAX_ENUM))
