"""Reference beats of a data set in either layout: ``annotations.csv.gz`` of shards, or ``.atr`` files of PhysioNet.

``.atr`` files are read by the ``wfdb`` package. It deliberately compares no detector with the beats (``matching`` in
``beats`` does), and leaves out no record: what counts is for the caller to say.

Invariants:
    1. Beats of a record are in ascending order; both layouts give the same ones for the same record.
    2. A symbol stands for a beat if and only if it is in ``AAMI_CLASSES``.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion import dataset_physionet, dataset_shards
from einthoven_conversion.dataset_records import FETCH_AGAIN
from einthoven_conversion.datasets import find_folder
from einthoven_conversion.errors import DatasetCorrupt, DatasetNotFound, DependencyMissing

AAMI_CLASSES: Final[Mapping[str, str]] = {
    **dict.fromkeys("NLRBejn", "N"),
    **dict.fromkeys("AaJS", "S"),
    **dict.fromkeys("VEr", "V"),
    "F": "F",
    **dict.fromkeys("/fQ?", "Q"),
}
"""MIT-BIH symbols of beats by class: ANSI/AAMI EC57:2012, table 1; bundle branch block and escape beats are N, as in
de Chazal et al. 2004, R-on-T is V, paced beats, their fusions and what could not be told are Q."""
ANNOTATIONS: Final = "annotations.csv.gz"
ATR: Final = "atr"
MAX_ATR_BYTES: Final = 16 * 2**20
MAX_MARKS: Final = 20_000_000
"""Marks in a data set; mitdb has 113,000."""


@dataclass(frozen=True, slots=True)
class ReferenceBeats:
    """What the experts marked in one record.

    Attributes:
        at_samples: int64 [k], positions of the beats, ascending.
        symbols: MIT-BIH symbol of each.
        classes: AAMI class of each: ``N``, ``S``, ``V``, ``F`` or ``Q``.
        flutter: First and last sample of each stretch of ventricular flutter, ``[`` to ``]``; EC57 leaves them out.
    """

    at_samples: NDArray[np.int64]
    symbols: tuple[str, ...]
    classes: tuple[str, ...]
    flutter: tuple[tuple[int, int], ...]


def read_beats(folder: Path) -> dict[str, ReferenceBeats]:
    """Read the reference beats of every record that has marks.

    Args:
        folder: The set's; it may lie beside under another of its names (``datasets.FOLDERS``).

    Raises:
        DatasetNotFound: There is no such set.
        DatasetCorrupt: The marks are missing or can't be read.
        DependencyMissing: ``.atr`` files, and wfdb is not installed.
    """
    found = folder if folder.is_dir() else find_folder(folder.parent, folder.name)
    if found is not None and (found / ANNOTATIONS).is_file():
        marks = _marks_of_shards(found / ANNOTATIONS)
    elif found is not None and not dataset_shards.is_there(found) and dataset_physionet.is_there(found):
        marks = _marks_of_records(found)
    else:
        raise DatasetNotFound(f"{folder.name} has no reference beats", "give the folder of data sets with --data")
    return {record_id: reference_beats(own) for record_id, own in marks.items()}


def reference_beats(marks: Iterable[tuple[int, str]]) -> ReferenceBeats:
    """Sort out one record's marks.

    Args:
        marks: Sample and symbol of each, beats or not.
    """
    ordered = sorted(marks)
    beats = [(sample, symbol) for sample, symbol in ordered if symbol in AAMI_CLASSES]
    starts = [sample for sample, symbol in ordered if symbol == "["]
    stops = [sample for sample, symbol in ordered if symbol == "]"]
    last = ordered[-1][0] if ordered else 0
    return ReferenceBeats(
        at_samples=np.array([sample for sample, _ in beats], np.int64),
        symbols=tuple(symbol for _, symbol in beats),
        classes=tuple(AAMI_CLASSES[symbol] for _, symbol in beats),
        flutter=tuple((start, next((stop for stop in stops if stop >= start), last)) for start in starts),
    )


def _marks_of_shards(path: Path) -> dict[str, list[tuple[int, str]]]:
    marks: dict[str, list[tuple[int, str]]] = defaultdict(list)
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            for line in islice(csv.DictReader(lines), MAX_MARKS + 1):
                marks[line["record_id"]].append((int(line["sample"]), line["symbol"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, csv.Error) as error:
        raise DatasetCorrupt(f"{path.parent.name}/{ANNOTATIONS} can't be read", FETCH_AGAIN) from error
    if sum(map(len, marks.values())) > MAX_MARKS:
        raise DatasetCorrupt(f"{path.parent.name}/{ANNOTATIONS} has more than {MAX_MARKS} marks", FETCH_AGAIN)
    return marks


def _marks_of_records(folder: Path) -> dict[str, list[tuple[int, str]]]:
    wfdb = _wfdb()
    marks = {}
    for name in dataset_physionet.record_names(folder):
        record_id = name.rpartition("/")[2]
        path = folder / f"{name}.{ATR}"
        try:
            size = path.stat().st_size
        except OSError:
            continue  # a noise record has no marks
        if size > MAX_ATR_BYTES:
            raise DatasetCorrupt(f"the marks of record {record_id} are over {MAX_ATR_BYTES} bytes", FETCH_AGAIN)
        marks[record_id] = _marks_of_record(wfdb, folder / name, record_id)
    if not marks:
        raise DatasetNotFound(f"{folder.name} has no .{ATR} files", "fetch the annotations as well")
    return marks


def _marks_of_record(wfdb: Any, path: Path, record_id: str) -> list[tuple[int, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the package's own making; nothing the user can act on
            annotation = wfdb.rdann(str(path), ATR)
        samples: Sequence[int] = annotation.sample.tolist()
        found = list(zip(samples, annotation.symbol, strict=True))
    # A parser of foreign bytes may raise anything; its text may quote the path, so it stays in __cause__ only.
    except Exception as error:
        raise DatasetCorrupt(f"the marks of record {record_id} can't be read", FETCH_AGAIN) from error
    if any(sample < 0 for sample in samples):
        raise DatasetCorrupt(f"the marks of record {record_id} can't be read", FETCH_AGAIN)
    return found


def _wfdb() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("wfdb")
    except ImportError as error:
        raise DependencyMissing("reading .atr files needs wfdb", "pip install 'einthoven[conversion]'") from error
