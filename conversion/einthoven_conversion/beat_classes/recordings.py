"""Records whose every beat has a class (``mitdb``), with both leads at 128 Hz.

It deliberately judges nothing (``counting``) and makes no copies (``copies``).

Invariants:
    1. The first of the two leads is the one that is scored: MLII where the index says which channel that is, else the
       first channel.
    2. Paced records are never given (ANSI/AAMI EC57, 4.2.2 leaves them out).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion.beats.recordings import SAME_PERSON, Span, ToModelRate, flutter, read_marks
from einthoven_conversion.datasets import find_folder, read_channels
from einthoven_conversion.errors import DatasetCorrupt, DatasetNotFound, DatasetUnknown

DATASET: Final = "mitdb"
AAMI: Final = "NSVFQ"
"""EC57's classes; the first three are told apart, F and Q are left out of training and of every figure."""
TRAINING_GROUP: Final = "ds1"
PACED_GROUP: Final = "paced"


@dataclass(frozen=True, slots=True)
class ClassRecording:
    """One record.

    Attributes:
        record_id: Its name.
        subject: Whose heart it is.
        group: ``ds1``, ``ds2`` or whatever the index says.
        sampling_rate_hz: Of ``samples_uv``.
        samples_uv: int32 [n], the scored lead as it was recorded.
        leads: int64 [1 or 2, m] at 128 Hz in microvolts, the scored one first.
        beats_s: float64 [k], reference beats, seconds, ascending.
        labels: int64 [k], index into ``AAMI``.
        left_out: Ventricular flutter, which counts for nothing.
    """

    record_id: str
    subject: str
    group: str
    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32]
    leads: NDArray[np.int64]
    beats_s: NDArray[np.float64]
    labels: NDArray[np.int64]
    left_out: tuple[Span, ...]


def read_class_recordings(root: Path, dataset: str = DATASET, *, group: str | None = None) -> Iterator[ClassRecording]:
    """Yield the records of a set.

    Args:
        root: Folder of data sets.
        dataset: Name of one with an AAMI class for each beat.
        group: Of this group alone; every one that is not paced, if not given.

    Raises:
        DatasetUnknown: Not a set with beat classes.
        DatasetNotFound: No such folder.
        DatasetCorrupt: An index, shard or mark that can't be read.
    """
    if dataset != DATASET:
        raise DatasetUnknown(f"there are no beat classes in {dataset!r}", f"use {DATASET}")
    folder = find_folder(root, dataset)
    if folder is None:
        raise DatasetNotFound(f"there is no {dataset} here", "give the folder of data sets with --data")
    marks = read_marks(folder / "annotations.csv.gz")
    resample = ToModelRate()
    for line, channels in read_channels(folder):
        if line.get("group") == PACED_GROUP or group not in (None, line.get("group")):
            continue
        try:
            yield _recording(line, channels, marks.get(line["record_id"], []), resample)
        except (KeyError, ValueError, ZeroDivisionError, IndexError) as error:
            raise DatasetCorrupt(f"marks or index of {dataset} can't be read", "fetch the data set again") from error


def _recording(
    line: dict[str, str], channels: NDArray[np.int32], marks: list[dict[str, str]], resample: ToModelRate
) -> ClassRecording:
    rate = Fraction(line["fs_hz"])
    beats = sorted((int(mark["sample"]), AAMI.index(mark["aami"])) for mark in marks if mark["aami"])
    first = max(int(line.get("mlii_channel") or 0), 0)
    order = [first, *(channel for channel in range(len(channels)) if channel != first)][:2]
    subject = f"{DATASET}:{line.get('subject_id') or line['record_id']}".split("+")[0]
    return ClassRecording(
        record_id=line["record_id"],
        subject=SAME_PERSON.get(subject, subject),
        group=line.get("group", ""),
        sampling_rate_hz=rate,
        samples_uv=channels[first],
        leads=np.stack([resample(channels[channel], rate) for channel in order]),
        beats_s=np.array([sample / float(rate) for sample, _ in beats]),
        labels=np.array([label for _, label in beats], np.int64),
        left_out=tuple(flutter(marks, rate, channels.shape[1])),
    )
