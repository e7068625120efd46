"""One window committed durably: alone, while a thread reads everything, and beside a bare sync of the same disk.

A commit is ``append_window`` of half a minute of 300 Hz ECG with its result and beats, from the call to the return:
digest, packing with its proof, tags, log, sync, anchor. It deliberately leaves nothing of that out.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.segments import encode_segment, segment_digest
from einthoven.store_rules import MAX_ROWS_PER_CALL
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven_bench.figures import Figure
from einthoven_bench.store_content import Window, disk_of, made_results, made_windows
from einthoven_bench.store_inserting import encrypted_store

COMMITS: Final = 2_500
"""Windows committed each way."""
STORED_RESULTS: Final = 100_000
"""Results that the store holds before."""
PAGES_A_SYNC: Final = 8
"""Pages that the bare sync writes: about what a commit puts into the log."""
SCAN_LIMIT: Final = 1_000
"""Results that the reader asks for at a time."""
PAUSE_S: Final = 0.02
"""Between two commits: a session makes one every half minute, and a reader is to be in the middle of something."""
_PAGE: Final = bytes(4_096)


@dataclass(frozen=True, slots=True)
class CommitTask:
    """How many windows, over how many results, of whose signal, where."""

    root: Path | None
    commits: int = COMMITS
    stored: int = STORED_RESULTS
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """Seconds of each commit and of each part measured beside it, float64 [n]; results read meanwhile; the disk."""

    reading_s: NDArray[np.float64]
    alone_s: NDArray[np.float64]
    sync_s: NDArray[np.float64]
    packing_s: NDArray[np.float64]
    read: int
    disk: str


def measure_commits(task: CommitTask) -> CommitOutcome:
    """Commit in this process; the caller gives it one of its own."""
    windows = made_windows(task.root, 2 * task.commits)
    half = len(windows) // 2
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        with encrypted_store(Path(folder) / "ecg.db") as store:
            results = made_results(task.stored, seed=1)
            for start in range(0, len(results), MAX_ROWS_PER_CALL):
                store.append_results(results[start : start + MAX_ROWS_PER_CALL])
            alone_s = _commit_all(store, windows[:half])
            with _Scanner(store) as scanner:
                reading_s = _commit_all(store, windows[half:])
        sync_s = _bare_syncs(Path(folder), half)
        return CommitOutcome(reading_s, alone_s, sync_s, _packing(windows[:half]), scanner.read, disk_of(Path(folder)))


def _commit_all(store: SqlCipherStore, windows: list[Window]) -> NDArray[np.float64]:
    times = np.zeros(len(windows))
    for i, window in enumerate(windows):
        began = time.perf_counter()
        store.append_window(window.result, window.segment, window.beats)
        times[i] = time.perf_counter() - began
        time.sleep(PAUSE_S)
    return times


class _Scanner:
    """A thread that reads all results again and again while the context lasts; ``read`` counts them."""

    def __init__(self, store: SqlCipherStore) -> None:
        self.read = 0
        self._store = store
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._scan)

    def __enter__(self) -> _Scanner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def _scan(self) -> None:
        try:
            while not self._stop.is_set():
                counter = 1
                while not self._stop.is_set() and (
                    rows := self._store.results(first_counter=counter, limit=SCAN_LIMIT)
                ):
                    self.read += len(rows)
                    counter = rows[-1].counter + 1
        except BaseException as problem:  # noqa: BLE001 - raised again where the thread is joined
            self._problem = problem


def _bare_syncs(folder: Path, n: int) -> NDArray[np.float64]:
    """Seconds to append a commit's pages to a file and sync it, float64 [n]."""
    times = np.zeros(n)
    descriptor = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for i in range(n):
            began = time.perf_counter()
            os.write(descriptor, _PAGE * PAGES_A_SYNC)
            os.fsync(descriptor)
            times[i] = time.perf_counter() - began
            time.sleep(PAUSE_S)
    finally:
        os.close(descriptor)
    return times


def _packing(windows: list[Window]) -> NDArray[np.float64]:
    """Seconds that digest and packing of each window take, float64 [n]."""
    times = np.zeros(len(windows))
    for i, window in enumerate(windows):
        began = time.perf_counter()
        segment_digest(window.segment)
        encode_segment(window.segment)
        times[i] = time.perf_counter() - began
        time.sleep(PAUSE_S)
    return times


def commit_figures(outcome: CommitOutcome, source: str) -> list[Figure]:
    """p99 while reading, with its parts in the note; medians and the p99 without a reader as figures of their own."""
    reading, alone, sync, packing = (
        1e3 * part for part in (outcome.reading_s, outcome.alone_s, outcome.sync_s, outcome.packing_s)
    )
    n = len(reading)
    window = f"append_window of 30 s at 300 Hz with beats ({source}), wall, {outcome.disk}"
    share = np.median(sync) / np.median(alone)
    return [
        Figure(
            "store.commit_p99_ms",
            float(np.percentile(reading, 99)),
            "ms",
            n,
            _middle(reading),
            f"{window}; a thread read {outcome.read} results meanwhile; median {np.median(reading):.3f}, most "
            f"{reading.max():.3f}; spread: 95 % of commits",
        ),
        Figure(
            "store.commit_alone_p99_ms",
            float(np.percentile(alone, 99)),
            "ms",
            len(alone),
            _middle(alone),
            f"the same with no reader; median {np.median(alone):.3f}, most {alone.max():.3f}",
        ),
        Figure(
            "store.bare_sync_p99_ms",
            float(np.percentile(sync, 99)),
            "ms",
            len(sync),
            _middle(sync),
            f"{PAGES_A_SYNC} pages appended to a file and synced, same disk: median {np.median(sync):.3f}, which is "
            f"{100 * share:.0f} % of a commit's",
        ),
        Figure(
            "store.packing_p99_ms",
            float(np.percentile(packing, 99)),
            "ms",
            len(packing),
            _middle(packing),
            f"digest and packing of a window alone: median {np.median(packing):.3f}",
        ),
    ]


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
