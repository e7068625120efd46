"""Runs a model over a data set through the SDK's own path, record by record.

It deliberately needs no TensorFlow: what is scored is what a device computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import Runner, analyze_record
from einthoven.models import Model
from einthoven.results import InconclusiveReason
from einthoven_conversion.datasets import Record, read_signals

PROGRESS_EVERY = 250


@dataclass(frozen=True)
class Scores:
    """What the model said of each record, in the order of the index.

    Attributes:
        labels: int64 [n], the true classes.
        rhythms: int64 [n], the classes of the verdicts.
        confidences: int64 [n], permille.
        reasons: int64 [n], ``InconclusiveReason``.
        logits: int64 [n, 4], pooled integer logits.
        seconds: int64 [n], whole seconds of signal.
    """

    labels: NDArray[np.int64]
    rhythms: NDArray[np.int64]
    confidences: NDArray[np.int64]
    reasons: NDArray[np.int64]
    logits: NDArray[np.int64]
    seconds: NDArray[np.int64]

    @property
    def conclusive(self) -> NDArray[np.bool_]:
        """Which records got a verdict."""
        return np.asarray(self.reasons == int(InconclusiveReason.NONE))


def score_records(
    model: Model,
    runner: Runner,
    folder: Path,
    records: Sequence[Record],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Analyse every record.

    Args:
        model: The model.
        runner: Runs it.
        folder: The data set.
        records: What to score.
        progress: Told how many of how many are done, now and then.

    Raises:
        DatasetCorrupt: A shard can't be read.
        SamplingRateError: A record's rate is outside what the device takes.
    """
    rows = np.zeros((len(records), 8), np.int64)
    for done, (position, samples_uv) in enumerate(read_signals(folder, records), 1):
        verdict = analyze_record(model, runner, samples_uv, records[position].sampling_rate_hz).verdict
        rows[position] = (
            verdict.rhythm,
            verdict.confidence_permille,
            verdict.reason,
            verdict.seconds,
            *verdict.logits,
        )
        if done % PROGRESS_EVERY == 0 or done == len(records):
            progress(done, len(records))
    labels = np.array([record.label for record in records], np.int64)
    return Scores(labels, rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 4:], rows[:, 3])


def join_scores(parts: Sequence[tuple[NDArray[np.int64], Scores]], total: int) -> Scores:
    """Put the folds' scores back into the order of the index; each position must come exactly once."""
    columns = {}
    for name in ("labels", "rhythms", "confidences", "reasons", "logits", "seconds"):
        example = getattr(parts[0][1], name)
        column = np.zeros((total, *example.shape[1:]), np.int64)
        for positions, scores in parts:
            column[positions] = getattr(scores, name)
        columns[name] = column
    return Scores(**columns)
