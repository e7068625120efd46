"""Trains one float network: augmented windows in, averaged weights with their statistics out.

It deliberately chooses nothing by looking at the records it is scored on: the recipe fixes the number of epochs, and
the weights after the last step are what is kept.

Invariants:
    1. Same recipe, records and machine: same weights, bit for bit (one thread, seeded chance, deterministic ops).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from einthoven_conversion.architecture import CLASSES, Weights, features, initial_weights, pooled_logits
from einthoven_conversion.errors import TrainingFailed
from einthoven_conversion.prune import is_pruned, magnitude_mask, sparsity_at
from einthoven_conversion.recipe import Recipe
from einthoven_conversion.windows import Augmentation, WindowCache, draw_epoch

PRUNE_EVERY_STEPS = 50
ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON = 0.9, 0.99, 1e-7


def train_network(
    recipe: Recipe,
    cache: WindowCache,
    labels: NDArray[np.int64],
    positions: NDArray[np.int64],
    noise_uv: NDArray[np.float32],
    report: Callable[[str], None],
    teacher: Weights | None = None,
) -> Weights:
    """Train on the given records.

    Args:
        recipe: Everything else that decides the outcome.
        cache: Conditioned records.
        labels: int64 [records], class of every record in the cache.
        positions: int64 [n], the records to train on.
        noise_uv: Noise at 128 Hz for augmentation; may be empty.
        report: Takes a line an epoch.
        teacher: Weights of ``recipe.teacher``, trained on the same records.

    Returns:
        Averaged weights, with ``mean_i`` and ``variance_i`` of every layer.

    Raises:
        TrainingFailed: Fewer records than a batch, or a loss that is no number.
    """
    if len(positions) < recipe.batch:
        raise TrainingFailed(f"{len(positions)} records are fewer than a batch of {recipe.batch}", "give more records")
    rng = np.random.default_rng(recipe.seed)
    tf.random.set_seed(recipe.seed)
    augmentation = Augmentation(
        window_s=recipe.window_s,
        rate_jitter=recipe.rate_jitter,
        scale_jitter=recipe.scale_jitter,
        noise_probability=recipe.noise_probability,
        noise_max_fraction=recipe.noise_max_fraction,
        lead_off_probability=recipe.lead_off_probability,
    )
    steps_an_epoch = len(positions) // recipe.batch
    start = initial_weights(recipe, rng)
    if teacher is not None:
        start = {name: teacher[name] for name in start}
    teach = _Teacher(recipe, teacher)
    optimizer = _Optimizer(recipe, start, _class_weights(recipe, labels[positions]))
    total_steps = recipe.epochs * steps_an_epoch
    done = 0
    with ThreadPoolExecutor(1) as pool:
        seeds = rng.integers(2**63, size=recipe.epochs)

        def draw(epoch: int) -> tuple[Any, ...]:
            chance = np.random.default_rng(seeds[epoch])
            order = chance.permutation(positions)[: steps_an_epoch * recipe.batch]
            return (*draw_epoch(cache, order, augmentation, noise_uv, chance), labels[order])

        upcoming = pool.submit(draw, 0)
        for epoch in range(recipe.epochs):
            windows, mask, clean, targets = upcoming.result()
            if epoch + 1 < recipe.epochs:
                upcoming = pool.submit(draw, epoch + 1)
            started = time.monotonic()
            losses = []
            for first in range(0, len(targets), recipe.batch):
                part = slice(first, first + recipe.batch)
                if done % PRUNE_EVERY_STEPS == 0:
                    optimizer.prune(sparsity_at(done / total_steps, recipe.sparsity, recipe.pruned_by))
                done += 1
                rate = learning_rate(recipe, done / total_steps)
                taught = teach.logits(clean[part], mask[part])
                losses.append(optimizer.step(windows[part], mask[part], targets[part], taught, rate))
            loss = float(np.mean([float(value) for value in losses]))
            if not math.isfinite(loss):
                raise TrainingFailed(f"the loss is {loss} in epoch {epoch + 1}", "lower the learning rate")
            report(f"epoch {epoch + 1}/{recipe.epochs} loss {loss:.4f} {time.monotonic() - started:.1f} s")
    calm = Augmentation(window_s=recipe.window_s, rate_jitter=False)
    count = min(recipe.statistics_batches, steps_an_epoch) * recipe.batch
    drawn = draw_epoch(cache, rng.permutation(positions)[:count], calm, noise_uv, rng)
    return optimizer.averaged_weights(drawn.windows)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Linear warm-up, then half a cosine down to zero; ``progress`` runs from 0 to 1."""
    if progress < recipe.warm_up_share:
        return recipe.learning_rate * progress / recipe.warm_up_share
    return (
        recipe.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (progress - recipe.warm_up_share) / (1 - recipe.warm_up_share)))
    )


