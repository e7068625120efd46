"""Recordings with reference beats, brought to 128 Hz by the device's own resampler.

``mitdb``, ``qtdb``, ``cpsc2021_sample`` and ``cudb_sample`` in the layout of the data folder. It deliberately judges no
detector (``matching``) and invents no marks (``peer_marks``).

Invariants:
    1. A subject has one name whatever the data set, so that folds can be made by subject.
    2. Times are seconds from the first sample.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven import load_model
from einthoven.frontend import Filler
from einthoven.resampling import Resampler, ResamplerTable
from einthoven_conversion.datasets import read_channels
from einthoven_conversion.errors import DatasetNotFound

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""Marks of the MIT-BIH code that stand for a beat (ANSI/AAMI EC57, 4.3.2)."""
ECTOPIC_SYMBOLS = frozenset("VFEaJSef")
SAME_PERSON = {"mitdb:202": "mitdb:201"}
MARK_FILES = {"qtdb": "beats.csv.gz"}
STRETCH_EDGE_S = 0.3
"""What is looked at before the first and after the last of a stretch of marks."""
LONGEST_RR_S = 2.0
"""Where a reference marks single stretches, a longer interval is the end of one."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel with its reference.

    Attributes:
        dataset: Folder name.
        record_id: Name within the data set.
        subject: Whose heart it is.
        channel: 0 for the first.
        fold: Fold that the data set's index gives, or None.
        samples: int64 [n] at 128 Hz, microvolts, relative to the first.
        beats_s: float64 [k], ascending.
        ectopic: bool [k].
        left_out: Spans that count for nothing: flutter, fibrillation, what nobody marked.
    """

    dataset: str
    record_id: str
    subject: str
    channel: int
    fold: int | None
    samples: NDArray[np.int64]
    beats_s: NDArray[np.float64]
    ectopic: NDArray[np.bool_]
    left_out: tuple[Span, ...]


class ToModelRate:
    """Resamples whole signals, keeping one table a rate."""

    def __init__(self) -> None:
        self._coefficients = load_model().coefficients
        self._tables: dict[Fraction, ResamplerTable] = {}

    def __call__(self, samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction) -> NDArray[np.int64]:
        """Return int64 [n] at 128 Hz, as the signal path has them."""
        if sampling_rate_hz not in self._tables:
            self._tables[sampling_rate_hz] = ResamplerTable(self._coefficients, sampling_rate_hz)
        table = self._tables[sampling_rate_hz]
        filler, resampler = Filler(), Resampler(table)
        # The last sample goes on until the resampler has its look-ahead.
        padded = np.pad(samples_uv, (0, table.half_taps + table.numerator // table.denominator + 2), mode="edge")
        return resampler.push(filler.push(padded))[: -(-len(samples_uv) * table.denominator // table.numerator)]


def read_marks(path: Path) -> dict[str, list[dict[str, str]]]:
    """Marks of each record, in the order of the file.

    Raises:
        DatasetNotFound: There is no such file.
    """
    if not path.is_file():
        raise DatasetNotFound(f"no {path.parent.name}/{path.name}", "give the folder of data sets with --data")
    marks: dict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            marks[line["record_id"]].append(line)
    return marks


def read_references(root: Path, dataset: str, *, channels: int = 1) -> Iterator[Recording]:
    """Yield recordings with their reference beats.

    Args:
        root: Folder of data sets.
        dataset: Name of one.
        channels: Most channels of a record to give.

    Raises:
        DatasetNotFound: No such data set under ``root``.
        DatasetCorrupt: A shard that does not hold what the index says.
    """
    resample = ToModelRate()
    marks = read_marks(root / dataset / MARK_FILES.get(dataset, "annotations.csv.gz"))
    waves = read_marks(root / dataset / "waves.csv.gz") if dataset == "qtdb" else {}
    for line, signals in read_channels(root / dataset):
        record_id, rate = line["record_id"], Fraction(line["fs_hz"])
        found = [mark for mark in marks.get(record_id, []) if mark["symbol"] in BEAT_SYMBOLS]
        spans = flutter(marks.get(record_id, []), rate, signals.shape[1])
        if not found:  # one cardiologist's marks, over short stretches
            found = [m for m in waves.get(record_id, []) if m["annotator"] == "q1c" and m["symbol"] in BEAT_SYMBOLS]
            spans = unmarked([int(mark["sample"]) / float(rate) for mark in found], signals.shape[1] / float(rate))
        found.sort(key=lambda mark: int(mark["sample"]))
        subject = line.get("subject_id") or record_id
        subject = subject if ":" in subject else f"{dataset}:{subject}"
        recording = Recording(
            dataset=dataset,
            record_id=record_id,
            subject=SAME_PERSON.get(subject, subject),
            channel=0,
            fold=None,
            samples=np.zeros(0, np.int64),
            beats_s=np.array([int(mark["sample"]) / float(rate) for mark in found]),
            ectopic=np.array([mark["symbol"] in ECTOPIC_SYMBOLS for mark in found]),
            left_out=tuple(spans),
        )
        for channel, signal in enumerate(signals[:channels]):
            yield replace(recording, channel=channel, samples=resample(signal, rate))


def flutter(marks: list[dict[str, str]], rate: Fraction, n_samples: int) -> list[Span]:
    """Ventricular flutter and fibrillation, from ``[`` to ``]`` (EC57, 4.2)."""
    starts = [int(mark["sample"]) / float(rate) for mark in marks if mark["symbol"] == "["]
    stops = [int(mark["sample"]) / float(rate) for mark in marks if mark["symbol"] == "]"]
    return list(zip(starts, [*stops, n_samples / float(rate)], strict=False))


def unmarked(beats_s: list[float], duration_s: float) -> list[Span]:
    """Everything but the stretches that marks cover."""
    if not beats_s:
        return [(0.0, duration_s)]
    ordered = sorted(beats_s)
    spans = [(0.0, ordered[0] - STRETCH_EDGE_S)]
    for before, after in pairwise(ordered):
        if after - before > LONGEST_RR_S:
            spans.append((before + STRETCH_EDGE_S, after - STRETCH_EDGE_S))
    return [*spans, (ordered[-1] + STRETCH_EDGE_S, duration_s)]
