"""Columns of a handful of rows: the same bytes, and the same refusals, as with arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol.columns import Table, decode_integers, encode_integers, write_table
from einthoven_protocol.errors import DecodeError, OutOfRange
from einthoven_protocol.few_rows import FEW_ROWS, pack_few, unpack_few

RANGE = (-(2**63), 2**63 - 1)
WIDTHS = st.sampled_from([1, 2, 7, 8, 9, 31, 32, 62, 63])
COLUMNS = WIDTHS.flatmap(
    lambda bits: (
        st.lists(st.integers(-(2**bits), 2**bits - 1), min_size=1, max_size=FEW_ROWS)
        | st.integers(-(2**bits), 2**bits - 1).map(lambda value: [value] * 3)
    )
)


@given(values=COLUMNS, delta=st.booleans())
def test_few_rows_are_written_and_read_as_arrays_are(values: list[int], delta: bool) -> None:
    parts = encode_integers("value", np.array(values, np.int64), *RANGE, delta=delta)
    assert pack_few(values, delta=delta) == parts == encode_integers("value", values, *RANGE, delta=delta)
    octets = b"".join(parts) or None
    assert unpack_few(octets, len(values)) == values == decode_integers(octets, len(values)).tolist()


@given(
    octets=st.binary(max_size=40) | COLUMNS.map(lambda values: b"".join(pack_few(values, delta=True))), cut=st.data()
)
def test_any_bytes_are_read_or_refused_as_with_arrays(octets: bytes, cut: st.DataObject) -> None:
    octets = octets[: cut.draw(st.integers(0, len(octets)))]
    for rows in (1, 2, FEW_ROWS):
        assert _read(unpack_few, octets, rows) == _read(decode_integers, octets, rows)


def _read(decode: object, octets: bytes, rows: int) -> object:
    assert callable(decode)
    try:
        return [int(value) for value in decode(octets, rows)]
    except DecodeError as refusal:
        return str(refusal)


@pytest.mark.parametrize("values", [[0, 9], [9], [True, False], [1.0], [2**64], ["1"]])
def test_what_is_no_integer_of_the_range_is_refused(values: list[int]) -> None:
    with pytest.raises(OutOfRange, match="value is outside 0 to 8"):
        encode_integers("value", values, 0, 8)


def test_few_rows_of_a_table_are_held_to_their_range() -> None:
    table = Table(b"".join(write_table(2, 5, {1: encode_integers("value", [3, 9], 0, 9)})), 5)
    assert table.integers(1, "value", 0, 9) == [3, 9]
    with pytest.raises(OutOfRange, match="value is outside 0 to 8"):
        table.integers(1, "value", 0, 8)