def _class_weights(recipe: Recipe, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    count = np.maximum(np.bincount(labels, minlength=CLASSES), 1)
    weight = (count / count.sum()) ** recipe.class_weight_power
    return np.asarray(weight / (weight * count).sum() * count.sum(), np.float32)


class _Teacher:
    """What the teacher says of windows without the noise; zeros where nobody teaches."""

    def __init__(self, recipe: Recipe, weights: Weights | None) -> None:
        self._compiled = None
        if weights is None:
            return
        taught = recipe.teacher or recipe
        statistics = [(weights[f"mean_{i}"], weights[f"variance_{i}"]) for i in range(len(taught.layers))]

        def run(windows: Any, mask: Any) -> Any:
            return pooled_logits(features(windows, weights, taught, statistics)[0], mask, weights)

        self._compiled = tf.function(run, jit_compile=True)

    def logits(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Any:
        if self._compiled is None:
            return np.zeros((len(windows), CLASSES), np.float32)
        return self._compiled(tf.constant(windows), tf.constant(mask))


class _Optimizer:
    """AdamW with an average of the weights, as one compiled function a step."""

    def __init__(self, recipe: Recipe, weights: Weights, class_weights: NDArray[np.float32]) -> None:
        self._recipe = recipe
        self._class_weights = tf.constant(class_weights)
        self._weights = {name: tf.Variable(value) for name, value in weights.items()}
        self._average = {name: tf.Variable(value) for name, value in weights.items()}
        self._first = {name: tf.Variable(np.zeros_like(value)) for name, value in weights.items()}
        self._second = {name: tf.Variable(np.zeros_like(value)) for name, value in weights.items()}
        pruned = [name for name in weights if is_pruned(name)] if recipe.sparsity else []
        self._masks = {name: tf.Variable(np.ones_like(weights[name])) for name in pruned}
        self._count = tf.Variable(0.0)
        self._compiled = tf.function(self._step, jit_compile=True)

    def step(self, windows: Any, mask: Any, targets: Any, taught: Any, rate: float) -> Any:
        return self._compiled(
            tf.constant(windows),
            tf.constant(mask),
            tf.constant(targets),
            tf.constant(taught),
            tf.constant(rate, tf.float32),
        )

    def prune(self, sparsity: float) -> None:
        """Take away the smallest weights, down to this share of zeros a layer."""
        for name, mask in self._masks.items():
            # What is gone is 0, so it is among the smallest again.
            mask.assign(magnitude_mask(self._weights[name].numpy(), sparsity))
            self._weights[name].assign(self._weights[name] * mask)

    def _step(self, windows: Any, mask: Any, targets: Any, taught: Any, rate: Any) -> Any:
        recipe = self._recipe
        seed = tf.stack([tf.constant(recipe.seed, tf.int32), tf.cast(self._count, tf.int32)])
        with tf.GradientTape() as tape:
            second_features, _ = features(windows, self._weights, recipe)
            shape = [second_features.shape[0], 1, second_features.shape[2]]
            kept = tf.cast(tf.random.stateless_uniform(shape, seed) >= recipe.dropout, tf.float32)
            logits = pooled_logits(second_features * kept / (1 - recipe.dropout), mask, self._weights)
            smooth = recipe.label_smoothing
            wanted = tf.one_hot(targets, CLASSES) * (1 - smooth) + smooth / CLASSES
            losses = tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
            if recipe.distillation:
                soft = recipe.distillation_temperature
                likeness = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(taught / soft), logits / soft)
                losses = (1 - recipe.distillation) * losses + recipe.distillation * soft**2 * likeness
            loss = tf.reduce_mean(losses * tf.gather(self._class_weights, targets))
        names = list(self._weights)
        gradients = tape.gradient(loss, [self._weights[name] for name in names])
        self._count.assign_add(1.0)
        first_scale = 1 / (1 - ADAM_BETA_1**self._count)
        second_scale = 1 / (1 - ADAM_BETA_2**self._count)
        # The average starts out short, so that the random initial weights are soon forgotten.
        decay = tf.minimum(recipe.average_decay, (1 + self._count) / (10 + self._count))
        for name, gradient in zip(names, gradients, strict=True):
            first, second, weight = self._first[name], self._second[name], self._weights[name]
            first.assign(ADAM_BETA_1 * first + (1 - ADAM_BETA_1) * gradient)
            second.assign(ADAM_BETA_2 * second + (1 - ADAM_BETA_2) * gradient * gradient)
            update = first * first_scale / (tf.sqrt(second * second_scale) + ADAM_EPSILON)
            if "kernel" in name:
                update += recipe.weight_decay * weight
            weight.assign_sub(rate * update)
            if name in self._masks:
                weight.assign(weight * self._masks[name])
            self._average[name].assign(decay * self._average[name] + (1 - decay) * weight)
        return loss

    def averaged_weights(self, windows: NDArray[np.float32]) -> Weights:
        """The averaged weights, with batch-normalisation statistics measured for them."""
        recipe = self._recipe
        for name, mask in self._masks.items():
            self._average[name].assign(self._average[name] * mask)
        measure = tf.function(lambda part: features(part, self._average, recipe)[1], jit_compile=True)
        batches = len(windows) // recipe.batch
        measured = [measure(tf.constant(windows[i * recipe.batch : (i + 1) * recipe.batch])) for i in range(batches)]
        weights = {name: variable.numpy() for name, variable in self._average.items()}
        for i in range(len(recipe.layers)):
            means = np.stack([statistics[i][0].numpy() for statistics in measured])
            variances = np.stack([statistics[i][1].numpy() for statistics in measured])
            mean = means.mean(axis=0)
            weights[f"mean_{i}"] = mean
            weights[f"variance_{i}"] = variances.mean(axis=0) + ((means - mean) ** 2).mean(axis=0)
        return weights
