"""Reference marks of a data set: beats, and the stretches where the reference says nothing that counts.

Two kinds of stretch are left out of both sides of a comparison:
    * flutter and fibrillation (ANSI/AAMI EC57:2012: beats are not compared there): from ``[`` to ``]``, the rhythms
      VF and VFL, and flutter waves ``!`` outside of both;
    * where a record has no beat marks but hand-set QRS marks (``waves.csv.gz``, first cardiologist), all that those
      do not cover. A gap between two marks of over ``UNMARKED_RR`` times their median interval is not covered:
      such marks are a choice of beats, and the ones left out are no errors of a detector.

It deliberately reads no signal and compares nothing (``ec57``).
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.datasets import UNREADABLE, Dataset
from einthoven_bench.errors import DatasetCorrupt

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""Annotation codes that stand for a QRS complex (WFDB library, ``isqrs``)."""
NORMAL_SYMBOLS = frozenset("NLRBAaJSejn/fQ")
"""Of these, neither ventricular nor fusion (WFDB library, ``map1``): what noise is scaled to."""
FLUTTER_RHYTHMS = frozenset({"VF", "VFL", "VFIB"})
FLUTTER_EDGE_MS = 150
"""How far a lone flutter wave's stretch reaches."""
UNMARKED_RR = 1.75
"""A longer gap between hand-set marks, in median intervals, holds beats that were not marked: in the 18 such records of
qtdb at hand two detectors find a beat in each of 20 gaps from 1.91 on, and none in those of 1.58 or less."""
MARK_EDGE_MS = 150
"""How far the first and the last hand-set mark of a run reach: the matching window."""
FAR = np.iinfo(np.int64).max // 4

Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known about a record.

    Attributes:
        beats: int64 [k], sample indices, ascending.
        normal: bool [k], beats that are neither ventricular nor fusion.
        flutter: Half-open spans of sample indices with flutter or fibrillation.
        unmarked: Half-open spans that the reference does not cover.
        drawn_peaks: int64 [m], R peaks set by hand, ascending. A beat mark may stand anywhere on its QRS (in qtdb's
            European ST-T records it stands at the onset); these say where the peak is.
    """

    beats: NDArray[np.int64]
    normal: NDArray[np.bool_]
    flutter: Spans
    unmarked: Spans
    drawn_peaks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class _Mark:
    sample: int
    symbol: str
    annotator: str


def read_references(dataset: Dataset) -> dict[str, Reference]:
    """References of a data set's records, from whichever of its mark files are there.

    Returns:
        By record id; a record without beats or QRS marks is not among them.

    Raises:
        DatasetCorrupt: A mark file is damaged.
    """
    beats = _read_marks(dataset, "annotations.csv.gz") or _read_marks(dataset, "beats.csv.gz")
    waves = _read_marks(dataset, "waves.csv.gz")
    rhythms = _read_rhythms(dataset)
    references = {}
    for record in dataset.records:
        name, rate = record.record_id, record.sampling_rate_hz
        marks = beats.get(name, [])
        drawn = [mark.sample for mark in waves.get(name, []) if mark.symbol == "N" and mark.annotator == "q1c"]
        if any(mark.symbol in BEAT_SYMBOLS for mark in marks):
            reference = from_annotations(marks, rhythms.get(name, []), rate)
        elif drawn:
            reference = from_qrs_marks(drawn, rate)
        else:
            continue
        references[name] = replace(reference, drawn_peaks=np.unique(np.array(drawn, np.int64)))
    return references


def from_annotations(marks: Sequence[_Mark], flutter_rhythms: Spans, rate: Fraction) -> Reference:
    """A reference over the whole record."""
    kept = sorted((mark.sample, mark.symbol) for mark in marks if mark.symbol in BEAT_SYMBOLS)
    return Reference(
        beats=np.array([sample for sample, _ in kept], np.int64),
        normal=np.array([symbol in NORMAL_SYMBOLS for _, symbol in kept], np.bool_),
        flutter=flutter_spans([(mark.sample, mark.symbol) for mark in marks], flutter_rhythms, rate),
        unmarked=[],
    )


def from_qrs_marks(samples: Sequence[int], rate: Fraction) -> Reference:
    """A reference inside the runs of consecutive hand-set QRS marks, nowhere else."""
    beats = np.unique(np.array(samples, np.int64))
    edge = int(rate * MARK_EDGE_MS / 1000)
    intervals = np.diff(beats)
    breaks = np.flatnonzero(intervals > UNMARKED_RR * np.median(intervals)) if len(intervals) else intervals
    starts = beats[np.concatenate([[0], breaks + 1])] - edge
    stops = beats[np.concatenate([breaks, [len(beats) - 1]])] + edge + 1
    edges = [-FAR, *np.stack([starts, stops], axis=1).ravel().tolist(), FAR]
    unmarked = [(edges[i], edges[i + 1]) for i in range(0, len(edges), 2) if edges[i] < edges[i + 1]]
    return Reference(beats, np.ones(len(beats), np.bool_), [], unmarked)


def flutter_spans(marks: Sequence[tuple[int, str]], rhythms: Spans, rate: Fraction) -> Spans:
    """Stretches of flutter or fibrillation, half-open, ascending, joined where they touch."""
    spans = list(rhythms)
    opened: int | None = None
    for sample, symbol in sorted(marks):
        if symbol == "[" and opened is None:
            opened = sample
        elif symbol == "]":
            spans.append((-FAR if opened is None else opened, sample + 1))
            opened = None
    if opened is not None:
        spans.append((opened, FAR))
    edge = int(rate * FLUTTER_EDGE_MS / 1000)
    spans += [(sample - edge, sample + edge + 1) for sample, symbol in marks if symbol == "!"]
    return joined(spans)


def joined(spans: Spans) -> Spans:
    """The same set of samples as disjoint spans, ascending."""
    found: Spans = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def outside(samples: NDArray[np.int64], spans: Spans) -> NDArray[np.bool_]:
    """Which samples lie in none of the disjoint, ascending spans, bool [k]."""
    if not spans:
        return np.ones(len(samples), np.bool_)
    edges = np.array(spans, np.int64).ravel()
    return np.asarray(np.searchsorted(edges, samples, side="right") % 2 == 0)


def _read_marks(dataset: Dataset, file: str) -> dict[str, list[_Mark]]:
    marks: dict[str, list[_Mark]] = defaultdict(list)
    for line in _lines(dataset, file, ("record_id", "sample", "symbol")):
        marks[line["record_id"]].append(_Mark(int(line["sample"]), line["symbol"], line.get("annotator") or ""))
    return marks


def _read_rhythms(dataset: Dataset) -> dict[str, Spans]:
    spans: dict[str, Spans] = defaultdict(list)
    for line in _lines(dataset, "rhythms.csv.gz", ("record_id", "start", "end", "rhythm")):
        start, stop = int(line["start"]), int(line["end"])
        if line["rhythm"].lstrip("(") in FLUTTER_RHYTHMS:
            spans[line["record_id"]].append((start, stop))
    return spans


def _lines(dataset: Dataset, file: str, columns: Sequence[str]) -> list[dict[str, str]]:
    path: Path = dataset.folder / file
    if not path.is_file():
        return []
    try:
        with gzip.open(path, "rt", newline="", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
        for line in lines:
            for column in columns:
                if line[column] is None:
                    raise ValueError("a line is too short")
                if column in {"sample", "start", "end"}:
                    int(line[column])
    except (*UNREADABLE, TypeError, csv.Error) as error:
        raise DatasetCorrupt(f"{dataset.name}/{file} can't be read", "fetch the data set again") from error
    return lines
