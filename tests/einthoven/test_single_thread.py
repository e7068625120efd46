"""Matrix products in pieces: the same numbers, whatever the shapes, and no piece over the limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.single_thread import SINGLE_THREAD_PRODUCT, product


@settings(max_examples=60)
@given(st.integers(0, 300), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_pieces_give_the_whole_product(rows: int, inner: int, columns: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    left = chance.integers(-127, 128, (rows, inner)).astype(np.float32)
    right = chance.integers(-127, 128, (inner, columns)).astype(np.float32)
    found = product(left, right)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, left.astype(np.int64) @ right.astype(np.int64))


def test_a_large_product_is_cut() -> None:
    left = np.arange(600_000, dtype=np.float64).reshape(2_000, 300) % 7
    right = np.arange(19_200, dtype=np.float64).reshape(300, 64) % 5
    assert left.size * right.shape[1] > 100 * SINGLE_THREAD_PRODUCT
    np.testing.assert_array_equal(product(left, right), left.astype(np.int64) @ right.astype(np.int64))


def test_overlapping_rows_are_read_as_they_are() -> None:
    """The resampler's rows share samples."""
    samples = np.arange(1_000, dtype=np.float64)
    rows = np.lib.stride_tricks.sliding_window_view(samples, 100)[::50]
    right = np.ones((100, 2))
    np.testing.assert_array_equal(product(rows, right)[:, 0], [row.sum() for row in rows])


@pytest.mark.parametrize("columns", [1, 2**17 + 1])
def test_a_row_that_is_too_long_goes_alone(columns: int) -> None:
    left = np.ones((3, 2))
    assert product(left, np.ones((2, columns))).tolist() == [[2.0] * columns] * 3
