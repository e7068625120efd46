"""The integer front end, version 2: raw microvolts at any rate in, the model's int8 seconds out.

Resampling low-pass (``resampling``), baseline removal and amplitude normalisation, all streaming and all in integers,
so that the same samples give the same bits in any chunking and on any machine. Training reads its windows from this
very code.

It deliberately does not design filters (``einthoven_conversion.filter_design`` does; the integers arrive with the
model's manifest), does not judge the signal (``einthoven.quality``), and does not correct polarity (the model is
trained on both).

Invariants:
    1. Output depends on the samples alone, never on how they were cut into chunks.
    2. A step covers exactly the second ``[s, s + 1)`` of input time: every filter is linear-phase and its delay is
       taken out. What lacks look-ahead at the end is not emitted.
    3. Every sum is exact.
    4. A missing sample repeats the last one received; what comes before the first received sample equals it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import MISSING_UV
from einthoven.resampling import MAX_AMPLITUDE_UV, MODEL_RATE_HZ, Resampler, ResamplerTable

FRONT_END_VERSION = 2

NORMALIZATION_S = 8
"""Seconds whose peaks set the amplitude."""
MIN_SCALE_UV = 100
"""A smaller peak is not blown up to full scale, so a flat line stays flat."""
STEP_UNITY = 64
"""The int8 value of a typical R peak; the model's input scale is 1/64."""

_BASELINE_TAPS = 128
_BASELINE_SHIFT = 14  # 128 * 128 taps


