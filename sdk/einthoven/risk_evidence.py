"""What led to a tier: sentences with their counts, times, and the strips of ECG to look at. Values and their counting.

It deliberately holds no samples: a strip names a stretch of time and the windows that hold it; the report draws it.

Invariants:
    1. Memory is bounded: ``STRIPS_MAX`` strips and ``EVIDENCE_WINDOWS_MAX`` counters a rule, whatever is counted.
    2. The strips kept are the most severe, of equals the first in time; a strip is at most ``STRIP_MAX_MS`` long.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from einthoven.results import RiskTier
from einthoven.risk_rules import Rule

EVIDENCE_WINDOWS_MAX: Final = 100
"""Windows an evidence names; further ones are counted only."""
STRIPS_MAX: Final = 3
"""Strips an evidence names."""
STRIP_MAX_MS: Final = 10_000
STRIP_LEAD_MS: Final = 2_500
"""What a strip shows before the event, where there is room."""
STRIP_LEAST_LEAD_MS: Final = 500


@dataclass(frozen=True, slots=True)
class EvidenceStrip:
    """A stretch of ECG worth looking at.

    Attributes:
        start_ms: UTC, ms since 1970; may lie before the first sample.
        end_ms: UTC, ms since 1970; may lie behind the last sample.
        counters: Windows that hold it, as far as they are known.
    """

    start_ms: int
    end_ms: int
    counters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a tier was given.

    Attributes:
        rule: Name of the rule in ``risk_rules.RULES``.
        statement: One sentence with its counts.
        source: Where the threshold comes from.
        counters: The first windows that led to it, by counter (``EVIDENCE_WINDOWS_MAX`` at most).
        tier: The tier the rule gives.
        count: How often it was found: windows, episodes, beats.
        n: Of how many; the judged beats, or the conclusive windows.
        first_ms: UTC of the first one, ms since 1970; ``None`` where it has no time.
        last_ms: UTC of the end of the last one.
        strips: The most severe ones, to look at.
    """

    rule: str
    statement: str
    source: str
    counters: tuple[int, ...]
    tier: RiskTier
    count: int = 0
    n: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    strips: tuple[EvidenceStrip, ...] = ()


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A rule that could say nothing yet.

    Attributes:
        rule: Its name.
        missing: What it needs and what there is.
    """

    rule: str
    missing: str


@dataclass(frozen=True, slots=True)
class Episode:
    """Something that lasts.

    Attributes:
        rule: The rule.
        start_ms: UTC of its beginning, ms since 1970.
        end_ms: UTC of its end; while it goes on, of what is known of it.
        going_on: Whether it goes on.
        statement: What it is, with its figures.
    """

    rule: Rule
    start_ms: int
    end_ms: int
    going_on: bool
    statement: str

    @property
    def tier(self) -> RiskTier:
        """The tier of the rule."""
        return self.rule.tier


@dataclass(slots=True)
class Found:
    """What one rule has found so far.

    Attributes:
        count: How many.
        parts: Beats or windows in them.
        ms: How long together.
        longest_ms: The longest.
        worst: The highest severity.
        first_ms: When the first began.
        last_ms: When the latest ended.
        counters: The first windows, for rules of windows.
        with_lead: Whether strips show what came before.
    """

    count: int = 0
    parts: int = 0
    ms: int = 0
    longest_ms: int = 0
    worst: int | None = None
    first_ms: int | None = None
    last_ms: int | None = None
    counters: list[int] = field(default_factory=list)
    with_lead: bool = True
    _ranked: list[tuple[int, int, int]] = field(default_factory=list)

    def add(
        self,
        start_ms: int,
        end_ms: int,
        *,
        severity: int,
        ms: int | None = None,
        counters: tuple[int, ...] = (),
        parts: int = 1,
    ) -> None:
        """Count one.

        Args:
            start_ms: UTC of its beginning.
            end_ms: UTC of its end.
            severity: Which are shown first.
            ms: How long it counts, if not from beginning to end.
            counters: The windows, for rules of windows.
            parts: Beats or windows it is made of.
        """
        lasts = end_ms - start_ms if ms is None else ms
        self.count += 1
        self.parts += parts
        self.ms += lasts
        self.longest_ms = max(self.longest_ms, lasts)
        self.worst = severity if self.worst is None else max(self.worst, severity)
        self.first_ms = start_ms if self.first_ms is None else min(self.first_ms, start_ms)
        self.last_ms = end_ms if self.last_ms is None else max(self.last_ms, end_ms)
        self.counters += counters[: EVIDENCE_WINDOWS_MAX - len(self.counters)]
        rank = (-severity, start_ms, end_ms)
        if len(self._ranked) < STRIPS_MAX or rank < self._ranked[-1]:
            insort(self._ranked, rank)
            del self._ranked[STRIPS_MAX:]

    def copy(self) -> Found:
        """Another one with the same content."""
        same = (self.count, self.parts, self.ms, self.longest_ms, self.worst, self.first_ms, self.last_ms)
        return Found(*same, list(self.counters), self.with_lead, list(self._ranked))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Beginning and end of each strip, in order of time, ms since 1970."""
        if not self.with_lead:
            return sorted((start_ms, min(end_ms, start_ms + STRIP_MAX_MS)) for _, start_ms, end_ms in self._ranked)
        return sorted(strip_span(start_ms, end_ms) for _, start_ms, end_ms in self._ranked)


def strip_span(start_ms: int, end_ms: int) -> tuple[int, int]:
    """The stretch to draw of an event: ``STRIP_MAX_MS``, with what led to it where there is room."""
    lead_ms = min(STRIP_LEAD_MS, max(STRIP_LEAST_LEAD_MS, (STRIP_MAX_MS - (end_ms - start_ms)) // 2))
    return start_ms - lead_ms, start_ms - lead_ms + STRIP_MAX_MS


class WindowsSeen:
    """Knows which windows hold a strip: looked up among the latest ``KEPT``, and remembered while the strip is kept."""

    KEPT: Final = 240

    def __init__(self) -> None:
        self._latest: deque[tuple[int, int, int]] = deque(maxlen=self.KEPT)
        self._holding: dict[tuple[int, int], tuple[int, ...]] = {}

    def add(self, start_ms: int, end_ms: int, counter: int, spans: Iterable[tuple[int, int]]) -> None:
        """Take a window, and the strips that are kept now.

        Args:
            start_ms: UTC of the window's beginning.
            end_ms: UTC of its end.
            counter: Its counter.
            spans: Beginning and end of each strip.
        """
        holding = {}
        for span in spans:
            inside = start_ms < span[1] and span[0] < end_ms
            holding[span] = (*self.holding(span), counter) if inside else self.holding(span)
        self._holding = holding
        self._latest.append((start_ms, end_ms, counter))

    def holding(self, span: tuple[int, int]) -> tuple[int, ...]:
        """Counters of the windows that overlap a strip, in order."""
        known = self._holding.get(span)
        if known is not None:
            return known
        return tuple(counter for first, last, counter in self._latest if first < span[1] and span[0] < last)
