"""Reads recordings with a rhythm label from a data folder: ``index.csv`` and shards of first differences.

It deliberately resamples and filters nothing, and trusts no count in a file: what does not add up is refused.

Invariants:
    1. Records come in the order of the index, each exactly once.
    2. A data set for evaluation may lack ``fold`` and ``split``; one for cross-validation may not.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion.errors import DatasetCorrupt, DatasetNotFound, DatasetUnknown

LABELS = ("N", "A", "O", "~")
"""In the order of ``einthoven.results.Rhythm``."""
DATASETS = ("cinc2017",)
MAX_RECORD_SAMPLES = 10_000_000
UNREADABLE = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What NumPy and zipfile raise on a damaged shard."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the index.

    Attributes:
        record_id: Name within the data set.
        sampling_rate_hz: Exact.
        label: Index into ``LABELS``.
        fold: Cross-validation fold, or None where the index has none.
        shard: File that holds the signal.
        row: Position in the shard.
    """

    record_id: str
    sampling_rate_hz: Fraction
    label: int
    fold: int | None
    shard: str
    row: int


def open_dataset(root: Path, name: str) -> tuple[Path, Sequence[Record]]:
    """Find a data set and read its index.

    Args:
        root: Folder of data sets, or the folder of the set itself.
        name: One of ``DATASETS``.

    Returns:
        The set's folder and its records.

    Raises:
        DatasetUnknown: Not a set that this package can use.
        DatasetNotFound: No such folder or no index in it.
        DatasetCorrupt: The index lacks a column or holds an unknown label.
    """
    if name not in DATASETS:
        raise DatasetUnknown(f"there is no data set {name!r} here", f"use one of {', '.join(DATASETS)}")
    for folder in (root / name, root):
        if (folder / "index.csv").is_file():
            return folder, _read_index(folder / "index.csv")
    raise DatasetNotFound(f"no {name}/index.csv under {root}", "give the folder of data sets with --data")


def _read_index(path: Path) -> Sequence[Record]:
    records = []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                if line["label"] not in LABELS:
                    raise DatasetUnknown(
                        f"label {line['label']!r} in {path} is not one of {', '.join(LABELS)}", "give a rhythm data set"
                    )
                fold = line.get("fold")
                records.append(
                    Record(
                        record_id=line["record_id"],
                        sampling_rate_hz=Fraction(line["fs_hz"]),
                        label=LABELS.index(line["label"]),
                        fold=int(fold) if fold else None,
                        shard=line["shard"],
                        row=int(line["row"]),
                    )
                )
    except (KeyError, ValueError, ZeroDivisionError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetCorrupt(f"{path} is not an index of labelled records", "fetch the data set again") from error
    if not records:
        raise DatasetCorrupt(f"{path} lists no records", "fetch the data set again")
    return records


def read_signals(folder: Path, records: Sequence[Record]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the position in ``records`` and the first channel, int32 [n] in microvolts, shard by shard.

    Raises:
        DatasetCorrupt: A shard is missing or holds another record than the index says.
    """
    by_shard: dict[str, list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        by_shard[record.shard].append(position)
    for shard, positions in sorted(by_shard.items()):
        path = folder / Path(shard).name
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                columns = {key: content[key] for key in ("record_id", "delta", "start", "channels", "samples")}
        except UNREADABLE as error:
            raise DatasetCorrupt(f"{path} can't be read", "fetch the data set again") from error
        for position in positions:
            yield position, _signal(path, columns, records[position])


def _signal(path: Path, columns: dict[str, NDArray[np.generic]], record: Record) -> NDArray[np.int32]:
    row = record.row
    if not 0 <= row < len(columns["record_id"]) or str(columns["record_id"][row]) != record.record_id:
        raise DatasetCorrupt(f"record {record.record_id} is not where the index says", "fetch the data set again")
    channels, samples = int(columns["channels"][row]), int(columns["samples"][row])
    start, stop = int(columns["start"][row]), int(columns["start"][row + 1])
    if not (0 < samples <= MAX_RECORD_SAMPLES and channels > 0 and stop - start == channels * samples):
        raise DatasetCorrupt(f"record {record.record_id} in {path.name} does not add up", "fetch the data set again")
    # First differences of int16: the sum wraps on purpose.
    return np.cumsum(columns["delta"][start : start + samples], dtype=np.int16).astype(np.int32)


def read_channels(folder: Path) -> Iterator[tuple[dict[str, str], NDArray[np.int32]]]:
    """Yield every record's line of the index and all of its channels, int32 [channels, n] in microvolts, by shard.

    For sets with other columns than rhythm labels.

    Raises:
        DatasetNotFound: There is no index.
        DatasetCorrupt: A shard is missing, damaged, or not what the index says.
    """
    if not (folder / "index.csv").is_file():
        raise DatasetNotFound(f"no index.csv in {folder}", "give the folder of data sets with --data")
    by_shard: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                by_shard[line["shard"]].append(line)
        for shard, lines_of_shard in sorted(by_shard.items()):
            with (folder / Path(shard).name).open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                delta, start, names = content["delta"], content["start"], content["record_id"]
                counts = np.stack([content["channels"], content["samples"]], axis=1).astype(np.int64)
            for line in lines_of_shard:
                row = int(line["row"])
                if str(names[row]) != line["record_id"]:
                    raise DatasetCorrupt(f"{folder / shard} holds another record", "fetch the data set again")
                flat = delta[start[row] : start[row + 1]].reshape(counts[row])
                # First differences of int16: the sum wraps on purpose.
                yield line, np.cumsum(flat, axis=1, dtype=np.int16).astype(np.int32)
    except (*UNREADABLE, TypeError, csv.Error) as error:
        raise DatasetCorrupt(f"a shard or the index of {folder} can't be read", "fetch the data set again") from error
