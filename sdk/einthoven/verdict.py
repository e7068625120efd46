"""From what is known of a window to its verdict: logits, probability, prediction set, or why there is none. Pure.

The rhythm network's seconds, the RR intervals, the average beat and the beats' classes (``window_features``) go through
boosted trees. What comes out is calibrated: a temperature is in the logits, and a class is in the prediction set unless
fewer than one in twenty records of that class looked so little like it (``verdict_tables.PredictionSets``).

A window is inconclusive when atrial fibrillation is neither ruled out nor ruled in: that is the question a
single-lead ECG is asked. Whether it is normal or another rhythm may stay open; the set then holds both.

It deliberately keeps no state and knows no samples.

Invariants:
    1. Integers only; equal features give equal verdicts on every machine.
    2. The set always holds the most likely class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.probability import permilles
from einthoven.results import Rhythm
from einthoven.verdict_tables import CLASSES, Forest, Outlyingness, VerdictTables, read_tables, unpack, unpack_forest

FULL_SCALE: Final = 64
"""Units of a standardized feature: 64 is one ``scale``."""
MAX_DEVIATION: Final = 6 * FULL_SCALE
"""Deviations are clipped here, so that one wild feature alone says little."""

Logits = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the tables say of a window.

    Attributes:
        logits: One for each of N, A, O, ~, in 1/1024 octave, temperature included.
        permilles: Their probabilities in 1/1000.
        rhythm: Class with the highest logit, the first of equals.
        prediction_set: Classes that can't be ruled out, in the order of ``Rhythm``.
        af_open: Whether AF is neither ruled in nor out.
        outlyingness: Mean square deviation from the training windows, in 1/64 squared.
        out_of_distribution: Whether that is over the limit.
    """

    logits: Logits
    permilles: Logits
    rhythm: Rhythm
    prediction_set: tuple[Rhythm, ...]
    af_open: bool
    outlyingness: int
    out_of_distribution: bool


class Verdict:
    """The tables, ready to run. Holds no state of a window, so windows may share one.

    Args:
        tables: What shipped.

    Raises:
        ModelCorrupt: The tables do not fit together.
    """

    def __init__(self, tables: VerdictTables) -> None:
        self.tables = tables
        self._forest = unpack_forest(tables.trees)
        self._distance = Distance(tables.outlyingness)

    def opinion(self, features: NDArray[np.int64], mean_logits: Sequence[int]) -> Opinion:
        """Judge a window.

        Args:
            features: int64 [FEATURES], ``window_features.window_features``.
            mean_logits: Mean logit of the seconds in 1/1024 octave, one a class.
        """
        tables = self.tables
        added = run_forest(self._forest, features)
        logits = tuple(
            base + tables.pooled_permille * pooled // 1000 + tree
            for base, pooled, tree in zip(tables.base, mean_logits, added, strict=True)
        )
        return self.of_logits((logits[0], logits[1], logits[2], logits[3]), self._distance.of(features))

    def of_logits(self, logits: Logits, outlyingness: int = 0) -> Opinion:
        """What given logits mean; so a stored result can be explained without its signal."""
        tables = self.tables
        shares = permilles(logits, 1, 1)
        rhythm = Rhythm(logits.index(max(logits)))
        least = tables.sets.least_permille
        chosen = tuple(one for one in Rhythm if one is rhythm or shares[one] >= least[one])
        return Opinion(
            logits=logits,
            permilles=(shares[0], shares[1], shares[2], shares[3]),
            rhythm=rhythm,
            prediction_set=chosen,
            af_open=tables.af_possible_permille <= shares[Rhythm.AF] < tables.af_certain_permille,
            outlyingness=outlyingness,
            out_of_distribution=outlyingness > tables.outlyingness.limit,
        )


def run_forest(forest: Forest, features: NDArray[np.int64]) -> list[int]:
    """Sum of the leaves a window reaches, one a class."""
    count = len(forest.features)
    every = np.arange(count)
    node = np.zeros(count, np.intp)
    for _ in range(forest.depth):
        above = features[forest.features[every, node]] > forest.thresholds[every, node]
        node = 2 * node + 1 + above
    reached = forest.leaves[every, node - forest.leaves.shape[1] + 1]
    return [int(reached[label::CLASSES].sum()) for label in range(CLASSES)]


class Distance:
    """Mean square of the projections of a window's deviations."""

    def __init__(self, tables: Outlyingness) -> None:
        self._center = np.array(tables.center, np.int64)
        self._scale = np.array(tables.scale, np.int64)
        self._directions = unpack(tables.directions, "i1", (tables.k, len(tables.center)))

    def of(self, features: NDArray[np.int64]) -> int:
        """0 where there are no directions."""
        if not len(self._directions):
            return 0
        deviation = (features - self._center) * FULL_SCALE // self._scale
        # A direction has the length of 127: the shift undoes most of it, exactly.
        along = (self._directions @ np.clip(deviation, -MAX_DEVIATION, MAX_DEVIATION)) >> 7
        return int(along @ along) // len(along)


@lru_cache(maxsize=8)
def read_verdict(content: bytes) -> Verdict:
    """The verdict of a ``verdict.json``.

    Raises:
        ModelCorrupt: Not of this layout.
    """
    return Verdict(read_tables(content))
