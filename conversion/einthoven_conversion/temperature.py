"""Fits the temperature on out-of-fold logits.

It deliberately never sees a record that the model in question was trained on.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.probability import OCTAVE

RATIO_DENOMINATOR = 2**20
LOWEST, HIGHEST = 0.05, 20.0


def negative_log_likelihood(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float) -> float:
    """Mean over records of -log p(label)."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(scaled).sum(axis=1))
    return float((log_total - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017), by golden-section search."""
    low, high = math.log(LOWEST), math.log(HIGHEST)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if negative_log_likelihood(logits, labels, math.exp(left)) < negative_log_likelihood(
            logits, labels, math.exp(right)
        ):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 4)


def octave_ratio(head_scale: float) -> Fraction:
    """One count of the network's output in 1/1024 octave, as the ratio of integers that the device uses."""
    exact = head_scale / math.log(2) * OCTAVE
    return Fraction(max(1, round(exact * RATIO_DENOMINATOR)), RATIO_DENOMINATOR)
