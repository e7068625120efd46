"""Beat-by-beat comparison by the rules of ANSI/AAMI EC57:2012, 4.3, over whole records.

A detection within 150 ms of a reference beat can match it; each matches one other at most, in order of time. Of all
such matchings this takes one with the most pairs, and among those the one with the least total distance.

One thing differs from the standard, on purpose: the first five minutes ("learning period") are compared as well. A
detector that needs them is worse, and its figures here say so.

What is left out (flutter, seconds of bad signal, stretches without marks) is left out after matching: a reference beat
in a left-out stretch is dropped together with the detection that matches it, and a detection that matches nothing is
dropped where it lies itself. So an edge between a beat and its detection costs neither a miss nor a false beat, and
nothing that is wrong beside an edge is forgiven.

Invariants:
    1. TP + FN is the number of kept reference beats.
    2. Matching depends on times alone, and reversing time or swapping the sides keeps the number of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

MATCH_WINDOW_MS: Final = 150
"""ANSI/AAMI EC57:2012, 4.3: the farthest that a detection may lie from its beat."""

_Chain: TypeAlias = "tuple[()] | tuple[_Chain, int, int]"
_State = tuple[int, int, int, _Chain]
"""Last detection used, pairs so far (negative), distance so far, and the pairs as a linked list."""


@dataclass(frozen=True, slots=True)
class BeatCounts:
    """Gross counts; add them to pool records."""

    true_positives: int = 0
    false_negatives: int = 0
    false_positives: int = 0

    def __add__(self, other: BeatCounts) -> BeatCounts:
        return BeatCounts(
            self.true_positives + other.true_positives,
            self.false_negatives + other.false_negatives,
            self.false_positives + other.false_positives,
        )

    @property
    def reference_beats(self) -> int:
        """Reference beats that count."""
        return self.true_positives + self.false_negatives

    @property
    def sensitivity(self) -> float | None:
        """TP / (TP + FN); ``None`` without reference beats."""
        return self.true_positives / self.reference_beats if self.reference_beats else None

    @property
    def positive_predictivity(self) -> float | None:
        """TP / (TP + FP); ``None`` without detections."""
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else None

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FN + FP); ``None`` without either side."""
        total = 2 * self.true_positives + self.false_negatives + self.false_positives
        return 2 * self.true_positives / total if total else None

    def as_array(self) -> NDArray[np.int64]:
        """TP, FN, FP as int64 [3]."""
        return np.array([self.true_positives, self.false_negatives, self.false_positives], np.int64)


def match_beats(
    reference: NDArray[np.int64], detected: NDArray[np.int64], sampling_rate_hz: Fraction
) -> NDArray[np.int64]:
    """Pair reference beats with detections.

    Args:
        reference: int64 [r], sample indices, ascending.
        detected: int64 [d], sample indices, ascending.
        sampling_rate_hz: Of both.

    Returns:
        int64 [pairs, 2]: index into ``reference`` and into ``detected``, both strictly ascending.

    Raises:
        ValueError: One of them is not ascending.
    """
    if (np.diff(reference) < 0).any() or (np.diff(detected) < 0).any():
        raise ValueError("beats must be in order of time")
    window = int(sampling_rate_hz * MATCH_WINDOW_MS / 1000)
    low = np.searchsorted(detected, reference - window, side="left")
    high = np.searchsorted(detected, reference + window, side="right")
    # A reference beat that shares no candidate with its neighbours, and has one only, is decided.
    shared = low[1:] < high[:-1]
    alone = ~(np.concatenate([shared, [False]]) | np.concatenate([[False], shared]))[: len(reference)]
    plain = alone & (high - low == 1)
    pairs = [np.stack([np.flatnonzero(plain), low[plain]], axis=1)]
    crowded = np.flatnonzero(~plain & (high > low))
    groups = np.split(crowded, np.flatnonzero(~_adjoining(crowded, low, high)) + 1)
    pairs += [_best_pairs(group, reference, detected, low, high) for group in groups if len(group)]
    found = np.concatenate(pairs).astype(np.int64)
    return np.asarray(found[np.argsort(found[:, 0], kind="stable")])


def _adjoining(crowded: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each crowded beat shares a candidate with the one before it, bool [n - 1]."""
    before, after = crowded[:-1], crowded[1:]
    return np.asarray(low[after] < high[before])


def _best_pairs(
    group: NDArray[np.int64],
    reference: NDArray[np.int64],
    detected: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Most pairs, then least distance, among neighbouring beats: a dynamic programme over the last detection used."""
    states: list[_State] = [(-1, 0, 0, ())]
    for beat in group.tolist():
        # Detections before this beat's window are used up: of the states that end there the best is the last.
        used_up = sum(state[0] < low[beat] for state in states)
        grown = states[max(0, used_up - 1) :]
        states = list(grown)
        for candidate in range(int(low[beat]), int(high[beat])):
            distance = abs(int(detected[candidate]) - int(reference[beat]))
            grown += [
                (candidate, pairs - 1, total + distance, (chain, beat, candidate))
                for last, pairs, total, chain in states
                if last < candidate
            ]
        # A state that used a later detection is worth keeping only if it is better than all that used earlier ones.
        grown.sort(key=lambda state: state[:3])
        states = []
        for state in grown:
            if not states or state[1:3] < states[-1][1:3]:
                states.append(state)
    found = []
    chain = states[-1][3]
    while chain:
        found.append((chain[1], chain[2]))
        chain = chain[0]
    return np.array(found[::-1], np.int64).reshape(-1, 2)


def count_beats(
    pairs: NDArray[np.int64], keep_reference: NDArray[np.bool_], keep_detected: NDArray[np.bool_]
) -> BeatCounts:
    """Count after leaving out.

    Args:
        pairs: From ``match_beats``.
        keep_reference: bool [r], reference beats that count.
        keep_detected: bool [d], whether a detection counts if it matches nothing.
    """
    true_positives = int(keep_reference[pairs[:, 0]].sum())
    unmatched = keep_detected.copy()
    unmatched[pairs[:, 1]] = False
    return BeatCounts(true_positives, int(keep_reference.sum()) - true_positives, int(unmatched.sum()))
