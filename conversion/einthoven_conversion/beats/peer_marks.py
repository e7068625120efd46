"""Beats that two independent published detectors agree on, for recordings that nobody has marked.

XQRS (wfdb) and NeuroKit2 look at the raw signal; where both place a beat within ``AGREEMENT_S`` it is taken as one, and
where only one does, the second around it is left out. This widens training to thousands of hearts; no figure is ever
measured on such marks. It deliberately corrects neither detector.

Invariants:
    1. A recording on which they agree on less than ``LEAST_AGREEMENT`` of the beats is not used at all.
    2. Pauses longer than ``LONGEST_PAUSE`` times the usual interval are left out: both may have missed a beat.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion.beats.matching import match
from einthoven_conversion.beats.recordings import Recording, Span, ToModelRate
from einthoven_conversion.datasets import read_channels
from einthoven_conversion.errors import DependencyMissing

AGREEMENT_S = 0.080
LEAST_AGREEMENT = 0.75
LEAST_BEATS = 5
DOUBT_S = 0.6
LONGEST_PAUSE = 1.7
EDGE_S = 0.25
CACHE_FILE = "beats-peer-marks.npz"
SOURCES = ("cinc2017", "qtdb")

Marks = dict[str, NDArray[np.int64]]


def marks_of(root: Path, work: Path, log: Callable[[str], None]) -> Marks:
    """Both detectors' beats in every recording of ``SOURCES``; about ten minutes, then cached.

    Returns:
        ``<data set>/<record>/<detector>`` -> int64 [k], sample indices of the first channel.

    Raises:
        DependencyMissing: wfdb or neurokit2 is not installed.
    """
    path = work / CACHE_FILE
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    marks: Marks = {}
    for dataset in SOURCES:
        for line, signals in read_channels(root / dataset):
            if line.get("label") == "~":
                continue
            name = f"{dataset}/{line['record_id']}"
            marks[f"{name}/xqrs"], marks[f"{name}/neurokit"] = _detect(signals[0] / 1000, int(line["fs_hz"]))
            if len(marks) % 1000 == 0:
                log(f"peer marks: {len(marks) // 2} recordings")
    work.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = dict(marks)
    np.savez_compressed(path, **arrays)
    return marks


def _detect(millivolts: NDArray[np.float64], rate_hz: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        import neurokit2
        from wfdb.processing import xqrs_detect
    except ImportError as error:
        raise DependencyMissing("wfdb and neurokit2 are not installed", "pip install wfdb neurokit2") from error
    nothing = np.zeros(0, np.int64)
    first, second = nothing, nothing
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Both raise all sorts of errors on flat or short signals, which then have no marks.
        with contextlib.suppress(ValueError, IndexError, ZeroDivisionError, TypeError):
            first = np.asarray(xqrs_detect(sig=millivolts, fs=rate_hz, verbose=False), np.int64)
        with contextlib.suppress(ValueError, IndexError, ZeroDivisionError, TypeError):
            clean = neurokit2.ecg_clean(millivolts, sampling_rate=rate_hz, method="neurokit")
            second = np.asarray(neurokit2.ecg_findpeaks(clean, sampling_rate=rate_hz)["ECG_R_Peaks"], np.int64)
    return first, second


def agreed(
    first_s: NDArray[np.float64], second_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[Span]] | None:
    """Beats that both found and the spans to leave out; None where they agree too little."""
    if min(len(first_s), len(second_s)) < LEAST_BEATS:
        return None
    pairs = match(first_s, second_s)
    pairs = pairs[np.abs(first_s[pairs[:, 0]] - second_s[pairs[:, 1]]) <= AGREEMENT_S]
    if len(pairs) < LEAST_AGREEMENT * max(len(first_s), len(second_s)):
        return None
    doubted = np.concatenate([np.delete(first_s, pairs[:, 0]), np.delete(second_s, pairs[:, 1])])
    beats = (first_s[pairs[:, 0]] + second_s[pairs[:, 1]]) / 2
    intervals = np.diff(beats)
    left_out = [(float(at) - DOUBT_S, float(at) + DOUBT_S) for at in doubted]
    pauses = np.flatnonzero(intervals > LONGEST_PAUSE * np.median(intervals))
    left_out += [(float(beats[at]) + EDGE_S, float(beats[at + 1]) - EDGE_S) for at in pauses]
    left_out += [(-1.0, float(beats[0]) - EDGE_S), (float(beats[-1]) + EDGE_S, 1e9)]
    return beats, left_out


def read_agreed(root: Path, marks: Marks, skip: frozenset[str]) -> list[Recording]:
    """Recordings with agreed beats, but those whose ``<data set>/<record>`` is in ``skip``."""
    resample = ToModelRate()
    recordings = []
    for dataset in SOURCES:
        for line, signals in read_channels(root / dataset):
            name, rate = f"{dataset}/{line['record_id']}", Fraction(line["fs_hz"])
            if name in skip or f"{name}/xqrs" not in marks:
                continue
            found = agreed(marks[f"{name}/xqrs"] / float(rate), marks[f"{name}/neurokit"] / float(rate))
            if found is None:
                continue
            subject = line.get("subject_id") or line["record_id"]
            recordings.append(
                Recording(
                    dataset=dataset,
                    record_id=line["record_id"],
                    subject=subject if ":" in subject else f"{dataset}:{subject}",
                    channel=0,
                    fold=int(line["fold"]) if line.get("fold") else None,
                    samples=resample(signals[0], rate),
                    beats_s=found[0],
                    ectopic=np.zeros(len(found[0]), np.bool_),
                    left_out=tuple(found[1]),
                )
            )
    return recordings
