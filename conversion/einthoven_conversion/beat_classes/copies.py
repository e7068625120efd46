"""Makes copies of a record to learn from: made-up arrhythmias, another projection, noise, short pieces, other rates.

It deliberately takes nothing from another record (``synthesis``), and scores nothing.

Invariants:
    1. The same generator gives the same copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.resampling import MODEL_RATE_HZ as HZ
from einthoven_conversion.beat_classes import synthesis
from einthoven_conversion.beat_classes.recordings import ClassRecording
from einthoven_conversion.beats.augment import Noise

MADE: Final[dict[str, Callable[[synthesis.Plan, np.random.Generator], None]]] = {
    "supraventricular": synthesis.supraventricular,
    "ventricular": synthesis.ventricular,
    "fibrillation": synthesis.fibrillation,
    "rate": synthesis.changing_rate,
}
MIXED_SHARE: Final = 0.4
"""How many of the copies are of another projection, mixed of both leads."""
NOISY_SHARE: Final = 0.3
RATE_JITTER: Final = 0.05
"""Largest logarithm of the factor by which a copy is faster or slower."""
PIECE_RATE_JITTER: Final = 0.15
PIECE_S: Final = (12, 70)
PIECE_SPACING: Final = (1.0, 2.0)
NOISE_SHARE: Final = (0.02, 0.35)
"""Noise in units of the complexes' height."""
FADE_S: Final = 10


@dataclass(frozen=True, slots=True)
class Copy:
    """A signal with labelled beats: samples int64 [n] at 128 Hz, beats in seconds, labels as in ``synthesis``."""

    samples: NDArray[np.int64]
    beats_s: NDArray[np.float64]
    labels: NDArray[np.int64]


def noise_of(root: Path) -> NDArray[np.float64]:
    """Electrode motion to draw from, float64 [n] of unit size; nothing of ``Noise.test``."""
    noise = Noise(root)
    return np.concatenate([(piece - piece.mean()) / (piece.std() + 1) for piece in noise.training + noise.clips])


def copies(
    recording: ClassRecording,
    peaks: NDArray[np.int64],
    labels: NDArray[np.int64],
    kind: str,
    noise: NDArray[np.float64],
    rng: np.random.Generator,
) -> Iterator[Copy]:
    """Yield one copy, or the pieces of one.

    Args:
        recording: The original.
        peaks: int64 [k], detected R peaks at 128 Hz.
        labels: int64 [k], their reference classes.
        kind: A key of ``MADE``, ``projection``, ``noise`` or ``pieces``.
        noise: From ``noise_of``.
        rng: Of everything random.
    """
    lead = recording.leads[0]
    if kind == "projection" or rng.random() < MIXED_SHARE:
        lead = _projected(recording.leads, peaks, rng, far=kind == "projection")
    copy = Copy(lead, peaks / HZ, labels)
    if kind in MADE and len(peaks) > 2 * synthesis.AROUND:
        made = synthesis.plan(lead, peaks, labels)
        MADE[kind](made, rng)
        copy = Copy(*synthesis.assemble(made, rng))
    copy = _faster(copy, PIECE_RATE_JITTER if kind == "pieces" else RATE_JITTER, rng)
    if kind in ("noise", "pieces") or rng.random() < NOISY_SHARE:
        copy = _noisy(copy, synthesis.height_of(lead, peaks), noise, rng)
    yield from _pieces(copy, rng) if kind == "pieces" else [_turned(copy, rng)]


def _projected(
    leads: NDArray[np.int64], peaks: NDArray[np.int64], rng: np.random.Generator, *, far: bool
) -> NDArray[np.int64]:
    """Both leads mixed at an angle: as if the electrodes sat elsewhere."""
    angle = rng.uniform(0.3, 2.84) if far else rng.uniform(-1.2, 1.2)
    if len(leads) < 2:
        return np.asarray(leads[0])
    scale = np.clip(synthesis.height_of(leads[0], peaks) / synthesis.height_of(leads[1], peaks), 0.3, 3)
    return np.asarray(np.rint(np.cos(angle) * leads[0] + np.sin(angle) * scale * leads[1]), np.int64)


def _faster(copy: Copy, jitter: float, rng: np.random.Generator) -> Copy:
    factor = float(np.exp(rng.uniform(-jitter, jitter)))
    n = len(copy.samples)
    samples = np.interp(np.arange(int(n / factor)) * factor, np.arange(n), copy.samples)
    return Copy(np.rint(samples).astype(np.int64), copy.beats_s / factor, copy.labels)


def _noisy(copy: Copy, height: float, noise: NDArray[np.float64], rng: np.random.Generator) -> Copy:
    n = len(copy.samples)
    if not len(noise):
        return copy
    drawn = np.resize(np.roll(noise, -rng.integers(len(noise))), n) * rng.choice([-1, 1])
    knots = np.arange(0, n + FADE_S * HZ, FADE_S * HZ)
    drawn = drawn * np.interp(np.arange(n), knots, rng.uniform(0, 1, len(knots)) ** 2)
    added = drawn / (drawn.std() + 1e-9) * height * rng.uniform(*NOISE_SHARE)
    return Copy(copy.samples + np.rint(added).astype(np.int64), copy.beats_s, copy.labels)


def _turned(copy: Copy, rng: np.random.Generator) -> Copy:
    return Copy((copy.samples - copy.samples[0]) * rng.choice([-1, 1]), copy.beats_s, copy.labels)


def _pieces(copy: Copy, rng: np.random.Generator) -> Iterator[Copy]:
    """Short recordings: most of a heart's memory is not there yet."""
    start = 0
    while start < len(copy.samples) - 10 * HZ:
        length = int(rng.uniform(*PIECE_S) * HZ)
        inside = (copy.beats_s * HZ >= start) & (copy.beats_s * HZ < start + length)
        part = Copy(copy.samples[start : start + length], copy.beats_s[inside] - start / HZ, copy.labels[inside])
        yield _turned(part, rng)
        start += int(length * rng.uniform(*PIECE_SPACING))
