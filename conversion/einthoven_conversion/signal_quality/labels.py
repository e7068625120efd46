"""Whether a second is usable: by whether the QRS detector still finds its beats, and by what experts said of a record.

The detector is the one the SDK ships, since it is what a usable second is for.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_detector import TICKS_HZ, BeatDetector
from einthoven_conversion.signal_quality.recordings import resampled

MATCH_S = 0.15
"""ANSI/AAMI EC57's window."""
BEFORE_S, AFTER_S = 0.5, 0.5
"""How far around a second a missed or a false beat counts against it."""


def detected_beats(samples_uv: NDArray[np.int32], rate_hz: int) -> NDArray[np.int64]:
    """R peaks by the SDK's detector, int64 [k], sample indices."""
    detector = BeatDetector()
    found = [detector.push(resampled(samples_uv, Fraction(rate_hz))), detector.finish()]
    return np.asarray(np.concatenate([beats.at_ticks for beats in found]) * rate_hz // TICKS_HZ, np.int64)


def right_seconds(
    detected: NDArray[np.int64], reference: NDArray[np.int64], rate_hz: int, seconds: int
) -> NDArray[np.bool_]:
    """Seconds [seconds] with no missed and no false beat within them and half a second around."""
    right = np.ones(seconds, np.bool_)
    for these, others in ((reference, detected), (detected, reference)):
        for at_s in these[~_near(these, others, int(MATCH_S * rate_hz))] / rate_hz:
            first = int(np.floor(at_s - 1 - AFTER_S)) + 1
            right[max(first, 0) : int(np.floor(at_s + BEFORE_S)) + 1] = False
    return right


def _near(these: NDArray[np.int64], others: NDArray[np.int64], window: int) -> NDArray[np.bool_]:
    """Which of ``these`` have one of ``others`` (in order) within the window."""
    if not len(others):
        return np.zeros(len(these), np.bool_)
    place = np.searchsorted(others, these)
    after = np.abs(others[np.minimum(place, len(others) - 1)] - these)
    before = np.abs(others[np.maximum(place - 1, 0)] - these)
    return np.asarray(np.minimum(after, before) <= window)


def usable_target(snr_db: float, right: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How usable seconds are to be called at one level of electrode motion, 0 to 1.

    From 24 dB up they are, whatever the detector did with an odd beat; from -3 dB down they are not, even where it was
    lucky; between, the detector decides, the less so the louder the noise.
    """
    if snr_db >= 24:
        return np.ones(len(right), np.float32)
    if snr_db <= -3:
        return np.zeros(len(right), np.float32)
    return right.astype(np.float32) * np.float32({0: 0.7, 3: 0.85}.get(int(snr_db), 1.0))
