"""What is wrong with each second of raw signal: gaps, flat line, clipping. Integers only.

It deliberately does not judge noise (``signal_quality`` does, and the model has a class for it), and looks at raw
samples, before any filter.

Thresholds, all in the signal's own units:
    * ``GAP``: more than 40 ms of the second were never received; a QRS complex lasts 60 ms or more.
    * ``FLAT``: the second's range is under 10 uV. Smaller than the smallest P wave, and than the noise of an electrode
      on skin; a lead that has come off shows the amplifier alone.
    * ``CLIPPED``: the second's extreme value is held for 40 ms (5 samples at least) on end, 500 uV or more from the
      second's mean; or a sample is at the front end's limit.

Invariants:
    1. A second ``s`` is the samples with index from ``ceil(s * rate)`` to ``ceil((s + 1) * rate) - 1``.
    2. Flags depend on the samples alone, never on how they were cut into chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import MISSING_UV
from einthoven.resampling import MAX_AMPLITUDE_UV, check_sampling_rate
from einthoven.results import Quality

GAP_MS = 40
FLAT_RANGE_UV = 10
CLIPPED_MS = 40
CLIPPED_MIN_SAMPLES = 5
CLIPPED_MIN_UV = 500
BATCH_S = 64
"""Seconds looked at together: few enough for the processor's cache."""


