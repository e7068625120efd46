"""Digests: any order, undone by removal, different for every key, kind, owner and byte of a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import digests
from einthoven_protocol.canonical import encode_annotation_row, encode_result_row
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.messages import AnnotationRow, Digest, NoteRow, ResultId, ResultRow, Superseded

KEY = bytes(range(32))
shares = st.integers(0, 2**128 - 1)


@given(values=st.lists(shares, max_size=20), random=st.randoms(use_true_random=False))
def test_order_does_not_matter(values: list[int], random: object) -> None:
    shuffled = sorted(values, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert _of(values) == _of(shuffled)


@given(values=st.lists(shares, max_size=20), value=shares)
def test_removal_undoes_adding(values: list[int], value: int) -> None:
    digest = _of(values)
    assert digests.remove(digests.add(digest, value), value) == digest


@given(values=st.lists(shares, max_size=20))
def test_the_total_stays_within_128_bits(values: list[int]) -> None:
    digest = _of(values)
    assert digest == Digest(len(values), sum(values) % 2**128)


def _of(values: list[int]) -> Digest:
    digest = digests.EMPTY
    for value in values:
        digest = digests.add(digest, value)
    return digest


def test_a_share_is_keyed_blake2b_over_owner_and_canonical_bytes(
    a_result: ResultRow, an_annotation: AnnotationRow
) -> None:
    owner = (7).to_bytes(4, "big") + (1).to_bytes(4, "big")
    by_hand = hashlib.blake2b(
        owner + encode_result_row(a_result), digest_size=16, key=KEY, person=b"einthoven.result"
    ).digest()
    assert digests.result_sum(KEY, 7, 1, a_result) == int.from_bytes(by_hand, "big")
    by_hand = hashlib.blake2b(
        encode_annotation_row(an_annotation), digest_size=16, key=KEY, person=b"einthoven.annot."
    ).digest()
    assert digests.annotation_sum(KEY, an_annotation) == int.from_bytes(by_hand, "big")


def test_key_owner_and_row_all_count(a_result: ResultRow) -> None:
    other = msgspec.structs.replace(a_result, reason=(a_result.reason + 1) % 5)
    sums = {
        digests.result_sum(KEY, 7, 1, a_result),
        digests.result_sum(bytes(32), 7, 1, a_result),
        digests.result_sum(KEY, 8, 1, a_result),
        digests.result_sum(KEY, 7, 2, a_result),
        digests.result_sum(KEY, 7, 1, other),
    }
    assert len(sums) == 5


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), bytes(64)])
def test_a_key_of_another_length_is_refused(key: bytes, a_result: ResultRow) -> None:
    with pytest.raises(ValueError, match="not 32 bytes"):
        digests.result_sum(key, 7, 1, a_result)


@pytest.mark.parametrize(("alias", "epoch"), [(-1, 1), (2**31, 1), (1, 0), (1, 2**31)])
def test_an_owner_out_of_range_is_refused(alias: int, epoch: int, a_result: ResultRow) -> None:
    with pytest.raises(OutOfRange):
        digests.result_sum(KEY, alias, epoch, a_result)


def test_each_kind_of_row_has_shares_of_its_own(a_result: ResultRow, an_annotation: AnnotationRow) -> None:
    note = NoteRow(device_alias=7, epoch=1, counter=1, author="p-1", at_ms=0, text="dizzy")
    lost = Superseded(ResultId(7, 1, 1), "p-1", 1, 5, "A")
    for share, row, others in (
        (digests.note_sum, note, [{"text": "dizzy "}, {"counter": 2}, {"device_alias": 8}, {"extra": ((64, 1),)}]),
        (digests.superseded_sum, lost, [{"value": "N"}, {"field": 2}, {"hlc": 6}, {"author": "p-2"}]),
    ):
        shares = {share(KEY, row), share(bytes(32), row)}  # type: ignore[operator]
        shares |= {share(KEY, msgspec.structs.replace(row, **changes)) for changes in others}  # type: ignore[operator]
        assert len(shares) == 6


def test_many_shares_are_as_one_by_one_and_refused_alike(
    device_results: Callable[[int], tuple[ResultRow, ...]],
) -> None:
    rows = device_results(50)
    octets = [encode_result_row(row) for row in rows]
    one_by_one = [digests.result_sum(KEY, 7, 2, row) for row in rows]
    assert digests.result_sums(KEY, 7, 2, octets) == one_by_one
    assert digests.add_all(Digest(3, 2**128 - 1), one_by_one) == Digest(53, (2**128 - 1 + sum(one_by_one)) % 2**128)
    with pytest.raises(OutOfRange):
        digests.result_sums(KEY, -1, 2, octets)
    with pytest.raises(ValueError, match="32 bytes"):
        digests.result_sums(b"short", 7, 2, octets)
