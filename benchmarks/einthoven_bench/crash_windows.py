"""Made-up windows for the crash points: verdicts and signals by a seed. No heart was involved.

It deliberately judges nothing: a verdict here is a row with a signal, no more.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np

from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.store_values import BeatRun

BEGAN_AT_MS: Final = 1_700_000_000_000
"""Start of the window with seed 0, UTC ms since 1970."""
WINDOW_MS: Final = 30_000
"""From one window to the next."""
SAMPLING_RATE_HZ: Final = Fraction(128)
N_SAMPLES: Final = 512
"""Of a signal: four seconds. Stored in half a millisecond, where three times as many take ten."""


def window(seed: int, n_samples: int = N_SAMPLES) -> tuple[WindowResult, Segment]:
    """The verdict and signal of this seed."""
    rng = np.random.default_rng(seed)
    segment = Segment(SAMPLING_RATE_HZ, rng.integers(-2_000, 2_000, n_samples, dtype=np.int32))
    result = WindowResult(
        counter=0,
        started_at_ms=BEGAN_AT_MS + WINDOW_MS * seed,
        duration_ms=WINDOW_MS,
        n_steps=30,
        usable_s=29,
        quality=Quality.GAP,
        rhythm=Rhythm(seed % len(Rhythm)),
        confidence_permille=871,
        logits=(-1_000, 0, seed, 1_000),
        tier=RiskTier.ELEVATED,
        reason=InconclusiveReason.NONE,
        model_digest=b"m" * 32,
        front_end_version=1,
        segment_digest=segment_digest(segment),
    )
    return result, segment


def beats(seed: int) -> BeatRun:
    """Beats of the window of this seed, one a second."""
    at_ms = BEGAN_AT_MS + WINDOW_MS * seed + 1_000 * np.arange(30, dtype=np.int64)
    classes = np.zeros(30, np.uint8)
    at_ms.flags.writeable = classes.flags.writeable = False
    return BeatRun(at_ms, classes)
