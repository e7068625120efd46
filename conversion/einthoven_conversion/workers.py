"""Trains networks in processes of their own, one thread each, and keeps what is finished.

One thread a training is what makes it reproducible, and two of them use two cores better than one with two threads.
A training that was interrupted is done again; one that finished is read back from the work folder.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from einthoven.resampling import FrontEndCoefficients
from einthoven_conversion.datasets import Record
from einthoven_conversion.errors import DependencyMissing, TrainingFailed
from einthoven_conversion.recipe import Recipe

if TYPE_CHECKING:
    from einthoven_conversion.architecture import Weights

ALL_FOLDS = -1
"""Stands for a training that leaves no fold out."""
TRAINING_VERSION = 1
"""Raise it when the code that trains changes what it gives."""


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        recipe: How.
        root: Folder of data sets.
        folder: The data set.
        records: All of its records.
        coefficients: The front end's.
        held_out: Fold that is not trained on, or ``ALL_FOLDS``.
        work: Folder for the cache and finished weights.
    """

    recipe: Recipe
    root: Path
    folder: Path
    records: tuple[Record, ...]
    coefficients: FrontEndCoefficients
    held_out: int
    work: Path

    @property
    def weights_path(self) -> Path:
        """Where its weights are kept."""
        decides = (TRAINING_VERSION, self.recipe, self.records, self.coefficients)
        key = hashlib.sha256(repr(decides).encode()).hexdigest()[:16]
        return self.work / f"weights-{key}-{'all' if self.held_out == ALL_FOLDS else self.held_out}.npz"

    @property
    def teacher(self) -> Job | None:
        """The training whose weights this one starts from and learns from, on the same records."""
        return None if self.recipe.teacher is None else replace(self, recipe=self.recipe.teacher)

    @property
    def positions(self) -> list[int]:
        """Records that it trains on."""
        return [
            i for i, record in enumerate(self.records) if record.fold != self.held_out or self.held_out == ALL_FOLDS
        ]


def prepare_tensorflow() -> None:
    """Make TensorFlow quiet, single-threaded and deterministic; before it is imported.

    Raises:
        DependencyMissing: It is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DependencyMissing("TensorFlow is not installed", "pip install 'einthoven[conversion]'") from error
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def train_all(jobs: Sequence[Job], workers: int, report: Callable[[str], None]) -> list[Weights]:
    """Train every job that is not finished, ``workers`` at a time; weights in the order of the jobs."""
    open_jobs = [job for job in jobs if not job.weights_path.exists()]
    if workers == 1 or len(open_jobs) == 1:
        for job in open_jobs:
            report(_train(job))
    elif open_jobs:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            try:
                for done in as_completed(_submit(pool, open_jobs)):
                    report(done.result())
            except BrokenProcessPool as error:
                raise TrainingFailed("a training was killed", "give fewer --workers; each needs 2 GB") from error
    return [_read(job.weights_path) for job in jobs]


def _submit(pool: ProcessPoolExecutor, jobs: Iterable[Job]) -> list[Future[str]]:
    return [pool.submit(_train, job) for job in jobs]


def _train(job: Job) -> str:
    """Run one training, its teacher's first, and keep its weights; what it prints goes to a log beside them."""
    prepare_tensorflow()
    teacher = None
    if job.teacher is not None:
        if not job.teacher.weights_path.exists():
            _train(job.teacher)
        teacher = _read(job.teacher.weights_path)
    from einthoven_conversion.noise import read_noise
    from einthoven_conversion.train import train_network
    from einthoven_conversion.windows import build_cache

    cache = build_cache(job.folder, job.records, job.coefficients, job.work)
    labels = np.array([record.label for record in job.records], np.int64)
    positions = np.array(job.positions, np.int64)
    noise = read_noise(job.root, job.coefficients, job.recipe.noise_left_out)
    log = job.weights_path.with_suffix(".log")
    with log.open("w", encoding="utf-8", buffering=1) as lines:
        weights = train_network(
            job.recipe, cache, labels, positions, noise, lambda line: print(line, file=lines), teacher
        )
    partial = job.weights_path.with_suffix(".partial.npz")
    np.savez(partial, **weights)  # type: ignore[arg-type]
    partial.replace(job.weights_path)
    return f"trained {job.weights_path.stem} on {len(positions)} records"


def _read(path: Path) -> Weights:
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}
