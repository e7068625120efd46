"""The `einthoven live` command: a sensor or a replayed file into a session, said as it happens.

It deliberately decides nothing: a session does, and this says what came back, heart rate every ``RATE_EVERY_S``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from einthoven.events import (
    BeatDetected,
    ClockJumped,
    EpisodeEnded,
    EpisodeFound,
    Event,
    GapFound,
    LateDropped,
    OverlapDropped,
    PacketRefused,
    PacketsDropped,
    QualityChanged,
    RateEstimated,
    RiskChanged,
    SensorChanged,
    StoreFailed,
    WindowAnalyzed,
)
from einthoven.following import follow
from einthoven.ports import LiveSource
from einthoven.session import Session

RATE_EVERY_S: Final = 10
"""Seconds of ECG between two lines of heart rate."""
_MEDIAN_OF: Final = 9
"""Intervals whose median is the rate shown."""


class Narrator:
    """Turns events into lines; keeps what a rate needs."""

    def __init__(self) -> None:
        self._rr_ms: list[int] = []
        self._said_ms = 0

    def line(self, event: Event) -> str | None:
        """What to say of an event, ``None`` for nothing."""
        return self._beat(event) if isinstance(event, BeatDetected) else _finding(event) or _trouble(event)

    def _beat(self, event: BeatDetected) -> str | None:
        if event.rr_ms is None:
            self._rr_ms.clear()
            return None
        self._rr_ms = [*self._rr_ms[1 - _MEDIAN_OF :], event.rr_ms]
        if event.at_ms - self._said_ms < RATE_EVERY_S * 1000 or len(self._rr_ms) < _MEDIAN_OF:
            return None
        self._said_ms = event.at_ms
        return f"{_clock(event.at_ms)}  {60_000 / sorted(self._rr_ms)[_MEDIAN_OF // 2]:.0f} beats/min"


def _finding(event: Event) -> str | None:
    """What was found in the ECG."""
    match event:
        case QualityChanged(at_ms, quality):
            faults = ", ".join((flag.name or "").lower().replace("_", " ") for flag in quality)
            said = f"signal: {faults or 'usable'}"
        case RiskChanged(at_ms, tier, previous):
            said = f"risk {previous.name.lower()} -> {tier.name.lower()}"
        case EpisodeFound(at_ms, _, rule, tier, statement):
            said = f"{tier.name.lower()}: {rule.replace('_', ' ')}, {statement}"
        case EpisodeEnded(at_ms, _, rule, _, statement):
            said = f"ended: {rule.replace('_', ' ')}, {statement}"
        case WindowAnalyzed(result):
            at_ms = result.started_at_ms
            reason = f" ({result.reason.name.lower().replace('_', ' ')})" if result.reason else ""
            said = f"window {result.counter}: {result.rhythm.name.lower()}, {result.tier.name.lower()}{reason}"
        case _:
            return None
    return f"{_clock(at_ms)}  {said}"


def _trouble(event: Event) -> str | None:
    """What happened on the way to it."""
    match event:
        case SensorChanged(at_ms, state):
            said = f"sensor {state.value}"
        case GapFound(at_ms, missing_ms):
            said = f"gap of {missing_ms / 1000:.2f} s"
        case OverlapDropped(at_ms, dropped_ms) | LateDropped(at_ms, dropped_ms):
            said = f"{dropped_ms} ms came twice or too late, left out"
        case ClockJumped(at_ms, jump_ms):
            said = f"the sensor's clock was set by {jump_ms / 1000:.1f} s"
        case RateEstimated(at_ms, rate_hz, ppm):
            said = f"the sensor samples at {float(rate_hz):.2f} Hz ({ppm / 10_000:+.2f} %)"
        case PacketsDropped(at_ms, packets):
            said = f"{packets} packets dropped: this machine is too slow"
        case PacketRefused(at_ms, problem):
            said = f"a packet was refused: {problem}"
        case StoreFailed(at_ms, error):
            said = f"not stored yet: {error.problem}"
        case _:
            return None
    return f"{_clock(at_ms)}  {said}"


async def listen(session: Session, source: LiveSource, *, seconds: float | None, take: Callable[[Event], None]) -> None:
    """Follow a sensor until it ends, or for so many seconds of wall time; the session stays open.

    Raises:
        SensorError: It can't be found or used, or was lost for good.
    """
    until = None if seconds is None else time.monotonic() + seconds
    try:
        async with asyncio.timeout(seconds), aclosing(follow(session, source)) as events:
            async for event in events:
                take(event)
                if until is not None and time.monotonic() >= until:
                    return
    except TimeoutError:
        return


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")
