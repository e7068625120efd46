"""Makes harder copies of recordings: real electrode noise, muscle, another rate and gain, pieces with their two ends.

Signal-to-noise ratios are those of the MIT-BIH Noise Stress Test's ``nst``: the signal's power is an eighth of the
squared peak-to-peak amplitude of a QRS complex, the noise's is a trimmed mean over seconds (Moody et al. 1984). It
deliberately uses only some of the noise; the rest (``TEST_PIECES``) is for measuring.

Invariants:
    1. The same generator gives the same copies.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.resampling import MODEL_RATE_HZ
from einthoven_conversion.beats.recordings import Recording, ToModelRate
from einthoven_conversion.datasets import read_channels

TEST_PIECES = frozenset({"em_3", "em_4"})
SNRS_DB = (24, 18, 12, 9, 6, 3, 0)
RATE_JITTER = 0.2
"""Largest logarithm of the factor by which a copy beats faster or slower."""
QRS_HALF_S = 0.05
TRIM = 20
"""One in so many of the smallest and of the largest is left out of a trimmed mean."""
FADE_S = 10
"""Time in which the noise's strength changes."""

Samples = NDArray[np.float64]


class Noise:
    """Real noise at 128 Hz.

    Args:
        root: Folder of data sets, with ``nstdb_noise``.
    """

    def __init__(self, root: Path) -> None:
        resample = ToModelRate()
        self.training: list[Samples] = []
        self.clips: list[Samples] = []
        self.test: list[Samples] = []
        for line, signals in read_channels(root / "nstdb_noise"):
            for signal in signals:
                piece = resample(signal, Fraction(line["fs_hz"])).astype(np.float64)
                if line["record_id"].startswith("clip"):
                    self.clips.append(piece)
                elif line["record_id"] in TEST_PIECES:
                    self.test.append(piece)
                else:
                    self.training.append(piece)

    def draw(self, n: int, rng: np.random.Generator) -> Samples:
        """Noise of ``n`` samples for training: shuffled, reversed, fading, sometimes with muscle."""
        parts = []
        for number in rng.permutation(len(self.training)):
            piece = self.training[number]
            if rng.random() < 0.3:
                piece = np.resize(self.clips[rng.integers(len(self.clips))], len(piece))
            parts.append(piece * rng.choice([-1, 1]))
        noise = np.concatenate(parts)[:: rng.choice([-1, 1])]
        noise = np.resize(np.roll(noise, rng.integers(len(noise))), n)
        if rng.random() < 0.3:
            noise = noise * rng.uniform(0, 1) + muscle(n, rng) * noise.std() * rng.uniform(0.3, 1)
        if rng.random() < 0.6:
            step = FADE_S * MODEL_RATE_HZ
            knots = np.arange(n // step + 2) * step
            noise = noise * np.interp(np.arange(n), knots, rng.uniform(0, 1.2, len(knots)))
        return np.asarray(noise)


def muscle(n: int, rng: np.random.Generator) -> Samples:
    """Bursts of differentiated white noise, of about unit power."""
    burst = np.abs(np.convolve(rng.standard_normal(n + 256), np.ones(256) / 16, "valid")[:n])
    return np.asarray(np.convolve(rng.standard_normal(n + 2), [-1, 0, 1], "valid") * burst)


def noise_power(noise: Samples) -> float:
    """Trimmed mean over seconds of the mean square about the mean."""
    seconds = noise[: len(noise) // MODEL_RATE_HZ * MODEL_RATE_HZ].reshape(-1, MODEL_RATE_HZ)
    return _trimmed(seconds.var(axis=1))


def qrs_power(samples: Samples, beats_s: NDArray[np.float64]) -> float:
    """An eighth of the squared mean peak-to-peak amplitude of the first 300 QRS complexes."""
    half = round(QRS_HALF_S * MODEL_RATE_HZ)
    at = np.rint(beats_s * MODEL_RATE_HZ).astype(int)
    at = at[(at > half) & (at < len(samples) - half - 1)][:300]
    return _trimmed(np.array([np.ptp(samples[i - half : i + half + 1]) for i in at])) ** 2 / 8


def _trimmed(values: NDArray[np.float64]) -> float:
    ordered = np.sort(values)
    cut = len(ordered) // TRIM
    return float(ordered[cut : len(ordered) - cut].mean())


def with_noise(recording: Recording, noise: Samples, snr_db: float) -> Recording:
    """A copy with noise (repeated as needed) at a signal-to-noise ratio."""
    samples = recording.samples.astype(np.float64)
    power = noise_power(noise)
    if not len(recording.beats_s) or power == 0:
        return recording
    gain = np.sqrt(qrs_power(samples, recording.beats_s) / 10 ** (snr_db / 10) / power)
    mixed = samples + gain * np.resize(noise, len(samples))
    return replace(recording, samples=_whole(mixed))


def faster(recording: Recording, rng: np.random.Generator) -> Recording:
    """A copy whose heart beats up to a fifth faster or slower, waves and all."""
    factor = float(np.exp(rng.uniform(-RATE_JITTER, RATE_JITTER)))
    n = len(recording.samples)
    samples = np.interp(np.arange(int(n / factor)) * factor, np.arange(n), recording.samples)
    return replace(
        recording,
        samples=_whole(samples),
        beats_s=recording.beats_s / factor,
        left_out=tuple((start / factor, stop / factor) for start, stop in recording.left_out),
    )


def pieces(recording: Recording, rng: np.random.Generator) -> list[Recording]:
    """Pieces of 6 to 30 s with another gain and polarity, about two thirds of the recording."""
    found = []
    start = 0
    while start < len(recording.samples) - 6 * MODEL_RATE_HZ:
        length = int(rng.uniform(6, 30) * MODEL_RATE_HZ)
        part = recording.samples[start : start + length]
        from_s, to_s = start / MODEL_RATE_HZ, (start + len(part)) / MODEL_RATE_HZ
        inside = (recording.beats_s >= from_s) & (recording.beats_s < to_s)
        gain = rng.uniform(0.2, 4) * rng.choice([-1, 1])
        found.append(
            replace(
                recording,
                samples=_whole((part - part[0]) * gain),
                beats_s=recording.beats_s[inside] - from_s,
                ectopic=recording.ectopic[inside],
                left_out=tuple((a - from_s, b - from_s) for a, b in recording.left_out),
            )
        )
        start += int(length * rng.uniform(1, 2))
    return found


def _whole(samples: Samples) -> NDArray[np.int64]:
    return np.rint(samples).astype(np.int64)
