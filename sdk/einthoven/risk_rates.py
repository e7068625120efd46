"""Sustained heart rates: stretches in which the mean rate of 30 s is beyond a limit. Pure; memory is bounded.

At each beat the rate is the mean of the fewest latest intervals that make ``RATE_SPAN_MS``, so one early or late beat
changes it little. It deliberately knows no rest and no exercise, and no rhythm.

Invariants:
    1. No interval is used that was not trusted; a cut forgets all of them.
    2. An episode begins with the first interval of the stretch that was beyond the limit, and ends with the last.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from einthoven.risk_rules import (
    BRADYCARDIA,
    BRADYCARDIA_BPM,
    EXTREME_BRADYCARDIA,
    EXTREME_BRADYCARDIA_BPM,
    EXTREME_TACHYCARDIA,
    EXTREME_TACHYCARDIA_BPM,
    FAST_TACHYCARDIA,
    FAST_TACHYCARDIA_BPM,
    RATE_SPAN_MS,
    SLOW_BRADYCARDIA,
    SLOW_BRADYCARDIA_BPM,
    TACHYCARDIA,
    TACHYCARDIA_BPM,
    Rule,
)

_LIMITS: Final = (
    (EXTREME_TACHYCARDIA, EXTREME_TACHYCARDIA_BPM, 1),
    (FAST_TACHYCARDIA, FAST_TACHYCARDIA_BPM, 1),
    (TACHYCARDIA, TACHYCARDIA_BPM, 1),
    (EXTREME_BRADYCARDIA, EXTREME_BRADYCARDIA_BPM, -1),
    (SLOW_BRADYCARDIA, SLOW_BRADYCARDIA_BPM, -1),
    (BRADYCARDIA, BRADYCARDIA_BPM, -1),
)
_UNITS = 60_000_000  # ms a minute, times 1000: rates are in 1/1000 of a beat a minute


@dataclass(frozen=True, slots=True)
class RateEpisode:
    """A stretch with a rate beyond a limit.

    Attributes:
        rule: Whose limit.
        start_ms: UTC of its beginning, ms since 1970.
        end_ms: UTC of its last beat.
        milli_bpm: Its highest rate of 30 s, or lowest for a bradycardia, 1/1000 of a beat a minute, rounded down.
    """

    rule: Rule
    start_ms: int
    end_ms: int
    milli_bpm: int


class RateFollower:
    """Follows the heart rate."""

    def __init__(self) -> None:
        self._intervals: deque[int] = deque()
        self._span_ms = 0
        self._open: dict[str, RateEpisode] = {}
        self.milli_bpm: int | None = None
        """Rate of the latest 30 s; ``None`` while there are fewer."""

    @property
    def open(self) -> list[RateEpisode]:
        """Episodes that go on."""
        return list(self._open.values())

    def add(self, at_ms: int, rr_ms: int) -> tuple[list[RateEpisode], list[RateEpisode]]:
        """Take a trusted interval.

        Args:
            at_ms: UTC of the beat that ends it.
            rr_ms: Its length, at least ``RR_MIN_MS``.

        Returns:
            Episodes that began, and those that ended.
        """
        intervals = self._intervals
        intervals.append(rr_ms)
        self._span_ms += rr_ms
        while self._span_ms - intervals[0] >= RATE_SPAN_MS:
            self._span_ms -= intervals.popleft()
        if self._span_ms < RATE_SPAN_MS:
            return [], []
        total = len(intervals) * _UNITS
        self.milli_bpm = total // self._span_ms
        if not self._open and BRADYCARDIA_BPM * 1000 <= self.milli_bpm < TACHYCARDIA_BPM * 1000:
            return [], []
        return self._judge(at_ms, total)

    def cut(self) -> list[RateEpisode]:
        """Forget the intervals.

        Returns:
            Episodes that ended with it.
        """
        ended = self.open
        self._intervals.clear()
        self._open.clear()
        self._span_ms = 0
        self.milli_bpm = None
        return ended

    def _judge(self, at_ms: int, total: int) -> tuple[list[RateEpisode], list[RateEpisode]]:
        began, ended = [], []
        rate = total // self._span_ms
        for rule, bpm, sign in _LIMITS:
            going_on = self._open.get(rule.name)
            if sign * total > sign * bpm * 1000 * self._span_ms:
                if going_on is None:
                    began.append(RateEpisode(rule, at_ms - self._span_ms, at_ms, rate))
                    self._open[rule.name] = began[-1]
                else:
                    extreme = max(sign * going_on.milli_bpm, sign * rate) * sign
                    self._open[rule.name] = RateEpisode(rule, going_on.start_ms, at_ms, extreme)
            elif going_on is not None:
                ended.append(self._open.pop(rule.name))
        return began, ended
