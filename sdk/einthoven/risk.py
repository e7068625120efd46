"""Risk by rhythm and burden: from beats and window verdicts to a tier with its evidence. Pure; memory is bounded.

The rules are in ``risk_rules``; ``WindowRules`` follows verdicts, ``BeatRules`` beats; here they become one tier. A
stored result carries the tier of its own rhythm alone (``window_tier``): ectopy, pauses and rates are of the
recording. It deliberately knows no outcome ("stroke", "death") and no percentage without the n behind it, and it never
turns an inconclusive window into a normal one: what could not be read counts neither for nor against.

Invariants:
    1. The tier is the highest that a rule gives. ``ROUTINE`` needs a conclusive window: beats can raise a tier, but
       never vouch for a rhythm that nobody read.
    2. Every tier but ``INCONCLUSIVE`` has evidence: a rule, counts, times, and the strips or windows that led to it.
    3. The same beats and the same verdicts, each in their order, give the same assessment, however the two are
       interleaved and however they are cut into calls.
    4. The tier never falls: what follows takes nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from einthoven import risk_rules as rules
from einthoven.results import InconclusiveReason, Rhythm, RiskTier, WindowResult
from einthoven.risk_beat_rules import BeatRules
from einthoven.risk_beats import RiskBeat
from einthoven.risk_evidence import (
    EVIDENCE_WINDOWS_MAX,
    Episode,
    Evidence,
    EvidenceStrip,
    Found,
    Unjudged,
    WindowsSeen,
)
from einthoven.risk_periods import Counts, Period, Periods, WorstSpan
from einthoven.risk_rules import RULES, Rule
from einthoven.risk_statements import beat_statement, window_statement
from einthoven.risk_window_rules import WindowRules

__all__ = [
    "EVIDENCE_WINDOWS_MAX",
    "RULES",
    "WINDOW_RULE_NAMES",
    "Counts",
    "Episode",
    "Evidence",
    "EvidenceStrip",
    "Period",
    "Periods",
    "RiskAssessment",
    "RiskBeat",
    "RiskTally",
    "Rule",
    "Unjudged",
    "WorstSpan",
    "assess",
    "window_tier",
]

_WINDOW_RULES: Final = (rules.AF_EPISODE, rules.AF_SHORT, rules.OTHER_RHYTHM, rules.NORMAL)
WINDOW_RULE_NAMES: Final = frozenset(rule.name for rule in _WINDOW_RULES)
_TIER_OF: Final = {Rhythm.NORMAL: RiskTier.ROUTINE, Rhythm.AF: RiskTier.ELEVATED, Rhythm.OTHER: RiskTier.ELEVATED}


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
        periods: Counts of the whole, by minute, hour and day, and the worst hour and day.
        unjudged: Rules of beats that had too little to rest on; empty where no beat was ever given.
    """

    tier: RiskTier
    evidence: tuple[Evidence, ...]
    windows: int
    conclusive: int
    af_burden_permille: int | None
    inconclusive: dict[InconclusiveReason, int]
    periods: Periods = field(default_factory=lambda: Periods(Counts()))
    unjudged: tuple[Unjudged, ...] = ()


def window_tier(rhythm: Rhythm, reason: InconclusiveReason) -> RiskTier:
    """Return the tier of one window; noise has none, whatever else is said of it."""
    if reason is not InconclusiveReason.NONE:
        return RiskTier.INCONCLUSIVE
    return _TIER_OF.get(rhythm, RiskTier.INCONCLUSIVE)


