"""Turns recordings into labelled candidates, described by the device's own code.

Of the candidates near a reference beat the one that stands for its QRS complex is a beat, the others there are neither;
all else is none. It deliberately makes no copies (``augment``).

Invariants:
    1. Features come from ``beat_scanning``, the same integers that the device scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_peaks
from einthoven.beat_candidates import SMOOTHING, band_passed, envelope
from einthoven.beat_scanning import BACK, Scanner
from einthoven.resampling import MODEL_RATE_HZ
from einthoven_conversion.beats.recordings import Recording

BEAT, OTHER, NEITHER = 1, 0, -1
REACH_S = 0.11
"""How far a candidate may be from its mark, after the record's usual offset is taken off."""
FAR_REACH_S = 0.148
"""How far where there is none nearer."""
AMBIGUOUS_S = 0.14
"""Other candidates this near to a beat are parts of the same complex."""


@dataclass(slots=True)
class Scan:
    """One (copy of a) recording's candidates.

    Attributes:
        recording: What was scanned; its samples are dropped.
        kind: ``clean``, or how the copy was made.
        weight: Of each example.
        positions: int64 [k] at 128 Hz.
        features: int8 [k, FEATURES].
        labels: int8 [k].
        ectopic: bool [k], an ectopic beat.
        peaks_s: float64 [k], refined R peaks.
        n_samples: Of the signal.
    """

    recording: Recording
    kind: str
    weight: float
    positions: NDArray[np.int64]
    features: NDArray[np.int8]
    labels: NDArray[np.int8]
    ectopic: NDArray[np.bool_]
    peaks_s: NDArray[np.float64]
    n_samples: int


def scan(recording: Recording, band_pass: NDArray[np.float64], kind: str = "clean", weight: float = 1.0) -> Scan:
    """Find, describe and label the candidates of a recording."""
    scanner = Scanner(band_pass)
    found = [*scanner.push(recording.samples), *scanner.finish(0)]
    positions = np.concatenate([one.at + one.offset for one in found])
    ticks = np.concatenate(
        [beat_peaks.refine(one.samples, one.at)[0] + beat_peaks.TICKS * one.offset for one in found if len(one.at)]
        or [np.zeros(0, np.int64)]
    )
    features = np.concatenate([one.features for one in found]).astype(np.int8)
    padded = np.pad(recording.samples.astype(np.float64), BACK, mode="edge")
    margin = len(band_pass) // 2 + SMOOTHING // 2
    height = envelope(band_passed(padded, band_pass))[positions + BACK - margin]
    labels, ectopic = label(positions, height, recording)
    return Scan(
        recording=recording,
        kind=kind,
        weight=weight,
        positions=positions,
        features=features,
        labels=labels,
        ectopic=ectopic,
        peaks_s=ticks / (beat_peaks.TICKS * MODEL_RATE_HZ),
        n_samples=len(recording.samples),
    )


def label(
    positions: NDArray[np.int64], height: NDArray[np.float64], recording: Recording
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Say which candidates are beats.

    Marks of some sources are at the onset of the complex, so the median offset of a recording is taken off first.

    Returns:
        int8 [k] of ``BEAT``, ``OTHER``, ``NEITHER``; bool [k], the beats that are ectopic.
    """
    labels = np.full(len(positions), OTHER, np.int8)
    ectopic = np.zeros(len(positions), np.bool_)
    marks = recording.beats_s * MODEL_RATE_HZ
    chosen = _nearest(positions, height, marks, REACH_S)
    offset = np.median(positions[chosen[chosen >= 0]] - marks[chosen >= 0]) if (chosen >= 0).any() else 0.0
    chosen = _nearest(positions, height, marks + offset, REACH_S)
    far = _nearest(positions, height, marks, FAR_REACH_S)
    chosen = np.where(chosen < 0, far, chosen)
    reach = int(AMBIGUOUS_S * MODEL_RATE_HZ)
    for at in positions[chosen[chosen >= 0]]:
        labels[np.searchsorted(positions, at - reach) : np.searchsorted(positions, at + reach, "right")] = NEITHER
    labels[chosen[chosen >= 0]] = BEAT
    ectopic[chosen[(chosen >= 0) & recording.ectopic]] = True
    for start, stop in recording.left_out:
        first = np.searchsorted(positions, (start - FAR_REACH_S) * MODEL_RATE_HZ)
        labels[first : np.searchsorted(positions, (stop + FAR_REACH_S) * MODEL_RATE_HZ, "right")] = NEITHER
    return labels, ectopic


def _nearest(
    positions: NDArray[np.int64], height: NDArray[np.float64], marks: NDArray[np.float64], reach_s: float
) -> NDArray[np.int64]:
    """Candidate for each mark, int64 [k], -1 for none: the highest, those further away counting less."""
    reach = reach_s * MODEL_RATE_HZ
    first = np.searchsorted(positions, marks - reach)
    stop = np.searchsorted(positions, marks + reach, "right")
    chosen = np.full(len(marks), -1)
    for number, (a, b) in enumerate(zip(first, stop, strict=True)):
        if b > a:
            nearness = 1 - 0.5 * np.abs(positions[a:b] - marks[number]) / reach
            chosen[number] = a + int(np.argmax(height[a:b] * nearness))
    return chosen
