"""A tiny synthetic data set in the layout of the real ones."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

RATE_HZ = 300
LABELS = ("N", "A", "O", "~")


def synthetic_ecg(label: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Pulses in a rhythm that fits the label, int16 [n] in microvolts; no heart was involved."""
    samples = rng.normal(0, 300 if label == "~" else 10, int(seconds * RATE_HZ))
    at = 0.3
    while at < seconds - 0.2 and label != "~":
        place = int(at * RATE_HZ)
        samples[place - 8 : place + 8] += 800 * np.hanning(16)
        at += rng.uniform(0.4, 1.2) if label == "A" else 0.5 if label == "O" else 0.9
    return samples.astype(np.int16)


def write_dataset(folder: Path, signals: dict[str, tuple[str, np.ndarray]], folds: int | None) -> Path:
    """Write shards of 16 records and an index; without ``fold`` and ``split`` columns where ``folds`` is None."""
    folder.mkdir(parents=True)
    names = list(signals)
    rows = []
    for number, first in enumerate(range(0, len(names), 16)):
        part = names[first : first + 16]
        arrays = [signals[name][1] for name in part]
        np.savez(
            folder / f"records_{number:03d}.npz",
            record_id=np.array(part),
            channels=np.ones(len(part), np.int16),
            samples=np.array([len(array) for array in arrays], np.int32),
            start=np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64),
            delta=np.concatenate([np.diff(array, prepend=np.int16(0)) for array in arrays]).astype(np.int16),
        )
        for row, name in enumerate(part):
            entry = {
                "record_id": name,
                "shard": f"records_{number:03d}.npz",
                "row": row,
                "fs_hz": RATE_HZ,
                "label": signals[name][0],
            }
            if folds is not None:
                entry |= {"fold": (first + row) % folds, "split": "train"}
            rows.append(entry)
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a data folder with a ``cinc2017`` in it."""

    def make(records: int = 48, *, folds: int | None = 2, seconds: float = 10.0) -> Path:
        rng = np.random.default_rng(7)
        root = tmp_path_factory.mktemp("data")
        labels = [LABELS[(i // 2) % 4] for i in range(records)]
        signals = {f"S{i:05d}": (label, synthetic_ecg(label, seconds + i % 3, rng)) for i, label in enumerate(labels)}
        write_dataset(root / "cinc2017", signals, folds)
        return root

    return make
