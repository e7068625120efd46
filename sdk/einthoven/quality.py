"""What is wrong with each second of raw signal: gaps, flat line, clipping. Integers only.

It deliberately does not judge noise (the model has a class for it), and looks at raw samples, before any filter.

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
_BATCH_S = 1_024


class QualityMeter:
    """Flags whole seconds as samples arrive.

    Args:
        sampling_rate_hz: Samples a second, exact.

    Raises:
        SamplingRateError: A rate the front end can't take.
    """

    def __init__(self, sampling_rate_hz: Fraction) -> None:
        check_sampling_rate(sampling_rate_hz)
        self._rate = sampling_rate_hz
        self._pending = np.zeros(0, np.int32)
        self._second = 0
        self._run = max(CLIPPED_MIN_SAMPLES, -int(-(sampling_rate_hz * CLIPPED_MS / 1000) // 1))

    def push(self, samples_uv: NDArray[np.int32]) -> list[Quality]:
        """Take raw samples int32 [n], return the flags of the seconds that are complete now."""
        self._pending = np.concatenate([self._pending, samples_uv])
        flags: list[Quality] = []
        offset, start = 0, self._start(self._second)
        while True:
            count = min(_BATCH_S, int((start + len(self._pending) - offset) // self._rate) - self._second)
            if count <= 0:
                break
            edges = np.array([self._start(self._second + i) for i in range(count + 1)]) - start
            flags += self._flags(self._pending[offset : offset + edges[-1]].astype(np.int64), edges)
            self._second += len(edges) - 1
            offset += int(edges[-1])
            start += int(edges[-1])
        self._pending = self._pending[offset:]
        return flags

    def _start(self, second: int) -> int:
        return -(-second * self._rate.numerator // self._rate.denominator)

    def _flags(self, samples: NDArray[np.int64], edges: NDArray[np.int64]) -> list[Quality]:
        if len(edges) == 2 and self._plainly_usable(samples):
            return [Quality.USABLE]
        lengths = np.diff(edges)
        width = int(lengths.max())
        # Seconds of a fractional rate differ by a sample: the short ones repeat their last sample.
        index = edges[:-1, None] + np.minimum(np.arange(width), lengths[:, None] - 1)
        seconds = samples[index]
        missing = seconds == MISSING_UV
        lost = missing.sum(axis=1)
        gap = lost * self._rate.denominator * 1000 > GAP_MS * self._rate.numerator
        flat, clipped = self._shape(seconds, missing)
        bits = gap * int(Quality.GAP) + flat * int(Quality.FLAT) + clipped * int(Quality.CLIPPED)
        return [Quality(int(value)) for value in bits]

    def _plainly_usable(self, second: NDArray[np.int64]) -> bool:
        """A quick yes for a second that no flag can apply to; the general rules decide otherwise."""
        lowest, highest = int(second.min()), int(second.max())
        if lowest <= -MAX_AMPLITUDE_UV or highest >= MAX_AMPLITUDE_UV or highest - lowest < FLAT_RANGE_UV:
            return False
        if highest - lowest < CLIPPED_MIN_UV:
            return True
        return all(np.count_nonzero(second == extreme) < self._run for extreme in (lowest, highest))

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
