"""Canonical rows: one row, one encoding, every value in range."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import limits
from einthoven_protocol.canonical import (
    MAX_RESULT_ROW_BYTES,
    RESULT_ROW_BYTES,
    decode_annotation_row,
    decode_result_row,
    encode_annotation_row,
    encode_result_row,
)
from einthoven_protocol.errors import DecodeError, OutOfRange, ProtocolError
from einthoven_protocol.messages import AnnotationRow, Register, ResultId, ResultRow


@given(row=...)
def test_a_result_comes_back(row: ResultRow) -> None:
    octets = encode_result_row(row)
    assert (len(octets) == RESULT_ROW_BYTES) is (not row.extra)
    assert len(octets) <= MAX_RESULT_ROW_BYTES
    assert decode_result_row(octets) == row


@given(row=...)
def test_an_annotation_comes_back(row: AnnotationRow) -> None:
    assert decode_annotation_row(encode_annotation_row(row)) == row


@given(octets=st.one_of(st.binary(max_size=200), st.binary(min_size=77, max_size=77).map(lambda rest: b"\x01" + rest)))
def test_whatever_decodes_as_a_result_has_no_other_encoding(octets: bytes) -> None:
    try:
        row = decode_result_row(octets)
    except ProtocolError:
        return
    assert encode_result_row(row) == octets


@given(row=..., flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=3))
def test_whatever_decodes_as_an_annotation_has_no_other_encoding(
    row: AnnotationRow, flips: list[tuple[int, int]]
) -> None:
    octets = bytearray(encode_annotation_row(row))
    for place, flip in flips:
        octets[place % len(octets)] ^= flip
    try:
        decoded = decode_annotation_row(bytes(octets))
    except ProtocolError:
        return
    assert encode_annotation_row(decoded) == bytes(octets)


@given(row=..., cut=st.integers(0, 10**6), more=st.binary(max_size=3))
def test_a_row_cut_off_or_with_more_behind_it_is_refused(row: AnnotationRow, cut: int, more: bytes) -> None:
    octets = encode_annotation_row(row)
    with pytest.raises(ProtocolError):
        decode_annotation_row(octets[: cut % len(octets)])
    with pytest.raises(ProtocolError):
        decode_annotation_row(octets + b"\0" + more)


def test_a_result_of_the_wrong_length_or_format_is_refused(a_result: ResultRow) -> None:
    octets = encode_result_row(a_result)
    for wrong in (b"", octets[:-1], octets + b"\0", b"\x02" + octets[1:]):
        with pytest.raises(DecodeError, match="a result row is 78 bytes"):
            decode_result_row(wrong)


def test_an_annotation_of_another_format_is_refused(an_annotation: AnnotationRow) -> None:
    with pytest.raises(DecodeError, match="begins with 2"):
        decode_annotation_row(b"\x01" + encode_annotation_row(an_annotation)[1:])


OUTSIDE: list[tuple[str, Any]] = [
    ("counter", 0),
    ("counter", limits.MAX_COUNTER + 1),
    ("started_at_ms", -1),
    ("started_at_ms", limits.MAX_TIME_MS + 1),
    ("duration_ms", -1),
    ("duration_ms", limits.MAX_DURATION_MS + 1),
    ("n_steps", -1),
    ("n_steps", limits.MAX_STEPS + 1),
    ("usable_s", -1),
    ("usable_s", limits.MAX_USABLE_S + 1),
    ("quality", -1),
    ("quality", limits.MAX_QUALITY + 1),
    ("rhythm", -1),
    ("rhythm", limits.MAX_ENUM + 1),
    ("confidence_permille", -1),
    ("confidence_permille", limits.MAX_CONFIDENCE_PERMILLE + 1),
    ("tier", -1),
    ("tier", limits.MAX_ENUM + 1),
    ("reason", -1),
    ("reason", limits.MAX_ENUM + 1),
    ("front_end_version", -1),
    ("front_end_version", limits.MAX_FRONT_END_VERSION + 1),
    ("logits", (0, 0, 0, limits.MAX_LOGIT + 1)),
    ("logits", (limits.MIN_LOGIT - 1, 0, 0, 0)),
    ("logits", (0, 0, 0)),
    ("model_digest", b""),
    ("model_digest", bytes(31)),
    ("model_digest", bytes(33)),
    ("counter", 1.5),
    ("rhythm", "N"),
    ("model_digest", "0" * 32),
]


@pytest.mark.parametrize(("field", "value"), OUTSIDE)
def test_a_result_outside_a_range_is_not_written(a_result: ResultRow, field: str, value: Any) -> None:
    with pytest.raises(OutOfRange, match=field.removesuffix("s")):
        encode_result_row(msgspec.structs.replace(a_result, **{field: value}))


# Offset, width: fields whose bytes can hold more than their range allows.
@pytest.mark.parametrize(("offset", "width"), [(1, 4), (5, 8), (13, 4), (17, 2), (19, 2), (21, 2), (24, 2), (44, 2)])
def test_a_result_outside_a_range_is_not_read(a_result: ResultRow, offset: int, width: int) -> None:
    octets = encode_result_row(a_result)
    with pytest.raises(OutOfRange):
        decode_result_row(octets[:offset] + b"\xff" * width + octets[offset + width :])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"author": ""}, "no author"),
        ({"author": "x" * 65}, "author is longer than 64"),
        ({"author": "a\0b"}, "author holds the character U"),
        ({"comment": Register("x" * 2_001, 1)}, "comment is longer than 2000"),
        ({"comment": Register("\ud800", 1)}, "comment holds a lone surrogate"),
        ({"comment": Register("", -1)}, "comment hlc"),
        ({"rhythm": Register("", limits.MAX_HLC + 1)}, "rhythm hlc"),
        ({"rhythm": Register("x" * 9, 1)}, "rhythm is longer than 8"),
        ({"target": ResultId(-1, 1, 1)}, "device_alias"),
        ({"target": ResultId(0, 0, 1)}, "epoch"),
        ({"target": ResultId(0, 1, 0)}, "counter"),
    ],
)
def test_an_annotation_outside_a_range_is_not_written(
    an_annotation: AnnotationRow, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(OutOfRange, match=problem):
        encode_annotation_row(msgspec.structs.replace(an_annotation, **change))


def test_an_annotation_that_is_not_utf8_is_not_read(an_annotation: AnnotationRow) -> None:
    octets = encode_annotation_row(msgspec.structs.replace(an_annotation, comment=Register("ab", 1)))
    for wrong in (b"\xff\xfe", b"\xed\xa0", b"\xc0\x80"):
        with pytest.raises(DecodeError, match="not UTF-8"):
            decode_annotation_row(octets[:-2] + wrong)


def test_an_annotation_at_its_limits_is_kept() -> None:
    row = AnnotationRow(
        target=ResultId(limits.MAX_DEVICE_ALIAS, limits.MAX_EPOCH, limits.MAX_COUNTER),
        author="😀" * limits.MAX_AUTHOR_CHARACTERS,
        rhythm=Register("😀" * limits.MAX_RHYTHM_CHARACTERS, limits.MAX_HLC),
        comment=Register("😀" * limits.MAX_COMMENT_CHARACTERS, limits.MAX_HLC),
    )
    assert decode_annotation_row(encode_annotation_row(row)) == row


def test_no_message_of_an_error_quotes_what_was_written(an_annotation: AnnotationRow) -> None:
    secret = "name-of-a-patient"
    bad = msgspec.structs.replace(an_annotation, comment=Register(secret + "\ud800", 1))
    with pytest.raises(OutOfRange) as caught:
        encode_annotation_row(bad)
    assert secret not in str(caught.value)
    assert caught.value.__suppress_context__


def test_normalisation_forms_are_different_rows(an_annotation: AnnotationRow) -> None:
    composed = msgspec.structs.replace(an_annotation, comment=Register("\u00e9", 1))
    decomposed = msgspec.structs.replace(an_annotation, comment=Register("e\u0301", 1))
    assert encode_annotation_row(composed) != encode_annotation_row(decomposed)


def test_the_layout_is_the_documented_one() -> None:
    row = ResultRow(
        counter=1,
        started_at_ms=2,
        duration_ms=3,
        n_steps=4,
        usable_s=5,
        quality=6,
        rhythm=7,
        confidence_permille=8,
        logits=(9, -10, 11, -12),
        tier=13,
        reason=14,
        model_digest=hashlib.sha256(b"").digest(),
        front_end_version=15,
    )
    by_hand = (
        "01 00000001 0000000000000002 00000003 0004 0005 0006 07 0008 00000009 fffffff6 0000000b fffffff4 0d 0e 000f"
        + hashlib.sha256(b"").hexdigest()
    )
    assert encode_result_row(row) == bytes.fromhex(by_hand)
