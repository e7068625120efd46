"""Reads data sets in the layout of the data folder: an index, and shards of first differences.

It deliberately knows no record by name, and asks of an index no column but those that find the signal.

Invariants:
    1. What is damaged raises ``DatasetCorrupt``; nothing that NumPy or zipfile raises escapes.
    2. A data set that is not there is ``None``, not an error: its figures are left out.
    3. At most one shard is in memory at a time.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.errors import DatasetCorrupt, DatasetNotFound

MAX_RECORD_SAMPLES = 100_000_000
"""Samples of one channel: more than three days at 360 Hz."""
MAX_CHANNELS = 64
UNREADABLE = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What NumPy, gzip and zipfile raise on a damaged file."""

_SHARD_KEYS = ("record_id", "delta", "start", "channels", "samples")


@dataclass(frozen=True, slots=True)
class Record:
    """One line of an index.

    Attributes:
        record_id: Name within the data set.
        sampling_rate_hz: Exact.
        shard: File that holds the signal.
        row: Position in the shard.
        columns: All columns of the line.
    """

    record_id: str
    sampling_rate_hz: Fraction
    shard: str
    row: int
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder and its records, in the order of the index."""

    name: str
    folder: Path
    records: Sequence[Record]

    def first(self, n: int | None) -> Dataset:
        """The same set with its first n records, or all of them."""
        return Dataset(self.name, self.folder, self.records[:n])


def check_root(root: Path) -> None:
    """Refuse a folder of data sets that is not there.

    Raises:
        DatasetNotFound: No such folder.
    """
    if not root.is_dir():
        raise DatasetNotFound("there is no such folder of data sets", "give it with --data")


def open_dataset(root: Path, name: str) -> Dataset | None:
    """Find a data set and read its index; ``None`` where it is not there.

    Args:
        root: Folder of data sets.
        name: The set's folder.

    Raises:
        DatasetCorrupt: The index is not one.
    """
    path = root / name / "index.csv"
    if not path.is_file():
        return None
    records = []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                rate = Fraction(line["fs_hz"])
                if rate <= 0:
                    raise ValueError("a sampling rate is positive")
                records.append(Record(line["record_id"], rate, line["shard"], int(line["row"]), line))
    except (*UNREADABLE, TypeError, ZeroDivisionError, csv.Error) as error:
        raise _corrupt(f"{name}/index.csv is not an index of records") from error
    if len({record.record_id for record in records}) != len(records):
        raise _corrupt(f"{name}/index.csv lists a record twice")
    return Dataset(name, path.parent, records)


def read_signals(dataset: Dataset) -> Iterator[tuple[Record, NDArray[np.int32]]]:
    """Yield each record with its channels, int32 [channels, n] in microvolts, shard by shard.

    Raises:
        DatasetCorrupt: A shard is missing, damaged or holds another record than the index says.
    """
    by_shard: dict[str, list[Record]] = defaultdict(list)
    for record in dataset.records:
        by_shard[record.shard].append(record)
    for shard, records in by_shard.items():
        where = f"{dataset.name}/{Path(shard).name}"
        try:
            with (dataset.folder / Path(shard).name).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                content = {key: file[key] for key in _SHARD_KEYS}
        except UNREADABLE as error:
            raise _corrupt(f"{where} can't be read") from error
        for record in records:
            yield record, _channels(where, content, record)


def _channels(where: str, content: dict[str, NDArray[np.generic]], record: Record) -> NDArray[np.int32]:
    row = record.row
    try:
        if row < 0 or str(content["record_id"][row]) != record.record_id:
            raise _corrupt(f"record {record.record_id} is not where the index of {where} says")
        channels, samples = int(content["channels"][row]), int(content["samples"][row])
        start, stop = (int(edge) for edge in content["start"][row : row + 2])
        delta = content["delta"]
        if (
            delta.dtype != np.int16
            or not 0 < samples <= MAX_RECORD_SAMPLES
            or not 0 < channels <= MAX_CHANNELS
            or not 0 <= start <= stop <= len(delta)
            or stop - start != channels * samples
        ):
            raise _corrupt(f"record {record.record_id} in {where} does not add up")
    except (IndexError, ValueError, TypeError) as error:
        raise _corrupt(f"record {record.record_id} in {where} does not add up") from error
    # First differences of int16: the sum wraps on purpose.
    return np.cumsum(delta[start:stop].reshape(channels, samples), axis=1, dtype=np.int16).astype(np.int32)


def _corrupt(problem: str) -> DatasetCorrupt:
    return DatasetCorrupt(problem, "fetch the data set again")
