"""Fits the network in float: index from detector and experts, reasons from noise of a known kind.

Two things are asked of the one index at a time: each second's own target (cross-entropy), and that the mean index of
a recording called too noisy is under that of one that was not (a pairwise ranking loss, which is the area under the
ROC curve made smooth).

It deliberately exports nothing (``exporting``), and needs TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.quality_measures import MATCHES, N_MEASURES
from einthoven.quality_network import AHEAD_S, BEHIND_S, REASONS
from einthoven.quality_tables import BANDS_HZ, STEPS
from einthoven_conversion.errors import TrainingFailed
from einthoven_conversion.signal_quality.examples import Example

STRETCH_S = 60
OCTAVE = 256.0
Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """How to fit, as values that ship beside the result."""

    hidden: tuple[int, int] = (40, 16)
    steps: int = 2_500
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    dropout: float = 0.1
    batch: tuple[int, int, int, int] = (40, 24, 12, 36)
    """Stretches of electrode motion, of named cases, of ``~``, of the other labels."""
    gain_octaves: float = 0.7
    """Standard deviation of a gain drawn for each stretch, so that millivolts alone say nothing."""
    good_target: float = 0.95
    noisy_target: float = 0.1
    ranking_weight: float = 1.0
    ranking_slope: float = 8.0
    reason_weight: float = 0.3
    seed: int = 1

    def as_dict(self) -> dict[str, Any]:
        """For ``quality.json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FloatNetwork:
    """What was fitted.

    Attributes:
        mean: float64 [N_MEASURES], taken off the measures.
        deviation: float64 [N_MEASURES], which they are divided by.
        layers: (weights [inputs, outputs], bias [outputs]) of each dense layer.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    layers: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Stretches of ``STRETCH_S`` with their neighbourhood: measures [n, t, m], target, weight, reason [n, s]."""

    measures: NDArray[np.int16]
    target: Float
    weight: Float
    reason: NDArray[np.int8]

    def drawn(self, number: int, rng: np.random.Generator) -> tuple[Float, Float, Float, NDArray[np.int8]]:
        rows = rng.integers(len(self.target), size=number)
        return self.measures[rows].astype(np.float32), self.target[rows], self.weight[rows], self.reason[rows]


def with_neighbours(measures: NDArray[np.int16]) -> NDArray[np.int16]:
    """The first second repeated before, the last after, as the SDK does it."""
    return np.concatenate(
        [np.repeat(measures[:1], BEHIND_S, axis=0), measures, np.repeat(measures[-1:], AHEAD_S, axis=0)]
    )


def _cut(examples: Sequence[Example]) -> _Stretches:
    if not examples:
        raise TrainingFailed("a group of examples is empty", "give a data folder with all data sets")
    rows = []
    for example in examples:
        joined = with_neighbours(example.measures)
        for start in range(0, len(example.target), STRETCH_S):
            length = min(STRETCH_S, len(example.target) - start)
            part = joined[start : start + length + BEHIND_S + AHEAD_S]
            span = slice(start, start + length)
            pad = STRETCH_S - length
            rows.append(
                (
                    np.pad(part, ((0, pad), (0, 0)), mode="edge"),
                    np.pad(example.target[span], (0, pad)),
                    np.pad(example.weight[span], (0, pad)),
                    np.pad(example.reason[span], (0, pad), constant_values=-1),
                )
            )
    return _Stretches(*(np.stack(column) for column in zip(*rows, strict=True)))


def _gain_slopes() -> Float:
    """What an octave of gain adds to each measure: energies grow twice as fast, correlations not at all."""
    slopes = np.full(N_MEASURES, OCTAVE, np.float32)
    slopes[: len(BANDS_HZ) + STEPS] *= 2
    slopes[N_MEASURES - MATCHES :] = 0
    return slopes


