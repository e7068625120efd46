"""A signal made of integers only, for runs without data: pulses at uneven intervals, drift, noise. numpy only.

It is no model of a heart (``einthoven.simulator`` is): it is there because its samples are the same on every machine,
which ``sin`` and ``exp`` are not, so that digests of two architectures can be compared without a file.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

R_PEAK_UV: Final = 1_000
RR_MS: Final = (500, 1_100)
"""Shortest and longest interval between pulses."""
QRS_HALF_WIDTH_MS: Final = 40
NOISE_UV: Final = 15
DRIFT_STEP_UV: Final = 3
DRIFT_LIMIT_UV: Final = 300


def constructed_ecg(
    duration_s: int, sampling_rate_hz: Fraction, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Make a signal.

    Args:
        duration_s: Its length.
        sampling_rate_hz: Exact.
        seed: The same seed gives the same samples on every machine (PCG64, integers only).

    Returns:
        Samples int32 [n] in microvolts, and the sample indices of the pulses' peaks, int64 [k].
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    n = int(duration_s * sampling_rate_hz)
    shortest, longest = (int(ms * sampling_rate_hz / 1000) for ms in RR_MS)
    half = int(QRS_HALF_WIDTH_MS * sampling_rate_hz / 1000)
    peaks = np.cumsum(rng.integers(shortest, longest, size=n // shortest + 1))
    peaks = peaks[peaks < n - half]
    samples = rng.integers(-NOISE_UV, NOISE_UV + 1, size=n) + rng.integers(-NOISE_UV, NOISE_UV + 1, size=n)
    drift = np.cumsum(rng.integers(-DRIFT_STEP_UV, DRIFT_STEP_UV + 1, size=n))
    samples += np.abs(drift % (4 * DRIFT_LIMIT_UV) - 2 * DRIFT_LIMIT_UV) - DRIFT_LIMIT_UV  # folded, so it stays bounded
    offsets = np.arange(-half, half + 1)
    pulse = R_PEAK_UV - R_PEAK_UV * np.abs(offsets) // half
    np.add.at(samples, peaks[:, None] + offsets, pulse[None, :])
    return samples.astype(np.int32), peaks
