"""Joins a day of recordings, has another process record it, and makes figures of what that says.

It deliberately records nothing itself: its own memory is not that of a process that records.
"""

from __future__ import annotations

import json
import os
import subprocess  # the process that records
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.figures import Figure
from einthoven_bench.store_content import RATE_HZ, disk_of, signal_pieces, store_files

DAY_S: Final = 86_400
MB: Final = 1e6
BALLAST: Final = ".reserve"


@dataclass(frozen=True, slots=True)
class DayTask:
    """Whose signal, how long, where."""

    root: Path | None
    duration_s: int = DAY_S
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class DayOutcome:
    """What the recording process said, and bytes of each file that it left."""

    said: dict[str, Any]
    files: dict[str, int]
    disk: str


def measure_day(task: DayTask) -> DayOutcome:
    """Record in a fresh process.

    Raises:
        MeasurementFailed: It did not come to its end.
    """
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        signal, own = Path(folder) / "signal", Path(folder) / "store"
        own.mkdir(mode=0o700)
        write_signal(signal, task)
        command = [sys.executable, "-m", "einthoven_bench.store_day", str(signal), str(own)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
        if done.returncode:
            raise MeasurementFailed("the process that records ended early", "run einthoven_bench.store_day alone", 1)
        return DayOutcome(json.loads(done.stdout), store_files(own), disk_of(own))


def write_signal(path: Path, task: DayTask) -> None:
    """Join recordings to a file of int16 microvolts, again from the first one where they end."""
    left = int(task.duration_s * RATE_HZ)
    with path.open("wb") as stream:
        while left:
            for piece in signal_pieces(task.root):
                samples = np.clip(piece[:left], -(2**15), 2**15 - 1).astype("<i2")
                stream.write(samples.tobytes())
                left -= len(samples)
                if not left:
                    break


def day_figures(outcome: DayOutcome, source: str) -> list[Figure]:
    """``store.day_mb`` for a whole day only; memory in any case."""
    said, files = outcome.said, outcome.files
    seconds = int(said["seconds"])
    content = sum(size for name, size in files.items() if name != BALLAST)
    parts = ", ".join(f"{name or 'file'} {size}" for name, size in sorted(files.items()))
    hours = seconds / 3_600
    how = f"{hours:g} h of {source} at {RATE_HZ} Hz pushed second by second through a session"
    speed = (
        f"{seconds / said['wall_s']:.0f} times real time, {said['cpu_s'] / seconds * 1e3:.2f} ms of processor a second"
    )
    found = []
    if seconds == DAY_S:
        note = f"{how}: results, signal, beats; files closed, in bytes: {parts}; the ballast is not counted; {speed}"
        found.append(Figure("store.day_mb", content / MB, "MB", seconds, (content / MB,) * 2, note))
    if said["highest_kib"]:
        highest, last = (1_024 * said[name] / MB for name in ("highest_kib", "last_kib"))
        scaled = "" if found else f"; {content / MB:.2f} MB, {content / MB * DAY_S / seconds:.2f} MB a day at that rate"
        note = (
            f"highest resident memory of the process that records, MB = 10^6 B ({how}); at the end {last:.1f}{scaled}"
        )
        found.append(Figure("store.rss_mb", highest, "MB", seconds, (min(last, highest), highest), note))
    return found
