"""From out-of-fold logits to thresholds: when AF is open, prediction sets, and what is out of distribution.

It deliberately never sees a record that the forest in question was grown on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.results import Rhythm
from einthoven.verdict import FULL_SCALE, MAX_DEVIATION, Distance
from einthoven.verdict_tables import CLASSES, Outlyingness, PredictionSets, pack

COVERAGE = 0.95
"""Nominal coverage of the prediction sets, each class."""
WANTED_SENSITIVITY, WANTED_SPECIFICITY = 0.98, 0.99
"""Of AF among the records with a verdict."""
EVEN_PERMILLE = 500
IN_DISTRIBUTION = 0.995
"""Share of the training windows that are."""
LEAST_VARIANCE = 0.3
"""Added to the variance along every direction, so that features that hardly ever vary don't decide alone."""


@dataclass(frozen=True, slots=True)
class OpenRange:
    """Probabilities of AF, in 1/1000, between which AF is open."""

    possible_permille: int
    certain_permille: int


def choose_open_range(
    permilles: NDArray[np.int64], labels: NDArray[np.int64], closed: NDArray[np.bool_], share: float
) -> OpenRange:
    """The range that comes nearest to the wanted sensitivity and specificity, with ``share`` of all records open.

    It begins below and ends at or above ``EVEN_PERMILLE``: where AF is ruled in it is the most likely class.

    Args:
        permilles: int64 [n, 4], probabilities in 1/1000.
        labels: int64 [n].
        closed: bool [n], inconclusive for another reason; they use up the share too.
        share: Of all records, that may be inconclusive.
    """
    af = permilles[~closed, Rhythm.AF]
    spare = max(int(share * len(labels)) - int(closed.sum()), 0)
    known = labels[~closed] != Rhythm.NOISE
    is_af = labels[~closed] == Rhythm.AF
    ordered = np.sort(af)
    best = (-math.inf, OpenRange(EVEN_PERMILLE, EVEN_PERMILLE))
    for low in (*np.unique(ordered[ordered < EVEN_PERMILLE]).tolist(), EVEN_PERMILLE):
        last = int(np.searchsorted(ordered, low)) + spare
        high = int(ordered[last]) if last < len(ordered) else 1001
        if high < EVEN_PERMILLE:
            continue
        kept = known & ((af < low) | (af >= high))
        hits = (kept & is_af & (af >= high)).sum() / max((kept & is_af).sum(), 1)
        rests = (kept & ~is_af & (af < low)).sum() / max((kept & ~is_af).sum(), 1)
        worst = min(hits - WANTED_SENSITIVITY, rests - WANTED_SPECIFICITY)
        if worst > best[0]:
            best = (float(worst), OpenRange(low, high))
    return best[1]


def prediction_sets(permilles: NDArray[np.int64], labels: NDArray[np.int64]) -> PredictionSets:
    """The least probability a class may have and still be in the set, from records of that class.

    With ``n`` of them and a nominal coverage of ``1 - a``, that is the ``floor(a (n + 1))``-th smallest probability
    they were given (Vovk et al. 2005; Angelopoulos and Bates 2023, arXiv:2107.07511, section 4.1), or none where n is
    too small.
    """
    least, counts = [], []
    for label in range(CLASSES):
        own = np.sort(permilles[labels == label, label])
        rank = math.floor(round((1 - COVERAGE) * (len(own) + 1), 9))
        least.append(int(own[rank - 1]) if rank else 0)
        counts.append(len(own))
    return PredictionSets(
        coverage_permille=round(COVERAGE * 1000),
        least_permille=(least[0], least[1], least[2], least[3]),
        n=(counts[0], counts[1], counts[2], counts[3]),
    )


def covered(permilles: NDArray[np.int64], labels: NDArray[np.int64], sets: PredictionSets) -> NDArray[np.bool_]:
    """Whether each record's true class is in its set; the most likely class always is."""
    every = np.arange(len(labels))
    return np.asarray(
        (permilles[every, labels] >= np.array(sets.least_permille)[labels]) | (permilles.argmax(axis=1) == labels)
    )


def fit_outlyingness(features: NDArray[np.int64]) -> Outlyingness:
    """Center, scale and directions of the training windows; int64 [n, FEATURES]."""
    center = np.median(features, axis=0).astype(np.int64)
    spread = np.percentile(features, 84.1, axis=0) - np.percentile(features, 15.9, axis=0)
    scale = np.maximum(np.rint(spread / 2), 1).astype(np.int64)
    deviation = _deviations(features, center, scale)
    standard = deviation / FULL_SCALE
    variance, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    whitening = (vectors / np.sqrt(np.maximum(variance, 0) + LEAST_VARIANCE)).T
    directions = np.rint(whitening * (127 / np.abs(whitening).max())).astype(np.int64)
    along = (deviation @ directions.T) >> 7
    distance = (along * along).sum(axis=1) // len(directions)
    limit = int(np.sort(distance)[min(math.ceil(IN_DISTRIBUTION * len(distance)), len(distance)) - 1])
    return Outlyingness(
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        directions=pack(directions, "i1"),
        k=len(directions),
        limit=limit,
        share_permille=round(1000 * (1 - IN_DISTRIBUTION)),
        n=len(features),
    )


def outlying(features: NDArray[np.int64], tables: Outlyingness) -> NDArray[np.bool_]:
    """Which rows int64 [n, FEATURES] are out of distribution."""
    distance = Distance(tables)
    return np.array([distance.of(row) > tables.limit for row in features], np.bool_)


def _deviations(features: NDArray[np.int64], center: NDArray[np.int64], scale: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.clip((features - center) * FULL_SCALE // scale, -MAX_DEVIATION, MAX_DEVIATION))
