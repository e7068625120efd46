"""Medians, areas and 95 % intervals over records. Arithmetic only.

An interval resamples whole records, never beats: beats of one recording are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 1_000
BOOTSTRAP_SEED = 1906
INTERVAL_PERCENT = (2.5, 97.5)


def pooled_interval(
    counts: NDArray[np.int64], figure: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[float, float]:
    """95 % bootstrap interval of a figure of pooled counts.

    Args:
        counts: int64 [records, k].
        figure: From pooled counts float64 [draws, k] to the figure [draws]; NaN where it is undefined.
    """
    values = figure((_weights(len(counts)) @ counts).astype(np.float64))
    return _interval(values)


def median_interval(values: NDArray[np.float64], record: NDArray[np.int64], n_records: int) -> tuple[float, float]:
    """95 % bootstrap interval of the pooled median.

    Args:
        values: float64 [n].
        record: int64 [n], the record each value belongs to.
        n_records: Their number.
    """
    order = np.argsort(values, kind="stable")
    ordered, owner = values[order], record[order]
    medians = []
    for weights in _weights(n_records):
        running = np.cumsum(weights[owner])
        if running[-1]:
            medians.append(ordered[np.searchsorted(running, running[-1] / 2)])
    return _interval(np.array(medians))


def area_under_curve(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """P(a value of ``low`` is under one of ``high``), ties counted half: the area under the ROC curve.

    Raises:
        ValueError: One of them is empty.
    """
    if not (len(low) and len(high)):
        raise ValueError("an area needs both classes")
    scores, cell = np.unique(np.concatenate([low, high]), return_inverse=True)
    n_low = np.bincount(cell[: len(low)], minlength=len(scores))
    n_high = np.bincount(cell[len(low) :], minlength=len(scores))
    return float(_areas(n_low[None], n_high[None])[0])


def area_interval(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of ``area_under_curve``, resampled within each class."""
    scores, cell = np.unique(np.concatenate([low, high]), return_inverse=True)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = []
    for cells in (cell[: len(low)], cell[len(low) :]):
        share = np.bincount(cells, minlength=len(scores)) / len(cells)
        drawn.append(rng.multinomial(len(cells), share, size=BOOTSTRAP_SAMPLES))
    return _interval(_areas(drawn[0], drawn[1]))


def _areas(n_low: NDArray[np.int64], n_high: NDArray[np.int64]) -> NDArray[np.float64]:
    """Areas [draws] from counts a score [draws, scores], scores ascending."""
    at_most = np.cumsum(n_low, axis=1)
    wins = (n_high * (at_most - n_low / 2)).sum(axis=1)
    return np.asarray(wins / (n_low.sum(axis=1) * n_high.sum(axis=1)))


def _weights(n: int) -> NDArray[np.int64]:
    """How often each of n records is drawn, int64 [draws, n]."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return np.asarray(rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_SAMPLES))


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanpercentile(values, INTERVAL_PERCENT)
    return float(low), float(high)
