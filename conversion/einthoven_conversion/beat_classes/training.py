"""Cross-validates and trains the beat classifier: folds by record, an ensemble of small networks, integers at the end.

It deliberately reads no files but the data sets' and writes none but the tables.

Invariants:
    1. What is out of fold was said by integers trained without that record and without any copy of it; every subject is
       in one fold. The offsets that it was decided with were chosen on the other folds alone.
    2. The same recipe gives the same tables on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven import beat_classes
from einthoven.beat_class_tables import (
    CLASSES,
    SCHEMA,
    BeatClassTablesEntry,
    Document,
    digest,
    tables_from,
)
from einthoven.beat_scorer import LOGIT_ONE
from einthoven.beat_tables import pack_layers
from einthoven_conversion.beat_classes import network
from einthoven_conversion.beat_classes.counting import Counts, count, measures, pooled
from einthoven_conversion.beat_classes.examples import ORIGINAL, Described
from einthoven_conversion.beat_classes.recordings import ClassRecording
from einthoven_conversion.beats.network import quantize
from einthoven_conversion.errors import TrainingFailed

TABLES_VERSION: Final = 1
FOLDS: Final = 11
OFFSETS: Final = tuple((n, 0.0, v) for n, v in product((0.0, 0.5, 1.0, 1.5), repeat=2))
"""What may be added to the logits of N, S, V, in units of 1. Few, since each is chosen on 20 people."""
TEMPERATURES: Final = np.exp(np.linspace(-0.7, 1.4, 43))
REPRESENTATIVE: Final = 200
"""One in so many examples shows how large activations get."""
UNKNOWN: Final = CLASSES

Offsets = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatClassRecipe:
    """Everything that a training depends on besides the data.

    Attributes:
        hidden: Units of each network's hidden layers.
        members: Networks whose logits are averaged.
        steps: Batches a network is trained on.
        learning_rate: The largest.
        weight_decay: See ``network.Fitting``.
        copies: Kinds of copies made of each record.
        copy_weights: What a copy of each kind counts for, an original 1.
        share_power: A class of a signal with n beats counts for n to this power.
        seed: Of everything random.
    """

    hidden: tuple[int, ...] = (32,)
    members: int = 4
    steps: int = 2_400
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    copies: tuple[str, ...] = (
        "supraventricular",
        "supraventricular",
        "ventricular",
        "ventricular",
        "fibrillation",
        "fibrillation",
        "rate",
        "pieces",
        "pieces",
        "noise",
        "projection",
        "projection",
    )
    copy_weights: tuple[tuple[str, float], ...] = (
        ("supraventricular", 0.35),
        ("ventricular", 0.35),
        ("fibrillation", 0.3),
        ("rate", 0.35),
        ("pieces", 0.5),
        ("noise", 0.5),
        ("projection", 0.5),
    )
    share_power: float = 0.5
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Validated:
    """What leaving records out gives.

    Attributes:
        nested: Counts of each record, decided with offsets that were chosen on the other folds.
        chosen: Counts with the offsets that ship, which were chosen on all folds.
        offsets: Those, in units of 1.
        temperature: Divides the logits so that probabilities fit, from all folds.
        calibration_error: Expected calibration error (15 bins) of the class given, with that temperature.
    """

    nested: list[Counts]
    chosen: list[Counts]
    offsets: Offsets
    temperature: float
    calibration_error: float


def folds_of(recordings: Sequence[ClassRecording], described: Sequence[Described]) -> dict[str, int]:
    """Fold of each record: by subject; those with most supraventricular beats first, so that they are spread."""
    weight: dict[str, int] = {}
    for one in described:
        if one.kind == ORIGINAL:
            subject = _subject(recordings, one.record_id)
            weight[subject] = weight.get(subject, 0) + int((one.labels == 1).sum())
    folds = min(FOLDS, len(weight))
    order = sorted(weight, key=lambda subject: (-weight[subject], subject))
    # There and back again: the one with most and the one with fewest share a fold.
    fold = {s: n % folds if n // folds % 2 == 0 else folds - 1 - n % folds for n, s in enumerate(order)}
    return {recording.record_id: fold[recording.subject] for recording in recordings}


def _subject(recordings: Sequence[ClassRecording], record_id: str) -> str:
    return next(one.subject for one in recordings if one.record_id == record_id)


def examples_of(described: Sequence[Described], recipe: BeatClassRecipe) -> network.Examples:
    """Put signals together; F, Q and what has no reference are no examples.

    Raises:
        TrainingFailed: A class has no example.
    """
    weights_of = dict(recipe.copy_weights)
    features, labels, weights = [], [], []
    for one in described:
        own = np.zeros(len(one.labels))
        for kind in range(CLASSES):
            mine = one.labels == kind
            n = int(mine.sum())
            if n:
                own[mine] = weights_of.get(one.kind, 1.0) * n**recipe.share_power / n
        known = own > 0
        features.append(one.features[known])
        labels.append(one.labels[known])
        weights.append(own[known])
    joined = network.Examples(np.concatenate(features), np.concatenate(labels), np.concatenate(weights))
    if len(np.unique(joined.labels)) < CLASSES:
        raise TrainingFailed("there are not beats of all three classes to learn from", "give more records")
    return joined


def fit(
    described: Sequence[Described], recipe: BeatClassRecipe, seed: int, temperature: float = 1.0
) -> BeatClassTablesEntry:
    """Train an ensemble and turn it into integers, without offsets."""
    examples = examples_of(described, recipe)
    fitting = network.Fitting(recipe.hidden, recipe.steps, recipe.learning_rate, recipe.weight_decay)
    layers = network.side_by_side([network.fit(examples, fitting, seed * 100 + i) for i in range(recipe.members)])
    weights, bias = layers[-1]
    layers[-1] = (weights / np.float32(temperature), bias / np.float32(temperature))
    return BeatClassTablesEntry(
        layers=pack_layers(quantize(layers, examples.features[::REPRESENTATIVE])), offsets=(0, 0, 0)
    )


def logits_of(one: Described, entry: BeatClassTablesEntry) -> NDArray[np.float64]:
    """Run the integers: float64 [k, 3] in units of 1."""
    tables = tables_from(entry, TABLES_VERSION)
    return beat_classes.run_network(one.features.astype(np.float32), tables.layers) / LOGIT_ONE


def decided(one: Described, logits: NDArray[np.float64], offsets: Offsets) -> NDArray[np.int64]:
    """Classes, as the device gives them."""
    classes = (logits + np.array(offsets)).argmax(axis=1)
    return np.where(one.comparable, classes, UNKNOWN)


def validate(
    recordings: Sequence[ClassRecording],
    described: Sequence[Described],
    recipe: BeatClassRecipe,
    log: Callable[[str], None],
) -> Validated:
    """Leave each fold's records out, with all their copies."""
    fold = folds_of(recordings, described)
    logits: dict[str, NDArray[np.float64]] = {}
    originals = {one.record_id: one for one in described if one.kind == ORIGINAL}
    for number in sorted(set(fold.values())):
        entry = fit([one for one in described if fold[one.record_id] != number], recipe, recipe.seed + number)
        logits |= {name: logits_of(one, entry) for name, one in originals.items() if fold[name] == number}
        log(f"fold {number} of {len(set(fold.values()))}")

    def counted(offsets: Offsets, names: Sequence[str]) -> list[Counts]:
        by_name = {recording.record_id: recording for recording in recordings}
        return [count(by_name[n], originals[n].labels, decided(originals[n], logits[n], offsets)) for n in names]

    names = [recording.record_id for recording in recordings]
    nested = []
    for number in sorted(set(fold.values())):
        others = [name for name in names if fold[name] != number]
        offsets = _best(lambda o, others=others: counted(o, others))  # type: ignore[misc]
        nested += counted(offsets, [name for name in names if fold[name] == number])
    offsets = _best(lambda o: counted(o, names))
    temperature, error = _temperature([originals[n] for n in names], [logits[n] for n in names], offsets)
    return Validated(sorted(nested, key=lambda c: c.record_id), counted(offsets, names), offsets, temperature, error)