def fit(examples: Sequence[Example], recipe: FitRecipe, progress: Callable[[str], None]) -> FloatNetwork:
    """Fit on these examples; the same examples and recipe give the same network on the same machine.

    Raises:
        TrainingFailed: No examples of some group, or a loss that is no number.
    """
    import tensorflow as tf

    tf.keras.utils.set_random_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    groups = [
        _cut([one for one in examples if one.group in {"em", "clean"}]),
        _cut([one for one in examples if one.group == "case"]),
        _cut([one for one in examples if one.group == "label" and not one.target[0]]),
        _cut([one for one in examples if one.group == "label" and one.target[0]]),
    ]
    sample = np.concatenate([one.measures[::7] for one in examples]).astype(np.float64)
    mean, deviation = sample.mean(axis=0), sample.std(axis=0) + 1
    model = _model(tf, recipe)
    train_step = _train_step(tf, model, recipe)
    slopes = _gain_slopes()
    total = 0.0
    for step in range(recipe.steps):
        parts = [group.drawn(number, rng) for group, number in zip(groups, recipe.batch, strict=True)]
        measures, target, weight, reason = (np.concatenate(column) for column in zip(*parts, strict=True))
        first_noisy, first_good = recipe.batch[0] + recipe.batch[1], sum(recipe.batch[:3])
        target[first_noisy:first_good] = recipe.noisy_target
        target[first_good:] = recipe.good_target
        measures += slopes * rng.normal(0, recipe.gain_octaves, (len(measures), 1, 1)).astype(np.float32)
        scaled = ((measures - mean) / deviation).astype(np.float32)
        total += float(train_step(scaled, target, weight, reason.astype(np.int32)))
        if (step + 1) % 1_000 == 0:
            progress(f"step {step + 1} of {recipe.steps}: loss {total / 1_000:.4f}")
            if not np.isfinite(total):
                raise TrainingFailed("the loss is no number", "lower the learning rate")
            total = 0.0
    kernels = [np.asarray(value, np.float64) for value in model.get_weights()]
    layers = tuple((w.reshape(-1, w.shape[2]), b) for w, b in zip(kernels[::2], kernels[1::2], strict=True))
    return FloatNetwork(mean, deviation, layers)


def _model(tf: Any, recipe: FitRecipe) -> Any:
    keras = tf.keras
    signal = keras.Input((None, N_MEASURES))
    decay = keras.regularizers.L2(recipe.weight_decay)
    hidden = keras.layers.Conv1D(recipe.hidden[0], BEHIND_S + 1 + AHEAD_S, activation="relu", kernel_regularizer=decay)(
        signal
    )
    hidden = keras.layers.Dropout(recipe.dropout)(hidden)
    hidden = keras.layers.Conv1D(recipe.hidden[1], 1, activation="relu")(hidden)
    return keras.Model(signal, keras.layers.Conv1D(1 + len(REASONS), 1)(hidden))


def _train_step(tf: Any, model: Any, recipe: FitRecipe) -> Any:
    schedule = tf.keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.steps)
    optimizer = tf.keras.optimizers.Adam(schedule)
    first_noisy, first_good = recipe.batch[0] + recipe.batch[1], sum(recipe.batch[:3])

    def step(measures: Any, target: Any, weight: Any, reason: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(measures, training=True)
            logit = outputs[:, :, 0]
            entropy = tf.nn.sigmoid_cross_entropy_with_logits(target, logit) * weight
            loss = tf.reduce_sum(entropy) / tf.reduce_sum(weight)
            there = tf.cast(weight > 0, tf.float32)
            score = tf.reduce_sum(tf.sigmoid(logit) * there, 1) / tf.maximum(tf.reduce_sum(there, 1), 1)
            gap = score[first_good:, None] - score[None, first_noisy:first_good]
            loss += recipe.ranking_weight * tf.reduce_mean(tf.nn.softplus(-recipe.ranking_slope * gap))
            named = tf.cast(reason >= 0, tf.float32)
            cause = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(reason, 0), outputs[:, :, 1:])
            loss += recipe.reason_weight * tf.reduce_sum(cause * named) / tf.maximum(tf.reduce_sum(named), 1)
            loss += tf.add_n(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return tf.function(step)
