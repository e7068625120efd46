"""Beats as a session says them, and as a store keeps them. Pure; deliberately knows no codec (``beat_runs``)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from einthoven.events import BeatDetected
from einthoven.store_values import BeatRun


def collected(events: Iterable[BeatDetected]) -> BeatRun | None:
    """The run of these beats, in order of time also where a sensor's clock went back; ``None`` without any."""
    beats = sorted(events, key=lambda beat: beat.at_ms)
    if not beats:
        return None
    at_ms = np.array([beat.at_ms for beat in beats], np.int64)
    classes = np.array([beat.beat_class for beat in beats], np.uint8)
    at_ms.flags.writeable = classes.flags.writeable = False
    return BeatRun(at_ms, classes)
