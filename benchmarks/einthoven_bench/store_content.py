"""What the store's figures are measured with: results that differ, windows of real signal, the disk they lie on.

It deliberately measures nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.store_values import BeatRun
from einthoven_bench.constructed_ecg import constructed_ecg
from einthoven_bench.datasets import open_dataset, read_signals

DATASET: Final = "cinc2017"
RATE_HZ: Final = Fraction(300)
WINDOW_S: Final = 30
STARTED_AT_MS: Final = 1_700_000_000_000
"""UTC of the first window."""
BEATS_A_WINDOW: Final = 38
MODEL_DIGEST: Final = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Window:
    """What one commit keeps."""

    result: WindowResult
    segment: Segment
    beats: BeatRun


def made_results(n: int, seed: int = 0) -> list[WindowResult]:
    """Results that differ from each other as those of a recording do; none has a signal."""
    rng = np.random.Generator(np.random.PCG64(seed))
    digests = rng.bytes(32 * n)
    logits = rng.integers(-9_000, 9_000, (n, 4)).tolist()
    sure = rng.integers(300, 1_000, n).tolist()
    rhythms = list(Rhythm)
    return [
        WindowResult(
            counter=0,
            started_at_ms=STARTED_AT_MS + 30_000 * i,
            duration_ms=30_000,
            n_steps=30,
            usable_s=29,
            quality=Quality.USABLE,
            rhythm=rhythms[i & 3],
            confidence_permille=sure[i],
            logits=tuple(logits[i]),
            tier=RiskTier.ROUTINE,
            reason=InconclusiveReason.NONE,
            model_digest=MODEL_DIGEST,
            front_end_version=3,
            segment_digest=digests[32 * i : 32 * i + 32],
        )
        for i in range(n)
    ]


def signal_pieces(root: Path | None) -> Iterator[NDArray[np.int32]]:
    """Recordings at 300 Hz, int32 [n] each: those of ``cinc2017``, or constructed ones without end."""
    dataset = open_dataset(root, DATASET) if root is not None else None
    if dataset is None or not dataset.records:
        seed = 0
        while True:
            yield constructed_ecg(600, RATE_HZ, seed)[0]
            seed += 1
    for record, channels in read_signals(dataset):
        if record.sampling_rate_hz == RATE_HZ:
            yield channels[0]


def made_windows(root: Path | None, n: int, seed: int = 0) -> list[Window]:
    """Windows of 30 s of signal, no two alike, with results and beats; fewer than n only if the data end."""
    rng = np.random.Generator(np.random.PCG64(seed))
    size = int(WINDOW_S * RATE_HZ)
    results = iter(made_results(n, seed))
    windows: list[Window] = []
    left = np.zeros(0, np.int32)
    for piece in signal_pieces(root):
        left = np.concatenate((left, piece))
        while len(left) >= size and len(windows) < n:
            samples, left = left[:size].copy(), left[size:]
            samples.flags.writeable = False
            windows.append(_window(next(results), samples, rng))
        if len(windows) == n:
            break
    return windows


def _window(result: WindowResult, samples: NDArray[np.int32], rng: np.random.Generator) -> Window:
    segment = Segment(RATE_HZ, samples)
    at_ms = result.started_at_ms + np.cumsum(rng.integers(600, 950, BEATS_A_WINDOW))
    classes = np.zeros(BEATS_A_WINDOW, np.uint8)
    at_ms.flags.writeable = classes.flags.writeable = False
    fields = {name: getattr(result, name) for name in result.__slots__}
    return Window(
        WindowResult(**(fields | {"segment_digest": segment_digest(segment)})), segment, BeatRun(at_ms, classes)
    )


def store_files(folder: Path) -> dict[str, int]:
    """Bytes of each file in a store's folder, by what follows the store's name."""
    return {file.name.partition(".db")[2]: file.stat().st_size for file in folder.iterdir() if ".db" in file.name}


def disk_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo"), devices: Path = Path("/sys/dev/block")) -> str:
    """File system and device that a folder lies on, as far as Linux tells; no path."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        for line in mounts.read_text(encoding="utf-8").splitlines():
            before, dash, after = line.partition(" - ")
            if dash and before.split()[2] == number:
                name = (devices / number).resolve().name if (devices / number).exists() else "memory"
                return f"{after.split()[0]} on {name}"
    except (OSError, IndexError):
        pass
    return "an unknown disk"


def median_and_spread(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Median, and smallest and largest."""
    ordered = np.asarray(values, np.float64)
    return float(np.median(ordered)), (float(ordered.min()), float(ordered.max()))