class SecondCutter:
    """Cuts samples into whole seconds as they arrive.

    Args:
        sampling_rate_hz: Samples a second, exact.
        least_s: Wait for this many complete seconds.

    Raises:
        SamplingRateError: A rate the front end can't take.
    """

    def __init__(self, sampling_rate_hz: Fraction, *, least_s: int = 1) -> None:
        check_sampling_rate(sampling_rate_hz)
        self._rate = sampling_rate_hz
        self._least_s = least_s
        self._pending = np.zeros(0, np.int32)
        self._second = 0
        self.width = -int(-sampling_rate_hz // 1)
        """Samples of the longest second."""

    def push(self, samples_uv: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
        """Take raw samples int32 [n], yield complete seconds int32 [k, width], at most ``BATCH_S`` at a time.

        Seconds of a fractional rate differ by a sample: the short ones repeat their last sample.
        """
        return self._cut(samples_uv, self._least_s)

    def finish(self) -> Iterator[NDArray[np.int32]]:
        """Yield the complete seconds that were waited with."""
        return self._cut(np.zeros(0, np.int32), 1)

    def _cut(self, samples_uv: NDArray[np.int32], least_s: int) -> Iterator[NDArray[np.int32]]:
        if len(self._pending):
            samples_uv = np.concatenate([self._pending, samples_uv])
        offset, start = 0, self._start(self._second)
        complete = (start + len(samples_uv)) * self._rate.denominator // self._rate.numerator - self._second
        left = complete if complete >= least_s else 0
        while left:
            count = min(BATCH_S, left)
            left -= count
            self._second += count
            stop = self._start(self._second)
            yield self._rows(samples_uv[offset : offset + stop - start], count, start)
            offset += stop - start
            start = stop
        self._pending = samples_uv[offset:].copy()

    def _start(self, second: int) -> int:
        return -(-second * self._rate.numerator // self._rate.denominator)

    def _rows(self, batch: NDArray[np.int32], count: int, start: int) -> NDArray[np.int32]:
        if len(batch) == count * self.width:
            return batch.reshape(count, self.width)
        edges = np.array([self._start(self._second - count + i) for i in range(count + 1)]) - start
        index = edges[:-1, None] + np.minimum(np.arange(self.width), np.diff(edges)[:, None] - 1)
        return np.asarray(batch[index])


class QualityMeter:
    """Flags whole seconds as samples arrive.

    Args:
        sampling_rate_hz: Samples a second, exact.

    Raises:
        SamplingRateError: A rate the front end can't take.
    """

    def __init__(self, sampling_rate_hz: Fraction) -> None:
        self._cutter = SecondCutter(sampling_rate_hz)
        self._rules = SecondRules(sampling_rate_hz)

    def push(self, samples_uv: NDArray[np.int32]) -> list[Quality]:
        """Take raw samples int32 [n], return the flags of the seconds that are complete now."""
        return [Quality(flag) for rows in self._cutter.push(samples_uv) for flag in self._rules.flags(rows).tolist()]


class SecondRules:
    """The rules for gap, flat line and clipping at one rate.

    Args:
        sampling_rate_hz: Samples a second, exact.
    """

    def __init__(self, sampling_rate_hz: Fraction) -> None:
        self._rate = sampling_rate_hz
        self._run = max(CLIPPED_MIN_SAMPLES, -int(-(sampling_rate_hz * CLIPPED_MS / 1000) // 1))

    def flags(self, seconds: NDArray[np.int32]) -> NDArray[np.uint16]:
        """Bits of ``Quality``, uint16 [k], of seconds int32 [k, width]."""
        found = np.zeros(len(seconds), np.uint16)
        if len(seconds) == 1 and not self._suspect(seconds[0]):
            return found
        suspects = np.flatnonzero(self._suspects(seconds))
        if len(suspects):
            found[suspects] = self._judge(seconds[suspects].astype(np.int64))
        return found

    def _suspect(self, second: NDArray[np.int32]) -> bool:
        """``_suspects`` for one second, at a fraction of the cost."""
        lowest, highest = int(second.min()), int(second.max())
        if lowest <= -MAX_AMPLITUDE_UV or highest >= MAX_AMPLITUDE_UV or highest - lowest < FLAT_RANGE_UV:
            return True
        if highest - lowest < CLIPPED_MIN_UV:
            return False
        return any(np.count_nonzero(second == extreme) >= self._run for extreme in (lowest, highest))

    def _suspects(self, seconds: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Seconds that some flag may apply to; to all others none does."""
        lowest, highest = seconds.min(axis=1), seconds.max(axis=1)
        span = highest.astype(np.int64) - lowest
        held = np.maximum(
            (seconds == lowest[:, None]).sum(axis=1, dtype=np.int16),
            (seconds == highest[:, None]).sum(axis=1, dtype=np.int16),
        )
        out_of_range = (lowest <= -MAX_AMPLITUDE_UV) | (highest >= MAX_AMPLITUDE_UV)
        return np.asarray(out_of_range | (span < FLAT_RANGE_UV) | ((span >= CLIPPED_MIN_UV) & (held >= self._run)))

    def _judge(self, seconds: NDArray[np.int64]) -> NDArray[np.int64]:
        missing = seconds == MISSING_UV
        lost = missing.sum(axis=1)
        gap = lost * self._rate.denominator * 1000 > GAP_MS * self._rate.numerator
        flat, clipped = self._shape(seconds, missing)
        return np.asarray(gap * int(Quality.GAP) + flat * int(Quality.FLAT) + clipped * int(Quality.CLIPPED))

    def _shape(
        self, seconds: NDArray[np.int64], missing: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which seconds are flat, and which are clipped."""
        received = ~missing
        count = received.sum(axis=1)
        lowest = np.where(missing, np.iinfo(np.int64).max, seconds).min(axis=1)
        highest = np.where(missing, np.iinfo(np.int64).min, seconds).max(axis=1)
        any_received = count > 0
        mean = np.where(missing, 0, seconds).sum(axis=1) // np.maximum(count, 1)
        flat = any_received & (highest < lowest + FLAT_RANGE_UV)
        clipped = any_received & ((highest >= MAX_AMPLITUDE_UV) | (lowest <= -MAX_AMPLITUDE_UV))
        for extreme, far in ((highest, highest - CLIPPED_MIN_UV >= mean), (lowest, lowest + CLIPPED_MIN_UV <= mean)):
            suspects = np.flatnonzero(any_received & far)
            if len(suspects):
                held = seconds[suspects] == extreme[suspects, None]
                spans = np.lib.stride_tricks.sliding_window_view(held, self._run, axis=1)
                runs = np.asarray(spans.all(axis=2)).any(axis=1)
                clipped[suspects[runs]] = True
        return flat, clipped
