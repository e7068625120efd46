"""The rhythm network in float32: causal convolutions at falling rates, one output a second, pooled over the window.

One second in gives one feature vector out, and a linear head reads it. A window's logits are the mean of the head over
its seconds, so a second that is left out leaves no trace. Because every stride divides 128 and every layer is causal,
the same network runs second by second with ``Layer.context`` earlier samples a layer as its whole state (``quantize``).

It deliberately uses no recurrent layer (they lose in int8) and no residual sum (so that each layer's channels can be
scaled freely before quantization).

Invariants:
    1. Windows start from a state of zeros, as the device's do.
    2. ``forward`` with ``statistics`` given is affine between ReLUs: what ``quantize`` folds and transplants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from einthoven_conversion.recipe import Layer, Recipe

CLASSES = 4
INPUT_SCALE = 1.0 / 64.0
BATCH_NORM_EPSILON = 1e-3
Weights = dict[str, NDArray[np.float32]]


def input_channels(layers: Sequence[Layer]) -> list[int]:
    """Input channels of each layer."""
    return [1, *(layer.channels for layer in layers[:-1])]


def initial_weights(recipe: Recipe, rng: np.random.Generator) -> Weights:
    """He-normal kernels, unit gains, a small head."""
    weights: Weights = {}
    for i, (layer, channels) in enumerate(zip(recipe.layers, input_channels(recipe.layers), strict=True)):
        fan_in = layer.kernel * channels
        shape = (layer.kernel, channels, layer.channels)
        weights[f"kernel_{i}"] = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        weights[f"gain_{i}"] = np.ones(layer.channels, np.float32)
        weights[f"offset_{i}"] = np.zeros(layer.channels, np.float32)
    features = recipe.layers[-1].channels
    weights["head_kernel"] = (rng.standard_normal((features, CLASSES)) * 0.05).astype(np.float32)
    weights["head_offset"] = np.zeros(CLASSES, np.float32)
    return weights


def causal_convolution(signal: Any, kernel: Any, layer: Layer) -> Any:
    """Convolve [batch, time, channels] as one matrix product of shifted copies; XLA on a CPU is fastest so."""
    if layer.context:
        signal = tf.pad(signal, [[0, 0], [layer.context, 0], [0, 0]])
    batch, time, channels = signal.shape
    outputs = (time - (layer.kernel - 1) * layer.dilation - 1) // layer.stride + 1
    if layer.stride > 1:
        groups = -(-layer.kernel // layer.stride)
        signal = tf.pad(signal, [[0, 0], [0, (groups + outputs - 1) * layer.stride - time], [0, 0]])
        signal = tf.reshape(signal, [batch, groups + outputs - 1, layer.stride * channels])
        columns = tf.concat([signal[:, j : j + outputs] for j in range(groups)], -1)[..., : layer.kernel * channels]
    else:
        shifts = range(0, layer.kernel * layer.dilation, layer.dilation)
        columns = tf.concat([signal[:, j : j + outputs] for j in shifts], -1)
    flat = tf.reshape(columns, [-1, layer.kernel * channels])
    product = tf.matmul(flat, tf.reshape(kernel, [layer.kernel * channels, layer.channels]))
    return tf.reshape(product, [batch, outputs, layer.channels])


def features(
    steps: Any, weights: dict[str, Any], recipe: Recipe, statistics: Sequence[tuple[Any, Any]] | None = None
) -> tuple[Any, list[tuple[Any, Any]]]:
    """Feature vector of every second.

    Args:
        steps: float32 [batch, seconds, 128], int8 values.
        weights: As ``initial_weights`` gives them.
        recipe: Holds the layers.
        statistics: Mean and variance of each layer; the batch's own, if not given.

    Returns:
        float32 [batch, seconds, features], and the statistics used.
    """
    batch, seconds, samples = steps.shape
    signal = tf.reshape(steps * INPUT_SCALE, [batch, seconds * samples, 1])
    used = []
    for i, layer in enumerate(recipe.layers):
        signal = causal_convolution(signal, weights[f"kernel_{i}"], layer)
        mean, variance = tf.nn.moments(signal, [0, 1]) if statistics is None else statistics[i]
        used.append((mean, variance))
        gain = weights[f"gain_{i}"] * tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
        signal = tf.nn.relu(signal * gain + (weights[f"offset_{i}"] - mean * gain))
    return signal, used


def pooled_logits(second_features: Any, mask: Any, weights: dict[str, Any]) -> Any:
    """Logits [batch, 4] of windows from their seconds' features; ``mask`` [batch, seconds] is 1 for a real second."""
    logits = second_features @ weights["head_kernel"] + weights["head_offset"]
    real = mask[:, :, None]
    return tf.reduce_sum(logits * real, 1) / tf.reduce_sum(real, 1)
