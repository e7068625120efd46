"""Figures of merit against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_conversion.metrics import (
    area_under_curve,
    confusion,
    expected_calibration_error,
    f1_interval,
    f1_scores,
    mean_f1_nao,
    proportion_interval,
)

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 3])
RHYTHMS = np.array([0, 0, 1, 1, 2, 2, 2, 0])


def test_f1_by_hand() -> None:
    counts = confusion(LABELS, RHYTHMS)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 2, 0], [1, 0, 0, 0]]
    assert f1_scores(counts).tolist() == pytest.approx([4 / 6, 2 / 4, 4 / 5, 0])
    assert float(mean_f1_nao(f1_scores(counts))) == pytest.approx((4 / 6 + 2 / 4 + 4 / 5) / 3)


def test_an_absent_class_scores_0_not_an_error() -> None:
    assert f1_scores(np.zeros((4, 4), np.int64)).tolist() == [0, 0, 0, 0]


def test_bootstrap_interval_holds_the_value_and_shrinks_with_n() -> None:
    small, large = confusion(LABELS, RHYTHMS) * 10, confusion(LABELS, RHYTHMS) * 1000
    value = float(mean_f1_nao(f1_scores(small)))
    widths = []
    for counts in (small, large):
        low, high = f1_interval(counts, mean_f1_nao)
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.50, 0.50])
    correct = np.array([True, True, True, False, True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx((4 * 0.2 + 2 * 0.0) / 6)


def test_full_confidence_has_a_bin() -> None:
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0


def test_wilson_interval_as_published() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263."""
    assert proportion_interval(81, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert proportion_interval(0, 20)[0] == 0


def test_area_under_the_curve_by_hand() -> None:
    assert area_under_curve(np.array([1, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert area_under_curve(np.array([4, 3, 2, 1]), np.array([False, False, True, True])) == 0
    assert area_under_curve(np.array([5, 5, 5]), np.array([True, False, True])) == 0.5
    assert area_under_curve(np.array([3, 1, 2, 2]), np.array([True, False, True, False])) == (2 + 1.5) / 4


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_area_under_the_curve_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    positive = [score for score, is_positive in rows if is_positive]
    negative = [score for score, is_positive in rows if not is_positive]
    if not positive or not negative:
        assert np.isnan(area_under_curve(np.array([one for one, _ in rows]), np.array([flag for _, flag in rows])))
        return
    pairs = [(a > b) + (a == b) / 2 for a in positive for b in negative]
    found = area_under_curve(np.array([score for score, _ in rows]), np.array([flag for _, flag in rows]))
    assert found == pytest.approx(sum(pairs) / len(pairs))
