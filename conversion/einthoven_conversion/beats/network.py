"""Trains a small fully connected network in NumPy and turns it into the integers that the device multiplies.

Adam (Kingma & Ba 2015) on the logistic loss, with a cosine schedule; the same seed on the same machine gives the same
weights. It deliberately knows nothing of beats.

Invariants:
    1. No sum of the integer network can reach 2**24, whatever the features.
    2. The last layer's unit is 1/``LOGIT_ONE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_features import LIMIT
from einthoven.beat_scorer import LOGIT_ONE
from einthoven.beat_tables import EXACT_FLOAT32, MAX_ACTIVATION, LayerEntry

INPUT_ONE = 64
"""The integer that stands for 1.0 at a network's input."""
BATCH = 4_096
LEAST_BATCHES = 8
"""A small set is cut into this many."""
WARM_UP_STEPS = 200
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
LABEL_SMOOTHING = 1e-3
"""Reference marks are wrong about this often."""
MOMENTS = (0.9, 0.999)
MARGIN = 1.25
"""Room above the largest activation seen."""

FloatLayers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Examples:
    """What a network learns from.

    Attributes:
        features: int8 [n, inputs].
        labels: float32 [n], 1 for a QRS complex, else 0.
        weights: float32 [n].
    """

    features: NDArray[np.int8]
    labels: NDArray[np.float32]
    weights: NDArray[np.float32]


def forward(layers: FloatLayers, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Outputs of every layer, the input first; rectified except the last."""
    outputs = [values]
    for number, (weights, bias) in enumerate(layers):
        total = outputs[-1] @ weights + bias
        if number < len(layers) - 1:
            np.maximum(total, 0, out=total)
        outputs.append(total)
    return outputs


def _as_input(features: NDArray[np.int8]) -> NDArray[np.float32]:
    return np.multiply(features, 1 / INPUT_ONE, dtype=np.float32)


def fit(examples: Examples, hidden: tuple[int, ...], epochs: int, seed: int) -> FloatLayers:
    """Train from scratch.

    Args:
        examples: One or more.
        hidden: Units of each hidden layer.
        epochs: Passes over the examples.
        seed: Of weights and order.
    """
    rng = np.random.default_rng(seed)
    sizes = (examples.features.shape[1], *hidden, 1)
    layers: FloatLayers = [
        (
            (rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32),
            np.zeros(b, np.float32),
        )
        for a, b in pairwise(sizes)
    ]
    moments = [[(np.zeros_like(part), np.zeros_like(part)) for part in layer] for layer in layers]
    size = min(BATCH, max(len(examples.features) // LEAST_BATCHES, 1))
    batches = len(examples.features) // size
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(examples.features))
        for number in range(batches):
            chosen = np.sort(order[number * size : (number + 1) * size])
            step += 1
            rate = LEARNING_RATE * min(1, step / WARM_UP_STEPS) * 0.5 * (1 + np.cos(np.pi * step / (epochs * batches)))
            _step(layers, moments, _gradients(layers, examples, chosen), step, float(rate))
    return layers


def _gradients(
    layers: FloatLayers, examples: Examples, chosen: NDArray[np.int64]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    outputs = forward(layers, _as_input(examples.features[chosen]))
    probability = 1 / (1 + np.exp(-np.clip(outputs[-1][:, 0], -30, 30)))
    target = examples.labels[chosen] * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
    slope = ((probability - target) * examples.weights[chosen] / len(chosen))[:, None].astype(np.float32)
    gradients = []
    for number in range(len(layers) - 1, -1, -1):
        gradients.append((outputs[number].T @ slope, slope.sum(axis=0)))
        if number:
            slope = (slope @ layers[number][0].T) * (outputs[number] > 0)
    return gradients[::-1]


def _step(
    layers: FloatLayers,
    moments: list[list[tuple[NDArray[np.float32], NDArray[np.float32]]]],
    gradients: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    step: int,
    rate: float,
) -> None:
    first, second = MOMENTS
    for layer, kept, slopes in zip(layers, moments, gradients, strict=True):
        for number, part in enumerate(layer):
            mean, square = kept[number]
            mean += (1 - first) * (slopes[number] - mean)
            square += (1 - second) * (slopes[number] * slopes[number] - square)
            change = (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + 1e-8)
            if number == 0:
                change += WEIGHT_DECAY * part
            np.subtract(part, rate * change, out=part)


def quantize(layers: FloatLayers, representative: NDArray[np.int8]) -> tuple[LayerEntry, ...]:
    """Turn float layers into integers.

    Args:
        layers: From ``fit``.
        representative: Features [n, inputs] that show how large activations get.

    Returns:
        Integer layers; their logit is the float one times ``LOGIT_ONE``, but for rounding.
    """
    outputs = forward(layers, _as_input(representative))
    unit, largest = 1 / INPUT_ONE, LIMIT
    entries = []
    for number, (weights, bias) in enumerate(layers):
        last = number == len(layers) - 1
        wanted = 1 / LOGIT_ONE if last else float(outputs[number + 1].max()) * MARGIN / MAX_ACTIVATION
        for shift in range(24, -1, -1):
            # An output of `wanted` is 2**shift of the sum's units.
            weight_unit = wanted / (unit * 2.0**shift)
            integers = np.rint(weights.astype(np.float64) / weight_unit)
            offsets = np.rint(bias.astype(np.float64) / (unit * weight_unit)) + (2**shift // 2)
            if (np.abs(integers).sum(axis=0) * largest + np.abs(offsets)).max() < EXACT_FLOAT32:
                break
        entries.append(
            LayerEntry(
                weights=tuple(tuple(int(value) for value in row) for row in integers),
                bias=tuple(int(value) for value in offsets),
                shift=shift,
            )
        )
        unit, largest = wanted, MAX_ACTIVATION
    return tuple(entries)
