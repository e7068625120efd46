"""`einthoven-bench sync`: what reconciling costs, between real devices and a real server, in one document.

It deliberately computes no figure itself and prints nothing. Without ``cinc2017`` the model judges constructed signal,
with one line that says so. A part that fails is left out with its reason; the others are kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.errors import EinthovenError
from einthoven.results import WindowResult
from einthoven_bench.datasets import check_root, open_dataset
from einthoven_bench.errors import BenchError
from einthoven_bench.figures import Document, Figure
from einthoven_bench.machine import machine
from einthoven_bench.signal_run import Progress
from einthoven_bench.store_content import DATASET
from einthoven_bench.sync_content import MODEL_WINDOWS, drawn_results, judged_windows
from einthoven_bench.sync_figures import bulk_figures, carried_figures, edit_figures, ingest_figures, moved_figures
from einthoven_bench.sync_ingest import DEVICES, measure_ingest
from einthoven_bench.sync_measuring import measure_bulk, measure_edits, measure_moved
from einthoven_bench.sync_mending import DIFFERENCES, ROWS_BEHIND, measure_repaired, measure_restored
from einthoven_bench.sync_site import Site, running_site
from einthoven_protocol.limits import MAX_RESULTS_PER_EXCHANGE


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What to measure, and on how much.

    Attributes:
        folder: Where stores and the server's data are made; the system's temporary folder, if ``None``.
        windows: Windows that the model judges.
        rows: Results of the way from device to device.
        runs: Of everything that is timed or counted.
        ingest_devices: Devices that push at once, ``rows`` each.
        repaired_rows: Rows among which ``DIFFERENCES`` are missing.
        repair_draws: Devices to mend, each with other differences.
        restored_rows: Rows of a device before its backup.
    """

    folder: Path | None = None
    windows: int = MODEL_WINDOWS
    rows: int = MAX_RESULTS_PER_EXCHANGE
    runs: int = 5
    ingest_devices: int = DEVICES
    repaired_rows: int = 100_000
    repair_draws: int = 10
    restored_rows: int = 10_000


QUICK: Final = SyncOptions(
    windows=100, rows=2_000, runs=1, ingest_devices=4, repaired_rows=5_000, repair_draws=2, restored_rows=2_000
)
"""Half a minute or so, to see that all of it works; its figures rest on little."""


class SyncRun:
    """One run.

    Args:
        root: Folder of data sets.
        options: What to measure.
        progress: Told what is going on.

    Raises:
        DatasetNotFound: No such folder.
    """

    def __init__(self, root: Path, options: SyncOptions, progress: Progress) -> None:
        check_root(root)
        self._root, self._options, self._progress = root, options, progress
        self.document = Document(machine())
        self._source = f"verdicts of the shipped model on {DATASET}, drawn at random"

    def measure(self) -> Document:
        """Everything.

        Raises:
            DatasetCorrupt: The data set is damaged.
            DemoError: The server does not start.
        """
        self._progress("verdicts: the model judges signal")
        judged = judged_windows(self._signal_source(), self._options.windows)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._options.folder)))
            self._progress("the server starts")
            site = stack.enter_context(running_site(folder))
            self._parts(site, folder, judged)
        return self.document

    def _parts(self, site: Site, folder: Path, judged: list[WindowResult]) -> None:
        options, source = self._options, self._source
        runs = range(options.runs)

        def moved() -> list[Figure]:
            each = [measure_moved(site, folder, drawn_results(judged, options.rows, seed)) for seed in (0, *runs)]
            return moved_figures(each[1:], source)  # the first warms both sides up

        def bulk() -> list[Figure]:
            each = [measure_bulk(site, folder, drawn_results(judged, options.rows, seed)) for seed in runs]
            return bulk_figures(each, source)

        def ingest() -> list[Figure]:
            count = options.ingest_devices
            return ingest_figures([measure_ingest(site, judged, count, options.rows) for _ in runs], source)

        def repaired() -> list[Figure]:
            rows = options.repaired_rows
            lacking, differing = measure_repaired(site, folder, judged, rows, options.repair_draws)
            missing = f"{DIFFERENCES} of {rows} results missing on a device, scattered anew each time"
            other = f"{DIFFERENCES // 2} of {rows} results others on a device, so that as many are missing on each side"
            return carried_figures("repair_100_of_100k", missing, lacking) + carried_figures(
                "repair_50_on_each_side", other, differing
            )

        def restored() -> list[Figure]:
            what = f"put back from a backup {ROWS_BEHIND} rows old, of {options.restored_rows + ROWS_BEHIND}"
            each = [measure_restored(site, folder, judged, options.restored_rows) for _ in runs]
            return carried_figures("restore_500", what, [(one, one.report.round_trips) for one in each])

        self._part("results from device to device", moved)
        self._part("bytes of the same", bulk)
        self._part(
            "edits, and nothing to do", lambda: edit_figures([measure_edits(site, folder, judged, n) for n in runs])
        )
        self._part("a restored device", restored)
        self._part("scattered differences", repaired)
        self._part("many devices push", ingest)

    def _part(self, what: str, measure: Callable[[], list[Figure]]) -> None:
        self._progress(what)
        try:
            self.document.add(measure())
        except (BenchError, EinthovenError) as error:
            self._leave_out(f"{what}: left out ({error})")

    def _signal_source(self) -> Path | None:
        dataset = open_dataset(self._root, DATASET)
        if dataset is not None and dataset.records:
            return self._root
        self._leave_out(f"no data set {DATASET} there: the model judges constructed signal")
        self._source = "verdicts of the shipped model on constructed signal, drawn at random"
        return None

    def _leave_out(self, line: str) -> None:
        self.document.left_out.append(line)
        self._progress(line)
