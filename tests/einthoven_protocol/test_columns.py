"""Varints, numbered fields, integer and bytes columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import limits
from einthoven_protocol.columns import Table, decode_integers, decode_octets, encode_integers, encode_octets
from einthoven_protocol.errors import DecodeError, LimitExceeded, OutOfRange, ProtocolError
from einthoven_protocol.fields import Reader, varint, write_fields, zigzag

INT64 = st.integers(-(2**63), 2**63 - 1)
INT64_RANGE = (-(2**63), 2**63 - 1)


@given(value=st.integers(0, 2**64 - 1))
def test_a_varint_comes_back_and_ends_itself(value: int) -> None:
    reader = Reader(varint(value) + b"rest")
    assert reader.varint() == value
    assert reader.rest() == b"rest"
    assert reader.at_end


@given(value=INT64)
def test_a_zigzag_varint_comes_back_modulo_2_to_64(value: int) -> None:
    assert Reader(zigzag(value)).zigzag() == value % 2**64


def test_varints_are_those_of_the_specification() -> None:
    assert [varint(n).hex() for n in (0, 1, 127, 128, 300, 2**64 - 1)] == [
        "00",
        "01",
        "7f",
        "8001",
        "ac02",
        "ffffffffffffffffff01",
    ]
    assert [zigzag(n).hex() for n in (0, -1, 1, -2)] == ["00", "01", "02", "03"]


@pytest.mark.parametrize("octets", ["", "80", "8000", "ffffffffffffffffff02", "ffffffffffffffffffff01"])
def test_a_varint_cut_off_overlong_or_too_large_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        Reader(bytes.fromhex(octets)).varint()


@given(fields=st.dictionaries(st.integers(1, 2**64 - 1), st.binary(min_size=1, max_size=300), max_size=20))
def test_fields_come_back(fields: dict[int, bytes]) -> None:
    octets = b"".join(write_fields({number: [content] for number, content in fields.items()}))
    assert Reader(octets).fields() == fields


def test_an_empty_field_is_left_out() -> None:
    assert write_fields({1: [], 2: [b""]}) == []


@pytest.mark.parametrize("octets", ["0001aa", "0101aa0101aa", "0201aa0101aa", "0102aa", "01ffffffffffffffffff01aa"])
def test_fields_out_of_order_doubled_or_cut_off_are_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        Reader(bytes.fromhex(octets)).fields()


def test_too_many_fields_are_refused() -> None:
    fields = {number: [b"x"] for number in range(1, limits.MAX_COLUMNS_PER_TABLE + 2)}
    with pytest.raises(LimitExceeded):
        Reader(b"".join(write_fields(fields))).fields()


@given(values=st.lists(INT64, min_size=1, max_size=50), delta=st.booleans())
def test_integers_come_back(values: list[int], delta: bool) -> None:
    parts = encode_integers("x", values, *INT64_RANGE, delta=delta)
    assert decode_integers(b"".join(parts) or None, len(values)).tolist() == values


def test_a_column_of_nought_is_absent_and_a_constant_one_short() -> None:
    assert encode_integers("x", [0] * 1_000, 0, 9) == []
    assert encode_integers("x", [], 0, 9) == []
    assert b"".join(encode_integers("x", [30_000] * 1_000, 0, 10**6)).hex() == "00e0d403"


def test_contiguous_counters_are_short() -> None:
    octets = b"".join(encode_integers("x", list(range(5, 10_000)), 0, 10**6, delta=True))
    assert octets.hex() == "100a02"


def test_planes_are_least_significant_first() -> None:
    octets = b"".join(encode_integers("x", [-2, 0x0102, 0x0304], -9, 10**6))
    assert octets.hex() == "02" + "03" + "000406" + "000103"


@pytest.mark.parametrize("values", [[1, 11], [-1], [2**63], [2**64], [1.5], ["1"], [True], [None]])
def test_integers_outside_their_range_or_of_another_type_are_not_written(values: list[int]) -> None:
    with pytest.raises(OutOfRange, match="x is outside 0 to 10"):
        encode_integers("x", values, 0, 10)


@pytest.mark.parametrize("octets", ["", "00", "0902" + "00" * 27, "2000", "010201", "01020102030405", "1000", "8000"])
def test_an_integer_column_that_does_not_hold_its_rows_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        decode_integers(bytes.fromhex(octets), 3)


@given(values=st.lists(st.binary(max_size=9), min_size=1, max_size=50))
def test_octets_come_back(values: list[bytes]) -> None:
    assert decode_octets(b"".join(encode_octets(values)) or None, len(values), 9) == values


def test_equal_octets_are_written_once() -> None:
    assert len(b"".join(encode_octets([bytes(32)] * 1_000))) == 34


@pytest.mark.parametrize(
    "octets",
    [
        "",  # nothing
        "00",  # no entries
        "04" + "0161" * 4,  # more entries than rows
        "01" + "0561" * 5,  # over the longest allowed
        "010361",  # cut off
        "010161" + "0002",  # place 1 of one entry
        "010161" + "0001",  # place -1
        "ffffffffffffffffff01",
    ],
)
def test_a_bytes_column_that_does_not_hold_its_rows_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        decode_octets(bytes.fromhex(octets), 3, 4)


@given(octets=st.binary(max_size=60), rows=st.integers(1, 20))
def test_no_bytes_raise_anything_else(octets: bytes, rows: int) -> None:
    for decode in (lambda: decode_integers(octets, rows), lambda: decode_octets(octets, rows, 4)):
        try:
            decoded = decode()
        except ProtocolError:
            continue
        assert len(decoded) == rows


def test_a_table_without_rows_or_with_too_many_is_refused_before_its_columns_are_read() -> None:
    with pytest.raises(DecodeError, match="no rows"):
        Table(b"\x00", 10)
    with pytest.raises(LimitExceeded, match="more than 10 rows"):
        Table(varint(11) + b"not columns", 10)


def test_an_absent_table_has_no_values() -> None:
    table = Table(None, 10)
    assert table.integers(1, "x", 1, 2) == table.fixed(2, "y", 32) == table.texts(3, "z", 4) == []
