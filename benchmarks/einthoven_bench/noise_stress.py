"""Adds electrode noise to clean ECG at a stated signal-to-noise ratio, as the Noise Stress Test does.

Moody GB, Muldrow WE, Mark RG. A noise stress test for arrhythmia detectors. Computers in Cardiology 1984;11:381-384, in
the definition of WFDB's ``nst``:

    SNR = 10 log10(S / (a^2 N)),
    S = (trimmed mean of the QRS complexes' peak-to-peak amplitudes)^2 / 8, each within 50 ms of a normal beat's mark,
    N = (trimmed mean of the RMS amplitude about the mean in chunks of one second)^2,

a trimmed mean leaving out the largest and the smallest 5 %. Two things differ, on purpose: all beats and seconds are
measured, not the first 300; and the noise is there from the first to the last sample, without quiet stretches between.

It deliberately draws nothing at random: which piece of noise a record gets first follows from its name.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

QRS_HALF_WIDTH_MS: Final = 50
"""``sigamp``'s window around a mark."""
TRIMMED_SHARE: Final = 0.05
"""Of the largest and of the smallest measurements each."""


def signal_power_uv2(samples_uv: NDArray[np.int32], beats: NDArray[np.int64], rate: Fraction) -> float | None:
    """S, in square microvolts; ``None`` where no beat's window lies within the record."""
    half = int(rate * QRS_HALF_WIDTH_MS / 1000)
    inside = beats[(beats >= half) & (beats < len(samples_uv) - half)]
    if not len(inside):
        return None
    windows = samples_uv[inside[:, None] + np.arange(-half, half + 1)]
    amplitude_uv = trimmed_mean(np.ptp(windows, axis=1).astype(np.float64))
    return amplitude_uv * amplitude_uv / 8


def noise_power_uv2(noise_uv: NDArray[np.float64], rate: Fraction) -> float | None:
    """N, in square microvolts; ``None`` for less than a second."""
    length = round(rate)
    chunks = noise_uv[: len(noise_uv) // length * length].reshape(-1, length)
    if not len(chunks):
        return None
    rms_uv = trimmed_mean(chunks.std(axis=1))
    return rms_uv * rms_uv


def trimmed_mean(values: NDArray[np.float64]) -> float:
    """Mean without the largest and smallest 5 %."""
    cut = int(len(values) * TRIMMED_SHARE)
    return float(np.sort(values)[cut : len(values) - cut].mean())


def noise_gain(signal_uv2: float, noise_uv2: float, snr_db: float) -> float:
    """The factor a for the noise.

    Raises:
        ValueError: There is no noise to scale.
    """
    if noise_uv2 <= 0:
        raise ValueError("the noise has no power")
    return float(np.sqrt(signal_uv2 / noise_uv2 / 10 ** (snr_db / 10)))


def tiled_noise(pieces: Sequence[NDArray[np.float64]], record_id: str, n: int) -> NDArray[np.float64]:
    """All pieces one after the other, again and again, float64 [n]; the record's name says which comes first."""
    first = zlib.crc32(record_id.encode()) % len(pieces)
    once = np.concatenate([*pieces[first:], *pieces[:first]])
    return np.resize(once, n)


def at_rate(noise_uv: NDArray[np.float64], from_hz: Fraction, to_hz: Fraction) -> NDArray[np.float64]:
    """Noise at another rate by linear interpolation, which is good enough for noise of a few hertz."""
    if from_hz == to_hz:
        return noise_uv
    n = int(len(noise_uv) * to_hz / from_hz)
    return np.asarray(np.interp(np.arange(n) * float(from_hz / to_hz), np.arange(len(noise_uv)), noise_uv))


def with_noise(samples_uv: NDArray[np.int32], noise_uv: NDArray[np.float64], gain: float) -> NDArray[np.int32]:
    """The sum, rounded to whole microvolts, int32 [n]."""
    return samples_uv + np.rint(gain * noise_uv).astype(np.int32)
