"""The events a session hands to its caller. Values only.

``session.push`` returns them in the order they happened; a caller matches on the type.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from einthoven.errors import StoreError
from einthoven.results import BeatClass, Quality, Rhythm, RiskTier, WindowResult
from einthoven.risk import Evidence
from einthoven.store_events import StoreEvent


@dataclass(frozen=True, slots=True)
class SecondAnalyzed:
    """One second of ECG went through the model.

    Attributes:
        at_ms: UTC of the second's first sample, ms since 1970.
        rhythm: The class this second speaks for; its vote in the window's verdict, and its explanation.
        quality: What was wrong with its raw samples (gap, flat, clipped), 0 if nothing; noise takes seconds of
            look-ahead, and is in :class:`SecondAssessed`.
    """

    at_ms: int
    rhythm: Rhythm
    quality: Quality


@dataclass(frozen=True, slots=True)
class BeatDetected:
    """A heart beat was found.

    Attributes:
        at_ms: UTC of its R peak, ms since 1970.
        r_peak: The same as a sample index of the present time line.
        rr_ms: Time since the beat before, as found; ``None`` for the first and after a gap.
        amplitude_uv: Signed height of the R peak over the baseline, microvolts.
        score: How sure the detector is, 0 to 255.
        beat_class: Where it came from.
        class_permille: Calibrated probability of that class in 1/1000; 0 where it is ``UNKNOWN``.
    """

    at_ms: int
    r_peak: int
    rr_ms: int | None
    amplitude_uv: int
    score: int
    beat_class: BeatClass
    class_permille: int


@dataclass(frozen=True, slots=True)
class SecondAssessed:
    """One second's signal was judged, with what lies around it.

    Attributes:
        at_ms: UTC of the second's first sample, ms since 1970.
        quality: What is wrong with it; 0 is usable.
        index: From 0, worst, to 100.
    """

    at_ms: int
    quality: Quality
    index: int


@dataclass(frozen=True, slots=True)
class QualityChanged:
    """The signal became usable, or stopped being so, or for another reason.

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
        at_ms: UTC of the beat or window that changed it, ms since 1970.
        tier: The new tier.
        previous: The tier before.
        evidence: What led to it.
    """

    at_ms: int
    tier: RiskTier
    previous: RiskTier
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class EpisodeFound:
    """Something that lasts was found: AF, a run, a pause, a sustained rate beyond a limit.

    It comes when the rule's threshold is reached, while it goes on; again, if it becomes another rule's.

    Attributes:
        at_ms: UTC of the beat or window with which it was found, ms since 1970.
        started_at_ms: UTC of its beginning.
        rule: Name of the rule (``risk_rules.RULES``).
        tier: The tier the rule gives; ``ELEVATED`` or ``URGENT``.
        statement: Its figures so far.
    """

    at_ms: int
    started_at_ms: int
    rule: str
    tier: RiskTier
    statement: str


@dataclass(frozen=True, slots=True)
class EpisodeEnded:
    """What an ``EpisodeFound`` with the same ``started_at_ms`` said has ended.

    Attributes:
        at_ms: UTC of its end, ms since 1970.
        started_at_ms: UTC of its beginning.
        rule: Name of the rule that it fell under last.
        tier: The tier that rule gives.
        statement: Its figures.
    """

    at_ms: int
    started_at_ms: int
    rule: str
    tier: RiskTier
    statement: str


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
class LateDropped:
    """Samples came after their place had been given up as missing; they are left out.

    Attributes:
        at_ms: UTC of the first dropped sample by its stamp, ms since 1970.
        dropped_ms: Length of what was dropped.
    """

    at_ms: int
    dropped_ms: int


@dataclass(frozen=True, slots=True)
class StampIgnored:
    """A packet's stamp contradicted those around it; its samples were placed by their order.

    Attributes:
        at_ms: UTC of the packet's first sample as placed, ms since 1970.
        off_ms: How far the stamp was off, positive if it was late.
    """

    at_ms: int
    off_ms: int


@dataclass(frozen=True, slots=True)
class ClockJumped:
    """The clock that stamps was set; a new window begins, and nothing is dropped.

    Attributes:
        at_ms: UTC of the first sample after the jump, ms since 1970, by the clock as it is now.
        jump_ms: How far it went, positive if forward.
    """

    at_ms: int
    jump_ms: int


@dataclass(frozen=True, slots=True)
class RateEstimated:
    """The sensor samples at another rate than it says; times and heart rates follow this one.

    Attributes:
        at_ms: UTC of the sample up to which stamps were compared, ms since 1970.
        sampling_rate_hz: Samples a second by the stamps.
        deviation_ppm: Its deviation from the nominal rate, in millionths.
    """

    at_ms: int
    sampling_rate_hz: Fraction
    deviation_ppm: int


@dataclass(frozen=True, slots=True)
class LineEnded:
    """A time line ended, after a long gap or because a clock was set: sample indices count from 0 again.

    Attributes:
        at_ms: UTC of its end, ms since 1970, by the clock as it was.
    """

    at_ms: int


class SensorState(Enum):
    """What a live sensor is doing."""

    SEARCHING = "searching"
    CONNECTING = "connecting"
    WAITING = "waiting"  # connected, its first ECG to come
    STREAMING = "streaming"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SensorChanged:
    """A live sensor changed what it does.

    Attributes:
        at_ms: UTC, ms since 1970.
        state: What it does now.
    """

    at_ms: int
    state: SensorState


@dataclass(frozen=True, slots=True)
class PacketsDropped:
    """Packets were not taken up in time and the oldest went; their place shows as a gap.

    Attributes:
        at_ms: UTC, ms since 1970.
        packets: How many went.
    """

    at_ms: int
    packets: int


@dataclass(frozen=True, slots=True)
class PacketRefused:
    """A packet was not what the sensor's protocol says; it was left out, and its place shows as a gap.

    Attributes:
        at_ms: UTC, ms since 1970.
        problem: What was wrong with it, without its content.
    """

    at_ms: int
    problem: str


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


TimeEvent = GapFound | OverlapDropped | LateDropped | StampIgnored | ClockJumped | RateEstimated | LineEnded
"""What happened to the time line."""

RiskEvent = RiskChanged | EpisodeFound | EpisodeEnded
"""What beats and windows add up to; each comes some seconds after its beat or window."""

SensorEvent = SensorChanged | PacketsDropped | PacketRefused
"""What happened to a live sensor."""

SignalEvent = BeatDetected | SecondAssessed | QualityChanged
"""What the signal itself says; each comes some seconds after its time."""

Event = SecondAnalyzed | SignalEvent | WindowAnalyzed | RiskEvent | TimeEvent | SensorEvent | StoreFailed | StoreEvent
