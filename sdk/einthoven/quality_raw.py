"""What each second of raw samples shows by itself: gap, flat line, clipping, mains.

Mains is read off the raw samples because nothing of it is left at 128 Hz: the second's amplitude at 50 and at 60 Hz,
through a Hann window (Goertzel's sums, written as one matrix product). In 26 records of mitdb, 77 of qtdb and 683 of
cinc2017 (1 s windows) one second in 10,000 exceeds 85 uV, and none 150 uV.

It deliberately leaves everything that needs a filter or a neighbour to ``signal_quality``.

Invariants:
    1. A second's flags depend on its own samples alone.
    2. Sums are integers below 2**53 in float64: exact, and the same on every machine. So are their squares wherever
       they are near the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import MISSING_UV
from einthoven.quality import SecondCutter, SecondRules
from einthoven.quality_tables import WAVE_BITS, windowed_waves
from einthoven.results import Quality
from einthoven.single_thread import product

MAINS_HZ: Final = (50, 60)
MAINS_MIN_UV: Final = 150
"""Amplitude (half of peak to peak) from which mains is a flag: as high as a small R wave from foot to foot."""

_EMPTY = np.zeros(0, np.uint16)
_MAINS = int(Quality.MAINS)
_UNSEEN = int(Quality.GAP)


class RawSeconds:
    """Flags whole seconds of raw samples as they arrive.

    Args:
        sampling_rate_hz: Samples a second, exact.
        least_s: Wait for this many complete seconds.

    Raises:
        SamplingRateError: A rate the front end can't take.
    """

    def __init__(self, sampling_rate_hz: Fraction, *, least_s: int = 1) -> None:
        self._cutter = SecondCutter(sampling_rate_hz, least_s=least_s)
        self._rules = SecondRules(sampling_rate_hz)
        self._waves = _mains_waves(sampling_rate_hz, self._cutter.width)
        # The window's mean is 1/2, and a wave of amplitude A gives A / 2 of that: sum = A * width * 2**bits / 4.
        self._limit = float((MAINS_MIN_UV * self._cutter.width * 2**WAVE_BITS // 4) ** 2)

    def push(self, raw_uv: NDArray[np.int32]) -> NDArray[np.uint16]:
        """Take raw samples int32 [n], return the flags uint16 [k] of the seconds that are complete now."""
        return self._joined(self._cutter.push(raw_uv))

    def finish(self) -> NDArray[np.uint16]:
        """The flags uint16 [k] of complete seconds that were waited with."""
        return self._joined(self._cutter.finish())

    def _joined(self, batches: Iterator[NDArray[np.int32]]) -> NDArray[np.uint16]:
        found = [self._flags(seconds) for seconds in batches]
        return np.concatenate(found) if len(found) > 1 else found[0] if found else _EMPTY

    def _flags(self, seconds: NDArray[np.int32]) -> NDArray[np.uint16]:
        flags = self._rules.flags(seconds)
        loud = np.flatnonzero(self._loud(seconds))
        if len(loud):
            # A missing sample is the loudest of all: look again without it, where there is enough left to look at.
            loud = loud[flags[loud] & _UNSEEN == 0]
            flags[loud[self._loud(_filled(seconds[loud]))]] |= _MAINS
        return flags

    def _loud(self, seconds: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Seconds with an energy over the limit at 50 or 60 Hz."""
        sums = product(seconds.astype(np.float64), self._waves)
        sums *= sums
        return np.asarray(np.maximum(sums[:, 0] + sums[:, 2], sums[:, 1] + sums[:, 3]) >= self._limit)


def _filled(seconds: NDArray[np.int32]) -> NDArray[np.int32]:
    """Missing samples put where they do least: in the middle of the second's range."""
    missing = seconds == MISSING_UV
    highest = seconds.max(axis=1).astype(np.int64)
    lowest = np.where(missing, np.iinfo(np.int32).max, seconds).min(axis=1).astype(np.int64)
    middle = ((highest + lowest) // 2).astype(np.int32)
    return np.where(missing, middle[:, None], seconds)


@lru_cache(maxsize=8)
def _mains_waves(sampling_rate_hz: Fraction, width: int) -> NDArray[np.float64]:
    """Cosines of 50 and 60 Hz, then sines, [width, 4]; above half the rate they fold as mains itself does."""
    waves = windowed_waves(tuple(Fraction(hz) for hz in MAINS_HZ), sampling_rate_hz, width)
    # At half the rate a wave is its own mirror image, and would be counted twice.
    waves = np.trunc(waves * [0.5 if 2 * hz == sampling_rate_hz else 1.0 for hz in MAINS_HZ * 2])
    waves.setflags(write=False)
    return waves
