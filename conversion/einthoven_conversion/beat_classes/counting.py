"""Counts how beats were classified against a reference, by the rules of ANSI/AAMI EC57, and what that comes to.

The convention, since figures depend on it: a detected beat is compared with the reference beat within 150 ms of it, one
to one. A reference beat that was not detected, or was detected and not judged, counts against the sensitivity of its
class. A detection without a reference beat counts against the positive predictivity of the class it was given. Fusion
beats (F), unclassifiable and paced ones (Q) count nowhere, nor does ventricular flutter. F1 of a class is that of its
sensitivity and predictivity; the macro-F1 is the plain mean over N, S, V of the pooled counts.

It deliberately knows no classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_class_tables import CLASSES
from einthoven_conversion.beat_classes.recordings import ClassRecording
from einthoven_conversion.beats.matching import WINDOW_S, match

BOOTSTRAP_SAMPLES: Final = 2_000
BOOTSTRAP_SEED: Final = 1906
N, S, V = range(CLASSES)
MACRO_F1, V_SENSITIVITY, S_SENSITIVITY, V_PPV, S_PPV = range(5)


@dataclass(frozen=True, slots=True)
class Counts:
    """One record's beats.

    Attributes:
        record_id: Its name.
        matrix: int64 [3, 3], reference class by class given.
        missed: int64 [3], reference beats that were not detected or not judged.
        false: int64 [3], detections without a reference beat, by the class given.
    """

    record_id: str
    matrix: NDArray[np.int64]
    missed: NDArray[np.int64]
    false: NDArray[np.int64]


def labels_of(recording: ClassRecording, detected_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Reference class of each detected beat: int64 [k], -1 without one, -2 where nothing counts."""
    labels = np.full(len(detected_s), -1, np.int64)
    for start, stop in recording.left_out:
        labels[(detected_s >= start - WINDOW_S) & (detected_s <= stop + WINDOW_S)] = -2
    pairs = match(recording.beats_s, detected_s)
    pairs = pairs[_counted(recording)[pairs[:, 0]]]
    labels[pairs[:, 1]] = recording.labels[pairs[:, 0]]
    return labels


def _counted(recording: ClassRecording) -> NDArray[np.bool_]:
    counted = np.ones(len(recording.beats_s), np.bool_)
    for start, stop in recording.left_out:
        counted &= (recording.beats_s < start) | (recording.beats_s > stop)
    return counted


def count(recording: ClassRecording, labels: NDArray[np.int64], classes: NDArray[np.int64]) -> Counts:
    """Compare.

    Args:
        recording: The reference.
        labels: int64 [k], from ``labels_of``.
        classes: int64 [k], what was said: 0 to 2, anything else for not judged.
    """
    judged = classes < CLASSES
    known = judged & (labels >= 0) & (labels < CLASSES)
    matrix = np.bincount(labels[known] * CLASSES + classes[known], minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    total = np.bincount(recording.labels[_counted(recording)], minlength=CLASSES)[:CLASSES]
    false = np.bincount(classes[judged & (labels == -1)], minlength=CLASSES)[:CLASSES]
    return Counts(recording.record_id, matrix, total - matrix.sum(axis=1), false)


def measures(matrix: NDArray[np.int64], missed: NDArray[np.int64], false: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro-F1, sensitivity of V and S, predictivity of V and S, from counts [..., 3, 3] and [..., 3]: [..., 5].

    NaN where a class has no beat at all.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    actual, said = matrix.sum(axis=-1) + missed, matrix.sum(axis=-2) + false
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, predictivity = hits / actual, hits / said
        f1 = np.where(actual > 0, 2 * hits / (actual + said), np.nan)
    parts = [f1.mean(axis=-1), *(each[..., kind] for each in (sensitivity, predictivity) for kind in (V, S))]
    return np.stack(parts, axis=-1)


def pooled(counts: Sequence[Counts]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sums over records: matrix, missed, false."""
    return (
        np.sum([one.matrix for one in counts], axis=0),
        np.sum([one.missed for one in counts], axis=0),
        np.sum([one.false for one in counts], axis=0),
    )


def intervals(counts: Sequence[Counts]) -> NDArray[np.float64]:
    """95 % bootstrap interval of each of ``measures``, drawing whole records: float64 [2, 5]."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=BOOTSTRAP_SAMPLES)
    parts = [np.stack([getattr(one, name) for one in counts]) for name in ("matrix", "missed", "false")]
    values = measures(*(np.tensordot(drawn, part, axes=1) for part in parts))
    found = np.full((2, values.shape[1]), np.nan)
    for i in range(values.shape[1]):
        known = values[~np.isnan(values[:, i]), i]
        if len(known):
            found[:, i] = np.percentile(known, [2.5, 97.5])
    return found
