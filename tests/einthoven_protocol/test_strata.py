"""The sketch of a set: exact bytes, estimates near enough, any bytes answered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.einthoven_protocol import slow_repair

from einthoven_protocol import limits, strata
from einthoven_protocol.errors import DecodeError

item_lists = st.lists(st.integers(0, 2**32 - 1), max_size=60)


def as_items(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


@given(items=item_lists)
@example(items=[0, 1, 2, 256, 512, 1024, 2**31, 2**32 - 1])
def test_a_sketch_is_that_of_the_plain_implementation(items: list[int]) -> None:
    assert strata.sketch(as_items(items)) == slow_repair.sketch(items)


@given(items=item_lists)
def test_equal_sets_differ_in_nothing(items: list[int]) -> None:
    assert strata.difference(as_items(items), strata.sketch(as_items(items[::-1]))) == 0


@pytest.mark.parametrize("differing", [20, 100, 1_000, 10_000])
def test_an_estimate_is_near_whatever_else_the_sets_hold(differing: int) -> None:
    estimates = []
    for seed in range(30):
        items = np.random.default_rng(seed).integers(0, 2**32, 30_000 + differing, np.uint64)
        half = differing // 2
        estimates.append(strata.difference(items[half:], strata.sketch(items[: len(items) - (differing - half)])))
    assert 0.85 * differing < np.median(estimates) < 1.15 * differing
    assert 0.5 * differing < min(estimates) <= max(estimates) < 2 * differing


def test_an_estimate_is_the_likeliest_number() -> None:
    items = np.random.default_rng(3).integers(0, 2**32, 300, np.uint64)
    estimate = strata.difference(as_items([]), strata.sketch(items))
    best = slow_repair.likelihood(slow_repair.sketch([]), slow_repair.sketch(items.tolist()), estimate)
    for other in (0.9 * estimate, 1.1 * estimate):
        assert best > slow_repair.likelihood(slow_repair.sketch([]), slow_repair.sketch(items.tolist()), other)


@given(octets=st.binary(min_size=80, max_size=80), items=item_lists)
@example(octets=b"\xff" * 80, items=[])
@example(octets=bytes(80), items=[])
def test_any_sketch_gives_a_number(octets: bytes, items: list[int]) -> None:
    assert 0 <= strata.difference(as_items(items), octets) <= strata.MAX_ESTIMATE


@pytest.mark.parametrize("length", [0, limits.SKETCH_BYTES - 1, limits.SKETCH_BYTES + 1])
def test_a_sketch_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        strata.difference(as_items([1]), bytes(length))
