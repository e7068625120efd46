"""Turns a trained float network into the int8 model that runs second by second.

Batch normalisation is folded; every channel is rescaled so that its full scale is 6 (a ReLU network allows it: what a
channel is multiplied by, the next layer's weights are divided by); then ReLU6 clips all layers alike, so that all of
them have one int8 scale. That is what lets all states travel as **one** flat int8 tensor without requantization: on a
device, handing tensors over costs more than computing.

It deliberately does no quantization-aware training: the loss it would win back is in ``conversion/EXPERIMENTS.md``.

Invariants:
    1. The graph's signal input has scale 1/64 and zero point 0; its state has scale 6/255 and zero point -128, in and
       out alike. Anything else is refused.
    2. A step from the initial state equals the float network's causal zero padding.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from einthoven_conversion.architecture import BATCH_NORM_EPSILON, INPUT_SCALE, Weights
from einthoven_conversion.recipe import Layer, Recipe

FULL_SCALE = 6.0
SAMPLES = 128
SMALLEST_RANGE = 1e-3


@dataclass(frozen=True)
class FoldedLayer:
    """A convolution after folding: ``relu(signal * kernel + bias)``.

    Attributes:
        layer: Its shape.
        kernel: float32 [taps, inputs, outputs].
        bias: float32 [outputs].
    """

    layer: Layer
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class FoldedNetwork:
    """The network as affine maps between ReLUs."""

    layers: tuple[FoldedLayer, ...]
    head_kernel: NDArray[np.float32]
    head_offset: NDArray[np.float32]


def fold(weights: Weights, recipe: Recipe) -> FoldedNetwork:
    """Fold batch normalisation into kernels and biases."""
    layers = []
    for i, layer in enumerate(recipe.layers):
        gain = weights[f"gain_{i}"] / np.sqrt(weights[f"variance_{i}"] + BATCH_NORM_EPSILON)
        bias = weights[f"offset_{i}"] - weights[f"mean_{i}"] * gain
        layers.append(FoldedLayer(layer, weights[f"kernel_{i}"] * gain, bias.astype(np.float32)))
    return FoldedNetwork(tuple(layers), weights["head_kernel"], weights["head_offset"])


class StepModel(tf.Module):  # type: ignore[misc]
    """One second through the folded network with explicit state.

    Args:
        network: Folded weights.
        limit: Where activations clip; None for plain ReLU.
    """

    def __init__(self, network: FoldedNetwork, limit: float | None) -> None:
        super().__init__()
        self._network = network
        self._limit = limit
        shapes = [folded.kernel.shape[1] * folded.layer.context for folded in network.layers]
        self.signal_context, self.state_sizes = shapes[0], shapes[1:]

    def layer_outputs(self, signal: Any, signal_state: Any, state: Any) -> tuple[list[Any], Any, Any]:
        """Every layer's output for one second, and the new states."""
        # No part of size 0: the converter has no range for one, and leaves it in float now and then.
        history = iter(tf.split(state, [size for size in self.state_sizes if size], axis=1))
        outputs, new_states = [], []
        previous = tf.concat([signal_state, signal], axis=1)
        new_signal_state = previous[:, SAMPLES:]
        previous = tf.reshape(previous, [1, -1, 1, 1])
        for i, folded in enumerate(self._network.layers):
            layer, inputs = folded.layer, folded.kernel.shape[1]
            if i and layer.context:
                kept = tf.reshape(next(history), [1, layer.context, 1, inputs])
                previous = tf.concat([kept, previous], axis=1)
                new_states.append(tf.reshape(previous[:, -layer.context :], [1, -1]))
            kernel = tf.constant(folded.kernel[:, None])
            convolved = tf.nn.conv2d(previous, kernel, [layer.stride, 1], "VALID", dilations=[layer.dilation, 1])
            convolved = tf.nn.bias_add(convolved, tf.constant(folded.bias))
            previous = tf.nn.relu(convolved) if self._limit is None else tf.nn.relu6(convolved)
            outputs.append(previous)
        return outputs, new_signal_state, tf.concat(new_states, axis=1)

    def step(self, signal: Any, signal_state: Any, state: Any) -> dict[str, Any]:
        """Logits of one second, and the states for the next one."""
        outputs, new_signal_state, new_state = self.layer_outputs(signal, signal_state, state)
        kernel = tf.constant(self._network.head_kernel[None, None])
        logits = tf.nn.bias_add(tf.nn.conv2d(outputs[-1], kernel, 1, "VALID"), tf.constant(self._network.head_offset))
        return {
            "logits": tf.reshape(logits, [1, -1]),
            "signal_state_out": new_signal_state,
            "state_out": new_state,
        }

    def specification(self) -> list[Any]:
        """Shapes of the three inputs."""
        return [
            tf.TensorSpec([1, SAMPLES], tf.float32, "signal"),
            tf.TensorSpec([1, self.signal_context], tf.float32, "signal_state"),
            tf.TensorSpec([1, sum(self.state_sizes)], tf.float32, "state"),
        ]

    def initial(self) -> tuple[Any, Any]:
        """Zero states."""
        return tf.zeros([1, self.signal_context]), tf.zeros([1, sum(self.state_sizes)])


