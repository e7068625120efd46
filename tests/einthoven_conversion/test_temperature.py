"""Fitting temperature and threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from einthoven.probability import permilles
from einthoven_conversion.temperature import fit_temperature, low_confidence_permille, octave_ratio


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    probability = np.exp(logits / true_temperature)
    probability /= probability.sum(axis=1, keepdims=True)
    labels = (rng.random((20_000, 1)) > np.cumsum(probability, axis=1)).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.05)


def test_the_integer_ratio_gives_the_float_softmax() -> None:
    scale, temperature = 0.2395, 0.83
    ratio = octave_ratio(scale, temperature)
    logits = [1200, -340, 900, -2500]
    weights = [math.exp(logit * scale / 256 / temperature) for logit in logits]
    found = permilles(logits, ratio.numerator, ratio.denominator)
    assert found == pytest.approx([1000 * weight / sum(weights) for weight in weights], abs=3)


def test_the_threshold_leaves_the_asked_share_inconclusive() -> None:
    confidences = np.arange(1000)
    inconclusive = np.zeros(1000, bool)
    inconclusive[500:530] = True
    threshold = low_confidence_permille(confidences, inconclusive, 0.10)
    assert (inconclusive | (confidences < threshold)).sum() == 100


def test_no_threshold_where_too_many_are_inconclusive_already() -> None:
    assert low_confidence_permille(np.arange(10), np.ones(10, bool), 0.10) == 0
