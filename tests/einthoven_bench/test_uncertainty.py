"""Areas against their definition, intervals against what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_bench.uncertainty import area_interval, area_under_curve, median_interval, pooled_interval

scores = st.lists(st.integers(0, 6), min_size=1, max_size=12)


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_in_order(low: list[int], high: list[int]) -> None:
    share = np.mean([1.0 if a < b else 0.5 if a == b else 0.0 for a in low for b in high])
    assert area_under_curve(np.array(low, float), np.array(high, float)) == pytest.approx(share)


def test_an_area_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        area_under_curve(np.zeros(0), np.ones(3))


def test_the_interval_of_an_area_holds_it_and_narrows_with_n() -> None:
    rng = np.random.default_rng(0)

    def width(n: int) -> float:
        low, high = rng.normal(0, 1, n), rng.normal(1, 1, 3 * n)
        edges = area_interval(low, high)
        assert edges[0] < area_under_curve(low, high) < edges[1]
        return edges[1] - edges[0]

    assert width(1_000) < width(30) / 3


def test_perfect_separation_has_no_spread() -> None:
    assert area_interval(np.zeros(5), np.ones(5)) == (1.0, 1.0)


def test_pooled_interval_resamples_records_not_beats() -> None:
    counts = np.array([[100, 0]] * 9 + [[0, 100]])  # one record of ten is all wrong

    def share(drawn: np.ndarray) -> np.ndarray:
        return drawn[:, 0] / drawn.sum(axis=1)

    low, high = pooled_interval(counts, share)
    assert low <= 0.8
    assert high == 1.0
    assert pooled_interval(counts[:1], share) == (1.0, 1.0)


def test_median_interval_holds_the_median() -> None:
    rng = np.random.default_rng(0)
    values, record = rng.normal(5, 1, 5_000), rng.integers(0, 50, 5_000)
    low, high = median_interval(values, record, 50)
    assert low < np.median(values) < high
    assert high - low < 0.2
    assert median_interval(np.array([3.0]), np.array([0]), 1) == (3.0, 3.0)
