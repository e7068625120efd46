"""A session's risk: its beats, seconds and verdicts put into one order of time, and judged. Pure.

A beat counts once the quality of its second, and of those since the beat before, is known; a window once all beats
of its time have been. So what changes the risk does not depend on how samples were chunked, and comes at most
``DELAY_S`` after its beat.

It deliberately has no rule (``risk``) and keeps no samples.

Invariants:
    1. The same samples give the same events in the same order, in any chunking.
    2. At most ``DELAY_S`` seconds of beats and ``WINDOWS_MAX`` windows wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil
from typing import Final

from einthoven import beat_classes, beat_detector, quality_network, signal_quality
from einthoven.events import (
    BeatDetected,
    EpisodeEnded,
    EpisodeFound,
    Event,
    LineEnded,
    RiskChanged,
    RiskEvent,
    SecondAssessed,
)
from einthoven.results import Quality, RiskTier, WindowResult
from einthoven.risk import Episode, RiskAssessment, RiskBeat, RiskTally

SETTLE_S: Final = ceil(beat_detector.DELAY_S + beat_classes.DELAY_S) - quality_network.AHEAD_S
"""Seconds judged after a second when all its beats are known: they need its end and their delay, these their own end
and a look-ahead."""
DELAY_S: Final = signal_quality.DELAY_S + SETTLE_S + 1
"""After its beat an event is out within so many seconds, plus the block and the resampler's 0.2 s; or with the window
that it is in."""
_LIKE_A_PAUSE: Final = Quality.LEAD_OFF | Quality.BASELINE_WANDER
"""What a second without a heart beat may be taken for."""
WINDOWS_MAX: Final = 1_000
"""Windows that wait for their beats at most; the oldest are then judged without."""


class RiskMonitor:
    """Follows one session.

    Args:
        sampling_rate_hz: Nominal samples a second, exact.
    """

    def __init__(self, sampling_rate_hz: Fraction) -> None:
        self._rate = sampling_rate_hz
        self._tally = RiskTally()
        self._tier = RiskTier.INCONCLUSIVE
        self._beats: deque[BeatDetected] = deque()
        self._seconds: deque[SecondAssessed] = deque()  # judged, their beats not yet
        self._second = 0  # index on the line of the first of them
        self._trusted_since = 0  # second since which all are usable
        self._unsure_since = 0  # second since which all are usable or like a pause
        self._latest: int | None = None  # second of the beat before
        self._windows: deque[WindowResult] = deque()

    @property
    def assessment(self) -> RiskAssessment:
        """What all so far adds up to, but for what still waits."""
        return self._tally.assessment()

    def take(self, events: Iterable[Event]) -> list[RiskEvent]:
        """Take what a session found in the signal; other events are passed over."""
        found: list[RiskEvent] = []
        for event in events:
            match event:
                case BeatDetected():
                    self._beats.append(event)
                case SecondAssessed():
                    self._seconds.append(event)
                    if len(self._seconds) > SETTLE_S:
                        found += self._settle_second()
                case LineEnded():
                    found += self._end_line(event.at_ms)
                case _:
                    pass
        return found

    def add(self, result: WindowResult) -> list[RiskEvent]:
        """Take a verdict; it waits for its beats."""
        self._windows.append(result)
        if len(self._windows) > WINDOWS_MAX:
            return list(self._judge_window(self._windows.popleft()))
        return []

    def finish(self, at_ms: int) -> list[RiskEvent]:
        """End the recording: nothing waits any longer.

        Args:
            at_ms: UTC of its end, ms since 1970.
        """
        return self._end_line(at_ms)

    def _settle_second(self) -> list[RiskEvent]:
        """Judge the beats of the oldest second, and the windows that end with it."""
        second = self._seconds.popleft()
        found = list(self._judge_windows(second.at_ms))
        usable = second.quality is Quality.USABLE
        if not usable:
            self._trusted_since = self._second + 1
        if second.quality & ~_LIKE_A_PAUSE:
            self._unsure_since = self._second + 1
        rate = self._rate
        while self._beats:
            beat = self._beats[0]
            at_second = beat.r_peak * rate.denominator // rate.numerator
            if at_second > self._second:
                break
            self._beats.popleft()
            before = -1 if self._latest is None else self._latest
            self._latest = at_second
            rr_ms = beat.rr_ms if usable and before >= self._trusted_since else None
            unsure_ms = beat.rr_ms if rr_ms is None and before >= self._unsure_since else None
            judged = RiskBeat(beat.at_ms, rr_ms, beat.beat_class, beat.class_permille, usable, unsure_ms)
            found += self._say(self._tally.add_beat(judged), beat.at_ms)
        self._second += 1
        return found

    def _judge_windows(self, until_ms: int) -> Iterator[RiskEvent]:
        while self._windows and self._windows[0].started_at_ms + self._windows[0].duration_ms <= until_ms:
            yield from self._judge_window(self._windows.popleft())

    def _judge_window(self, result: WindowResult) -> Iterator[RiskEvent]:
        yield from self._say(self._tally.add(result), result.started_at_ms)

    def _end_line(self, at_ms: int) -> list[RiskEvent]:
        """Judge what waits; samples count from 0 again."""
        found: list[RiskEvent] = []
        while self._seconds:
            found += self._settle_second()
        # The last part of a second is never judged: its beats are not usable.
        for beat in self._beats:
            judged = RiskBeat(beat.at_ms, None, beat.beat_class, beat.class_permille, usable=False)
            found += self._say(self._tally.add_beat(judged), beat.at_ms)
        self._beats.clear()
        while self._windows:
            found += self._judge_window(self._windows.popleft())
        found += self._say(self._tally.cut(), at_ms)
        self._second = self._trusted_since = self._unsure_since = 0
        self._latest = None
        return found

    def _say(self, episodes: list[Episode], at_ms: int) -> Iterator[RiskEvent]:
        for one in episodes:
            if one.going_on:
                yield EpisodeFound(at_ms, one.start_ms, one.rule.name, one.tier, one.statement)
            else:
                yield EpisodeEnded(one.end_ms, one.start_ms, one.rule.name, one.tier, one.statement)
        tier = self._tally.tier
        if tier is not self._tier:
            previous, self._tier = self._tier, tier
            yield RiskChanged(at_ms, tier, previous, self._tally.assessment().evidence)