def channel_ranges(network: FoldedNetwork, windows: Sequence[NDArray[np.int8]], percentile: float) -> list[Any]:
    """A high percentile of every channel's activations over representative windows."""
    model = StepModel(network, None)
    run = tf.function(model.layer_outputs, input_signature=model.specification())
    seen: list[list[NDArray[np.float32]]] = [[] for _ in network.layers]
    for steps in windows:
        signal_state, state = model.initial()
        for step in steps:
            signal = tf.constant(step[None].astype(np.float32) * INPUT_SCALE)
            outputs, signal_state, state = run(signal, signal_state, state)
            for kept, output in zip(seen, outputs, strict=True):
                kept.append(output.numpy()[0, :, 0])
    return [np.percentile(np.concatenate(kept), percentile, axis=0) for kept in seen]


def rescale(network: FoldedNetwork, ranges: Sequence[NDArray[np.float64]], equalization: float) -> FoldedNetwork:
    """Scale channels so that full scale is 6, and undo it in the next layer's weights."""
    layers = []
    undo = np.ones(network.layers[0].kernel.shape[1])
    for folded, channel_range in zip(network.layers, ranges, strict=True):
        whole = max(float(channel_range.max()), SMALLEST_RANGE)
        # A channel far below its layer is lifted by at most 16.
        own = np.clip(channel_range, whole / 16, None)
        factor = FULL_SCALE / (own**equalization * whole ** (1 - equalization))
        kernel = folded.kernel / undo[None, :, None] * factor
        layers.append(FoldedLayer(folded.layer, kernel.astype(np.float32), (folded.bias * factor).astype(np.float32)))
        undo = factor
    head = (network.head_kernel / undo[:, None]).astype(np.float32)
    return FoldedNetwork(tuple(layers), head, network.head_offset)


def convert(network: FoldedNetwork, windows: Sequence[NDArray[np.int8]]) -> bytes:
    """Quantize to full int8 with the given representative windows (int8 [seconds, 128] each).

    Raises:
        QuantizationFailed: An input or state came out with another scale than the SDK relies on.
    """
    model = StepModel(network, FULL_SCALE)
    step = tf.function(model.step, input_signature=model.specification())

    def representative() -> Iterator[dict[str, Any]]:
        low, high = np.full((1, SAMPLES), -128), np.full((1, SAMPLES), 127)
        for extreme in (low, high):  # pins the ranges, so that scales are exact
            yield {
                "signal": (extreme * INPUT_SCALE).astype(np.float32),
                "signal_state": (extreme[:, : model.signal_context] * INPUT_SCALE).astype(np.float32),
                "state": np.full((1, sum(model.state_sizes)), FULL_SCALE, np.float32),
            }
        for steps in windows:
            signal_state, state = model.initial()
            for samples in steps:
                signal = tf.constant(samples[None].astype(np.float32) * INPUT_SCALE)
                yield {"signal": signal, "signal_state": signal_state, "state": state}
                outputs = step(signal, signal_state, state)
                signal_state, state = outputs["signal_state_out"], outputs["state_out"]

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(model, folder, signatures={"step": step.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["step"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (("step", sample) for sample in representative())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
        with warnings.catch_warnings():
            # The converter calibrates with TensorFlow's own interpreter, which announces its retirement.
            warnings.filterwarnings(
                "ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated", category=UserWarning
            )
            return bytes(converter.convert())