def _best(counted: Callable[[Offsets], list[Counts]]) -> Offsets:
    """Of all offsets those with the highest macro-F1; of equals the smallest."""

    def merit(offsets: Offsets) -> tuple[float, float]:
        return float(np.nan_to_num(measures(*pooled(counted(offsets)))[0])), -sum(map(abs, offsets))

    return max(OFFSETS, key=merit)


def _temperature(
    originals: Sequence[Described], logits: Sequence[NDArray[np.float64]], offsets: Offsets
) -> tuple[float, float]:
    """Temperature of least log loss over all labelled beats, and the calibration error that is left."""
    known = [(one.labels >= 0) & (one.labels < CLASSES) & one.comparable for one in originals]
    joined = np.concatenate([values[k] for values, k in zip(logits, known, strict=True)])
    labels = np.concatenate([one.labels[k] for one, k in zip(originals, known, strict=True)])
    every = np.arange(len(labels))

    def loss(temperature: float) -> float:
        chances = network.probabilities(joined / temperature)[every, labels]
        return float(-np.log(np.maximum(chances, 1e-12)).mean())

    temperature = float(min(TEMPERATURES, key=loss))
    classes = (joined + np.array(offsets)).argmax(axis=1)
    confidence = network.probabilities(joined / temperature)[every, classes]
    bins = np.minimum((confidence * 15).astype(np.int64), 14)
    gap = np.bincount(bins, confidence - (classes == labels), 15)
    return temperature, float(np.abs(gap).sum() / len(labels))


def ship(described: Sequence[Described], validated: Validated, recipe: BeatClassRecipe) -> BeatClassTablesEntry:
    """Train on everything; offsets and temperature come from the cross-validation."""
    entry = fit(described, recipe, recipe.seed + FOLDS, validated.temperature)
    offsets = tuple(round(value / validated.temperature * LOGIT_ONE) for value in validated.offsets)
    return msgspec.structs.replace(entry, offsets=offsets)


def write(tables: BeatClassTablesEntry, provenance: dict[str, object], path: Path) -> str:
    """Write ``beat_classes.json``; returns the digest in it."""
    sha256 = digest(tables, provenance)
    document = Document(schema=SCHEMA, version=TABLES_VERSION, sha256=sha256, tables=tables, provenance=provenance)
    path.write_bytes(msgspec.json.encode(document, order="deterministic") + b"\n")
    return sha256
