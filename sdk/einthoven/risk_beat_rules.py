"""The rules of beats: ectopy, runs, pauses, rates, burdens, as beats come. Pure; memory is bounded.

It deliberately knows no window and no rhythm: ``risk.RiskTally`` puts the two together.

Invariants:
    1. What is found, and ``tier``, depend on the beats alone, in their order, not on how they are cut into calls.
    2. ``tier`` never falls.
"""

from __future__ import annotations

from typing import Final

from einthoven import risk_rules as rules
from einthoven.results import BeatClass, RiskTier
from einthoven.risk_beats import RiskBeat, Succession, believed
from einthoven.risk_ectopy import EctopyFollower, Group, GroupKind
from einthoven.risk_evidence import Episode, Found
from einthoven.risk_periods import HOUR_MS, MINUTE_MS, Counts, Ledger, Rolling
from einthoven.risk_rates import RateEpisode, RateFollower
from einthoven.risk_rules import Rule

_PATTERNS: Final = {GroupKind.BIGEMINY: rules.V_BIGEMINY, GroupKind.TRIGEMINY: rules.V_TRIGEMINY}


def group_rule(beat_class: BeatClass, group: Group) -> Rule | None:
    """The rule that a group of ectopic beats falls under."""
    if beat_class is BeatClass.SUPRAVENTRICULAR:
        return _s_run_rule(group) if group.kind is GroupKind.RUN and group.fast and group.certain else None
    if group.kind is GroupKind.RUN:
        return _v_run_rule(group)
    if not group.certain:
        return None
    return rules.V_COUPLET if group.kind is GroupKind.COUPLET else _PATTERNS.get(group.kind)


def _v_run_rule(group: Group) -> Rule | None:
    if group.fast and group.certain:
        return rules.VT_SUSTAINED if group.end_ms - group.start_ms >= rules.RUN_SUSTAINED_MS else rules.VT_RUN
    if group.fast:
        return rules.VT_UNCERTAIN
    return rules.IDIOVENTRICULAR if group.certain else None


def _s_run_rule(group: Group) -> Rule:
    if group.end_ms - group.start_ms >= rules.RUN_SUSTAINED_MS:
        return rules.SVT_SUSTAINED
    return rules.S_RUN_LONG if group.beats >= rules.S_RUN_LONG_BEATS else rules.S_RUN


def pause_rule(rr_ms: int) -> Rule | None:
    """The rule that a trusted interval falls under."""
    if rr_ms <= rules.PAUSE_NOTED_MS or not believed(rr_ms):
        return None
    if rr_ms < rules.PAUSE_LONG_MS:
        return rules.PAUSE_NOTED
    return rules.PAUSE_LONG if rr_ms < rules.PAUSE_VERY_LONG_MS else rules.PAUSE_VERY_LONG


