"""Batches of results are tuples of rows to whoever looks, and bytes to whoever does not."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import codec, digests
from einthoven_protocol.canonical import encode_result_row, encode_result_rows
from einthoven_protocol.canonical_results import decode_result_rows, packed_results
from einthoven_protocol.errors import InconsistentExchange, OutOfRange
from einthoven_protocol.exchange import check_response
from einthoven_protocol.limits import MAX_COUNTER
from einthoven_protocol.messages import (
    Capability,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    ResultRow,
)
from einthoven_protocol.packed_results import IdentifiedResults, ResultRows
from einthoven_protocol.result_tables import decode_results, encode_results

Results = Callable[[int], tuple[ResultRow, ...]]
PLAIN = st.from_type(ResultRow).map(lambda row: msgspec.structs.replace(row, extra=()))


def packed(rows: Sequence[ResultRow]) -> ResultRows:
    found = packed_results([encode_result_row(row) for row in rows])
    assert found is not None
    return found


def named(rows: Sequence[ResultRow], aliases: Sequence[int]) -> tuple[IdentifiedResults, tuple[IdentifiedResult, ...]]:
    """The same results as a batch and one by one."""
    epochs = [alias % 3 + 1 for alias in aliases]
    batch = IdentifiedResults(np.array(aliases, np.int64), np.array(epochs, np.int64), packed(rows))
    ones = tuple(
        IdentifiedResult(device_alias=a, epoch=e, row=r) for a, e, r in zip(aliases, epochs, rows, strict=True)
    )
    return batch, ones


@given(rows=st.lists(PLAIN, max_size=5).map(tuple))
def test_a_batch_is_the_tuple_of_its_rows(rows: tuple[ResultRow, ...]) -> None:
    batch = packed(rows)
    assert batch == rows
    assert rows == batch
    assert batch == packed(rows)
    assert hash(batch) == hash(rows)
    assert repr(batch) == repr(rows)
    assert (len(batch), list(batch), bool(batch)) == (len(rows), list(rows), bool(rows))
    assert pickle.loads(pickle.dumps(batch)) == rows
    assert encode_result_rows(batch) == batch.split() == [encode_result_row(row) for row in rows]
    assert decode_result_rows(batch.split()) == list(rows)
    assert batch != list(rows)


@given(
    place=st.one_of(
        st.integers(-6, 6), st.builds(slice, *[st.none() | st.integers(-7, 7)] * 2, st.sampled_from([None, 1, 2, -1]))
    )
)
@pytest.mark.parametrize("looked_at", [False, True])
def test_places_and_slices_are_those_of_a_tuple(device_results: Results, looked_at: bool, place: int | slice) -> None:
    rows = device_results(5)
    batch = packed(rows)
    assert not looked_at or list(batch)
    if isinstance(place, slice) or -5 <= place < 5:
        assert batch[place] == rows[place]
    else:
        with pytest.raises(IndexError):
            batch[place]


def test_a_batch_that_was_changed_is_another_one(device_results: Results) -> None:
    rows = device_results(3)
    batch, ones = named(rows, [7, 7, 8])
    assert batch.rows != packed(device_results(4))
    assert batch == ones == batch
    assert hash(batch) == hash(ones)
    assert (repr(batch), len(batch), batch[1], batch[1:]) == (repr(ones), 3, ones[1], ones[1:])
    assert batch == named(rows, [7, 7, 8])[0]
    assert batch != named(rows, [7, 8, 8])[0]
    assert batch != list(ones)


def test_only_whole_rows_within_their_ranges_and_without_further_columns_are_packed(a_result: ResultRow) -> None:
    good = encode_result_row(a_result)
    extended = encode_result_row(msgspec.structs.replace(a_result, extra=((64, 1),)))
    beyond = good[:1] + (MAX_COUNTER + 1).to_bytes(4, "big") + good[5:]
    assert packed_results([good, good]) == (a_result, a_result)
    for bad in (good[:-1], good + b"x", extended, b"\x02" + good[1:], beyond, good[:1] + bytes(4) + good[5:]):
        assert packed_results([good, bad]) is None
    with pytest.raises(OutOfRange):
        decode_result_rows([good, beyond])


@given(rows=st.lists(PLAIN, min_size=1, max_size=20), data=st.data())
def test_a_batch_travels_like_its_rows(rows: list[ResultRow], data: st.DataObject) -> None:
    aliases = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)))
    batch, ones = named(rows, aliases)
    for peer in (0, Capability.PACKED):
        bodies = [
            codec.encode_response(ExchangeResponse(acknowledged=1, results=results), peer) for results in (batch, ones)
        ]
        assert bodies[0] == bodies[1]
        decoded = codec.decode_response(bodies[0])
        assert isinstance(decoded.results, IdentifiedResults)
        assert decoded.results == batch


def test_a_table_with_further_columns_gives_rows(device_results: Results) -> None:
    rows = device_results(20)
    with_extra = (*rows[:19], msgspec.structs.replace(rows[19], extra=((64, 5), (65, b"x"))))
    for sent in (rows, with_extra):
        table = b"".join(encode_results(sent))
        assert decode_results(table) == sent
        assert isinstance(decode_results(table), ResultRows) is (sent is rows)


@pytest.mark.parametrize("twice", [False, True])
def test_a_name_that_comes_twice_is_refused_of_a_batch_too(device_results: Results, twice: bool) -> None:
    rows = device_results(4)
    batch, _ = named([*rows, rows[-1]], [7, 7, 8, 8, 8 if twice else 9])
    request = ExchangeRequest(device_alias=1, epoch=1, cursor=Cursor(1, 1))
    response = ExchangeResponse(acknowledged=0, cursor=Cursor(1, 2), results=batch)
    if twice:
        with pytest.raises(InconsistentExchange, match="a result twice"):
            check_response(request, response)
    else:
        check_response(request, response)


@given(rows=st.lists(PLAIN, max_size=6))
def test_the_digest_of_many_is_the_sum_of_their_shares(rows: list[ResultRow]) -> None:
    octets = [encode_result_row(row) for row in rows]
    shares = digests.result_sums(b"k" * 32, 7, 3, octets)
    assert shares == [digests.result_sum(b"k" * 32, 7, 3, row) for row in rows]
    expected = digests.add_all(Digest(0, 0), shares)
    assert digests.results_digest(b"k" * 32, 7, 3, octets) == expected
    with pytest.raises(OutOfRange):
        digests.results_digest(b"k" * 32, 7, 0, octets)
