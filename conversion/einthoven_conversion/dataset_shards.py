"""Data sets in the layout of ``../shared/data``: ``index.csv`` and shards of first differences.

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
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion.dataset_records import FETCH_AGAIN, LABELS, MAX_RECORD_SAMPLES, Record
from einthoven_conversion.errors import DatasetCorrupt, DatasetUnknown

INDEX = "index.csv"
UNREADABLE = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What NumPy and zipfile raise on a damaged shard."""


def is_there(folder: Path) -> bool:
    """Whether a folder has this layout."""
    return (folder / INDEX).is_file()


def open_records(folder: Path) -> Sequence[Record]:
    """Read the index of a rhythm data set.

    Raises:
        DatasetUnknown: It holds an unknown label.
        DatasetCorrupt: It lacks a column, or a number is none.
    """
    records = []
    try:
        with (folder / INDEX).open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                if line["label"] not in LABELS:
                    raise DatasetUnknown(
                        f"label {line['label']!r} in {folder.name}/{INDEX} is not one of {', '.join(LABELS)}",
                        "give a rhythm data set",
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
        raise DatasetCorrupt(f"{folder.name}/{INDEX} is not an index of labelled records", FETCH_AGAIN) from error
    if not records:
        raise DatasetCorrupt(f"{folder.name}/{INDEX} lists no records", FETCH_AGAIN)
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
            raise DatasetCorrupt(f"{folder.name}/{path.name} can't be read", FETCH_AGAIN) from error
        for position in positions:
            yield position, _signal(path, columns, records[position])


def _signal(path: Path, columns: dict[str, NDArray[np.generic]], record: Record) -> NDArray[np.int32]:
    row = record.row
    if not 0 <= row < len(columns["record_id"]) or str(columns["record_id"][row]) != record.record_id:
        raise DatasetCorrupt(f"record {record.record_id} is not where the index says", FETCH_AGAIN)
    channels, samples = int(columns["channels"][row]), int(columns["samples"][row])
    start, stop = int(columns["start"][row]), int(columns["start"][row + 1])
    if not (0 < samples <= MAX_RECORD_SAMPLES and channels > 0 and stop - start == channels * samples):
        raise DatasetCorrupt(f"record {record.record_id} in {path.name} does not add up", FETCH_AGAIN)
    # First differences of int16: the sum wraps on purpose.
    return np.cumsum(columns["delta"][start : start + samples], dtype=np.int16).astype(np.int32)


def read_channels(folder: Path) -> Iterator[tuple[dict[str, str], NDArray[np.int32]]]:
    """Yield every record's line of the index and all of its channels, int32 [channels, n] in microvolts, by shard.

    For sets with other columns than rhythm labels.

    Raises:
        DatasetCorrupt: The index or a shard is missing, damaged, or a shard is not what the index says.
    """
    by_shard: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        with (folder / INDEX).open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                by_shard[line["shard"]].append(line)
        for shard, lines_of_shard in sorted(by_shard.items()):
            with (folder / Path(shard).name).open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                delta, start, names = content["delta"], content["start"], content["record_id"]
                counts = np.stack([content["channels"], content["samples"]], axis=1).astype(np.int64)
            for line in lines_of_shard:
                row = int(line["row"])
                if str(names[row]) != line["record_id"]:
                    raise DatasetCorrupt(f"{folder.name}/{Path(shard).name} holds another record", FETCH_AGAIN)
                flat = delta[start[row] : start[row + 1]].reshape(counts[row])
                # First differences of int16: the sum wraps on purpose.
                yield line, np.cumsum(flat, axis=1, dtype=np.int16).astype(np.int32)
    except (*UNREADABLE, TypeError, csv.Error) as error:
        raise DatasetCorrupt(f"a shard or the index of {folder.name} can't be read", FETCH_AGAIN) from error
