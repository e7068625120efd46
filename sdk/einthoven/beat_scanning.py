"""Goes over the 128 Hz signal as it streams in and describes every candidate for a QRS complex.

The device scores what comes out (``beat_detector``), and training learns from it, so both see the same numbers. It
deliberately decides nothing.

Invariants:
    1. Candidates and their descriptions depend on the samples alone, never on how they were cut into chunks.
    2. The signal goes on at both ends as it began and ended; no candidate lies within ``MARGIN`` of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_candidates, beat_features
from einthoven.beat_candidates import BLOCK, BLOCKS_AHEAD, REACH

BATCH: Final = beat_candidates.MAX_BLOCKS * BLOCK
"""Positions worked on at a time, which bounds memory."""
MARGIN: Final = 5
"""Samples at either end of a signal (39 ms) in which no complex can be whole."""
MAX_TAPS: Final = 33
"""Longest band-pass."""
BACK: Final = beat_features.BACK + MAX_TAPS // 2 + beat_candidates.SMOOTHING // 2
"""Samples before a candidate that its description can depend on, but for the usual amplitude."""
AHEAD: Final = beat_features.AHEAD + MAX_TAPS // 2 + beat_candidates.SMOOTHING // 2
"""Samples after a candidate that its description can depend on."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates from one stretch of signal.

    Attributes:
        stop: Every candidate before this index is known now.
        at: int64 [k], their indices in ``samples``.
        features: float32 [k, FEATURES], see ``beat_features``.
        samples: float64 [n], the signal around them; at least ``BACK`` before and ``AHEAD`` after each.
        offset: Index of ``samples[0]`` in the whole signal.
    """

    stop: int
    at: NDArray[np.int64]
    features: NDArray[np.float32]
    samples: NDArray[np.float64]
    offset: int


class Scanner:
    """Finds and describes candidates.

    Args:
        band_pass: float64 [odd, at most ``MAX_TAPS``], integers.
    """

    def __init__(self, band_pass: NDArray[np.float64]) -> None:
        self._taps = band_pass
        # The left edge repeats the first sample, which is 0.
        self._samples = np.zeros(BACK)
        self._waiting: list[NDArray[np.int64]] = []
        self._received = 0
        self._scanned = 0
        self._end: int | None = None
        self._maxima = np.full(beat_candidates.BLOCKS_BACK, beat_candidates.NEVER, np.float64)

    @property
    def scanned(self) -> int:
        """Index before which every candidate is known."""
        return self._scanned

    def push(self, resampled: NDArray[np.int64]) -> Iterator[Candidates]:
        """Take samples int64 [n] at 128 Hz in microvolts; go over those [k * BLOCK] whose look-ahead is complete."""
        self._waiting.append(resampled)
        self._received += len(resampled)
        ready = (self._received - AHEAD) // BLOCK * BLOCK
        if ready <= self._scanned:
            return
        held = np.concatenate([self._samples, *self._waiting])
        self._waiting = []
        first = self._scanned - BACK
        self._samples = held[ready - BACK - first :].copy()
        while self._scanned < ready:
            start, stop = self._scanned, min(self._scanned + BATCH, ready)
            self._scanned = stop
            yield self._scan(held[start - BACK - first : stop + AHEAD - first], start, stop)

    def finish(self, beyond: int) -> Iterator[Candidates]:
        """End the signal: the last sample goes on until ``beyond`` samples after it are scanned."""
        self._end = self._received - MARGIN
        last = next((part[-1] for part in reversed(self._waiting) if len(part)), self._samples[-1])
        return self.push(np.full(AHEAD + beyond + BLOCK, last, np.int64))

    def _scan(self, samples: NDArray[np.float64], start: int, stop: int) -> Candidates:
        half = len(self._taps) // 2
        margin = half + beat_candidates.SMOOTHING // 2
        filtered = beat_candidates.band_passed(samples, self._taps)  # the first is at samples[half]
        height = beat_candidates.envelope(filtered)  # the first is at samples[margin]
        blocks = (stop - start) // BLOCK
        known = BLOCKS_AHEAD if start else 0
        here = height[BACK - margin :]
        fresh = beat_candidates.block_maxima(here[known * BLOCK : (blocks + BLOCKS_AHEAD) * BLOCK])
        maxima = np.concatenate([self._maxima, fresh])
        self._maxima = maxima[blocks:]
        usual = beat_candidates.usual_amplitudes(maxima)
        at = beat_candidates.local_maxima(height[BACK - margin - REACH :][: stop - start + 2 * REACH], usual)
        if start < MARGIN:
            at = at[at >= MARGIN]
        if self._end is not None:
            at = at[at < self._end - start]
        features = beat_features.extract(
            samples, filtered, height, at + BACK, usual[at // BLOCK], filtered_from=half, height_from=margin
        )
        return Candidates(stop, at + BACK, features, samples, start - BACK)
