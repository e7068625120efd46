"""Fitting the temperature, and what a count of the network is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from einthoven.probability import permilles
from einthoven_conversion.temperature import fit_temperature, negative_log_likelihood, octave_ratio


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    probability = np.exp(logits / true_temperature)
    probability /= probability.sum(axis=1, keepdims=True)
    labels = (rng.random((20_000, 1)) > np.cumsum(probability, axis=1)).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.05)


def test_the_integer_ratio_gives_the_float_softmax() -> None:
    scale = 0.2395 / 256
    ratio = octave_ratio(scale)
    logits = [1200, -340, 900, -2500]
    weights = [math.exp(logit * scale) for logit in logits]
    found = permilles(logits, ratio.numerator, ratio.denominator)
    assert found == pytest.approx([1000 * weight / sum(weights) for weight in weights], abs=3)


def test_the_temperature_has_the_least_likelihood_of_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (500, 4))
    labels = (logits + rng.gumbel(0, 2, (500, 4))).argmax(axis=1)
    best = fit_temperature(logits, labels)
    least = negative_log_likelihood(logits, labels, best)
    assert all(negative_log_likelihood(logits, labels, best * factor) > least for factor in (0.9, 1.1))


@pytest.mark.parametrize("scale", [1e-3, 0.09375, 0.5, 1.0])
def test_a_count_of_the_network_in_octaves(scale: float) -> None:
    ratio = octave_ratio(scale)
    assert float(ratio) == pytest.approx(scale / math.log(2) * 1024, rel=1e-5)
    assert 1 <= ratio.numerator <= 2**53


def test_a_scale_of_nothing_is_still_a_ratio() -> None:
    assert octave_ratio(0.0) > 0
