"""What the SDK says about an ECG: rhythm, quality, risk tier, reasons. Values only, no behaviour.

It deliberately makes no claim of outcome ("risk of stroke"): no data here could support one. Risk is defined by
rhythm and burden.

Invariants:
    1. ``tier`` is ``INCONCLUSIVE`` exactly when ``reason`` is not ``NONE``.
    2. Numbers that decide are integers, so that a replay can be compared bit for bit.
    3. Enum values are wire values (docs/sync-protocol-v1.md): never renumber, only append.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class Rhythm(IntEnum):
    """Rhythm class of a stretch of ECG (PhysioNet/CinC Challenge 2017)."""

    NORMAL = 0
    AF = 1
    OTHER = 2
    NOISE = 3


class BeatClass(IntEnum):
    """Class of one beat (ANSI/AAMI EC57, 4.2): where it came from, as far as one lead shows.

    Fusion beats (F) and what EC57 calls Q are not classes of their own here.
    """

    NORMAL = 0
    """N: normal, bundle branch block, escape beats of the atria and the AV node."""
    SUPRAVENTRICULAR = 1
    """S: premature beat from above the ventricles."""
    VENTRICULAR = 2
    """V: ventricular beat."""
    UNKNOWN = 3
    """Not judged: too little signal or too few beats around it."""


class RiskTier(IntEnum):
    """How soon someone should look."""

    INCONCLUSIVE = 0
    ROUTINE = 1
    ELEVATED = 2
    URGENT = 3


class InconclusiveReason(IntEnum):
    """Why there is no verdict."""

    NONE = 0
    POOR_SIGNAL = 1
    TOO_SHORT = 2
    LOW_CONFIDENCE = 3
    OUT_OF_DISTRIBUTION = 4
    RATE_OUT_OF_RANGE = 5


class Quality(IntFlag):
    """What is wrong with one second of signal; 0 is usable.

    The first three are read off the raw samples (``einthoven.quality``), the others off its noise
    (``einthoven.signal_quality``).
    """

    USABLE = 0
    GAP = 1
    FLAT = 2
    CLIPPED = 4
    BASELINE_WANDER = 8
    ELECTRODE_MOTION = 16
    MUSCLE = 32
    MAINS = 64
    LEAD_OFF = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowResult:
    """The verdict on one window, self-contained: a pure function of (model, front end, segment).

    Attributes:
        counter: Position in the device's log for this epoch, from 1; 0 before it is stored.
        started_at_ms: UTC of the first sample, milliseconds since 1970.
        duration_ms: Length of the window's signal in milliseconds.
        n_steps: Model steps (seconds) that the verdict rests on.
        usable_s: Seconds whose quality is usable.
        quality: Union of the quality flags seen.
        rhythm: Most likely class, also when the tier is inconclusive.
        confidence_permille: Calibrated probability of ``rhythm`` in 1/1000; its n is in the model card.
        logits: Calibrated integer logits in 1/1024 octave, one for each of N, A, O, ~ (see ``einthoven.verdict``).
        tier: Risk tier.
        reason: Why the tier is inconclusive, else ``NONE``.
        model_digest: SHA-256 of the model's manifest, which names all that decides; 32 bytes.
        front_end_version: Version of the integer front end.
        segment_digest: SHA-256 of the stored segment's canonical bytes, 32 bytes.
    """

    counter: int
    started_at_ms: int
    duration_ms: int
    n_steps: int
    usable_s: int
    quality: Quality
    rhythm: Rhythm
    confidence_permille: int
    logits: tuple[int, int, int, int]
    tier: RiskTier
    reason: InconclusiveReason
    model_digest: bytes
    front_end_version: int
    segment_digest: bytes
