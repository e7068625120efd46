"""Verdicts and signals to put into stores, without a model."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from einthoven.ports import MISSING_UV, Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.store_values import BeatRun

STARTED_AT_MS = 1_763_805_600_000
"""2025-11-22 10:00:00 UTC."""


def signal(
    n_samples: int = 7_500, *, seed: int = 0, rate_hz: Fraction | int = 250, missing: slice = slice(0)
) -> Segment:
    """Noise, with some samples missing."""
    samples_uv = np.random.default_rng(seed).integers(-2_000, 2_000, n_samples, dtype=np.int32)
    samples_uv[missing] = MISSING_UV
    return Segment(Fraction(rate_hz), samples_uv)


def verdict(
    segment: Segment, started_at_ms: int = STARTED_AT_MS, *, counter: int = 0, **changes: object
) -> WindowResult:
    """A verdict on a signal."""
    fields: dict[str, object] = {
        "n_steps": 30,
        "usable_s": 29,
        "quality": Quality.GAP | Quality.CLIPPED,
        "rhythm": Rhythm.AF,
        "confidence_permille": 931,
        "logits": (1, -2, 3, 4),
        "tier": RiskTier.ELEVATED,
        "reason": InconclusiveReason.NONE,
        **changes,
    }
    return WindowResult(
        counter=counter,
        started_at_ms=started_at_ms,
        duration_ms=int(len(segment.samples_uv) * 1000 / segment.sampling_rate_hz),
        model_digest=bytes(range(32)),
        front_end_version=1,
        segment_digest=segment_digest(segment),
        **fields,  # type: ignore[arg-type]
    )


def beats(*at_ms: int, classes: tuple[int, ...] | None = None) -> BeatRun:
    """A run of beats, normal ones if not said otherwise."""
    return BeatRun(np.array(at_ms, np.int64), np.array(classes or [0] * len(at_ms), np.uint8))
