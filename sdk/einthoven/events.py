"""The events a session hands to its caller. Values only.

``session.push`` returns them in the order they happened; a caller matches on the type.
"""

from __future__ import annotations

from dataclasses import dataclass

from einthoven.errors import StoreError
from einthoven.results import Quality, Rhythm, RiskTier, WindowResult
from einthoven.risk import Evidence


@dataclass(frozen=True, slots=True)
class SecondAnalyzed:
    """One second of ECG went through the model.

    Attributes:
        at_ms: UTC of the second's first sample, ms since 1970.
        rhythm: The class this second speaks for; its vote in the window's verdict, and its explanation.
        quality: What was wrong with the signal, 0 if nothing.
    """

    at_ms: int
    rhythm: Rhythm
    quality: Quality


@dataclass(frozen=True, slots=True)
class QualityChanged:
    """The signal became usable, or stopped being so.

    Attributes:
        at_ms: UTC of the second it changed in, ms since 1970.
        quality: The flags from now on.
    """

    at_ms: int
    quality: Quality


@dataclass(frozen=True, slots=True)
class WindowAnalyzed:
    """A verdict on one window; it is already durable in the store when this event arrives."""

    result: WindowResult


@dataclass(frozen=True, slots=True)
class RiskChanged:
    """The recording's tier changed.

    Attributes:
        at_ms: UTC of the window that changed it, ms since 1970.
        tier: The new tier.
        previous: The tier before.
        evidence: What led to it.
    """

    at_ms: int
    tier: RiskTier
    previous: RiskTier
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class GapFound:
    """Samples are missing between two packets; they are marked as missing, never stretched over.

    Attributes:
        at_ms: UTC of the first missing sample, ms since 1970.
        missing_ms: Length of the gap.
    """

    at_ms: int
    missing_ms: int


@dataclass(frozen=True, slots=True)
class OverlapDropped:
    """Samples came twice or late; the first copy was kept.

    Attributes:
        at_ms: UTC of the first dropped sample, ms since 1970.
        dropped_ms: Length of what was dropped.
    """

    at_ms: int
    dropped_ms: int


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store refused a window; it is kept in memory and tried again with the next one.

    Attributes:
        at_ms: UTC of the window, ms since 1970.
        error: What the store said.
        waiting: Windows that wait in memory.
        dropped: Windows given up now, because too many wait.
    """

    at_ms: int
    error: StoreError
    waiting: int
    dropped: int


Event = SecondAnalyzed | QualityChanged | WindowAnalyzed | RiskChanged | GapFound | OverlapDropped | StoreFailed
