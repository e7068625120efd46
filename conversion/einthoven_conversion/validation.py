"""What every fold's int8 model says of the records it never saw: clean, in float, and under noise; in processes.

It deliberately judges nothing: the verdicts are fitted to what comes out here (``verdict``).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.model_manifest import Model
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.datasets import find_folder
from einthoven_conversion.errors import TrainingFailed
from einthoven_conversion.noisy_records import TEST_PIECES, TRAINING_PIECES, electrode_motion
from einthoven_conversion.verdict.collecting import Collected, collect
from einthoven_conversion.workers import Job, prepare_tensorflow

if TYPE_CHECKING:
    from einthoven_conversion.architecture import Weights

NOISE_LEVELS_DB = (12, 6, 0)
"""Signal-to-noise ratios of the figures under noise."""


@dataclass(frozen=True)
class Described:
    """Records as a model sees them.

    Attributes:
        clean: As they are.
        float_twin: As they are, the network in float32.
        training_noise: With noise for training, none or one.
        noisy: With noise for tests, by signal-to-noise ratio in dB.
    """

    clean: Collected
    float_twin: Collected
    training_noise: tuple[Collected, ...]
    noisy: dict[int, Collected]


def describe_unseen(
    jobs: Sequence[Job],
    models: Sequence[Model],
    weights: Sequence[Weights],
    workers: int,
    report: Callable[[str], None],
) -> list[Described]:
    """Every fold's records by the model that never saw them, ``workers`` folds at a time.

    Raises:
        TrainingFailed: A process was killed.
        ConversionError: In one of its other kinds.
    """
    described: list[Described] = []
    work = list(zip(jobs, models, weights, strict=True))

    def take(job: Job, one: Described) -> None:
        described.append(one)
        report(f"fold {job.held_out}: {len(one.clean.labels)} records described")

    if workers == 1:
        for job, model, fold_weights in work:
            take(job, _describe(job, model, fold_weights))
        return described
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for (job, _, _), one in zip(work, pool.map(_describe, *zip(*work, strict=True)), strict=True):
                take(job, one)
        except BrokenProcessPool as error:
            raise TrainingFailed("a validation was killed", "give fewer --workers; each needs 2 GB") from error
    return described


def _describe(job: Job, model: Model, weights: Weights) -> Described:
    prepare_tensorflow()
    from einthoven_conversion.float_twin import float_rows

    unseen = [record for record in job.records if record.fold == job.held_out]
    runner = LiteRtRunner(model)
    clean = collect(model, runner, job.folder, unseen)
    twin = float_rows(weights, job.recipe, model, job.folder, unseen)
    if find_folder(job.root, "nstdb_noise") is None:
        return Described(clean, twin, (), {})

    def noisy(pieces: Sequence[str], snr_db: int | None) -> Collected:
        alter = electrode_motion(job.root, unseen, job.coefficients, pieces, snr_db)
        return collect(model, runner, job.folder, unseen, alter)

    return Described(
        clean, twin, (noisy(TRAINING_PIECES, None),), {level: noisy(TEST_PIECES, level) for level in NOISE_LEVELS_DB}
    )


def join(jobs: Sequence[Job], parts: Sequence[Described]) -> Described:
    """All folds in the order of the index."""
    records = jobs[0].records
    rows = [np.array([i for i, one in enumerate(records) if one.fold == job.held_out], np.int64) for job in jobs]

    def joined(chosen: Sequence[Collected]) -> Collected:
        columns: list[NDArray[np.int64]] = []
        for field in fields(Collected):
            column = np.zeros((len(records), *getattr(chosen[0], field.name).shape[1:]), np.int64)
            for positions, part in zip(rows, chosen, strict=True):
                column[positions] = getattr(part, field.name)
            columns.append(column)
        return Collected(*columns)

    first = parts[0]
    return Described(
        joined([part.clean for part in parts]),
        joined([part.float_twin for part in parts]),
        tuple(joined([part.training_noise[i] for part in parts]) for i in range(len(first.training_noise))),
        {level: joined([part.noisy[level] for part in parts]) for level in first.noisy},
    )
