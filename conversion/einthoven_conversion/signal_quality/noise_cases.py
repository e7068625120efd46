"""Noise of each named kind, added to clean ECG at a stated strength.

Strength is relative to the QRS complexes of the very signal, so that a low voltage is no noise. It deliberately says
nothing of what a detector makes of it (``labels`` does).

SNR is that of the Noise Stress Test (Moody, Muldrow, Mark, Comput. Cardiol. 11 (1984) 381; WFDB's ``nst``): signal
power (trimmed mean QRS peak to peak)**2 / 8, noise power (trimmed mean RMS about the mean of 1-s chunks)**2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.quality_network import REASONS
from einthoven.results import Quality
from einthoven_conversion.datasets import read_channels

QRS_HALF_WIDTH_S = 0.05
TRIMMED_SHARE = 0.05
MAX_UV = 2**20
NOISE_RATE_HZ = 360
EM_PIECES = 5
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """Recorded noise at 360 Hz: electrode motion [piece][channel], and clips of 10 s."""

    em: tuple[NDArray[np.float64], ...]
    bw: Float
    ma: Float


def read_noise(root: Path) -> Noise:
    """Read ``nstdb_noise``."""
    found = {line["record_id"]: channels.astype(np.float64) for line, channels in read_channels(root / "nstdb_noise")}
    return Noise(tuple(found[f"em_{i}"] for i in range(EM_PIECES)), found["clip_bw"][0], found["clip_ma"][0])


def trimmed_mean(values: Float) -> float:
    """Mean without the largest and the smallest 5 %."""
    cut = int(len(values) * TRIMMED_SHARE)
    return float(np.sort(values)[cut : len(values) - cut].mean())


def qrs_height_uv(samples_uv: NDArray[np.int32], beats: NDArray[np.int64], rate_hz: int) -> float:
    """Trimmed mean of the peak-to-peak amplitude within 50 ms of each beat; without beats, of each 1.5 s."""
    half = int(rate_hz * QRS_HALF_WIDTH_S)
    inside = beats[(beats >= half) & (beats < len(samples_uv) - half)]
    if len(inside):
        windows = samples_uv[inside[:, None] + np.arange(-half, half + 1)]
    else:
        length = int(1.5 * rate_hz)
        windows = samples_uv[: len(samples_uv) // length * length].reshape(-1, length)
    return max(trimmed_mean(np.ptp(windows, axis=1).astype(np.float64)), 50.0)


def scaled_to_snr(noise: Float, height_uv: float, rate_hz: int, snr_db: float) -> Float:
    """Noise at that many decibels under the QRS complexes."""
    chunks = noise[: len(noise) // rate_hz * rate_hz].reshape(-1, rate_hz)
    rms = trimmed_mean(chunks.std(axis=1))
    return np.asarray(noise * (height_uv / np.sqrt(8) / max(rms, 1e-9) / 10 ** (snr_db / 20)))


def looped(noise: Float, rate_hz: int, n: int, offset: int) -> Float:
    """Recorded noise at another rate (linear interpolation), again and again, from ``offset`` on; [n]."""
    length = int(len(noise) * rate_hz / NOISE_RATE_HZ)
    at_rate = np.interp(np.arange(length) * NOISE_RATE_HZ / rate_hz, np.arange(len(noise)), noise)
    return np.asarray(np.resize(np.roll(at_rate, -offset), n))


def mixed(samples_uv: NDArray[np.int32], noise: Float) -> NDArray[np.int32]:
    """The sum in whole microvolts, within the front end's limit."""
    return np.clip(np.rint(samples_uv + noise), 1 - MAX_UV, MAX_UV - 1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Case:
    """A noisy stretch.

    Attributes:
        samples_uv: int32 [n].
        poor: True it is not usable, False it is, None undecided.
        reason: Position in ``REASONS``.
    """

    samples_uv: NDArray[np.int32]
    poor: bool | None
    reason: int


def make_case(
    kind: Quality, samples_uv: NDArray[np.int32], height_uv: float, rate_hz: int, noise: Noise, rng: np.random.Generator
) -> Case:
    """Put noise of one kind, of a strength drawn at random, on a clean stretch."""
    n = len(samples_uv)
    time_s = np.arange(n) / rate_hz
    poor: bool | None = True
    if kind is Quality.BASELINE_WANDER:
        ratio = float(np.exp(rng.uniform(np.log(1), np.log(30))))
        shape = looped(noise.bw, rate_hz, n, int(rng.integers(n))) if rng.random() < 0.2 else _sway(time_s, rng)
        added = mixed(samples_uv, shape / max(np.ptp(shape), 1e-9) * ratio * height_uv)
        poor = True if ratio > 5 else False if ratio < 2.5 else None
    elif kind is Quality.MUSCLE:
        ratio = float(np.exp(rng.uniform(np.log(0.03), np.log(1.5))))
        shape = looped(noise.ma, rate_hz, n, int(rng.integers(n))) if rng.random() < 0.2 else _tremor(rate_hz, n, rng)
        shape = shape - shape.mean()
        added = mixed(samples_uv, shape / max(shape.std(), 1e-9) * ratio * height_uv)
        poor = True if ratio > 0.25 else False if ratio < 0.08 else None
    elif kind is Quality.LEAD_OFF:
        added = _lead_off(samples_uv, rate_hz, rng)
    else:
        added = mixed(samples_uv, _touches(time_s, rng) * height_uv)
    return Case(added, poor, REASONS.index(kind))


def _sway(time_s: Float, rng: np.random.Generator) -> Float:
    """Breathing and movement: a few sines of 0.05 to 0.8 Hz."""
    return np.asarray(
        sum(
            rng.uniform(0.2, 1) * np.sin(2 * np.pi * (rng.uniform(0.05, 0.8) * time_s + rng.random()))
            for _ in range(rng.integers(1, 4))
        )
    )


def _tremor(rate_hz: int, n: int, rng: np.random.Generator) -> Float:
    """White noise within 18-45 Hz, the part of muscle noise that is left at 128 Hz, some of it in bursts."""
    spectrum = np.fft.rfft(rng.normal(size=n))
    frequency = np.fft.rfftfreq(n, 1 / rate_hz)
    spectrum[(frequency < 18) | (frequency > rng.uniform(36, 46))] = 0
    tremor = np.fft.irfft(spectrum, n)
    if rng.random() < 0.3:
        tremor = tremor * (1 + 0.6 * np.sin(2 * np.pi * rng.uniform(0.3, 2) * np.arange(n) / rate_hz))
    return np.asarray(tremor)


def _touches(time_s: Float, rng: np.random.Generator) -> Float:
    """Electrode pulled and let go: steps that decay, one to four a second, in units of the QRS height."""
    found = np.zeros(len(time_s))
    for start in np.cumsum(rng.exponential(1 / rng.uniform(1, 4), 1 + int(4 * time_s[-1]))):
        if start >= time_s[-1]:
            break
        after = time_s >= start
        decay = np.exp(-(time_s[after] - start) / rng.uniform(0.05, 1))
        found[after] += rng.choice([-1, 1]) * rng.uniform(1.5, 8) * decay
    return found


def _lead_off(samples_uv: NDArray[np.int32], rate_hz: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """No heart in it: amplifier noise, a drift, a fall back from saturation, some mains."""
    n = len(samples_uv)
    time_s = np.arange(n) / rate_hz
    signal = rng.normal(0, np.exp(rng.uniform(np.log(2), np.log(25))), n)
    kind = rng.integers(4)
    if kind == 1:
        signal += rng.choice([-1, 1]) * rng.uniform(500, 9_000) * np.exp(-time_s / rng.uniform(0.5, 8))
    elif kind == 2:
        signal += np.cumsum(rng.normal(0, rng.uniform(1, 30), n)) * np.sqrt(100 / rate_hz)
    elif kind == 3:
        signal += rng.uniform(50, 2_000) * np.sin(2 * np.pi * rng.choice([50, 60]) * time_s)
    return mixed(np.full(n, int(samples_uv[0]), np.int32), signal)
