"""Trains small networks with three logits in NumPy, and puts several side by side as one.

Adam (Kingma & Ba 2015) on the cross-entropy, with a cosine schedule; examples are drawn by weight. The same seed on
the same machine gives the same weights. It deliberately knows nothing of beats; ``beats.network`` turns layers into
integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_class_tables import CLASSES
from einthoven_conversion.beats.network import INPUT_ONE, FloatLayers, forward

BATCH: Final = 512
WARM_UP_STEPS: Final = 100
LABEL_SMOOTHING: Final = 0.01
MOMENTS: Final = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Examples:
    """What a network learns from.

    Attributes:
        features: int8 [n, inputs].
        labels: int64 [n], 0 to 2.
        weights: float64 [n], how often an example is drawn.
    """

    features: NDArray[np.int8]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a network is trained.

    Attributes:
        hidden: Units of each hidden layer.
        steps: Batches.
        learning_rate: The largest.
        weight_decay: Of the weights, a step, relative to the learning rate.
    """

    hidden: tuple[int, ...]
    steps: int
    learning_rate: float
    weight_decay: float


def fit(examples: Examples, fitting: Fitting, seed: int) -> FloatLayers:
    """Train from scratch."""
    rng = np.random.default_rng(seed)
    sizes = (examples.features.shape[1], *fitting.hidden, CLASSES)
    layers: FloatLayers = [
        ((rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in pairwise(sizes)
    ]
    moments = [[(np.zeros_like(part), np.zeros_like(part)) for part in layer] for layer in layers]
    drawn = np.cumsum(examples.weights / examples.weights.sum())
    for step in range(1, fitting.steps + 1):
        chosen = np.minimum(np.searchsorted(drawn, rng.random(BATCH)), len(drawn) - 1)
        slopes = _gradients(layers, examples.features[chosen], examples.labels[chosen])
        cosine = 0.5 * (1 + np.cos(np.pi * step / fitting.steps))
        rate = fitting.learning_rate * min(1.0, step / WARM_UP_STEPS) * cosine
        _step(layers, moments, slopes, step, float(rate), fitting.weight_decay)
    return layers


def _gradients(layers: FloatLayers, features: NDArray[np.int8], labels: NDArray[np.int64]) -> FloatLayers:
    outputs = forward(layers, np.multiply(features, 1 / INPUT_ONE, dtype=np.float32))
    slope = probabilities(outputs[-1]).astype(np.float32)
    slope -= LABEL_SMOOTHING / CLASSES
    slope[np.arange(len(labels)), labels] -= 1 - LABEL_SMOOTHING
    slope /= len(labels)
    gradients = []
    for number in range(len(layers) - 1, -1, -1):
        gradients.append((outputs[number].T @ slope, slope.sum(axis=0)))
        if number:
            slope = (slope @ layers[number][0].T) * (outputs[number] > 0)
    return gradients[::-1]


def _step(
    layers: FloatLayers,
    moments: list[list[tuple[NDArray[np.float32], NDArray[np.float32]]]],
    gradients: FloatLayers,
    step: int,
    rate: float,
    decay: float,
) -> None:
    first, second = MOMENTS
    for layer, kept, slopes in zip(layers, moments, gradients, strict=True):
        for number, part in enumerate(layer):
            mean, square = kept[number]
            mean += (1 - first) * (slopes[number] - mean)
            square += (1 - second) * (slopes[number] * slopes[number] - square)
            change = (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + 1e-8)
            if number == 0:
                change += decay * part
            np.subtract(part, rate * change, out=part)


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def side_by_side(networks: list[FloatLayers]) -> FloatLayers:
    """One network whose logits are the mean of those of several of the same sizes."""
    merged: FloatLayers = []
    for depth in range(len(networks[0])):
        weights, bias = [one[depth][0] for one in networks], [one[depth][1] for one in networks]
        if depth == 0:
            merged.append((np.concatenate(weights, axis=1), np.concatenate(bias)))
        elif depth == len(networks[0]) - 1:
            n = np.float32(len(networks))
            merged.append((np.concatenate(weights) / n, np.sum(bias, axis=0) / n))
        else:
            merged.append((_on_the_diagonal(weights), np.concatenate(bias)))
    return merged


def _on_the_diagonal(blocks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    rows, columns = blocks[0].shape
    whole = np.zeros((rows * len(blocks), columns * len(blocks)), np.float32)
    for i, block in enumerate(blocks):
        whole[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] = block
    return whole
