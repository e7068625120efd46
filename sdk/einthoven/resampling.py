"""Low-pass and change of rate to 128 Hz in integers, for any rate from 100 to 1000 Hz.

One impulse response in absolute time, tabulated as integers, is read at the instants that a rate needs; every phase is
scaled so that its taps sum to a power of two, so the gain at DC is exact whatever the rate.

It deliberately does not design the impulse response (``einthoven_conversion.filter_design`` does), and knows nothing of
missing samples or baselines (``frontend``).

Invariants:
    1. Output depends on the samples alone, never on how they were cut into chunks.
    2. Every sum is exact. Products are taken in float64 only because the integers stay below 2**53 (checked in
       ``ResamplerTable``), where float64 is integer arithmetic at the speed of BLAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import SamplingRateError
from einthoven.single_thread import product

MODEL_RATE_HZ = 128
MIN_SAMPLING_RATE_HZ = 100
MAX_SAMPLING_RATE_HZ = 1_000
MAX_RATE_DENOMINATOR = 1_000_000
MAX_PHASES = 4_096
"""Above this many distinct phases a period, the phase is rounded down to 1/4096 of an input sample."""
MAX_PERIOD = 512
"""Outputs a period up to which a whole period is one matrix product; above, a matrix would be mostly zeros."""
MAX_AMPLITUDE_UV = 2**20
"""Larger values are limited to this; no heart gives a volt."""
BATCH_OUTPUTS = 16_384
"""Resampler outputs computed at a time, which bounds its memory."""

_COEFFICIENT_BITS = 18
_HALF = float(1 << (_COEFFICIENT_BITS - 1))
_UNIT = 2.0**-_COEFFICIENT_BITS
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
        self.periodic = self.denominator <= MAX_PERIOD
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
        # From the beginning of the period that the next output is in.
        keep = self._next_output // table.denominator * table.numerator + 1 - table.half_taps
        if not table.periodic:
            keep = self._next_output * table.numerator // table.denominator + 1 - table.half_taps
        self._pending = self._pending[keep - self._pending_from :]
        self._pending_from = keep
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def finish(self) -> NDArray[np.int64]:
        """End the signal: the outputs up to its last sample, as if that sample went on."""
        table = self._table
        received = self._pending_from + len(self._pending)
        rest = -(-received * table.denominator // table.numerator) - self._next_output
        if received <= 0 or rest <= 0:
            return np.zeros(0, np.int64)
        padding = table.half_taps + table.numerator // table.denominator + 2
        return self.push(np.full(padding, self._pending[-1], np.int64))[:rest]

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
        # A power of two changes no bit of the sums; the addition is exact, being below 2**53.
        return np.floor((total + _HALF) * _UNIT).astype(np.int64)

    def _compute_periods(self, first: int, stop: int) -> NDArray[np.float64]:
        """The same sums through one matrix product a batch; whole periods, cut to what was asked for."""
        table = self._table
        period = first // table.denominator
        periods = -(-stop // table.denominator) - period
        width = table.block.shape[0]
        start = period * table.numerator + (1 - table.half_taps - self._pending_from)
        need = (periods - 1) * table.numerator + width
        source = self._pending[start : start + need]
        if len(source) < need:  # outputs of the last period that were not asked for
            held = source
            source = np.zeros(need)
            source[: len(held)] = held
        rows = np.ndarray((periods, width), np.float64, source, 0, (8 * table.numerator, 8))
        total = product(rows, table.block)
        skip = first - period * table.denominator
        return np.asarray(total.reshape(-1)[skip : skip + stop - first])
