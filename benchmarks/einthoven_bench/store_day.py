"""A day of ECG through a real session into a real store: what it takes on disk, and what the process takes in memory.

Run as a module it is the process that records: it imports what an app that records imports and nothing of the bench,
reads its signal second by second, and prints what it measured. It deliberately keeps nothing of what the session says.

``python -m einthoven_bench.store_day SIGNAL FOLDER`` prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from einthoven import FileKeyProvider, Session, SqlCipherStore, load_model

RATE_HZ: Final = 300
STARTED_AT_MS: Final = 1_700_000_000_000


def record(signal: Path, folder: Path) -> dict[str, float]:
    """Record a file of int16 microvolts at 300 Hz into a store of its own.

    Returns:
        Seconds recorded, processor and wall seconds, events, and of this process the highest and last resident memory
        in KiB (0 where the system does not tell).
    """
    began, began_cpu = time.perf_counter(), time.process_time()
    events = pushed = 0
    store = SqlCipherStore.open(folder / "ecg.db", FileKeyProvider(folder / "ecg.key", create=True))
    with store, signal.open("rb") as stream:
        session = Session.open(load_model(), store, sampling_rate_hz=Fraction(RATE_HZ), started_at_ms=STARTED_AT_MS)
        with session:
            while second := stream.read(2 * RATE_HZ):
                events += len(session.push(np.frombuffer(second, "<i2").astype(np.int32)))
                pushed += 1
    return {
        "seconds": pushed,
        "events": events,
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - began_cpu,
        **resident_kib(),
    }


def resident_kib(status: Path = Path("/proc/self/status")) -> dict[str, float]:
    """Resident memory of this process in KiB: the highest so far, and now."""
    found = {"VmHWM": 0.0, "VmRSS": 0.0}
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name in found:
            found[name] = float(value.split()[0])
    return {"highest_kib": found["VmHWM"], "last_kib": found["VmRSS"]}


if __name__ == "__main__":
    print(json.dumps(record(Path(sys.argv[1]), Path(sys.argv[2]))))
