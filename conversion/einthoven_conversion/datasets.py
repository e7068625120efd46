"""Recordings to train and score on, in either layout: shards (``../shared/data``) or PhysioNet's WFDB records.

What is in a folder decides: ``index.csv`` means shards, WFDB headers mean PhysioNet. Both give the same values, so that
a model trained on the one is the model trained on the other, up to the folds (``dataset_physionet``).

It deliberately reads no file itself and fetches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion import dataset_physionet, dataset_shards
from einthoven_conversion.dataset_records import LABELS, MAX_RECORD_SAMPLES, Record
from einthoven_conversion.errors import DatasetNotFound, DatasetUnknown

__all__ = [
    "DATASETS",
    "FOLDERS",
    "LABELS",
    "MAX_RECORD_SAMPLES",
    "Record",
    "find_folder",
    "open_dataset",
    "read_channels",
    "read_signals",
]

DATASETS = ("cinc2017",)
"""Sets with a rhythm label a record."""
FOLDERS: Final = {
    "cinc2017": ("cinc2017", "training2017", "challenge-2017/1.0.0/training", "challenge-2017/1.0.0/training2017"),
    "mitdb": ("mitdb", "mitdb/1.0.0"),
    "nstdb_noise": ("nstdb_noise", "nstdb", "nstdb/1.0.0"),
}
"""What a set's folder is called, by ``../shared/data``, by PhysioNet's archives and as its site is laid out."""


def find_folder(root: Path, name: str) -> Path | None:
    """A set's folder, in either layout; None where it is not there.

    Args:
        root: Folder of data sets.
        name: Of the set, such as ``mitdb``.
    """
    return next((root / folder for folder in FOLDERS.get(name, (name,)) if _is_set(root / folder)), None)


def _is_set(folder: Path) -> bool:
    return dataset_shards.is_there(folder) or dataset_physionet.is_there(folder)


def open_dataset(root: Path, name: str) -> tuple[Path, Sequence[Record]]:
    """Find a rhythm data set and read what it holds.

    Args:
        root: Folder of data sets, or the folder of the set itself.
        name: One of ``DATASETS``.

    Returns:
        The set's folder and its records.

    Raises:
        DatasetUnknown: Not a set that this package can use, or an unknown label in it.
        DatasetNotFound: No such folder, or nothing of either layout in it.
        DatasetCorrupt: The index, the list of records, the labels or a header can't be used.
    """
    if name not in DATASETS:
        raise DatasetUnknown(f"there is no data set {name!r} here", f"use one of {', '.join(DATASETS)}")
    folder = find_folder(root, name) or (root if _is_set(root) else None)
    if folder is None:
        raise _not_there(name)
    if dataset_shards.is_there(folder):
        return folder, dataset_shards.open_records(folder)
    return folder, dataset_physionet.open_records(folder)


def read_signals(folder: Path, records: Sequence[Record]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the position in ``records`` and the first channel, int32 [n] in microvolts, each record once.

    Raises:
        DatasetCorrupt: A file is missing or holds another record than the set says.
    """
    if dataset_shards.is_there(folder):
        return dataset_shards.read_signals(folder, records)
    return dataset_physionet.read_signals(folder, records)


def read_channels(folder: Path) -> Iterator[tuple[dict[str, str], NDArray[np.int32]]]:
    """Yield what a set says of every record, and all of its channels, int32 [channels, n] in microvolts.

    For sets with other columns than rhythm labels. PhysioNet's folders give ``record_id``, ``fs_hz``, ``n_samples``,
    ``leads``, ``subject_id``, ``kind`` (of noise), ``group`` and ``mlii_channel`` (of ``mitdb``).

    Args:
        folder: The set's, by the name it has in ``FOLDERS``; it may lie beside under another name of the same set.

    Raises:
        DatasetNotFound: It is not there.
        DatasetCorrupt: A file is missing, damaged, or not what the set says.
    """
    found = folder if _is_set(folder) else find_folder(folder.parent, folder.name)
    if found is None:
        raise _not_there(folder.name)
    if dataset_shards.is_there(found):
        return dataset_shards.read_channels(found)
    return dataset_physionet.read_channels(found)


def _not_there(name: str) -> DatasetNotFound:
    return DatasetNotFound(
        f"there is neither {name}/index.csv nor PhysioNet's folder of that set",
        "give the folder of data sets with --data",
    )
