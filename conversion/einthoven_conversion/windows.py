"""Training windows: every record through the device's own front end, cached on disk, and augmented epoch by epoch.

The cache holds the conditioned signal (128 Hz, baseline removed, int16 microvolts) at a few slightly wrong rates.
Crops, polarity, noise and the amplitude normalisation come after it, because they change from epoch to epoch.

It deliberately filters nothing itself: conditioning and normalisation are ``einthoven.frontend``'s.

Invariants:
    1. With no augmentation, a window is what the device computes for that record; exact ties of the normalisation may
       round the other way by one count, because many windows at once are scaled in float32.
    2. The same seed gives the same epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from einthoven.frontend import MIN_SCALE_UV, NORMALIZATION_S, STEP_UNITY, Conditioner
from einthoven.resampling import MODEL_RATE_HZ, FrontEndCoefficients, ResamplerTable
from einthoven_conversion.datasets import Record, read_signals

RATE_FACTORS = (Fraction(1), Fraction(95, 100), Fraction(975, 1000), Fraction(1025, 1000), Fraction(105, 100))
"""The first is the true rate; the others play a record a little slower or faster."""
LEAD_OFF_MAX_S = 4
"""Longest stretch that augmentation flattens, seconds."""


@dataclass(frozen=True)
class WindowCache:
    """Conditioned records.

    Attributes:
        signals: One flat int16 array of microvolts for each of ``RATE_FACTORS``.
        bounds: int64 [records + 1] for each: where a record begins and ends.
    """

    signals: tuple[NDArray[np.int16], ...]
    bounds: tuple[NDArray[np.int64], ...]

    def record(self, position: int, variant: int = 0) -> NDArray[np.int16]:
        """One record's samples at 128 Hz, int16 [n], microvolts."""
        bounds = self.bounds[variant]
        return self.signals[variant][bounds[position] : bounds[position + 1]]


def build_cache(
    folder: Path, records: Sequence[Record], coefficients: FrontEndCoefficients, cache: Path
) -> WindowCache:
    """Condition every record, or read back what an earlier run conditioned.

    Args:
        folder: The data set.
        records: What to condition, in this order.
        coefficients: The front end's.
        cache: Folder for the arrays; made if absent.
    """
    key = hashlib.sha256(repr((folder.resolve(), list(records), coefficients, RATE_FACTORS)).encode()).hexdigest()[:16]
    paths = [(cache / f"{key}-{i}.npy", cache / f"{key}-{i}-bounds.npy") for i in range(len(RATE_FACTORS))]
    if not all(signal.exists() and bounds.exists() for signal, bounds in paths):
        cache.mkdir(parents=True, exist_ok=True)
        _condition(folder, records, coefficients, paths)
    return WindowCache(
        tuple(np.load(signal, mmap_mode="r") for signal, _ in paths), tuple(np.load(bounds) for _, bounds in paths)
    )


def _condition(
    folder: Path,
    records: Sequence[Record],
    coefficients: FrontEndCoefficients,
    paths: Sequence[tuple[Path, Path]],
) -> None:
    tables: dict[Fraction, ResamplerTable] = {}
    conditioned: list[dict[int, NDArray[np.int16]]] = [{} for _ in paths]
    for position, samples_uv in read_signals(folder, records):
        for variant, factor in enumerate(RATE_FACTORS):
            rate = records[position].sampling_rate_hz * factor
            if rate not in tables:
                tables[rate] = ResamplerTable(coefficients, rate)
            clean = Conditioner(tables[rate]).push(samples_uv)
            conditioned[variant][position] = np.clip(clean, -32_767, 32_767).astype(np.int16)
    for variant, (signal_path, bounds_path) in enumerate(paths):
        parts = [conditioned[variant][position] for position in range(len(records))]
        bounds = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        np.save(bounds_path, bounds)
        np.save(signal_path, np.concatenate(parts))


