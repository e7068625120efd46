"""Says of every detected beat whether it is normal, supraventricular or ventricular (ANSI/AAMI EC57). Streaming.

A small integer network over what ``beat_class_stream`` says of a beat and the person's beats before it. It deliberately
finds no beats (``beat_detector``), judges no rhythm (the rhythm model does), and keeps no memory of a person beyond the
last minutes (``beat_class_rows``).

Invariants:
    1. Output depends on the samples and beats alone, never on how they were cut into chunks.
    2. Beats come out in order, none lost: as soon as the next beat is known, at the latest when the signal is settled
       ``DELAY_S`` after them.
    3. All arithmetic is exact, so the same on every machine; memory is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_class_stream import BeatDescriber, BeatsInContext
from einthoven.beat_class_tables import BeatClassTables, load_beat_class_tables
from einthoven.beat_class_times import NEXT_TICKS
from einthoven.beat_detector import TICKS_HZ, DetectedBeats
from einthoven.beat_scorer import LOGIT_ONE
from einthoven.beat_tables import MAX_ACTIVATION, Layer
from einthoven.probability import power_of_half
from einthoven.results import BeatClass
from einthoven.single_thread import product

DELAY_S: Final = NEXT_TICKS / TICKS_HZ
"""Bound of the time from a beat's being known to its class, in seconds of signal; mostly until the next beat."""

_NUMERATOR, _DENOMINATOR = 5_909, 1_024  # log2(e) * 1024 / LOGIT_ONE: a logit's unit in 1/1024 octave
_WEIGHTS = np.array([power_of_half(d * _NUMERATOR // _DENOMINATOR) >> 30 for d in range(16 * LOGIT_ONE)], np.int64)
"""exp(-d / LOGIT_ONE) * 2**30."""


@dataclass(frozen=True, slots=True)
class ClassifiedBeats:
    """Classes of beats, in the order of time.

    Attributes:
        at_ticks: int64 [k], the R peaks that came in, in 1/1024 s.
        classes: uint8 [k], ``BeatClass``.
        permille: uint16 [k], calibrated probability of that class in 1/1000; 0 for ``UNKNOWN``.
    """

    at_ticks: NDArray[np.int64]
    classes: NDArray[np.uint8]
    permille: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.at_ticks)


NO_CLASSES: Final = ClassifiedBeats(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint16))


class BeatClassifier:
    """Classifies beats as they come.

    Args:
        tables: The shipped ones, if not given.

    Raises:
        ModelError: The shipped tables are missing or damaged.
    """

    def __init__(self, tables: BeatClassTables | None = None) -> None:
        self._tables = tables or load_beat_class_tables()
        self._describer = BeatDescriber()

    def push(
        self,
        resampled: NDArray[np.int64],
        beats: DetectedBeats,
        settled: int,
        after_gap: NDArray[np.bool_] | None = None,
    ) -> ClassifiedBeats:
        """Take samples and beats, return the classes of those beats that are certain now.

        Args:
            resampled: int64 [n] at 128 Hz in microvolts, what the detector was given.
            beats: What it said then, or a part of it.
            settled: Index at 128 Hz before which no more beats will come (``BeatDetector.settled``).
            after_gap: bool [k], beats before which samples are missing: then the interval means nothing.
        """
        return self._judged(self._describer.push(resampled, beats, settled, after_gap))

    def finish(self) -> ClassifiedBeats:
        """End the signal: the last sample goes on, and every beat that waits is judged without a next one."""
        return self._judged(self._describer.finish())

    def _judged(self, described: list[BeatsInContext]) -> ClassifiedBeats:
        parts = [classify(one, self._tables) for one in described]
        if len(parts) < 2:
            return parts[0] if parts else NO_CLASSES
        return ClassifiedBeats(
            np.concatenate([part.at_ticks for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.permille for part in parts]),
        )


def classify(beats: BeatsInContext, tables: BeatClassTables) -> ClassifiedBeats:
    """Judge beats; those that can't be compared are ``UNKNOWN``."""
    classes, permille = decide(run_network(beats.features, tables.layers), tables.offsets)
    classes[~beats.comparable], permille[~beats.comparable] = BeatClass.UNKNOWN, 0
    return ClassifiedBeats(beats.at_ticks, classes, permille)


def run_network(features: NDArray[np.float32], layers: tuple[Layer, ...]) -> NDArray[np.int64]:
    """Logits int64 [k, 3] in 1/``LOGIT_ONE`` of features float32 [k, FEATURES]."""
    values = features
    for layer in layers[:-1]:
        values = product(values, layer.weights)
        values += layer.bias
        np.floor(values, out=values)
        np.minimum(values, MAX_ACTIVATION, out=values)
        np.maximum(values, 0, out=values)
    total = product(values, layers[-1].weights)
    total += layers[-1].bias
    return np.floor(total).astype(np.int64)


def decide(logits: NDArray[np.int64], offsets: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Class of each beat and its probability in 1/1000 (softmax of the logits, in integers): uint8 and uint16 [k]."""
    classes = (logits + np.array(offsets)).argmax(axis=1)
    below = np.minimum(logits.max(axis=1, keepdims=True) - logits, len(_WEIGHTS) - 1)
    shares = _WEIGHTS[below]
    chosen = shares[np.arange(len(logits)), classes]
    return classes.astype(np.uint8), (chosen * 1000 // shares.sum(axis=1)).astype(np.uint16)
