"""Pruning by magnitude: the share that was asked for, the smallest weights, and none of the sensitive ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_conversion.prune import is_pruned, magnitude_mask, sparsity_at


@given(st.integers(1, 200), st.floats(0, 1), st.integers(0, 99))
def test_the_smallest_weights_go_and_as_many_as_asked(size: int, sparsity: float, seed: int) -> None:
    kernel = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    mask = magnitude_mask(kernel, sparsity)
    gone = np.abs(kernel[mask == 0])
    assert len(gone) == int(sparsity * size)
    assert set(np.unique(mask)) <= {0.0, 1.0}
    if 0 < len(gone) < size:
        assert gone.max() <= np.abs(kernel[mask == 1]).min()


def test_a_mask_has_the_kernels_shape_and_ties_are_settled_in_order() -> None:
    mask = magnitude_mask(np.ones((2, 3, 4), np.float32), 0.5)
    assert mask.shape == (2, 3, 4)
    assert mask.dtype == np.float32
    assert mask.ravel().tolist() == [0.0] * 12 + [1.0] * 12


@given(st.integers(2, 60), st.integers(0, 99))
def test_what_was_pruned_stays_pruned(steps: int, seed: int) -> None:
    """Training multiplies by the mask, so a pruned weight is 0 and the next mask takes it again."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=120).astype(np.float32)
    gone = np.zeros(120, bool)
    for step in range(steps + 1):
        mask = magnitude_mask(kernel, sparsity_at(step / steps, 0.6, 0.7))
        assert not (gone & (mask == 1)).any()
        gone |= mask == 0
        kernel = (kernel + rng.normal(0, 0.1, 120).astype(np.float32)) * mask
    assert gone.sum() == int(0.6 * 120)


def test_sparsity_rises_as_the_paper_says() -> None:
    assert sparsity_at(0, 0.5, 0.6) == 0
    assert sparsity_at(0.3, 0.5, 0.6) == pytest.approx(0.5 * (1 - 0.5**3))
    assert sparsity_at(0.6, 0.5, 0.6) == sparsity_at(1, 0.5, 0.6) == 0.5
    assert sparsity_at(0.9, 0.0, 0.6) == 0
    rising = [sparsity_at(step / 50, 0.5, 0.6) for step in range(51)]
    assert rising == sorted(rising)


@pytest.mark.parametrize(
    ("name", "pruned"),
    [("kernel_0", False), ("kernel_1", True), ("kernel_10", True), ("head_kernel", False), ("offset_1", False)],
)
def test_first_layer_and_head_stay_whole(name: str, pruned: bool) -> None:
    assert is_pruned(name) is pruned
