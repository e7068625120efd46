"""One window's beats, quality and 128 Hz signal, from the window alone, so that a replay gives the same. Pure.

A session finds beats over the whole recording (``signal_path``); a verdict may only rest on what is in its window. It
deliberately judges nothing (``analysis``).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_class_stream import ALL_SETTLED
from einthoven.beat_classes import BeatClassifier
from einthoven.beat_detector import TICKS_HZ, BeatDetector, DetectedBeats
from einthoven.frontend import Filler
from einthoven.resampling import Resampler, ResamplerTable
from einthoven.signal_path import Gaps, ticks_to_samples
from einthoven.signal_quality import SignalQuality

MIN_RATE_INTERVALS = 3
"""Intervals between beats that a median heart rate rests on at least."""


@dataclass(frozen=True, slots=True)
class WindowBeats:
    """What a window holds.

    Attributes:
        flags: uint16 [s], bits of ``Quality``, one a whole second.
        resampled: int64 [m], the signal at 128 Hz, microvolts.
        at_ticks: int64 [k], R peaks in 1/1024 s since the first sample.
        after_gap: bool [k], whether samples are missing before a peak.
        amplitudes_uv: int64 [k], signed heights of the R peaks.
        scores: int64 [k], how sure the detector is, 0-255.
        classes: int64 [k], ``BeatClass``.
    """

    flags: NDArray[np.uint16]
    resampled: NDArray[np.int64]
    at_ticks: NDArray[np.int64]
    after_gap: NDArray[np.bool_]
    amplitudes_uv: NDArray[np.int64]
    scores: NDArray[np.int64]
    classes: NDArray[np.int64]

    @property
    def median_rate_bpm(self) -> int | None:
        """Median heart rate in beats a minute, rounded; ``None`` with fewer than ``MIN_RATE_INTERVALS`` intervals."""
        intervals = np.sort(np.diff(self.at_ticks)[~self.after_gap[1:]])
        if len(intervals) < MIN_RATE_INTERVALS:
            return None
        median = int(intervals[len(intervals) // 2])
        return (60 * TICKS_HZ + median // 2) // median


def look_at_window(table: ResamplerTable, samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction) -> WindowBeats:
    """Find a window's beats and judge its seconds.

    Args:
        table: Taps for this rate.
        samples_uv: int32 [n], microvolts, ``MISSING_UV`` where none was received.
        sampling_rate_hz: Samples a second, exact.
    """
    quality, detector, resampler = SignalQuality(sampling_rate_hz), BeatDetector(), Resampler(table)
    resampled = np.concatenate([resampler.push(Filler().push(samples_uv)), resampler.finish()])
    flags = np.concatenate([quality.push(samples_uv, resampled).flags, quality.finish().flags])
    parts = [detector.push(resampled), detector.finish()]
    found = DetectedBeats(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in DetectedBeats.__slots__)
    )
    gaps = Gaps(sampling_rate_hz)
    gaps.note(samples_uv, 0)
    r_peaks = ticks_to_samples(found.at_ticks, sampling_rate_hz)
    keep = gaps.clear_of(r_peaks)
    after_gap = gaps.before(r_peaks[keep])
    found = DetectedBeats(found.at_ticks[keep], found.score[keep], found.amplitude_uv[keep])
    classifier = BeatClassifier()
    classified = [classifier.push(resampled, found, ALL_SETTLED, after_gap), classifier.finish()]
    return WindowBeats(
        flags=flags,
        resampled=resampled,
        at_ticks=found.at_ticks,
        after_gap=after_gap,
        amplitudes_uv=found.amplitude_uv,
        scores=found.score.astype(np.int64),
        classes=np.concatenate([part.classes for part in classified]).astype(np.int64),
    )
