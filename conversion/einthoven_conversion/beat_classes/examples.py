"""Turns signals into labelled examples, described by the device's own code.

It deliberately makes no copies (``copies``) and knows no network.

Invariants:
    1. Beats are those that the device's detector finds, features those that its classifier sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_class_context
from einthoven.beat_class_stream import ALL_SETTLED, BeatDescriber
from einthoven.beat_detector import TICKS_HZ, BeatDetector, DetectedBeats
from einthoven.resampling import MODEL_RATE_HZ
from einthoven_conversion.beat_classes.copies import Copy, copies
from einthoven_conversion.beat_classes.counting import labels_of
from einthoven_conversion.beat_classes.recordings import ClassRecording

ORIGINAL: Final = "original"


@dataclass(frozen=True, slots=True)
class Described:
    """The beats of one signal.

    Attributes:
        record_id: Of the record that it is, or is made of.
        kind: ``ORIGINAL``, or how the copy was made.
        at_s: float64 [k], R peaks, seconds.
        features: int8 [k, FEATURES].
        comparable: bool [k], whether the device would judge it.
        labels: int64 [k], index into ``AAMI``; negative for what counts as none.
    """

    record_id: str
    kind: str
    at_s: NDArray[np.float64]
    features: NDArray[np.int8]
    comparable: NDArray[np.bool_]
    labels: NDArray[np.int64]


def detected(samples: NDArray[np.int64]) -> DetectedBeats:
    """All beats of a signal at 128 Hz."""
    detector = BeatDetector()
    parts = [detector.push(samples), detector.finish()]
    return DetectedBeats(
        np.concatenate([part.at_ticks for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.amplitude_uv for part in parts]),
    )


def describe(recording: ClassRecording, kind: str, samples: NDArray[np.int64]) -> Described:
    """Find and describe the beats of a signal with the recording's reference."""
    describer = BeatDescriber()
    beats = detected(samples)
    parts = [*describer.push(samples, beats, ALL_SETTLED), *describer.finish()]
    at_s = beats.at_ticks / TICKS_HZ
    features = [np.zeros((0, beat_class_context.FEATURES), np.int8), *(part.features.astype(np.int8) for part in parts)]
    comparable = np.concatenate([np.zeros(0, np.bool_), *(part.comparable for part in parts)])
    return Described(recording.record_id, kind, at_s, np.concatenate(features), comparable, labels_of(recording, at_s))


def describe_all(
    recordings: Sequence[ClassRecording],
    kinds: Sequence[str],
    noise: NDArray[np.float64],
    seed: int,
    log: Callable[[str], None],
) -> list[Described]:
    """Describe records and their copies; the same seed gives the same copies of a record whatever the others are."""
    found = []
    for recording in recordings:
        rng = np.random.default_rng([seed, *recording.record_id.encode()])
        original = describe(recording, ORIGINAL, recording.leads[0])
        found.append(original)
        peaks = np.rint(original.at_s * MODEL_RATE_HZ).astype(np.int64)
        labels = original.labels
        for kind in kinds:
            found += [
                describe(_with_reference(recording, copy), kind, copy.samples)
                for copy in copies(recording, peaks, labels, kind, noise, rng)
            ]
        log(f"record {recording.record_id}: {len(found)} signals so far")
    return found


def _with_reference(recording: ClassRecording, copy: Copy) -> ClassRecording:
    """A copy's own beats as its reference; beats without a class are none, so detections there are no examples."""
    return replace(recording, beats_s=copy.beats_s, labels=copy.labels, left_out=())
