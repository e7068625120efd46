"""Bytes of a repair's two messages: there and back, and nothing but the protocol's errors for any others."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.einthoven_protocol.repair_sides import note, result, superseded

from einthoven_protocol import limits
from einthoven_protocol.errors import DecodeError, LimitExceeded, OutOfRange, ProtocolError
from einthoven_protocol.fields import Reader, varint
from einthoven_protocol.frame import REPAIR_REQUEST, REPAIR_RESPONSE, close_frame, open_frame
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Cursor,
    Digest,
    IdentifiedResult,
    RepairRequest,
    RepairResponse,
    ResultRow,
    Run,
)
from einthoven_protocol.repair_codec import (
    decode_repair_request,
    decode_repair_response,
    encode_repair_request,
    encode_repair_response,
)

aliases = st.integers(0, limits.MAX_DEVICE_ALIAS)
counters = st.integers(1, limits.MAX_COUNTER)
runs = st.builds(
    lambda epoch, a, b: Run(epoch, min(a, b), max(a, b)), st.integers(1, limits.MAX_EPOCH), counters, counters
)
named = st.builds(
    IdentifiedResult, device_alias=st.just(7), epoch=st.integers(1, limits.MAX_EPOCH), row=st.from_type(ResultRow)
)


@st.composite
def requests(draw: st.DrawFn) -> RepairRequest:
    symbols = 6 * draw(st.integers(0, 9))
    gives = draw(st.booleans())
    return RepairRequest(
        device_alias=7,
        owner=7 if gives else draw(aliases),
        kind=BucketKind.RECORDS if gives else draw(st.integers(1, limits.MAX_ENUM)),
        session=draw(st.binary(min_size=16, max_size=16)) if symbols else b"",
        symbols=draw(st.binary(min_size=symbols, max_size=symbols)),
        sketch=draw(st.sampled_from((b"", bytes(80), b"\xa5" * 80))) if symbols else b"",
        wanted=tuple(draw(st.lists(runs, max_size=4))),
        page=draw(st.integers(-1, 2**31 - 2)),
        given=tuple(draw(st.lists(named, min_size=1, max_size=3))) if gives else (),
        segments_root=draw(st.binary(min_size=32, max_size=32)) if gives else b"",
        signature=draw(st.binary(min_size=64, max_size=64)) if gives else b"",
    )


responses = st.builds(
    RepairResponse,
    decoded=st.integers(0, 2),
    differences=st.integers(0, 2**31 - 1),
    absent=st.lists(st.integers(0, 2**32 - 1), max_size=9).map(tuple),
    results=st.lists(named, max_size=3).map(tuple),
    annotations=st.lists(st.from_type(AnnotationRow), max_size=3).map(tuple),
    notes=st.sampled_from(((), (note(1), note(9)))),
    superseded=st.sampled_from(((), (superseded(4), superseded(4, "A")))),
    more=st.booleans(),
    verdicts=st.lists(st.integers(0, limits.MAX_ENUM), max_size=9).map(tuple),
    held=st.lists(runs, max_size=4).map(tuple),
    digest=st.builds(Digest, st.integers(0, limits.MAX_DIGEST_COUNT), st.integers(0, 2**128 - 1)),
    cursor=st.builds(Cursor, st.integers(0, limits.MAX_SHARD_EPOCH), st.integers(0, limits.MAX_COMMIT_SEQ)),
)


@given(request_=requests())
def test_a_request_there_and_back(request_: RepairRequest) -> None:
    assert decode_repair_request(encode_repair_request(request_)) == request_


@given(response=responses)
def test_a_response_there_and_back(response: RepairResponse) -> None:
    assert decode_repair_response(encode_repair_response(response)) == response


def test_a_bare_question_is_a_few_bytes() -> None:
    request_ = RepairRequest(device_alias=7, owner=7, kind=BucketKind.RECORDS)
    assert encode_repair_request(request_).hex() == "010300" + "010107" + "020107" + "030101"
    assert encode_repair_response(RepairResponse()).hex() == "010400"


@given(octets=st.binary(max_size=200), kind=st.sampled_from((REPAIR_REQUEST, REPAIR_RESPONSE)), framed=st.booleans())
def test_any_bytes_are_read_or_refused(octets: bytes, kind: int, framed: bool) -> None:
    body = close_frame(kind, [octets]) if framed else octets
    decode = decode_repair_request if kind == REPAIR_REQUEST else decode_repair_response
    with contextlib.suppress(ProtocolError):
        decode(body)


@given(request_=requests(), place=st.integers(0, 10_000), octet=st.integers(0, 255))
@settings(max_examples=100)
def test_a_byte_that_was_changed_is_read_or_refused(request_: RepairRequest, place: int, octet: int) -> None:
    content = bytearray(open_frame(encode_repair_request(request_), REPAIR_REQUEST))
    content[place % len(content)] = octet
    with contextlib.suppress(ProtocolError):
        decode_repair_request(close_frame(REPAIR_REQUEST, [bytes(content)]))


@given(request_=requests(), response=responses)
def test_fields_of_a_newer_version_are_skipped(request_: RepairRequest, response: RepairResponse) -> None:
    later = varint(40) + varint(3) + b"new"
    body = close_frame(REPAIR_REQUEST, [open_frame(encode_repair_request(request_), REPAIR_REQUEST), later])
    assert decode_repair_request(body) == request_
    body = close_frame(REPAIR_RESPONSE, [open_frame(encode_repair_response(response), REPAIR_RESPONSE), later])
    assert decode_repair_response(body) == response


def test_a_message_of_the_other_kind_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode_repair_request(encode_repair_response(RepairResponse()))
    with pytest.raises(DecodeError):
        decode_repair_response(encode_repair_request(RepairRequest(device_alias=7, owner=7, kind=1)))


GIVEN = {"given": (result(1),), "segments_root": bytes(32), "signature": bytes(64)}


@pytest.mark.parametrize(
    "fields",
    [
        {"device_alias": -1},
        {"owner": limits.MAX_DEVICE_ALIAS + 1},
        {"kind": 0},
        {"kind": limits.MAX_ENUM + 1},
        {"page": -2},
        {"page": 2**31},
        {"symbols": bytes(6)},
        {"symbols": bytes(7), "session": bytes(16)},
        {"symbols": bytes(6), "session": bytes(15)},
        {"session": bytes(16)},
        {"sketch": bytes(80)},
        {"symbols": bytes(6), "session": bytes(16), "sketch": bytes(79)},
        {"wanted": (Run(0, 1, 2),)},
        {"wanted": (Run(1, 0, 2),)},
        {"wanted": (Run(1, 3, 2),)},
        {"wanted": (Run(1, 3, limits.MAX_COUNTER + 1),)},
        {"signature": bytes(64)},
        {"segments_root": bytes(32)},
        GIVEN | {"signature": b""},
        GIVEN | {"segments_root": bytes(31)},
        GIVEN | {"owner": 8},
        GIVEN | {"kind": BucketKind.WORDS},
        GIVEN | {"device_alias": 8, "owner": 8},
    ],
)
def test_a_request_that_is_not_whole_is_not_written(fields: dict[str, Any]) -> None:
    request_ = RepairRequest(**{"device_alias": 7, "owner": 7, "kind": BucketKind.RECORDS} | fields)
    with pytest.raises(OutOfRange):
        encode_repair_request(request_)


@pytest.mark.parametrize(
    ("number", "content"),
    [
        (3, b""),
        (5, bytes(16)),
        (6, bytes(6)),
        (7, bytes(80)),
        (7, bytes(5)),
        (8, bytes(32)),
        (9, bytes(64)),
        (16, b"\x00"),
        (
            16,
            bytes.fromhex("01") + bytes.fromhex("01020002") + bytes.fromhex("0206 00feffffff0f") + b"\x03\x02\x00\x02",
        ),
    ],
)
def test_a_request_that_is_not_whole_is_not_read(number: int, content: bytes) -> None:
    fields = Reader(open_frame(encode_repair_request(RepairRequest(device_alias=7, owner=7, kind=1)), 3)).fields()
    fields[number] = content
    octets = b"".join(varint(n) + varint(len(held)) + held for n, held in sorted(fields.items()))
    with pytest.raises(ProtocolError):
        decode_repair_request(close_frame(REPAIR_REQUEST, [octets]))


@pytest.mark.parametrize(
    "fields",
    [
        {"decoded": 3},
        {"differences": -1},
        {"absent": (2**32,)},
        {"absent": (-1,)},
        {"verdicts": (256,)},
        {"held": (Run(1, 2, 1),)},
        {"digest": Digest(0, 2**128)},
        {"digest": Digest(-1, 0)},
        {"cursor": Cursor(-1, 0)},
    ],
)
def test_a_response_out_of_range_is_not_written(fields: dict[str, Any]) -> None:
    with pytest.raises(OutOfRange):
        encode_repair_response(RepairResponse(**fields))


def test_every_limit_holds_in_both_directions() -> None:
    bare: dict[str, Any] = {"device_alias": 7, "owner": 7, "kind": 1}
    most = limits.MAX_SYMBOLS_BYTES
    assert decode_repair_request(
        encode_repair_request(RepairRequest(**bare, session=bytes(16), symbols=bytes(most)))
    ).symbols == bytes(most)
    over: list[RepairRequest] = [
        RepairRequest(**bare, session=bytes(16), symbols=bytes(most + 6)),
        RepairRequest(**bare, wanted=(Run(1, 1, 1),) * (limits.MAX_RUNS_PER_REPAIR + 1)),
        RepairRequest(
            **bare,
            given=(result(1),) * (limits.MAX_GIVEN_PER_REPAIR + 1),
            segments_root=bytes(32),
            signature=bytes(64),
        ),
    ]
    for request_ in over:
        with pytest.raises(LimitExceeded):
            encode_repair_request(request_)
    for response in (
        RepairResponse(absent=tuple(range(limits.MAX_ABSENT_PER_REPAIR + 1))),
        RepairResponse(held=(Run(1, 1, 1),) * (limits.MAX_RUNS_PER_REPAIR + 1)),
        RepairResponse(verdicts=(1,) * (limits.MAX_GIVEN_PER_REPAIR + 1)),
    ):
        with pytest.raises(LimitExceeded):
            encode_repair_response(response)


@pytest.mark.parametrize(
    ("kind", "number", "content"),
    [
        (REPAIR_REQUEST, 6, bytes(limits.MAX_SYMBOLS_BYTES + 6)),
        (REPAIR_REQUEST, 16, varint(limits.MAX_RUNS_PER_REPAIR + 1)),
        (REPAIR_REQUEST, 19, varint(limits.MAX_GIVEN_PER_REPAIR + 1)),
        (REPAIR_RESPONSE, 8, bytes(4 * limits.MAX_ABSENT_PER_REPAIR + 4)),
        (REPAIR_RESPONSE, 16, varint(limits.MAX_RUNS_PER_REPAIR + 1)),
        (REPAIR_RESPONSE, 18, varint(limits.MAX_GIVEN_PER_REPAIR + 1)),
    ],
)
def test_what_is_over_a_limit_is_not_read(kind: int, number: int, content: bytes) -> None:
    head = bytes.fromhex("030101") if kind == REPAIR_REQUEST else b""
    session = varint(5) + varint(16) + bytes(16) if number == 6 else b""
    body = close_frame(kind, [head, session, varint(number) + varint(len(content)) + content])
    decode = decode_repair_request if kind == REPAIR_REQUEST else decode_repair_response
    with pytest.raises(LimitExceeded):
        decode(body)


def test_items_that_are_cut_off_are_refused() -> None:
    with pytest.raises(DecodeError):
        decode_repair_response(close_frame(REPAIR_RESPONSE, [varint(8) + varint(5) + bytes(5)]))