class RiskTally:
    """Adds up beats and windows as they come, in bounded memory however long the recording.

    Beats come in the order of their time, windows too; which come first does not matter, as long as windows are not
    more than ``WindowsSeen.KEPT`` ahead (strips would not know their windows). Not safe for use from several threads
    at once.
    """

    def __init__(self) -> None:
        self._windows = WindowRules()
        self._beats = BeatRules()
        self._seen = WindowsSeen()

    @property
    def tier(self) -> RiskTier:
        """The tier so far; costs nothing."""
        return max(self._windows.tier, self._beats.tier)

    def add(self, result: WindowResult) -> list[Episode]:
        """Count one window.

        Returns:
            Episodes that began or ended with it.
        """
        episodes = self._windows.add(result)
        end_ms = result.started_at_ms + result.duration_ms
        self._seen.add(result.started_at_ms, end_ms, result.counter, self._beats.spans() | self._windows.spans())
        return episodes

    def add_beat(self, beat: RiskBeat) -> list[Episode]:
        """Count one beat.

        Returns:
            Episodes that began or ended with it.
        """
        return self._beats.add(beat)

    def add_beats(self, beats: Iterable[RiskBeat]) -> list[Episode]:
        """Count beats in their order.

        Returns:
            Episodes that began or ended with them.
        """
        return [episode for beat in beats for episode in self._beats.add(beat)]

    def cut(self) -> list[Episode]:
        """End what goes on, because the recording ended or its time line did; more may follow.

        Returns:
            Episodes that ended.
        """
        return [*self._beats.cut(), *self._windows.cut()]

    def assessment(self) -> RiskAssessment:
        """Return what beats and windows so far add up to; changes nothing."""
        whole, (minutes, hours, days) = self._beats.ledger.periods(self._windows.ledger)
        worst_hours = (self._beats.pvc_hour.worst, self._beats.pac_hour.worst, self._windows.af_hour.worst)
        worst_days = (self._beats.pvc_day.worst, self._beats.pac_day.worst, self._windows.af_day.worst)
        return RiskAssessment(
            tier=self.tier,
            evidence=tuple(self._evidence(whole)),
            windows=self._windows.windows,
            conclusive=self._windows.conclusive,
            af_burden_permille=whole.af_permille,
            inconclusive=dict(self._windows.inconclusive),
            periods=Periods(
                whole,
                minutes,
                hours,
                days,
                tuple(worst for worst in worst_hours if worst is not None),
                tuple(worst for worst in worst_days if worst is not None),
            ),
            unjudged=tuple(self._unjudged(whole)),
        )

    def _evidence(self, whole: Counts) -> Iterable[Evidence]:
        """One entry a rule that found something, in the table's order."""
        by_beats, by_windows = self._beats.found(), self._windows.found()
        if self._beats.pvc_burden_high:
            by_beats[rules.PVC_BURDEN.name] = by_beats[rules.PVC.name]
        if self._beats.pac_frequent:
            by_beats[rules.PAC_FREQUENT.name] = by_beats[rules.PAC.name]
        worst = {
            rules.PVC.name: self._beats.pvc_hour.worst,
            rules.PVC_BURDEN.name: self._beats.pvc_day.worst,
            rules.PAC_FREQUENT.name: self._beats.pac_hour.worst,
        }
        if whole.beats < rules.ECTOPY_MIN_BEATS:
            by_beats.pop(rules.PVC.name, None)
            by_beats.pop(rules.PAC.name, None)
        for rule in RULES:
            if rule in _WINDOW_RULES and rule.name in by_windows:
                found, n = by_windows[rule.name], self._windows.conclusive
                yield self._shown(rule, found, window_statement(rule, found, n), found.parts, n)
            elif rule.name in by_beats:
                found, span = by_beats[rule.name], worst.get(rule.name)
                count, n = found.count, whole.beats
                if rule.name.startswith(("pause", "no_beats", "tachy", "brady")):
                    n = whole.intervals
                elif rule in (rules.PVC_BURDEN, rules.PAC_FREQUENT) and span is not None:
                    count, n = span.part, span.n
                yield self._shown(rule, found, beat_statement(rule, found, whole, span), count, n)

    def _shown(self, rule: Rule, found: Found, statement: str, count: int, n: int) -> Evidence:
        strips = tuple(EvidenceStrip(*span, self._seen.holding(span)) for span in found.spans)
        counters = tuple(found.counters) or tuple(sorted({one for strip in strips for one in strip.counters}))
        # A routine finding vouches for nothing while no rhythm was read.
        tier = RiskTier.INCONCLUSIVE if self.tier is RiskTier.INCONCLUSIVE else rule.tier
        return Evidence(
            rule.name, statement, rule.source, counters, tier, count, n, found.first_ms, found.last_ms, strips
        )

    def _unjudged(self, whole: Counts) -> Iterable[Unjudged]:
        if not self._beats.seen:
            return
        if whole.beats < rules.BURDEN_MIN_BEATS:
            yield Unjudged(rules.PVC_BURDEN.name, f"needs {rules.PVC_BURDEN.needs}; there are {whole.beats}")
        if not self._beats.rate_known:
            yield Unjudged(rules.TACHYCARDIA.name, f"needs {rules.TACHYCARDIA.needs} at a stretch")


def assess(results: Iterable[WindowResult]) -> RiskAssessment:
    """Assess a recording from its windows' verdicts alone: what is stored, without beats."""
    tally = RiskTally()
    for result in results:
        tally.add(result)
    return tally.assessment()
