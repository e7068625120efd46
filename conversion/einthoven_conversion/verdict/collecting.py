"""What the device knows of each record before it judges: features and gates, through the SDK's own path.

It deliberately judges nothing, and needs no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import (
    MAX_RATE_BPM,
    MERGED_WINDOWS,
    MIN_RATE_BPM,
    MIN_STEPS,
    MIN_USABLE_PERCENT,
    Observed,
    Runner,
    WindowAnalysis,
    decide,
    observe_record,
)
from einthoven.model_manifest import CLASSES, Model
from einthoven.results import InconclusiveReason
from einthoven.window_features import FEATURES, merged, window_features
from einthoven_conversion.datasets import Record, read_signals

Alter = Callable[[int, NDArray[np.int32]], NDArray[np.int32]]
"""Changes a record's samples, by its position and its samples; to add noise."""


@dataclass(frozen=True)
class Collected:
    """What is known of records, in the order of their index.

    Attributes:
        labels: int64 [n], true classes.
        folds: int64 [n], -1 where there are none.
        features: int64 [n, FEATURES].
        means: int64 [n, 4], mean logits of the seconds in 1/1024 octave.
        gated: int64 [n], ``InconclusiveReason`` that no table has a say in, else ``NONE``.
        usable_permille: int64 [n], share of the seconds that are usable.
        rate_bpm: int64 [n], median heart rate, 0 if unknown.
        seconds: int64 [n], whole seconds of signal.
        inverted: int64 [n], whether the median beat points down.
    """

    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    features: NDArray[np.int64]
    means: NDArray[np.int64]
    gated: NDArray[np.int64]
    usable_permille: NDArray[np.int64]
    rate_bpm: NDArray[np.int64]
    seconds: NDArray[np.int64]
    inverted: NDArray[np.int64]

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Some of the records."""
        return type(self)(*(getattr(self, one.name)[rows] for one in fields(self)))


def collect(
    model: Model, runner: Runner, folder: Path, records: Sequence[Record], alter: Alter = lambda _, samples: samples
) -> Collected:
    """Observe every record.

    Args:
        model: Any verdict; only its network is used.
        runner: Runs it.
        folder: The data set.
        records: Which ones.
        alter: What is done to a record's samples first.

    Raises:
        DatasetCorrupt: A shard can't be read.
        SamplingRateError: A record's rate is outside what the device takes.
    """
    rows = blank(records)
    for position, samples_uv in read_signals(folder, records):
        altered = alter(position, samples_uv)
        windows = list(observe_record(model, runner, altered, records[position].sampling_rate_hz))
        put(rows, position, model, windows)
    return rows


def blank(records: Sequence[Record]) -> Collected:
    """Nothing known as yet but the labels."""
    n = len(records)
    zeros = [np.zeros(n, np.int64) for _ in range(5)]
    return Collected(
        np.array([record.label for record in records], np.int64),
        np.array([-1 if record.fold is None else record.fold for record in records], np.int64),
        np.zeros((n, FEATURES), np.int64),
        np.zeros((n, CLASSES), np.int64),
        *zeros,
    )


def put(rows: Collected, position: int, model: Model, windows: Sequence[Observed]) -> None:
    """Enter one record. Of a record over two minutes, the first two are described."""
    verdict = decide(model, windows)
    view = merged([window.view for window in windows[:MERGED_WINDOWS]])
    rows.features[position] = window_features(view)
    rows.means[position] = view.logits.sum(axis=0) // max(len(view.logits), 1)
    rows.gated[position] = _gate(verdict)
    rows.usable_permille[position] = verdict.usable_s * 1000 // max(verdict.seconds, 1)
    rows.rate_bpm[position] = verdict.heart_rate_bpm or 0
    rows.seconds[position] = verdict.seconds
    rows.inverted[position] = int(len(view.amplitudes_uv) > 0 and float(np.median(view.amplitudes_uv)) < 0)


def _gate(verdict: WindowAnalysis) -> int:
    """As ``einthoven.analysis``, for all that does not depend on the tables."""
    steps, counted, rate = len(verdict.steps), verdict.n_steps, verdict.heart_rate_bpm
    if steps < MIN_STEPS:
        return InconclusiveReason.TOO_SHORT
    if (
        counted < MIN_STEPS
        or counted * 100 < steps * MIN_USABLE_PERCENT
        or verdict.usable_s * 100 < verdict.seconds * MIN_USABLE_PERCENT
    ):
        return InconclusiveReason.POOR_SIGNAL
    if rate is not None and not MIN_RATE_BPM <= rate <= MAX_RATE_BPM:
        return InconclusiveReason.RATE_OUT_OF_RANGE
    return InconclusiveReason.NONE
