"""Matching by ANSI/AAMI EC57: hand cases, the best of all matchings by brute force, and wfdb's comparison as oracle."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_bench.ec57 import BeatCounts, count_beats, match_beats

RATE = Fraction(1_000)  # one sample is 1 ms
WINDOW = 150


def pairs(reference: list[int], detected: list[int], rate: Fraction = RATE) -> list[tuple[int, int]]:
    found = match_beats(np.array(reference, np.int64), np.array(detected, np.int64), rate)
    return [(int(a), int(b)) for a, b in found]


@pytest.mark.parametrize(
    ("reference", "detected", "expected"),
    [
        ([], [], []),
        ([1_000], [], []),
        ([], [1_000], []),
        ([1_000], [1_000], [(0, 0)]),
        ([1_000], [1_150], [(0, 0)]),  # the window's edge is inside
        ([1_000], [1_151], []),
        ([1_000], [850], [(0, 0)]),
        ([1_000], [849], []),
        ([1_000], [990, 1_005], [(0, 1)]),  # the nearer one
        ([1_000], [1_005, 990 + 140], [(0, 0)]),
        ([1_000, 1_100], [1_050], [(0, 0)]),  # one detection, one beat
        ([1_000, 1_200], [1_100, 1_300], [(0, 0), (1, 1)]),  # two pairs rather than the nearer one
        ([1_000, 1_200], [900, 1_100], [(0, 0), (1, 1)]),
        ([1_000, 1_000], [1_000, 1_001], [(0, 0), (1, 1)]),
    ],
)
def test_hand_cases(reference: list[int], detected: list[int], expected: list[tuple[int, int]]) -> None:
    assert pairs(reference, detected) == expected


@pytest.mark.parametrize(
    ("rate", "samples"), [(Fraction(360), 54), (Fraction(250), 37), (Fraction(512_617, 1_000), 76)]
)
def test_the_window_is_150_ms_at_any_rate(rate: Fraction, samples: int) -> None:
    assert pairs([1_000], [1_000 + samples], rate) == [(0, 0)]
    assert pairs([1_000], [1_000 + samples + 1], rate) == []


def test_beats_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order of time"):
        pairs([2, 1], [1])


times = st.lists(st.integers(0, 1_200), max_size=6).map(sorted)


@given(times, times)
def test_no_other_matching_has_more_pairs_or_less_distance(reference: list[int], detected: list[int]) -> None:
    found = pairs(reference, detected)
    assert all(abs(reference[a] - detected[b]) <= WINDOW for a, b in found)
    assert all(left[0] < right[0] and left[1] < right[1] for left, right in pairwise(found))
    best = (0, 0)
    for k in range(1, min(len(reference), len(detected)) + 1):
        for mine in combinations(reference, k):
            for theirs in combinations(detected, k):
                distances = [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
                if max(distances) <= WINDOW:
                    best = min(best, (-k, sum(distances)))
    assert (-len(found), sum(abs(reference[a] - detected[b]) for a, b in found)) == best


@given(times, times)
def test_sides_and_direction_do_not_matter(reference: list[int], detected: list[int]) -> None:
    n = len(pairs(reference, detected))
    assert len(pairs(detected, reference)) == n
    assert len(pairs([2_000 - t for t in reversed(reference)], [2_000 - t for t in reversed(detected)])) == n


@pytest.mark.parametrize("seed", range(20))
def test_wfdb_counts_the_same_where_beats_are_apart(seed: int) -> None:
    """Where no detection has two beats to choose from, every rule agrees."""
    from wfdb.processing import compare_annotations

    rng = np.random.default_rng(seed)
    reference = np.cumsum(rng.integers(400, 1_200, size=300))
    detected = reference + rng.integers(-WINDOW + 1, WINDOW, size=len(reference))
    detected = detected[rng.random(len(detected)) < 0.95]
    extra = rng.integers(reference[0], reference[-1], size=40)
    far = np.array([t for t in extra if np.abs(reference - t).min() > WINDOW], np.int64)
    detected = np.unique(np.concatenate([detected, far]))
    theirs = compare_annotations(reference, detected, WINDOW)
    ours = count_all(reference, detected)
    assert (ours.true_positives, ours.false_negatives, ours.false_positives) == (theirs.tp, theirs.fn, theirs.fp)
    assert ours.sensitivity == theirs.sensitivity
    assert ours.positive_predictivity == theirs.positive_predictivity


def count_all(reference: np.ndarray, detected: np.ndarray) -> BeatCounts:
    found = match_beats(reference, detected, RATE)
    return count_beats(found, np.ones(len(reference), np.bool_), np.ones(len(detected), np.bool_))


def test_a_long_crowd_of_beats_is_matched_in_time() -> None:
    reference = np.arange(0, 400_000, 100)  # each shares its candidates with the next
    counts = count_all(reference, reference + 40)
    assert (counts.true_positives, counts.false_negatives, counts.false_positives) == (4_000, 0, 0)


def test_counts_and_shares() -> None:
    counts = BeatCounts(90, 10, 30)
    assert counts.reference_beats == 100
    assert counts.sensitivity == 0.9
    assert counts.positive_predictivity == 0.75
    assert counts.f1 == pytest.approx(2 * 0.9 * 0.75 / (0.9 + 0.75))
    assert counts + BeatCounts(1, 2, 3) == BeatCounts(91, 12, 33)
    assert counts.as_array().tolist() == [90, 10, 30]


def test_without_beats_there_is_no_share() -> None:
    assert BeatCounts().f1 is None
    assert BeatCounts().sensitivity is None
    assert BeatCounts(0, 3, 0).positive_predictivity is None
    assert BeatCounts(0, 3, 0).f1 == 0


@pytest.mark.parametrize(
    ("reference", "detected", "expected"),
    [
        # Left out: from 1000 to 2000.
        ([990], [1_010], (1, 0, 0)),  # the beat lies outside: its detection inside still counts
        ([1_010], [990], (0, 0, 0)),  # the beat lies inside: its detection outside is no false one
        ([1_500], [], (0, 0, 0)),
        ([], [1_500], (0, 0, 0)),
        ([990], [], (0, 1, 0)),  # nothing beside the edge is forgiven
        ([], [990], (0, 0, 1)),
        ([2_001], [1_999], (1, 0, 0)),
    ],
)
def test_leaving_out_is_fair_at_the_edges(
    reference: list[int], detected: list[int], expected: tuple[int, int, int]
) -> None:
    mine, theirs = np.array(reference, np.int64), np.array(detected, np.int64)
    keep = [(side < 1_000) | (side >= 2_000) for side in (mine, theirs)]
    counts = count_beats(match_beats(mine, theirs, RATE), *keep)
    assert (counts.true_positives, counts.false_negatives, counts.false_positives) == expected
