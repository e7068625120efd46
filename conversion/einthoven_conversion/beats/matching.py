"""Compares detected beats with a reference, beat by beat, by the rules of ANSI/AAMI EC57.

It deliberately knows no detector.

Invariants:
    1. A reference beat matches one detected beat at most, in the order of time, within ``WINDOW_S``.
    2. What lies in a span left out counts neither for nor against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 0.150
"""EC57, 4.3.2: a detection within 150 ms of the reference is the same beat."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a detector did on one recording.

    Attributes:
        true_positives: Reference beats that were found.
        missed_s: Times of those that were not, seconds.
        false_s: Times of detections that match nothing, seconds.
        errors_s: Detected minus reference time of those found, seconds.
    """

    true_positives: int
    missed_s: NDArray[np.float64]
    false_s: NDArray[np.float64]
    errors_s: NDArray[np.float64]


def match(reference_s: NDArray[np.float64], detected_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pair beats in the order of time, each with the nearest that is free.

    Returns:
        int64 [k, 2]: index into the reference, index into the detections.
    """
    pairs = []
    i = j = 0
    while i < len(reference_s) and j < len(detected_s):
        distance = abs(detected_s[j] - reference_s[i])
        if distance > WINDOW_S:
            if detected_s[j] < reference_s[i]:
                j += 1
            else:
                i += 1
        elif j + 1 < len(detected_s) and abs(detected_s[j + 1] - reference_s[i]) < distance:
            j += 1
        elif i + 1 < len(reference_s) and abs(detected_s[j] - reference_s[i + 1]) < distance:
            i += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    return np.array(pairs, np.int64).reshape(-1, 2)


def compare(
    reference_s: NDArray[np.float64],
    detected_s: NDArray[np.float64],
    left_out: Sequence[tuple[float, float]] = (),
) -> Comparison:
    """Count what was found, missed and invented outside the spans left out."""
    pairs = match(reference_s, detected_s)
    counts, found = np.ones(len(reference_s), np.bool_), np.zeros(len(reference_s), np.bool_)
    false = np.ones(len(detected_s), np.bool_)
    for start, stop in left_out:
        counts &= (reference_s < start) | (reference_s > stop)
        false &= (detected_s < start - WINDOW_S) | (detected_s > stop + WINDOW_S)
    found[pairs[:, 0]] = True
    false[pairs[:, 1]] = False
    kept = pairs[counts[pairs[:, 0]]]
    return Comparison(
        true_positives=len(kept),
        missed_s=reference_s[counts & ~found],
        false_s=detected_s[false],
        errors_s=detected_s[kept[:, 1]] - reference_s[kept[:, 0]],
    )


def f1(comparisons: Sequence[Comparison]) -> float:
    """Gross F1 over recordings; 0 where there is nothing."""
    found = sum(one.true_positives for one in comparisons)
    wrong = sum(len(one.missed_s) + len(one.false_s) for one in comparisons)
    return 2 * found / (2 * found + wrong) if found else 0.0
