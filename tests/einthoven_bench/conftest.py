"""Tiny data sets in the layout of the real ones, made of integers; no heart was involved."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from einthoven_bench.constructed_ecg import constructed_ecg

Made = tuple[np.ndarray, np.ndarray]
MakeRoot = Callable[..., Path]


@dataclass(frozen=True)
class TinySet:
    """What is written: channels [c, n], and the lines of the files beside the signal."""

    rate_hz: int
    signals: dict[str, np.ndarray]
    columns: dict[str, dict[str, object]]
    marks: dict[str, Sequence[dict[str, object]]]


def write_set(folder: Path, tiny: TinySet, *, records_a_shard: int = 2) -> None:
    folder.mkdir(parents=True)
    names = list(tiny.signals)
    rows = []
    for number, first in enumerate(range(0, len(names), records_a_shard)):
        part = [tiny.signals[name] for name in names[first : first + records_a_shard]]
        flat = [np.diff(channels, axis=1, prepend=np.int16(0)).astype(np.int16).ravel() for channels in part]
        np.savez(
            folder / f"records_{number:03d}.npz",
            record_id=np.array(names[first : first + records_a_shard]),
            channels=np.array([len(channels) for channels in part], np.int16),
            samples=np.array([channels.shape[1] for channels in part], np.int32),
            start=np.cumsum([0, *map(len, flat)]).astype(np.int64),
            delta=np.concatenate(flat),
        )
        for row, name in enumerate(names[first : first + records_a_shard]):
            entry = {"record_id": name, "shard": f"records_{number:03d}.npz", "row": row, "fs_hz": tiny.rate_hz}
            rows.append(entry | tiny.columns.get(name, {}))
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for file, marks in tiny.marks.items():
        with gzip.open(folder / file, "wt", newline="", encoding="utf-8") as lines:
            marked = csv.DictWriter(lines, list(marks[0]))
            marked.writeheader()
            marked.writerows(marks)


def made(duration_s: int, rate_hz: int, seed: int, channels: int = 1) -> Made:
    samples, peaks = constructed_ecg(duration_s, Fraction(rate_hz), seed)
    return np.stack([samples.astype(np.int16)] * channels), peaks


def tiny_mitdb() -> TinySet:
    recordings = {f"x{i}": made(40, 360, i, channels=2) for i in range(3)}
    beats = [
        {"record_id": name, "sample": int(peak), "symbol": "N"}
        for name, (_, peaks) in recordings.items()
        for peak in peaks
    ]
    rhythms = [{"record_id": "x0", "start": 3_600, "end": 7_200, "rhythm": "VFL"}]
    signals = {name: samples for name, (samples, _) in recordings.items()}
    return TinySet(360, signals, {}, {"annotations.csv.gz": beats, "rhythms.csv.gz": rhythms})


def tiny_qtdb() -> TinySet:
    recordings = {f"y{i}": made(40, 250, 10 + i) for i in range(2)}
    beats = [
        {"record_id": "y0", "annotator": "atr", "sample": int(peak), "symbol": "N"} for peak in recordings["y0"][1]
    ]
    waves = [
        {"record_id": "y1", "annotator": "q1c", "sample": int(peak), "symbol": "N"}
        for peak in recordings["y1"][1][5:25]
    ]
    signals = {name: samples for name, (samples, _) in recordings.items()}
    return TinySet(250, signals, {}, {"beats.csv.gz": beats, "waves.csv.gz": waves})


def tiny_cinc2017() -> TinySet:
    rng = np.random.default_rng(1)
    signals = {f"z{i}": made(12, 300, 20 + i)[0] for i in range(3)}
    signals["z3"] = rng.integers(-3_000, 3_000, size=(1, 3_600)).astype(np.int16)
    columns: dict[str, dict[str, object]] = {name: {"label": "~" if name == "z3" else "N"} for name in signals}
    return TinySet(300, signals, columns, {})


def tiny_noise() -> TinySet:
    rng = np.random.default_rng(2)
    walk = np.cumsum(rng.integers(-40, 41, size=(2, 2, 360 * 15)), axis=2) % 4_000 - 2_000
    signals = {f"em_{i}": walk[i].astype(np.int16) for i in range(2)}
    return TinySet(360, signals, {name: {"kind": "em"} for name in signals}, {})


TINY = {"mitdb": tiny_mitdb, "qtdb": tiny_qtdb, "cinc2017": tiny_cinc2017, "nstdb_noise": tiny_noise}


@pytest.fixture
def make_root(tmp_path: Path) -> MakeRoot:
    """Writes the named data sets (all, if none is named) and returns their folder."""

    def make(*names: str) -> Path:
        root = tmp_path / "data"
        root.mkdir()
        for name in names or tuple(TINY):
            write_set(root / name, TINY[name]())
        return root

    return make


@pytest.fixture
def mitdb_signals() -> dict[str, np.ndarray]:
    """What the tiny mitdb holds."""
    return tiny_mitdb().signals
