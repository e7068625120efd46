"""Opening a store with a million results, cold: a fresh process, and nothing of the files in memory.

Run as a module it is the fresh process: it imports everything, drops the files from the page cache, starts the clock,
opens, stops the clock. It deliberately counts no import (``store.rss_mb`` has their memory) and no key derivation: the
key is raw.

``python -m einthoven_bench.store_cold_open STORE KEY_FILE`` prints milliseconds.
"""

from __future__ import annotations

import os
import subprocess  # each opening is another process
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.key_provider_file import FileKeyProvider
from einthoven.store_rules import MAX_ROWS_PER_CALL
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.figures import Figure
from einthoven_bench.store_content import disk_of, made_results, median_and_spread

STORED_RESULTS: Final = 1_000_000
OPENINGS: Final = 25


@dataclass(frozen=True, slots=True)
class OpenTask:
    """How many results, how many openings, where."""

    stored: int = STORED_RESULTS
    openings: int = OPENINGS
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class OpenOutcome:
    """Milliseconds of each opening."""

    open_ms: list[float]
    stored: int
    file_bytes: int
    disk: str


def measure_opening(task: OpenTask) -> OpenOutcome:
    """Make a store, then open it again and again.

    Raises:
        MeasurementFailed: A fresh process could not open it.
    """
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        path, key = Path(folder) / "ecg.db", Path(folder) / "ecg.key"
        with SqlCipherStore.open(path, FileKeyProvider(key, create=True)) as store:
            for start in range(0, task.stored, MAX_ROWS_PER_CALL):
                store.append_results(made_results(min(MAX_ROWS_PER_CALL, task.stored - start), seed=start))
        open_ms = [_opened_in_child(path, key) for _ in range(task.openings)]
        return OpenOutcome(open_ms, task.stored, path.stat().st_size, disk_of(Path(folder)))


def _opened_in_child(path: Path, key: Path) -> float:
    command = [sys.executable, "-m", "einthoven_bench.store_cold_open", str(path), str(key)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise MeasurementFailed("a fresh process could not open the store", "see to the disk, then try again", 1)
    return float(done.stdout)


def open_figures(outcome: OpenOutcome) -> list[Figure]:
    """The median."""
    value, spread = median_and_spread(outcome.open_ms)
    note = (
        f"SqlCipherStore.open with a raw key over {outcome.stored} results ({outcome.file_bytes / 1e6:.0f} MB), each "
        f"in a fresh process with its imports done, the files dropped from the page cache before; median; "
        f"{outcome.disk}"
    )
    return [Figure("store.open_ms", value, "ms", len(outcome.open_ms), spread, note)]


def forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache, where the system can be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def main(path: Path, key: Path) -> float:
    """Open once, cold; return milliseconds."""
    provider = FileKeyProvider(key)
    forget(path.parent)
    began = time.perf_counter()
    store = SqlCipherStore.open(path, provider, create=False)
    took_ms = (time.perf_counter() - began) * 1e3
    store.close()
    return took_ms


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
