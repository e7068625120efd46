"""What a newer version adds to a row is kept, value for value, in bytes and on the wire, and can't blow up a reader."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven_protocol.conftest import extras, registers

from einthoven_protocol import canonical, codec, digests, limits
from einthoven_protocol.errors import DecodeError, OutOfRange, ProtocolError
from einthoven_protocol.extras import extra_at, extra_octets, register_octets, registers_at
from einthoven_protocol.fields import Reader, varint
from einthoven_protocol.frame import open_frame
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    ExchangeRequest,
    ExchangeResponse,
    Extra,
    FurtherRegister,
    NoteRow,
    ResultRow,
    Superseded,
)

KEY = bytes(range(32))


@given(extra=extras(), behind=st.binary(max_size=4))
def test_columns_come_back(extra: Extra, behind: bytes) -> None:
    octets = extra_octets(extra, limits.MAX_RESULT_EXTRA_BYTES)
    assert extra_at(octets + behind, 0, limits.MAX_RESULT_EXTRA_BYTES) == (extra, len(octets))


@given(further=registers(), behind=st.binary(max_size=4))
def test_registers_come_back(further: tuple[FurtherRegister, ...], behind: bytes) -> None:
    octets = register_octets(further)
    assert registers_at(octets + behind, 0) == (further, len(octets))


@given(octets=st.binary(max_size=60))
def test_whatever_decodes_has_no_other_encoding(octets: bytes) -> None:
    for read, write in (
        (lambda: extra_at(octets, 0, 60), lambda found: extra_octets(found, 60)),
        (lambda: registers_at(octets, 0), register_octets),
    ):
        try:
            found, end = read()
        except ProtocolError:
            continue
        assert write(found) == octets[:end]


@pytest.mark.parametrize(
    "extra",
    [
        ((63, b"x"),),
        ((128, 1),),
        ((66, 1), (64, 1)),
        ((64, 1), (64, 1)),
        ((64, 0),),
        ((65, b""),),
        ((64, b"x"),),
        ((65, 7),),
        ((64, 2**63),),
        ((64, -(2**63) - 1),),
        ((65, bytes(126)),),
        tuple((number, 1) for number in range(64, 94, 2)),
    ],
)
def test_columns_that_may_not_be_are_not_written(extra: Extra, a_result: ResultRow) -> None:
    row = msgspec.structs.replace(a_result, extra=extra)
    with pytest.raises(OutOfRange):
        canonical.encode_result_row(row)
    with pytest.raises(OutOfRange):
        canonical.encode_result_rows([row])
    with pytest.raises(OutOfRange):
        codec.encode_request(ExchangeRequest(device_alias=7, epoch=1, results=(row,)))


@pytest.mark.parametrize(
    "further",
    [
        (FurtherRegister(16, 1, b""),),
        (FurtherRegister(-1, 1, b""),),
        (FurtherRegister(1, 1, b""), FurtherRegister(0, 1, b"")),
        (FurtherRegister(0, 0, b""),),
        (FurtherRegister(0, -1, b"x"),),
        (FurtherRegister(0, 1, bytes(246)),),
    ],
)
def test_registers_that_may_not_be_are_not_written(
    further: tuple[FurtherRegister, ...], an_annotation: AnnotationRow
) -> None:
    row = msgspec.structs.replace(an_annotation, further=further)
    with pytest.raises(OutOfRange):
        canonical.encode_annotation_row(row)
    with pytest.raises(OutOfRange):
        codec.encode_response(ExchangeResponse(acknowledged=0, annotations=(row,)))


@pytest.mark.parametrize(
    "octets", ["", "01", "0140", "014100", "0141000561", "02400000000000000001", "014000000000000000"]
)
def test_columns_cut_off_are_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        extra_at(bytes.fromhex(octets), 0, 128)


@pytest.mark.parametrize("octets", ["", "01", "0100", "01000000000000000001", "010000000000000000010002ff"])
def test_registers_cut_off_are_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        registers_at(bytes.fromhex(octets), 0)


@given(row=...)
def test_a_note_comes_back(row: NoteRow) -> None:
    assert canonical.decode_note_row(canonical.encode_note_row(row)) == row


@given(row=...)
def test_a_superseded_write_comes_back(row: Superseded) -> None:
    assert canonical.decode_superseded_row(canonical.encode_superseded_row(row)) == row


@given(note=..., lost=..., place=st.integers(0, 10**6), flip=st.integers(1, 255), cut=st.integers(0, 10**6))
def test_whatever_decodes_as_a_word_has_no_other_encoding(
    note: NoteRow, lost: Superseded, place: int, flip: int, cut: int
) -> None:
    for encode, decode, row in (
        (canonical.encode_note_row, canonical.decode_note_row, note),
        (canonical.encode_superseded_row, canonical.decode_superseded_row, lost),
    ):
        whole = encode(row)  # type: ignore[operator]
        flipped = bytearray(whole)
        flipped[place % len(whole)] ^= flip
        for octets in (bytes(flipped), whole[: cut % len(whole)], whole + b"\0"):
            try:
                decoded = decode(octets)
            except ProtocolError:
                continue
            assert encode(decoded) == octets  # type: ignore[operator]


def test_a_row_with_more_is_another_row(a_result: ResultRow, an_annotation: AnnotationRow) -> None:
    more = msgspec.structs.replace(a_result, extra=((64, 1),))
    assert digests.result_sum(KEY, 7, 1, a_result) != digests.result_sum(KEY, 7, 1, more)
    further = msgspec.structs.replace(an_annotation, further=(FurtherRegister(0, 1, b""),))
    assert digests.annotation_sum(KEY, an_annotation) != digests.annotation_sum(KEY, further)


def test_an_extended_format_without_anything_behind_it_is_refused(
    a_result: ResultRow, an_annotation: AnnotationRow
) -> None:
    with pytest.raises(DecodeError):
        canonical.decode_result_row(b"\x03" + canonical.encode_result_row(a_result)[1:] + b"\x00")
    with pytest.raises(DecodeError):
        canonical.decode_annotation_row(b"\x04" + canonical.encode_annotation_row(an_annotation)[1:] + b"\x00")


def test_all_that_merging_brings_together_can_be_kept(an_annotation: AnnotationRow) -> None:
    longest = [FurtherRegister(n, limits.MAX_HLC, bytes(limits.MAX_REGISTER_BYTES)) for n in range(16)]
    merged = an_annotation
    for register in longest:
        merged = merge_annotation(merged, msgspec.structs.replace(an_annotation, further=(register,)))
    assert merged.further == tuple(longest)
    assert len(register_octets(merged.further)) - 1 <= limits.MAX_EXTRA_BYTES
    assert canonical.decode_annotation_row(canonical.encode_annotation_row(merged)) == merged


@given(rows=st.lists(st.from_type(ResultRow), max_size=5))
def test_many_rows_are_as_one_by_one(rows: list[ResultRow]) -> None:
    octets = canonical.encode_result_rows(rows)
    assert octets == list(map(canonical.encode_result_row, rows))
    assert canonical.decode_result_rows(octets) == rows
    sums = digests.result_sums(KEY, 7, 3, octets)
    assert sums == [digests.result_sum(KEY, 7, 3, row) for row in rows]
    assert digests.add_all(digests.EMPTY, sums).count == len(rows)


@pytest.mark.parametrize(
    "changes",
    [{"counter": 0}, {"n_steps": 40_000}, {"n_steps": 70_000}, {"model_digest": bytes(31)}, {"logits": (1, 2, 3)}],
)
def test_many_rows_are_refused_as_one_is(a_result: ResultRow, changes: dict[str, Any]) -> None:
    bad = msgspec.structs.replace(a_result, **changes)
    with pytest.raises(OutOfRange) as one:
        canonical.encode_result_row(bad)
    with pytest.raises(OutOfRange) as many:
        canonical.encode_result_rows([a_result, bad])
    assert str(one.value) == str(many.value)


def test_many_damaged_rows_are_refused(a_result: ResultRow) -> None:
    octets = canonical.encode_result_row(a_result)
    for wrong in (b"", octets[:-1], b"\x02" + octets[1:], octets[:1] + bytes(4) + octets[5:]):
        with pytest.raises(ProtocolError):
            canonical.decode_result_rows([octets, wrong])


def field(number: int, content: bytes) -> bytes:
    return varint(number) + varint(len(content)) + content


def declared(extra_columns: int) -> bytes:
    """A response of 10,000 results in a few hundred bytes: every column is constant, and so many are further ones."""
    table = varint(limits.MAX_RESULTS_PER_EXCHANGE) + field(1, b"\x00\x02") + field(16, b"\x01\x20" + bytes(32))
    table += field(18, b"\x00\x02") + b"".join(field(64 + 2 * n, b"\x00\x02") for n in range(extra_columns))
    return b"\x01\x02\x00" + field(19, table)


@pytest.mark.parametrize(
    ("extra_columns", "refused", "most_bytes"), [(0, False, 8e6), (14, False, 40e6), (32, True, 8e6)]
)
def test_declared_rows_take_no_more_memory_than_rows_do(extra_columns: int, refused: bool, most_bytes: float) -> None:
    body = declared(extra_columns)
    assert len(body) < 300
    tracemalloc.start()
    try:
        response = codec.decode_response(body)
        assert len(response.results) == limits.MAX_RESULTS_PER_EXCHANGE
        assert not refused
    except OutOfRange:
        assert refused
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < most_bytes


def test_other_unknown_columns_are_skipped_as_ever(a_result: ResultRow) -> None:
    request = ExchangeRequest(device_alias=7, epoch=1, results=(a_result,))
    fields = Reader(open_frame(codec.encode_request(request), 1)).fields()
    table = fields[16] + field(63, b"below") + field(128, b"above")
    newer = b"\x01\x01\x00" + field(1, fields[1]) + field(2, fields[2]) + field(16, table)
    assert codec.decode_request(newer) == request
