"""`einthoven-bench model`: size, multiply-adds, state, time and exactness of what is shipped, in one document.

It deliberately computes no figure itself and prints nothing. Quality (F1, calibration) is ``einthoven-convert
evaluate``'s. Without ``cinc2017`` it measures over constructed signals, with one line that says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.frontend import FrontEnd
from einthoven.resampling import ResamplerTable
from einthoven_bench.datasets import check_root, open_dataset
from einthoven_bench.figures import Document, Figure
from einthoven_bench.machine import machine
from einthoven_bench.model_cost import cost_figures, shipped_files
from einthoven_bench.model_digest import DATASET, PART_RECORDS, ModelDigests, combined, digest_part, recordings
from einthoven_bench.model_exactness import ModelExactnessTask, check_model_exactness
from einthoven_bench.model_outputs import loaded
from einthoven_bench.model_timing import CALLS, LOADS, TimingTask, measure_timing, timing_figures
from einthoven_bench.signal_run import Progress
from einthoven_bench.workers import batches, results_in_order

EXACT_RECORDS: Final = 400
"""Recordings in the comparison of chunkings, if not all are asked for."""
ONE_SAMPLE_EVERY: Final = 20
"""Every so many recordings one is pushed sample by sample, too."""
ONE_SAMPLE_S: Final = 12
TIMED_RECORDINGS: Final = 40
QUICK_RECORDS: Final = 4
QUICK_CALLS: Final = 500
QUICK_LOADS: Final = 2


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What to measure.

    Attributes:
        records: At most this many recordings; ``EXACT_RECORDS`` for exactness and all for the digest, if ``None``.
        quick: A run of seconds, to see that all of it works.
        thorough: Exactness over every recording.
        workers: Processes; 0 for none but this one, ``None`` for what the machine bears.
    """

    records: int | None = None
    quick: bool = False
    thorough: bool = False
    workers: int | None = None


class ModelRun:
    """One run.

    Args:
        root: Folder of data sets.
        options: What to measure.
        progress: Told what is going on.

    Raises:
        DatasetNotFound: No such folder.
    """

    def __init__(self, root: Path, options: ModelOptions, progress: Progress) -> None:
        check_root(root)
        self._root, self._options, self._progress = root, options, progress
        self.document = Document(machine())
        self._source = DATASET

    def measure(self) -> Document:
        """Everything.

        Raises:
            DatasetCorrupt: The data set is damaged.
            MeasurementFailed: The SDK refused a record, or a file of the package can't be read.
        """
        dataset = open_dataset(self._root, DATASET)
        if dataset is None or not dataset.records:
            self._source = "constructed signals"
            line = f"no data set {DATASET} there: time and exactness measured on constructed signals"
            self.document.left_out.append(line)
            self._progress(line)
        self.document.add(cost_figures(shipped_files()))
        self._timing()
        self._exactness()
        return self.document

    def digest(self) -> ModelDigests:
        """Digests of what goes in and what comes out, over all recordings or the first so many."""
        tasks = batches(recordings(self._root, self._limit(None)), PART_RECORDS)
        parts = []
        for part in results_in_order(digest_part, tasks, self._options.workers):
            parts.append(part)
            self._progress(f"digest: {sum(one.records for one in parts)} recordings")
        return combined(parts)

    def _limit(self, usual: int | None) -> int | None:
        if self._options.records is not None:
            return self._options.records
        return QUICK_RECORDS if self._options.quick else usual

    def _timing(self) -> None:
        self._progress("time: invoke, step, load")
        quick = self._options.quick
        task = TimingTask(self._seconds(), QUICK_CALLS if quick else CALLS, QUICK_LOADS if quick else LOADS)
        alone = 0 if self._options.workers == 0 else 1
        for outcome in results_in_order(measure_timing, [task], alone):
            self.document.add(timing_figures(outcome, self._source))

    def _seconds(self) -> NDArray[np.int8]:
        """Seconds as the front end hands them to the model, int8 [k, 128]."""
        model, _ = loaded()
        limit = min(TIMED_RECORDINGS, self._options.records or TIMED_RECORDINGS)
        found = [
            FrontEnd(ResamplerTable(model.coefficients, rate)).push(samples)
            for samples, rate in recordings(self._root, limit)
        ]
        return np.concatenate(found)

    def _exactness(self) -> None:
        limit = self._limit(None if self._options.thorough else EXACT_RECORDS)

        def tasks() -> Iterator[ModelExactnessTask]:
            for seed, (samples, rate) in enumerate(recordings(self._root, limit)):
                yield ModelExactnessTask(samples, rate, seed, 0 if seed % ONE_SAMPLE_EVERY else ONE_SAMPLE_S)

        outcomes = []
        for outcome in results_in_order(check_model_exactness, tasks(), self._options.workers):
            outcomes.append(outcome)
            if len(outcomes) % PART_RECORDS == 0:
                self._progress(f"exactness: {len(outcomes)} recordings")
        differing = [outcome.differing_bits for outcome in outcomes]
        hours = sum(one.seconds for one in outcomes) / 3_600
        note = (
            f"of {sum(one.compared_bits for one in outcomes)} bits that come out of {hours:.2f} h of {self._source} "
            f"(n: recordings) in {sum(one.chunkings for one in outcomes)} chunkings, "
            f"{sum(one.pushes for one in outcomes)} pushes, against one shot; spread: a recording"
        )
        spread = (float(min(differing)), float(max(differing)))
        self.document.add([Figure("model.exactness_differing_bits", sum(differing), "1", len(outcomes), spread, note)])
