"""Figures of merit with their uncertainty. Arithmetic on labels and verdicts, nothing else.

Every figure rests on all records of its kind, none above a confidence threshold only, unless its name says so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

CLASSES = 4
BOOTSTRAP_SAMPLES = 1_000
BOOTSTRAP_SEED = 1906
RELIABILITY_BINS = 15


def confusion(labels: NDArray[np.int64], rhythms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts int64 [true, predicted]."""
    return np.bincount(labels * CLASSES + rhythms, minlength=CLASSES * CLASSES).reshape(CLASSES, CLASSES)


def f1_scores(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each class from a confusion matrix [..., true, predicted], 0 for an absent class."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.asarray(2 * hits / np.maximum(total, 1), np.float64)


def f1_interval(counts: NDArray[np.int64], read: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> list[float]:
    """95 % bootstrap interval over records of a figure read from the F1 scores [..., 4]."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    total = int(counts.sum())
    # Resampling records is resampling the matrix's cells.
    drawn = rng.multinomial(total, counts.reshape(-1) / total, size=BOOTSTRAP_SAMPLES)
    values = read(f1_scores(drawn.reshape(-1, CLASSES, CLASSES)))
    return [float(edge) for edge in np.percentile(values, [2.5, 97.5])]


def mean_f1_nao(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean F1 of N, A and O: the challenge's figure."""
    return np.asarray(scores[..., :3].mean(axis=-1))


def expected_calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Mean distance of confidence and accuracy over 15 equal bins, weighted by records (Guo et al. 2017)."""
    bins = np.minimum((confidence * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    gap = np.bincount(bins, confidence - correct, RELIABILITY_BINS)
    return float(np.abs(gap).sum() / len(confidence))


def bootstrap_interval(figure: Callable[[NDArray[np.int64]], float], n: int) -> list[float]:
    """95 % bootstrap interval of a figure of record indices.

    Draws of which the figure is not defined (``nan``) are left out; with few records some have none of a class.
    """
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = [figure(rng.integers(n, size=n)) for _ in range(BOOTSTRAP_SAMPLES)]
    return [float(edge) for edge in np.nanpercentile(drawn, [2.5, 97.5])]


def proportion_interval(hits: int, n: int) -> list[float]:
    """95 % Wilson score interval of a proportion."""
    z = 1.959964
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(hits * (n - hits) / n + z * z / 4)
    return [float(max(centre - half, 0)), float(min(centre + half, 1))]


def area_under_curve(scores: NDArray[np.int64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counted half (Mann-Whitney).

    Not defined, ``nan``, without positives or without negatives.
    """
    if positive.all() or not positive.any():
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    hits = int(positive.sum())
    misses = len(positive) - hits
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
