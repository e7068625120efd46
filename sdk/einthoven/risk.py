"""Risk by rhythm and burden: from window verdicts to a tier with its evidence. Pure.

It deliberately knows no outcome ("stroke", "death") and no percentage without the n behind it, and it never turns an
inconclusive window into a normal one: what could not be read counts neither for nor against.

Invariants:
    1. The tier of a recording is the highest tier a rule gives; without a conclusive window it is ``INCONCLUSIVE``.
    2. Every tier but ``INCONCLUSIVE`` has evidence: a rule, a count, and the windows that led to it.
    3. The same results in the same order give the same assessment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from einthoven.results import InconclusiveReason, Rhythm, RiskTier, WindowResult

AF_EPISODE_MIN_MS: Final = 30_000
"""Shortest stretch of a single-lead ECG on which AF may be diagnosed (ESC 2020 AF guideline, section 3.1)."""
EVIDENCE_WINDOWS_MAX: Final = 100
"""Windows an evidence names; further ones are counted only."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a tier was given.

    Attributes:
        rule: Name of the rule in ``RULES``.
        statement: One sentence with its counts.
        source: Where the threshold comes from.
        counters: The first windows that led to it, by counter (``EVIDENCE_WINDOWS_MAX`` at most).
        tier: The tier the rule gives.
    """

    rule: str
    statement: str
    source: str
    counters: tuple[int, ...]
    tier: RiskTier


@dataclass(frozen=True, slots=True)
class RiskAssessment:
    """A recording's tier and everything it rests on.

    Attributes:
        tier: The highest tier of any rule that applied.
        evidence: One entry a rule that applied, highest tier first.
        windows: Windows seen.
        conclusive: Windows with a verdict; the n of ``af_burden_permille``.
        af_burden_permille: Share of conclusive time in AF, in 1/1000; ``None`` if nothing is conclusive.
        inconclusive: How many windows had no verdict, by reason.
    """

    tier: RiskTier
    evidence: tuple[Evidence, ...]
    windows: int
    conclusive: int
    af_burden_permille: int | None
    inconclusive: dict[InconclusiveReason, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: which windows it looks for, and what they mean.

    Attributes:
        name: Stable name.
        tier: The tier it gives.
        applies: Whether a conclusive window counts for it.
        finding: What such windows show, in words.
        source: Where it comes from.
    """

    name: str
    tier: RiskTier
    applies: Callable[[WindowResult], bool]
    finding: str
    source: str


RULES: Final = (
    Rule(
        "af_episode",
        RiskTier.ELEVATED,
        lambda r: r.rhythm is Rhythm.AF and r.duration_ms >= AF_EPISODE_MIN_MS,
        "atrial fibrillation for at least 30 s",
        "Hindricks et al., 2020 ESC Guidelines for atrial fibrillation, Eur Heart J 2021;42:373-498, section 3.1",
    ),
    Rule(
        "af_short",
        RiskTier.ELEVATED,
        lambda r: r.rhythm is Rhythm.AF and r.duration_ms < AF_EPISODE_MIN_MS,
        "a rhythm like atrial fibrillation, too short for a diagnosis (under 30 s)",
        "as af_episode: shorter stretches call for a longer recording",
    ),
    Rule(
        "other_rhythm",
        RiskTier.ELEVATED,
        lambda r: r.rhythm is Rhythm.OTHER,
        "a rhythm that is neither normal sinus nor atrial fibrillation",
        "class O of the PhysioNet/CinC Challenge 2017, doi:10.22489/CinC.2017.065-469",
    ),
    Rule(
        "normal",
        RiskTier.ROUTINE,
        lambda r: r.rhythm is Rhythm.NORMAL,
        "normal sinus rhythm",
        "class N of the PhysioNet/CinC Challenge 2017, doi:10.22489/CinC.2017.065-469",
    ),
)


_TIER_OF: Final = {Rhythm.NORMAL: RiskTier.ROUTINE, Rhythm.AF: RiskTier.ELEVATED, Rhythm.OTHER: RiskTier.ELEVATED}


def window_tier(rhythm: Rhythm, reason: InconclusiveReason) -> RiskTier:
    """Return the tier of one window; noise has none, whatever else is said of it."""
    if reason is not InconclusiveReason.NONE:
        return RiskTier.INCONCLUSIVE
    return _TIER_OF.get(rhythm, RiskTier.INCONCLUSIVE)


class RiskTally:
    """Adds up windows as they come, in bounded memory however long the recording.

    Not safe for use from several threads at once.
    """

    def __init__(self) -> None:
        self._windows = 0
        self._conclusive = 0
        self._conclusive_ms = 0
        self._af_ms = 0
        self._inconclusive: Counter[InconclusiveReason] = Counter()
        self._found: dict[str, _Found] = {}

    def add(self, result: WindowResult) -> None:
        """Count one window."""
        self._windows += 1
        if result.tier is RiskTier.INCONCLUSIVE:
            self._inconclusive[result.reason] += 1
            return
        self._conclusive += 1
        self._conclusive_ms += result.duration_ms
        if result.rhythm is Rhythm.AF:
            self._af_ms += result.duration_ms
        for rule in RULES:
            if rule.applies(result):
                self._found.setdefault(rule.name, _Found()).add(result)

    def assessment(self) -> RiskAssessment:
        """Return what the windows so far add up to."""
        evidence = [self._evidence(rule, self._found[rule.name]) for rule in RULES if rule.name in self._found]
        evidence.sort(key=lambda found: -found.tier)
        return RiskAssessment(
            tier=max((found.tier for found in evidence), default=RiskTier.INCONCLUSIVE),
            evidence=tuple(evidence),
            windows=self._windows,
            conclusive=self._conclusive,
            af_burden_permille=self._af_ms * 1000 // self._conclusive_ms if self._conclusive_ms else None,
            inconclusive=dict(self._inconclusive),
        )

    def _evidence(self, rule: Rule, found: _Found) -> Evidence:
        statement = f"{rule.finding} in {found.windows} of {self._conclusive} conclusive windows ({found.ms // 1000} s)"
        return Evidence(rule.name, statement, rule.source, tuple(found.counters), rule.tier)


def assess(results: Iterable[WindowResult]) -> RiskAssessment:
    """Assess a recording from its windows' verdicts."""
    tally = RiskTally()
    for result in results:
        tally.add(result)
    return tally.assessment()


@dataclass(slots=True)
class _Found:
    """What one rule has found so far."""

    windows: int = 0
    ms: int = 0
    counters: list[int] = field(default_factory=list)

    def add(self, result: WindowResult) -> None:
        self.windows += 1
        self.ms += result.duration_ms
        if len(self.counters) < EVIDENCE_WINDOWS_MAX:
            self.counters.append(result.counter)
