"""The integer front end, version 1: raw microvolts at any rate in, the model's int8 seconds out.

Resampling low-pass, baseline removal and amplitude normalisation, all streaming and all in integers, so that the same
samples give the same bits in any chunking and on any machine. Training reads its windows from this very code.

It deliberately does not design filters (``einthoven_conversion.filter_design`` does; the integers arrive with the
model's manifest), does not judge the signal (``einthoven.quality``), and does not correct polarity (the model is
trained on both).

Invariants:
    1. Output depends on the samples alone, never on how they were cut into chunks.
    2. A step covers exactly the second ``[s, s + 1)`` of input time: every filter is linear-phase and its delay is
       taken out. What lacks look-ahead at the end is not emitted.
    3. Every sum is exact. The resampler multiplies in float64 only because its integers stay below 2**53 (checked in
       ``ResamplerTable``), where float64 is integer arithmetic at the speed of BLAS.
    4. A missing sample repeats the last one received; what comes before the first received sample equals it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import SamplingRateError
from einthoven.ports import MISSING_UV

FRONT_END_VERSION = 1
MODEL_RATE_HZ = 128
MIN_SAMPLING_RATE_HZ = 100
MAX_SAMPLING_RATE_HZ = 1_000
MAX_RATE_DENOMINATOR = 1_000_000
MAX_PHASES = 512
"""Above this many distinct phases a period, the phase is rounded down to 1/512 of an input sample."""
MAX_AMPLITUDE_UV = 2**20
"""Larger values are limited to this; no heart gives a volt."""
BATCH_OUTPUTS = 16_384
"""Resampler outputs computed at a time, which bounds its memory."""

NORMALIZATION_S = 8
"""Seconds whose peaks set the amplitude."""
MIN_SCALE_UV = 100
"""A smaller peak is not blown up to full scale, so a flat line stays flat."""
STEP_UNITY = 64
"""The int8 value of a typical R peak; the model's input scale is 1/64."""

_COEFFICIENT_BITS = 18
_BASELINE_TAPS = 128
_BASELINE_SHIFT = 14  # 128 * 128 taps
_EXACT_FLOAT64 = 2**53


@dataclass(frozen=True, slots=True)
class FrontEndCoefficients:
    """The designed low-pass, as it ships in the manifest.

    Attributes:
        version: Front-end version these coefficients are for.
        grid_hz: Grid points a second of the tabulated impulse response.
        half_kernel: Integers: the even impulse response at 0, 1, 2 ... grid points; the last one is 0.
    """

    version: int
    grid_hz: int
    half_kernel: tuple[int, ...]


def check_sampling_rate(sampling_rate_hz: Fraction) -> None:
    """Refuse a rate the front end can't take.

    Raises:
        SamplingRateError: Outside 100-1000 Hz, or a fraction with a denominator above a million.
    """
    if not MIN_SAMPLING_RATE_HZ <= sampling_rate_hz <= MAX_SAMPLING_RATE_HZ:
        raise SamplingRateError(
            f"sampling rate {float(sampling_rate_hz):g} Hz is outside {MIN_SAMPLING_RATE_HZ}-{MAX_SAMPLING_RATE_HZ} Hz",
            "give the rate the signal was recorded at",
        )
    if sampling_rate_hz.denominator > MAX_RATE_DENOMINATOR:
        raise SamplingRateError(
            "the sampling rate is a fraction with more than 6 decimals", "round it with Fraction.limit_denominator"
        )


