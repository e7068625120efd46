"""The rules of windows: rhythm, AF episodes and AF burden, as verdicts come. Pure; memory is bounded.

It deliberately judges what a window's verdict says and nothing else: a window without one counts neither for nor
against.

Invariants:
    1. ``tier`` never falls, and is ``INCONCLUSIVE`` while no window is conclusive.
    2. The same verdict twice in a row counts once.
"""

from __future__ import annotations

from collections import Counter

from einthoven import risk_rules as rules
from einthoven.results import InconclusiveReason, Rhythm, RiskTier, WindowResult
from einthoven.risk_evidence import Episode, Found
from einthoven.risk_periods import HOUR_MS, MINUTE_MS, Ledger, Rolling
from einthoven.risk_rhythm import AfEpisode, AfFollower


class WindowRules:
    """Follows verdicts.

    Attributes:
        tier: The highest tier so far.
        ledger: Counts by time.
        windows: Windows taken.
        conclusive: Those with a verdict.
        inconclusive: Those without, by reason.
    """

    def __init__(self) -> None:
        self.tier = RiskTier.INCONCLUSIVE
        self.ledger = Ledger()
        self.windows = 0
        self.conclusive = 0
        self.inconclusive: Counter[InconclusiveReason] = Counter()
        self.af_hour = Rolling("af", MINUTE_MS, 60, rules.AF_BURDEN_MIN_MS)
        self.af_day = Rolling("af", HOUR_MS, 24, rules.AF_BURDEN_MIN_MS)
        self._latest: WindowResult | None = None
        self._found: dict[str, Found] = {}
        self._af = AfFollower()
        self._said = False

    def add(self, result: WindowResult) -> list[Episode]:
        """Take the next verdict.

        Returns:
            Episodes of AF that began or ended with it.
        """
        if result == self._latest:
            return []
        self._latest = result
        self.windows += 1
        start_ms, end_ms = result.started_at_ms, result.started_at_ms + result.duration_ms
        self.ledger.at(start_ms).windows += 1
        read = result.tier is not RiskTier.INCONCLUSIVE
        af = result.rhythm is Rhythm.AF if read else None
        if read:
            self.conclusive += 1
            self.tier = max(self.tier, result.tier)
            self._count_time(start_ms, end_ms, af=af is True)
            if not af:
                rule = rules.NORMAL if result.rhythm is Rhythm.NORMAL else rules.OTHER_RHYTHM
                self._of(rule.name).add(
                    start_ms, end_ms, severity=result.confidence_permille, counters=(result.counter,)
                )
        else:
            self.inconclusive[result.reason] += 1
        return self._follow_af(self._af.add(start_ms, end_ms, result.counter, af=af))

    def cut(self) -> list[Episode]:
        """End the recording.

        Returns:
            The episode of AF that ended with it.
        """
        return self._follow_af(self._af.cut())

    def found(self) -> dict[str, Found]:
        """What each rule has found, with the episode that goes on as far as it is known."""
        found = {name: one.copy() for name, one in self._found.items()}
        if self._af.open is not None:
            _add_af(found.setdefault(_af_rule(self._af.open).name, Found(with_lead=False)), self._af.open)
        return found

    def spans(self) -> set[tuple[int, int]]:
        """Every strip that is kept."""
        return {span for one in self.found().values() for span in one.spans}

    def _of(self, name: str) -> Found:
        return self._found.setdefault(name, Found(with_lead=False))

    def _count_time(self, start_ms: int, end_ms: int, *, af: bool) -> None:
        """Give each minute its share of a window."""
        while start_ms < end_ms:
            stop_ms = min(end_ms, (start_ms // MINUTE_MS + 1) * MINUTE_MS)
            read_ms = stop_ms - start_ms
            counts = self.ledger.at(start_ms)
            counts.conclusive_ms += read_ms
            counts.af_ms += read_ms * af
            self.af_hour.add(start_ms, read_ms * af, read_ms)
            self.af_day.add(start_ms, read_ms * af, read_ms)
            start_ms = stop_ms

    def _follow_af(self, ended: AfEpisode | None) -> list[Episode]:
        episodes = []
        if ended is not None:
            _add_af(self._of(_af_rule(ended).name), ended)
            if self._said:
                self._said = False
                episodes.append(_episode(ended, going_on=False))
        known = self._af.open
        if known is not None and not self._said and known.af_ms >= rules.AF_EPISODE_MIN_MS:
            self._said = True
            episodes.append(_episode(known, going_on=True))
        return episodes


def _af_rule(episode: AfEpisode) -> rules.Rule:
    return rules.AF_EPISODE if episode.af_ms >= rules.AF_EPISODE_MIN_MS else rules.AF_SHORT


def _add_af(found: Found, episode: AfEpisode) -> None:
    found.add(
        episode.start_ms,
        episode.end_ms,
        severity=episode.af_ms,
        ms=episode.af_ms,
        counters=episode.counters,
        parts=episode.windows,
    )


def _episode(known: AfEpisode, *, going_on: bool) -> Episode:
    said = f"{known.af_ms // 1000} s read as atrial fibrillation in {known.windows} windows"
    return Episode(rules.AF_EPISODE, known.start_ms, known.end_ms, going_on, said)