def normalize_windows(windows_uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """The front end's amplitude normalisation for many windows at once.

    Args:
        windows_uv: float32 [windows, seconds, 128], microvolts.

    Returns:
        float32 of the same shape, whole numbers from -128 to 127.
    """
    peaks = np.abs(windows_uv).max(axis=2)
    scales = np.empty_like(peaks)
    for second in range(peaks.shape[1]):
        seen = np.sort(peaks[:, max(0, second - NORMALIZATION_S + 1) : second + 1], axis=1)
        scales[:, second] = seen[:, seen.shape[1] // 2]
    scales = np.maximum(scales, MIN_SCALE_UV)[:, :, None]
    scaled = np.floor(windows_uv * (STEP_UNITY / scales) + np.float32(0.5))
    return np.asarray(np.clip(scaled, -128, 127), np.float32)


@dataclass(frozen=True)
class Augmentation:
    """How an epoch differs from the records as they are; see ``recipe.Recipe`` for the values."""

    window_s: int
    flip: bool = True
    rate_jitter: bool = True
    scale_jitter: float = 0.0
    noise_probability: float = 0.0
    noise_max_fraction: float = 0.0
    lead_off_probability: float = 0.0


class Drawn(NamedTuple):
    """An epoch's windows.

    Attributes:
        windows: float32 [n, seconds, 128], int8 values.
        mask: float32 [n, seconds], 1.0 for each real second.
        clean: As ``windows``, cut, turned and scaled alike, without the noise and with all electrodes on.
    """

    windows: NDArray[np.float32]
    mask: NDArray[np.float32]
    clean: NDArray[np.float32]


def draw_epoch(
    cache: WindowCache,
    positions: NDArray[np.int64],
    augmentation: Augmentation,
    noise_uv: NDArray[np.float32],
    rng: np.random.Generator,
) -> Drawn:
    """One augmented window a record.

    Args:
        cache: Conditioned records.
        positions: int64 [n], which records, in order.
        augmentation: What to vary.
        noise_uv: float32 [m] at 128 Hz, cut at random and added to some windows; may be empty.
        rng: Source of chance.
    """
    seconds = augmentation.window_s
    length = seconds * MODEL_RATE_HZ
    windows = np.zeros((len(positions), length), np.float32)
    mask = np.zeros((len(positions), seconds), np.float32)
    for i, position in enumerate(positions):
        variant = int(rng.integers(len(RATE_FACTORS))) if augmentation.rate_jitter else 0
        signal = cache.record(int(position), variant)
        # Short records too begin at a random place within their first second.
        spare = max(len(signal) - length, min(MODEL_RATE_HZ, len(signal) - MODEL_RATE_HZ))
        start = int(rng.integers(spare + 1)) if spare > 0 else 0
        piece = signal[start : start + length]
        real = len(piece) // MODEL_RATE_HZ
        windows[i, : real * MODEL_RATE_HZ] = piece[: real * MODEL_RATE_HZ]
        mask[i, :real] = 1.0
    shape = (len(positions), seconds, MODEL_RATE_HZ)
    clean = normalize_windows(windows.reshape(shape))
    steps = clean
    if augmentation.noise_probability or augmentation.lead_off_probability:
        if len(noise_uv) > length:
            _add_noise(windows, noise_uv, augmentation, rng)
        if augmentation.lead_off_probability:
            _lift_electrodes(windows, augmentation, rng)
        steps = normalize_windows(windows.reshape(shape))
    gain = np.ones((len(positions), 1, 1), np.float32)
    if augmentation.flip:
        gain *= rng.choice(np.array([-1, 1], np.float32), size=gain.shape)
    if augmentation.scale_jitter:
        gain *= np.exp(rng.uniform(-1, 1, gain.shape) * augmentation.scale_jitter).astype(np.float32)
    turned = np.clip(np.rint(steps * gain), -128, 127, dtype=np.float32)
    return Drawn(
        turned, mask, turned if steps is clean else np.clip(np.rint(clean * gain), -128, 127, dtype=np.float32)
    )


def _add_noise(
    windows: NDArray[np.float32], noise_uv: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator
) -> None:
    length = windows.shape[1]
    for row in np.flatnonzero(rng.random(len(windows)) < augmentation.noise_probability):
        amplitude = np.percentile(np.abs(windows[row]), 99)
        start = int(rng.integers(len(noise_uv) - length))
        piece = noise_uv[start : start + length]
        level = np.percentile(np.abs(piece), 99)
        if level > 0:
            factor = rng.uniform(0, augmentation.noise_max_fraction) * amplitude / level
            windows[row] += piece * np.float32(factor)


def _lift_electrodes(windows: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator) -> None:
    """Flatten a few seconds of some windows."""
    length = windows.shape[1]
    for row in np.flatnonzero(rng.random(len(windows)) < augmentation.lead_off_probability):
        flat = int(rng.integers(MODEL_RATE_HZ // 2, LEAD_OFF_MAX_S * MODEL_RATE_HZ))
        start = int(rng.integers(length))
        windows[row, start : start + flat] = 0.0