class BaselineRemover:
    """Subtracts two cascaded moving averages of one second: linear phase, integer, 127 samples of look-ahead."""

    def __init__(self) -> None:
        # The left edge repeats the first value (0); 127 outputs are still to come when it arrives.
        self._history = np.zeros(2 * _BASELINE_TAPS - 2, np.int64)
        self._skip = _BASELINE_TAPS - 1

    def push(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take samples [n] at 128 Hz, return those [k] whose look-ahead is complete, without baseline."""
        joined = np.concatenate([self._history, samples])
        self._history = joined[len(joined) - len(self._history) :]
        if not len(samples):
            return samples
        average = joined
        for _ in range(2):
            running = np.concatenate([np.zeros(1, np.int64), np.cumsum(average)])
            average = running[_BASELINE_TAPS:] - running[:-_BASELINE_TAPS]
        centre = joined[_BASELINE_TAPS - 1 :][: len(samples)]
        cleaned = centre - ((average + (1 << (_BASELINE_SHIFT - 1))) >> _BASELINE_SHIFT)
        skipped = min(self._skip, len(cleaned))
        self._skip -= skipped
        return np.asarray(cleaned[skipped:])


class Filler:
    """Puts something where samples are missing, limits what is absurd, and takes the first sample off all others."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0

    def push(self, samples_uv: NDArray[np.int32]) -> NDArray[np.int64]:
        """Take raw samples int32 [n] in microvolts, return as many, int64 [n], relative to the first received one."""
        if (
            self._first is not None
            and len(samples_uv)
            and samples_uv.min() >= -MAX_AMPLITUDE_UV
            and samples_uv.max() <= MAX_AMPLITUDE_UV
        ):  # nothing missing (MISSING_UV is lower still), nothing to limit: what nearly every chunk is
            self._last = int(samples_uv[-1])
            return samples_uv.astype(np.int64) - self._first
        received = samples_uv != MISSING_UV
        values = np.clip(samples_uv.astype(np.int64), -MAX_AMPLITUDE_UV, MAX_AMPLITUDE_UV)
        if self._first is None:
            if not received.any():
                return np.zeros(len(values), np.int64)
            self._first = self._last = int(values[np.argmax(received)])
        if not received.all():
            # Index of the latest received sample at each place; -1 stands for the last one of earlier chunks.
            latest = np.maximum.accumulate(np.where(received, np.arange(len(values)), -1))
            values = np.where(latest >= 0, values[latest], self._last)
        if len(values):
            self._last = int(values[-1])
        return values - self._first


class Conditioner:
    """Fills missing samples, resamples to 128 Hz and removes the baseline.

    Args:
        table: Taps for the input rate.
    """

    def __init__(self, table: ResamplerTable) -> None:
        self._filler = Filler()
        self._resampler = Resampler(table)
        self._baseline = BaselineRemover()

    def push(self, samples_uv: NDArray[np.int32]) -> NDArray[np.int64]:
        """Take raw samples int32 [n] in microvolts, return clean samples int64 [k] at 128 Hz in microvolts."""
        return self._baseline.push(self._resampler.push(self._filler.push(samples_uv)))


class Normalizer:
    """Scales each second so that a typical R peak is 64, from the peaks of the last eight seconds."""

    def __init__(self) -> None:
        self._pending = np.zeros(0, np.int64)
        self._peaks_uv = np.zeros(0, np.int64)

    def push(self, samples: NDArray[np.int64]) -> NDArray[np.int8]:
        """Take clean samples [n] at 128 Hz in microvolts, return whole seconds int8 [k, 128]."""
        joined = np.concatenate([self._pending, samples])
        seconds = len(joined) // MODEL_RATE_HZ
        self._pending = joined[seconds * MODEL_RATE_HZ :]
        if not seconds:
            return np.zeros((0, MODEL_RATE_HZ), np.int8)
        steps = joined[: seconds * MODEL_RATE_HZ].reshape(seconds, MODEL_RATE_HZ)
        scale = self._scales_uv(np.abs(steps).max(axis=1))[:, None]
        # Round half up in integers: floor((2 * 64 * x + scale) / (2 * scale)).
        scaled = (steps * (2 * STEP_UNITY) + scale) // (2 * scale)
        return np.asarray(np.minimum(np.maximum(scaled, -128), 127), np.int8)

    def _scales_uv(self, peaks_uv: NDArray[np.int64]) -> NDArray[np.int64]:
        """Upper median of the peaks of each second and up to seven before it, not under the floor."""
        known = len(self._peaks_uv)
        peaks = np.concatenate([self._peaks_uv, peaks_uv])
        self._peaks_uv = peaks[-(NORMALIZATION_S - 1) :]
        scales = np.empty(len(peaks_uv), np.int64)
        # One by one while fewer than eight peaks are known, and where there are too few to be worth an array.
        few = len(peaks_uv) < NORMALIZATION_S
        warm_up = len(peaks_uv) if few else max(NORMALIZATION_S - 1 - known, 0)
        listed = peaks[: known + warm_up].tolist()
        for i in range(warm_up):
            seen = sorted(listed[max(0, known + i + 1 - NORMALIZATION_S) : known + i + 1])
            scales[i] = seen[len(seen) // 2]
        if warm_up < len(peaks_uv):
            spans = np.lib.stride_tricks.sliding_window_view(peaks, NORMALIZATION_S)[
                known + warm_up - NORMALIZATION_S + 1 :
            ]
            scales[warm_up:] = np.sort(spans, axis=1)[:, NORMALIZATION_S // 2]
        return np.maximum(scales, MIN_SCALE_UV)


class FrontEnd:
    """Raw microvolts in, the model's int8 seconds out.

    Args:
        table: Taps for the input rate; share one table among windows of the same rate.
    """

    def __init__(self, table: ResamplerTable) -> None:
        self._conditioner = Conditioner(table)
        self._normalizer = Normalizer()

    def push(self, samples_uv: NDArray[np.int32]) -> NDArray[np.int8]:
        """Take raw samples.

        Args:
            samples_uv: int32 [n], microvolts, ``MISSING_UV`` where none was received.

        Returns:
            int8 [k, 128]: the seconds that are complete now, with their look-ahead of about 1.2 s.
        """
        return self._normalizer.push(self._conditioner.push(samples_uv))
