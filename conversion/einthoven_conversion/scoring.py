"""Runs a model over a data set through the SDK's own path, record by record.

It deliberately needs no TensorFlow: what is scored is what a device computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import Runner, WindowAnalysis, analyze_record
from einthoven.models import Model
from einthoven.results import InconclusiveReason, Rhythm
from einthoven_conversion.datasets import Record, read_signals
from einthoven_conversion.verdict.collecting import Alter, Collected
from einthoven_conversion.verdict.cross_fitting import Judged

PROGRESS_EVERY = 250
CLASSES = len(Rhythm)


@dataclass(frozen=True)
class Scores:
    """What was said of each record, in the order of the index.

    Attributes:
        labels: int64 [n], the true classes.
        rhythms: int64 [n], the classes of the verdicts.
        shares: int64 [n, 4], probabilities in 1/1000.
        reasons: int64 [n], ``InconclusiveReason``.
        in_set: bool [n, 4], the prediction sets.
        usable_permille: int64 [n], share of the seconds that are usable.
        rate_bpm: int64 [n], median heart rate, 0 if unknown.
        seconds: int64 [n], whole seconds of signal.
    """

    labels: NDArray[np.int64]
    rhythms: NDArray[np.int64]
    shares: NDArray[np.int64]
    reasons: NDArray[np.int64]
    in_set: NDArray[np.bool_]
    usable_permille: NDArray[np.int64]
    rate_bpm: NDArray[np.int64]
    seconds: NDArray[np.int64]

    @property
    def conclusive(self) -> NDArray[np.bool_]:
        """Which records got a verdict."""
        return np.asarray(self.reasons == int(InconclusiveReason.NONE))

    @property
    def confidences(self) -> NDArray[np.int64]:
        """Probability of each record's class in 1/1000, int64 [n]."""
        return np.asarray(self.shares[np.arange(len(self.labels)), self.rhythms])

    def at(self, rows: NDArray[np.bool_]) -> Self:
        """Some of the records."""
        return type(self)(*(getattr(self, one.name)[rows] for one in fields(self)))


def scores_of(rows: Collected, judged: Judged) -> Scores:
    """Verdicts of cross-fitted tables as scores."""
    return Scores(
        rows.labels,
        judged.rhythms,
        judged.shares,
        judged.reasons,
        judged.in_set,
        rows.usable_permille,
        rows.rate_bpm,
        rows.seconds,
    )


def score_records(
    model: Model,
    runner: Runner,
    folder: Path,
    records: Sequence[Record],
    progress: Callable[[int, int], None] = lambda done, total: None,
    alter: Alter = lambda _, samples: samples,
) -> Scores:
    """Analyse every record.

    Args:
        model: The model.
        runner: Runs it.
        folder: The data set.
        records: What to score.
        progress: Told how many of how many are done, now and then.
        alter: What is done to a record's samples first.

    Raises:
        DatasetCorrupt: A shard can't be read.
        SamplingRateError: A record's rate is outside what the device takes.
    """
    n = len(records)
    rows = np.zeros((n, 5), np.int64)
    shares = np.zeros((n, CLASSES), np.int64)
    in_set = np.zeros((n, CLASSES), np.bool_)
    for done, (position, samples_uv) in enumerate(read_signals(folder, records), 1):
        verdict = analyze_record(model, runner, alter(position, samples_uv), records[position].sampling_rate_hz).verdict
        rows[position] = _row(verdict)
        shares[position] = model.verdict.of_logits(verdict.logits).permilles
        in_set[position, list(verdict.prediction_set)] = True
        if done % PROGRESS_EVERY == 0 or done == n:
            progress(done, n)
    labels = np.array([record.label for record in records], np.int64)
    return Scores(labels, rows[:, 0], shares, rows[:, 1], in_set, rows[:, 2], rows[:, 3], rows[:, 4])


def _row(verdict: WindowAnalysis) -> tuple[int, ...]:
    usable_permille = verdict.usable_s * 1000 // max(verdict.seconds, 1)
    return (verdict.rhythm, verdict.reason, usable_permille, verdict.heart_rate_bpm or 0, verdict.seconds)
