"""The float network over the very seconds the device hands to the int8 model, to know what quantization costs.

It deliberately does not re-implement cutting, quality or counting rules: it listens to ``einthoven.analysis``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from einthoven.analysis import WINDOW_S, Observed, State, observe_record
from einthoven.models import CLASSES, Model
from einthoven.resampling import MODEL_RATE_HZ
from einthoven.results import Quality
from einthoven_conversion.architecture import Weights, features
from einthoven_conversion.datasets import Record, read_signals
from einthoven_conversion.recipe import Recipe
from einthoven_conversion.verdict.collecting import Collected, blank, put
from einthoven_conversion.verdict.forest import OCTAVES_OF_NAT

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


def float_rows(weights: Weights, recipe: Recipe, model: Model, folder: Path, records: Sequence[Record]) -> Collected:
    """What the verdict would see of each record if the network ran in float32."""
    observed: dict[int, list[Observed]] = {}
    windows: list[NDArray[np.int8]] = []
    for position, samples_uv in read_signals(folder, records):
        listener = _Listener()
        observed[position] = list(observe_record(model, listener, samples_uv, records[position].sampling_rate_hz))
        taken = 0
        for window in observed[position]:
            count = len(window.steps)
            padded = np.zeros((WINDOW_S, MODEL_RATE_HZ), np.int8)
            padded[:count] = np.array(listener.signals[taken : taken + count], np.int8).reshape(-1, MODEL_RATE_HZ)
            taken += count
            windows.append(padded)
    logits = iter(_second_logits(weights, recipe, np.stack(windows)))
    rows = blank(records)
    for position, seen in observed.items():
        put(rows, position, model, [_with_logits(window, next(logits)) for window in seen])
    return rows


def _with_logits(window: Observed, seconds: NDArray[np.float32]) -> Observed:
    counted = [i for i, step in enumerate(window.steps) if not step.quality & (Quality.GAP | Quality.FLAT)]
    logits = np.floor(seconds[counted].astype(np.float64) * OCTAVES_OF_NAT).astype(np.int64).reshape(-1, CLASSES)
    return replace(window, view=replace(window.view, logits=logits))


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
