"""Describes every detected beat for the classifier as the signal streams in. The device and training both use it.

It deliberately knows no class and no weights (``beat_classes``).

Invariants:
    1. Output depends on the samples and beats alone, never on how they were cut into chunks.
    2. Beats come out in order, none lost: at the latest when the signal is settled ``NEXT_TICKS`` after them.
    3. Memory is bounded: ``BATCH`` beats, the ``NEAR`` and ``FAR`` before them, and the samples that they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_class_context, beat_class_waves
from einthoven.beat_class_rows import FAR, KNOWN, NEAR, RR, STRIDE, Rows, joined, nothing_before, place
from einthoven.beat_class_rows import TICKS as TICKS_COLUMN
from einthoven.beat_class_times import NEXT_TICKS
from einthoven.beat_detector import EMPTY_BEATS, DetectedBeats
from einthoven.beat_peaks import TICKS

BATCH: Final = 256
"""Beats worked on at a time, which bounds memory."""
MAX_RR_TICKS: Final = 8 * 1024
"""A longer interval (8 s) counts as this."""
LEAST_BEATS: Final = 2
"""A beat with fewer beats before it has nothing to be compared with."""
ALL_SETTLED: Final = 2**50
IDLE_SAMPLES: Final = 1_024
"""Samples that are kept without need, so that not every push copies what is left."""


@dataclass(frozen=True, slots=True)
class BeatsInContext:
    """Beats in the order of time.

    Attributes:
        at_ticks: int64 [k], R peaks in 1/1024 s.
        features: float32 [k, beat_class_context.FEATURES].
        comparable: bool [k], whether there are ``LEAST_BEATS`` before.
    """

    at_ticks: NDArray[np.int64]
    features: NDArray[np.float32]
    comparable: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.at_ticks)


class BeatDescriber:
    """Describes beats as they come."""

    def __init__(self) -> None:
        # The left edge repeats the first sample, which is 0.
        self._samples = [np.zeros(beat_class_waves.BACK, np.int64)]
        self._samples_from = -beat_class_waves.BACK
        self._received = 0
        self._settled = 0
        self._last_tick: int | None = None
        # Beats whose samples are not all there: ticks, interval, score.
        self._waiting = np.zeros((0, 3), np.int64)
        # Beats that are out, NEAR of them, then those that wait for the next one; those that are kept longer.
        self._rows = nothing_before(NEAR)
        self._far = nothing_before(FAR)
        self._out = 0

    def push(
        self,
        resampled: NDArray[np.int64],
        beats: DetectedBeats,
        settled: int,
        after_gap: NDArray[np.bool_] | None = None,
    ) -> list[BeatsInContext]:
        """Take samples and beats, return the beats that can be described now.

        Args:
            resampled: int64 [n] at 128 Hz in microvolts, what the detector was given.
            beats: What it said then, or a part of it.
            settled: Index at 128 Hz before which no more beats will come (``BeatDetector.settled``).
            after_gap: bool [k], beats before which samples are missing: then the interval means nothing.
        """
        if len(resampled):
            self._samples.append(resampled)
            self._received += len(resampled)
        if len(beats):
            self._take(beats, after_gap)
        self._settled = max(self._settled, settled)
        parts = []
        while (ready := self._describable()) > 0:
            self._describe(min(ready, BATCH))
            parts.append(self._in_context())
        if len(self._rows) > NEAR:
            parts.append(self._in_context())
        self._forget()
        return [part for part in parts if part is not None]

    def finish(self) -> list[BeatsInContext]:
        """End the signal: the last sample goes on, and every beat that waits is described without a next one."""
        edge = np.full(beat_class_waves.AHEAD + 2, self._samples[-1][-1], np.int64)
        return self.push(edge, EMPTY_BEATS, ALL_SETTLED)

    def _take(self, beats: DetectedBeats, after_gap: NDArray[np.bool_] | None) -> None:
        fresh = np.empty((len(beats), 3), np.int64)
        fresh[:, 0] = beats.at_ticks
        before = beats.at_ticks[0] if self._last_tick is None else self._last_tick
        fresh[:, 1] = np.minimum(np.diff(beats.at_ticks, prepend=before), MAX_RR_TICKS)
        if after_gap is not None:
            fresh[after_gap, 1] = 0
        fresh[:, 2] = beats.score
        self._last_tick = int(beats.at_ticks[-1])
        self._waiting = np.concatenate([self._waiting, fresh])

    def _describable(self) -> int:
        """How many of the waiting beats have all their samples."""
        if not len(self._waiting):
            return 0
        return int(np.searchsorted(self._waiting[:, 0], (self._received - beat_class_waves.AHEAD) * TICKS))

    def _describe(self, n: int) -> None:
        fresh, self._waiting = self._waiting[:n], self._waiting[n:]
        if len(self._samples) > 1:
            self._samples = [np.concatenate(self._samples)]
        first = int(fresh[0, 0]) // TICKS - beat_class_waves.BACK - self._samples_from
        last = int(fresh[-1, 0]) // TICKS + beat_class_waves.AHEAD + 1 - self._samples_from
        samples = self._samples[0][first:last].astype(np.float64)
        described = beat_class_waves.describe(samples, fresh[:, 0] - TICKS * (first + self._samples_from))
        number = self._out + len(self._rows) - NEAR
        surplus = len(self._far) - FAR  # kept beats that only those to come are compared with
        self._rows, kept = place(self._rows, self._far.part(slice(surplus, None)), described, fresh, number)
        self._far = joined(self._far.part(slice(surplus)), kept)

    def _in_context(self) -> BeatsInContext | None:
        """The beats whose next one is known, or late."""
        rows = self._rows
        n = len(rows) - NEAR
        ticks = rows.numbers[NEAR:, TICKS_COLUMN].astype(np.int64)
        after = np.zeros(n, np.bool_)
        after[:-1] = (np.diff(ticks) <= NEXT_TICKS) & (rows.numbers[NEAR + 1 :, RR] > 0)
        if self._settled * TICKS <= ticks[-1] + NEXT_TICKS or len(self._waiting):
            n -= 1  # the last one's next may still come
        if not n:
            return None
        features = beat_class_context.extract(rows, self._far, n, after[:n], self._out)
        comparable = rows.numbers[NEAR - LEAST_BEATS : NEAR - LEAST_BEATS + n, KNOWN] > 0
        self._advance(rows, n)
        return BeatsInContext(ticks[:n], features, comparable)

    def _advance(self, rows: Rows, n: int) -> None:
        kept_before, kept_now = -(-self._out // STRIDE), -(-(self._out + n) // STRIDE)
        self._rows = rows.part(slice(n, None))
        self._far = self._far.part(slice(kept_now - kept_before, None))
        self._out += n

    def _forget(self) -> None:
        """Drop samples that no beat will need."""
        keep = self._settled if not len(self._waiting) else min(self._settled, int(self._waiting[0, 0]) // TICKS)
        # The last sample goes on when the signal ends.
        keep = min(keep - beat_class_waves.BACK, self._received - 1)
        while len(self._samples) > 1 and self._samples_from + len(self._samples[0]) <= keep:
            self._samples_from += len(self._samples.pop(0))
        idle = keep - self._samples_from
        if idle > IDLE_SAMPLES and 2 * idle > len(self._samples[0]) > idle:
            self._samples[0] = self._samples[0][idle:].copy()
            self._samples_from = keep