class BeatRules:
    """Follows beats.

    Attributes:
        tier: The highest tier so far that goes beyond ``ROUTINE``, else ``INCONCLUSIVE``.
        ledger: Counts by time.
        seen: Beats taken, whatever they are.
        rate_known: Whether there ever was a stretch long enough for a rate.
    """

    def __init__(self) -> None:
        self.tier = RiskTier.INCONCLUSIVE
        self.ledger = Ledger()
        self.seen = 0
        self.rate_known = False
        self._succession = Succession()
        self._followers = {kind: EctopyFollower(kind) for kind in (BeatClass.VENTRICULAR, BeatClass.SUPRAVENTRICULAR)}
        self._said: dict[BeatClass, Rule] = {}
        self._rates = RateFollower()
        self._found: dict[str, Found] = {}
        least = rules.BURDEN_MIN_BEATS
        self.pvc_hour = Rolling("pvc", MINUTE_MS, 60, least)
        self.pvc_day = Rolling("pvc", HOUR_MS, 24, least)
        self.pac_hour = Rolling("pac", MINUTE_MS, 60, 1, by_part=True)
        self.pac_day = Rolling("pac", HOUR_MS, 24, least)

    def add(self, beat: RiskBeat) -> list[Episode]:
        """Take the next beat.

        Returns:
            Episodes that began or ended with it.
        """
        new, rr_ms = self._succession.take(beat)
        if not new:
            return []
        self.seen += 1
        counts = self.ledger.at(beat.at_ms)
        unsure_ms = beat.unsure_rr_ms
        if unsure_ms is not None and unsure_ms >= rules.PAUSE_LONG_MS and believed(unsure_ms):
            self._of(rules.PAUSE_UNSURE).add(beat.at_ms - unsure_ms, beat.at_ms, severity=unsure_ms)
        if not beat.usable:
            counts.unusable += 1
            return self.cut()
        if rr_ms is not None and not believed(rr_ms):
            self._of(rules.NO_BEATS).add(beat.at_ms - rr_ms, beat.at_ms, severity=rr_ms)
            rr_ms = None
        episodes = self._follow_rate(beat.at_ms, rr_ms, counts)
        self._count(beat, counts)
        for kind, follower in self._followers.items():
            ended = follower.add(beat.at_ms, rr_ms, beat.beat_class, beat.class_permille)
            if ended or beat.beat_class is kind:
                episodes += self._follow_groups(kind, ended, counts)
        return episodes

    def cut(self) -> list[Episode]:
        """End the stretch: what goes on ends with its last beat.

        Returns:
            Episodes that ended.
        """
        episodes = [self._end_rate(ended) for ended in self._rates.cut()]
        for kind, follower in self._followers.items():
            ended = follower.cut()
            if ended:
                episodes += self._follow_groups(kind, ended, self.ledger.at(ended[-1].end_ms))
        return [episode for episode in episodes if episode.tier > RiskTier.ROUTINE]

    def found(self) -> dict[str, Found]:
        """What each rule has found, with what goes on as far as it is known."""
        found = {name: one.copy() for name, one in self._found.items()}
        for kind, follower in self._followers.items():
            for group in follower.open:
                rule = group_rule(kind, group)
                if rule is not None:
                    _add_group(found.setdefault(rule.name, Found()), group)
        for episode in self._rates.open:
            _add_rate(found.setdefault(episode.rule.name, Found()), episode)
        return found

    def spans(self) -> set[tuple[int, int]]:
        """Every strip that is kept."""
        return {span for one in self._found.values() for span in one.spans}

    def _of(self, rule: Rule) -> Found:
        return self._found.setdefault(rule.name, Found())

    def _raise(self, rule: Rule) -> None:
        if rule.tier > max(self.tier, RiskTier.ROUTINE):
            self.tier = rule.tier

    def _count(self, beat: RiskBeat, counts: Counts) -> None:
        if beat.beat_class is BeatClass.UNKNOWN:
            counts.unknown += 1
            return
        counts.beats += 1
        ventricular = beat.beat_class is BeatClass.VENTRICULAR
        supraventricular = beat.beat_class is BeatClass.SUPRAVENTRICULAR
        if ventricular:
            counts.ventricular += 1
            self._of(rules.PVC).add(beat.at_ms, beat.at_ms, severity=beat.class_permille)
        elif supraventricular:
            counts.supraventricular += 1
            self._of(rules.PAC).add(beat.at_ms, beat.at_ms, severity=beat.class_permille)
        certain = int(supraventricular and beat.class_permille >= rules.CLASS_MIN_PERMILLE)
        self.pvc_hour.add(beat.at_ms, int(ventricular), 1)
        self.pac_day.add(beat.at_ms, certain, 1)
        if self.pvc_day.add(beat.at_ms, int(ventricular), 1) and self.pvc_burden_high:
            self._raise(rules.PVC_BURDEN)
        if self.pac_hour.add(beat.at_ms, certain, 1) and self.pac_frequent:
            self._raise(rules.PAC_FREQUENT)

    @property
    def pvc_burden_high(self) -> bool:
        """Whether the worst rolling day has ``PVC_BURDEN_PERMILLE`` or more."""
        part, n, _ = self.pvc_day.worst_parts
        return n > 0 and part * 1000 >= rules.PVC_BURDEN_PERMILLE * n

    @property
    def pac_frequent(self) -> bool:
        """Whether any rolling hour has ``PAC_PER_HOUR`` or more that are certain."""
        return self.pac_hour.worst_parts[0] >= rules.PAC_PER_HOUR

    def _follow_rate(self, at_ms: int, rr_ms: int | None, counts: Counts) -> list[Episode]:
        if rr_ms is None:
            ended = [self._end_rate(one) for one in self._rates.cut()]
            return [episode for episode in ended if episode.tier > RiskTier.ROUTINE]
        counts.intervals += 1
        counts.rr_ms += rr_ms
        counts.longest_rr_ms = max(counts.longest_rr_ms, rr_ms)
        episodes = []
        rule = pause_rule(rr_ms)
        if rule is not None:
            counts.pauses += 1
            self._of(rule).add(at_ms - rr_ms, at_ms, severity=rr_ms)
            self._raise(rule)
            said = f"pause of {rr_ms / 1000:.1f} s"
            episodes += [Episode(rule, at_ms - rr_ms, at_ms, going_on, said) for going_on in (True, False)]
        began, over = self._rates.add(at_ms, rr_ms)
        self.rate_known = self.rate_known or self._rates.milli_bpm is not None
        for one in began:
            self._raise(one.rule)
            episodes.append(Episode(one.rule, one.start_ms, one.end_ms, True, _rate_said(one)))
        episodes += [self._end_rate(one) for one in over]
        return [episode for episode in episodes if episode.tier > RiskTier.ROUTINE]

    def _end_rate(self, one: RateEpisode) -> Episode:
        _add_rate(self._of(one.rule), one)
        return Episode(one.rule, one.start_ms, one.end_ms, False, _rate_said(one))

    def _follow_groups(self, kind: BeatClass, ended: list[Group], counts: Counts) -> list[Episode]:
        episodes = []
        for group in ended:
            _count_group(kind, group, counts)
            rule = group_rule(kind, group)
            if rule is not None:
                _add_group(self._of(rule), group)
                self._raise(rule)
            if group.kind is GroupKind.RUN and self._said.pop(kind, None) is not None and rule is not None:
                episodes.append(Episode(rule, group.start_ms, group.end_ms, False, _group_said(group)))
        for group in self._followers[kind].open:
            rule = group_rule(kind, group)
            if rule is None:
                continue
            self._raise(rule)
            if group.kind is GroupKind.RUN and rule.tier > RiskTier.ROUTINE and self._said.get(kind) is not rule:
                self._said[kind] = rule
                episodes.append(Episode(rule, group.start_ms, group.end_ms, True, _group_said(group)))
        return episodes


