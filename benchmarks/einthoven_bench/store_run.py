"""`einthoven-bench store`: what the encrypted store costs, and what it withstands, in one document.

It deliberately computes no figure itself and prints nothing. What needs a process of its own gets one. Without
``cinc2017`` signal is constructed, with one line that says so; without a C compiler there are no crash points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from einthoven_bench.datasets import check_root, open_dataset
from einthoven_bench.errors import BenchError
from einthoven_bench.figures import Document, Figure
from einthoven_bench.machine import machine
from einthoven_bench.signal_run import Progress
from einthoven_bench.store_canaries import CANARIES, CanaryTask, canary_figures, measure_canaries
from einthoven_bench.store_cold_open import OPENINGS, STORED_RESULTS, OpenTask, measure_opening, open_figures
from einthoven_bench.store_committing import COMMITS, CommitTask, commit_figures, measure_commits
from einthoven_bench.store_committing import STORED_RESULTS as SCANNED_RESULTS
from einthoven_bench.store_content import DATASET
from einthoven_bench.store_day_run import DAY_S, DayTask, day_figures, measure_day
from einthoven_bench.store_inserting import PAIRS, ROWS, InsertTask, insert_figures, measure_insert
from einthoven_bench.store_withstanding import crash_figures, tamper_figure
from einthoven_bench.workers import results_in_order

CRASH_POINTS: Final = 10_000
QUICK_CRASH_POINTS: Final = 200
QUICK_ROWS: Final = 20_000
QUICK_PAIRS: Final = 2
QUICK_COMMITS: Final = 200
QUICK_STORED: Final = 20_000
QUICK_OPENINGS: Final = 3
QUICK_DAY_S: Final = 3_600
QUICK_CANARIES: Final = 1_000

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What to measure.

    Attributes:
        quick: A run of a minute or so, to see that all of it works; its figures rest on little.
        folder: Where stores are made; the system's temporary folder, if ``None``.
        crash_points: How many; ``CRASH_POINTS`` (few if quick) if ``None``, none if 0.
        tamper: Tamper with a store.
        alone: Measure in processes of their own; ``False`` in tests.
    """

    quick: bool = False
    folder: Path | None = None
    crash_points: int | None = None
    tamper: bool = True
    alone: bool = True


class StoreRun:
    """One run.

    Args:
        root: Folder of data sets.
        options: What to measure.
        progress: Told what is going on.

    Raises:
        DatasetNotFound: No such folder.
    """

    def __init__(self, root: Path, options: StoreOptions, progress: Progress) -> None:
        check_root(root)
        self._root, self._options, self._progress = root, options, progress
        self.document = Document(machine())
        self._source = DATASET

    def measure(self) -> Document:
        """Everything.

        Raises:
            DatasetCorrupt: The data set is damaged.
            MeasurementFailed: The SDK refused something.
        """
        root, source = self._signal_source()
        quick, folder = self._options.quick, self._options.folder
        self._progress("insert: encrypted and plain in turns")
        insert = InsertTask(QUICK_ROWS, QUICK_PAIRS, folder) if quick else InsertTask(ROWS, PAIRS, folder)
        self._add(insert_figures(self._outcome(measure_insert, insert)))
        self._progress("commit: alone, and while a thread reads")
        commits, scanned = (QUICK_COMMITS, QUICK_STORED) if quick else (COMMITS, SCANNED_RESULTS)
        committed = self._outcome(measure_commits, CommitTask(root, commits, scanned, folder))
        self._add(commit_figures(committed, source))
        self._progress("open: cold")
        opening = (
            OpenTask(QUICK_STORED, QUICK_OPENINGS, folder) if quick else OpenTask(STORED_RESULTS, OPENINGS, folder)
        )
        self._add(open_figures(measure_opening(opening)))
        self._progress("an hour of ECG" if quick else "a day of ECG: two minutes and more")
        self._add(day_figures(measure_day(DayTask(root, QUICK_DAY_S if quick else DAY_S, folder)), source))
        self._progress("canaries")
        try:
            canaries = CanaryTask(QUICK_CANARIES if quick else CANARIES, 0, folder)
            self._add(canary_figures(measure_canaries(canaries)))
        except BenchError as error:
            self._leave_out(f"canaries are left out: {error}")
        self._withstanding()
        return self.document

    def _add(self, figures: list[Figure]) -> None:
        self.document.add(figures)

    def _outcome(self, function: Callable[[Task], Outcome], task: Task) -> Outcome:
        """What a measurement gives in a process that did nothing before."""
        (outcome,) = results_in_order(function, [task], 1 if self._options.alone else 0)
        return outcome

    def _signal_source(self) -> tuple[Path | None, str]:
        dataset = open_dataset(self._root, DATASET)
        if dataset is not None and dataset.records:
            return self._root, f"recordings of {DATASET}, joined"
        self._leave_out(f"no data set {DATASET} there: signal is constructed")
        return None, "constructed signal"

    def _leave_out(self, line: str) -> None:
        self.document.left_out.append(line)
        self._progress(line)

    def _withstanding(self) -> None:
        options = self._options
        points = options.crash_points
        if points is None:
            points = QUICK_CRASH_POINTS if options.quick else CRASH_POINTS
        if points:
            try:
                self._add(crash_figures(points, self._progress))
            except BenchError as error:
                self._leave_out(f"crash points are left out: {error}")
        else:
            self._leave_out("crash points are left out as asked")
        if options.tamper:
            self._progress("tampering")
            self._add(tamper_figure())
        else:
            self._leave_out("tampering is left out as asked")
