"""The float network over the very seconds the device hands to the int8 model, to know what quantization costs.

It deliberately does not re-implement cutting, quality or pooling rules: it listens to ``einthoven.analysis``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from einthoven.analysis import WINDOW_S, State, analyze_record
from einthoven.models import CLASSES, Model
from einthoven.resampling import MODEL_RATE_HZ
from einthoven.results import Quality
from einthoven_conversion.architecture import Weights, features
from einthoven_conversion.datasets import Record, read_signals
from einthoven_conversion.recipe import Recipe

BATCH = 64


class _Listener:
    """A ``Runner`` that keeps what it is given and answers zeros."""

    def __init__(self) -> None:
        self.signals: list[NDArray[np.int8]] = []

    def initial_state(self) -> State:
        return ()

    def step(self, signal: NDArray[np.int8], state: State) -> tuple[NDArray[np.int8], State]:
        self.signals.append(signal)
        return np.zeros(CLASSES, np.int8), state


def float_logits(
    weights: Weights, recipe: Recipe, model: Model, folder: Path, records: Sequence[Record]
) -> NDArray[np.float64]:
    """Pooled float logits [records, 4], zeros for a record without a pooled second."""
    windows: list[NDArray[np.int8]] = []
    owners: list[int] = []
    pooled: list[NDArray[np.bool_]] = []
    for position, samples_uv in read_signals(folder, records):
        listener = _Listener()
        analysis = analyze_record(model, listener, samples_uv, records[position].sampling_rate_hz)
        taken = 0
        for window in analysis.windows:
            count = len(window.steps)
            padded = np.zeros((WINDOW_S, MODEL_RATE_HZ), np.int8)
            mask = np.zeros(WINDOW_S, np.bool_)
            for i, step in enumerate(window.steps):
                padded[i] = listener.signals[taken + i]
                mask[i] = not step.quality & (Quality.GAP | Quality.FLAT)
            taken += count
            windows.append(padded)
            owners.append(position)
            pooled.append(mask)
    second_logits = _second_logits(weights, recipe, np.stack(windows))
    logits = np.zeros((len(records), CLASSES))
    owner = np.array(owners)
    for position in range(len(records)):
        mine = np.flatnonzero(owner == position)
        seen = np.concatenate([second_logits[i][pooled[i]] for i in mine])
        if len(seen):
            logits[position] = seen.mean(axis=0)
    return logits


def _second_logits(weights: Weights, recipe: Recipe, windows: NDArray[np.int8]) -> NDArray[np.float32]:
    statistics = [(weights[f"mean_{i}"], weights[f"variance_{i}"]) for i in range(len(recipe.layers))]

    def run(part: object) -> object:
        second_features, _ = features(part, weights, recipe, statistics)
        return second_features @ weights["head_kernel"] + weights["head_offset"]

    compiled = tf.function(run, jit_compile=True)
    padded = np.concatenate([windows, np.zeros((-len(windows) % BATCH, *windows.shape[1:]), np.int8)])
    parts = [
        compiled(tf.constant(padded[i : i + BATCH].astype(np.float32))).numpy() for i in range(0, len(padded), BATCH)
    ]
    return np.concatenate(parts)[: len(windows)]