def _count_group(kind: BeatClass, group: Group, counts: Counts) -> None:
    letter = "v" if kind is BeatClass.VENTRICULAR else "s"
    if group.kind is GroupKind.SINGLE:
        return
    name = {GroupKind.COUPLET: "couplets", GroupKind.RUN: "runs"}.get(group.kind, "patterns")
    setattr(counts, f"{letter}_{name}", getattr(counts, f"{letter}_{name}") + 1)


def _add_group(found: Found, group: Group) -> None:
    """The longest first, of equals the fastest."""
    found.add(group.start_ms, group.end_ms, severity=1000 * group.beats + min(999, group.peak_bpm), parts=group.beats)


def _add_rate(found: Found, one: RateEpisode) -> None:
    fast = one.rule in (rules.TACHYCARDIA, rules.FAST_TACHYCARDIA, rules.EXTREME_TACHYCARDIA)
    found.add(one.start_ms, one.end_ms, severity=one.milli_bpm if fast else -one.milli_bpm)


def _group_said(group: Group) -> str:
    return f"{group.beats} beats in a row, up to {group.peak_bpm}/min, {(group.end_ms - group.start_ms) / 1000:.1f} s"


def _rate_said(one: RateEpisode) -> str:
    return f"{one.milli_bpm // 1000}/min over {rules.RATE_SPAN_MS // 1000} s"