class ResamplerTable:
    """One rate's integer taps for every phase of the output grid.

    Output ``n`` lies at input position ``n * rate / 128``; its taps are the 2 * ``half_taps`` samples around it.

    Args:
        coefficients: The designed low-pass.
        sampling_rate_hz: Input rate.

    Raises:
        SamplingRateError: See ``check_sampling_rate``.
    """

    def __init__(self, coefficients: FrontEndCoefficients, sampling_rate_hz: Fraction) -> None:
        check_sampling_rate(sampling_rate_hz)
        ratio = sampling_rate_hz / MODEL_RATE_HZ
        self.numerator, self.denominator = ratio.numerator, ratio.denominator
        self.phases = min(self.denominator, MAX_PHASES)
        self.periodic = self.denominator <= MAX_PHASES
        half_s = Fraction(len(coefficients.half_kernel) - 1, coefficients.grid_hz)
        self.half_taps = -int(-(half_s * sampling_rate_hz) // 1)
        self.taps = self._tabulate(coefficients, sampling_rate_hz)
        gain = int(np.abs(self.taps).sum(axis=1).max())
        if gain * 2 * MAX_AMPLITUDE_UV >= _EXACT_FLOAT64:  # twice: the first sample is subtracted from the others
            raise SamplingRateError("the filter would overflow at this rate", "give a rate of 100-1000 Hz")
        if self.periodic:
            # One period: `denominator` outputs from `numerator` inputs, as one matrix.
            starts = np.arange(self.denominator) * self.numerator // self.denominator
            self.block = np.zeros((self.numerator + 2 * self.half_taps, self.denominator))
            for output, start in enumerate(starts):
                phase = output * self.numerator % self.denominator
                self.block[start : start + 2 * self.half_taps, output] = self.taps[phase]
        self.taps_float64 = self.taps.astype(np.float64)

    def _tabulate(self, coefficients: FrontEndCoefficients, rate: Fraction) -> NDArray[np.int64]:
        """Integer taps [phases, 2 * half_taps] that sum to 2**18 in every phase, so that the gain at DC is exact."""
        table = np.asarray(coefficients.half_kernel, np.int64)
        phase = np.arange(self.phases, dtype=np.int64)[:, None]
        offset = np.arange(1 - self.half_taps, self.half_taps + 1, dtype=np.int64)[None, :]
        # Distance of a tap from the output, in grid points: an exact rational position / unit.
        position = np.abs(offset * self.phases - phase) * (coefficients.grid_hz * rate.denominator)
        unit = self.phases * rate.numerator
        index, rest = position // unit, position % unit
        padded = np.concatenate([table, np.zeros(2, np.int64)])
        index = np.minimum(index, len(table))
        left, right = padded[index], padded[index + 1]
        value = left + ((right - left) * rest + unit // 2) // unit
        total = value.sum(axis=1, keepdims=True)
        taps = ((value << (_COEFFICIENT_BITS + 1)) + total) // (2 * total)
        rows = np.arange(self.phases)
        taps[rows, np.argmax(taps, axis=1)] += (1 << _COEFFICIENT_BITS) - taps.sum(axis=1)
        return np.asarray(taps, np.int64)


class Resampler:
    """Low-pass and change of rate to 128 Hz, streaming.

    Args:
        table: Taps for the input rate.
    """

    def __init__(self, table: ResamplerTable) -> None:
        self._table = table
        # The left edge repeats the first sample, which is 0 after the subtraction in `Conditioner`.
        self._pending = np.zeros(table.half_taps - 1, np.float64)
        self._pending_from = 1 - table.half_taps
        self._next_output = 0

    def push(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take input samples [n], return the outputs [k] whose look-ahead is complete, in the input's unit."""
        table = self._table
        self._pending = np.concatenate([self._pending, samples.astype(np.float64)])
        received = self._pending_from + len(self._pending)
        # Output n is complete when floor(n * ratio) + half_taps < received.
        last_floor = received - table.half_taps - 1
        ready = -(-(last_floor + 1) * table.denominator // table.numerator) if last_floor >= 0 else 0
        parts = []
        while self._next_output < ready:
            stop = min(ready, self._next_output + BATCH_OUTPUTS)
            parts.append(self._compute(self._next_output, stop))
            self._next_output = stop
        keep = self._next_output * table.numerator // table.denominator + 1 - table.half_taps
        self._pending = self._pending[keep - self._pending_from :]
        self._pending_from = keep
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _compute(self, first: int, stop: int) -> NDArray[np.int64]:
        """Outputs first..stop-1 with rounding half up."""
        table = self._table
        width = 2 * table.half_taps
        if table.periodic and stop - first >= table.denominator:
            total = self._compute_periods(first, stop)
        else:
            position = np.arange(first, stop, dtype=np.int64) * table.numerator
            start = position // table.denominator + (1 - table.half_taps - self._pending_from)
            phase = position % table.denominator * table.phases // table.denominator
            windows = np.lib.stride_tricks.sliding_window_view(self._pending, width)[start]
            total = np.einsum("nk,nk->n", windows, table.taps_float64[phase])
        return (total.astype(np.int64) + (1 << (_COEFFICIENT_BITS - 1))) >> _COEFFICIENT_BITS

    def _compute_periods(self, first: int, stop: int) -> NDArray[np.float64]:
        """The same sums through one matrix product a batch; whole periods, cut to what was asked for."""
        table = self._table
        period = first // table.denominator
        periods = -(-stop // table.denominator) - period
        start = period * table.numerator + (1 - table.half_taps - self._pending_from)
        need = (periods - 1) * table.numerator + table.block.shape[0]
        source = self._pending[max(start, 0) : start + need]
        if len(source) < need:  # outputs of the first or last period that were not asked for
            source = np.pad(source, (max(-start, 0), 0))
            source = np.pad(source, (0, need - len(source)))
        rows = np.lib.stride_tricks.sliding_window_view(source, table.block.shape[0])[:: table.numerator]
        total = (np.ascontiguousarray(rows) @ table.block).reshape(-1)
        skip = first - period * table.denominator
        return np.asarray(total[skip : skip + stop - first])


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


class Conditioner:
    """Fills missing samples, resamples to 128 Hz and removes the baseline.

    Args:
        table: Taps for the input rate.
    """

    def __init__(self, table: ResamplerTable) -> None:
        self._resampler = Resampler(table)
        self._baseline = BaselineRemover()
        self._first: int | None = None
        self._last = 0

    def push(self, samples_uv: NDArray[np.int32]) -> NDArray[np.int64]:
        """Take raw samples int32 [n] in microvolts, return clean samples int64 [k] at 128 Hz in microvolts."""
        return self._baseline.push(self._resampler.push(self._fill(samples_uv)))

    def _fill(self, samples_uv: NDArray[np.int32]) -> NDArray[np.int64]:
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
        return np.minimum(np.maximum(scaled, -128), 127).astype(np.int8)

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
