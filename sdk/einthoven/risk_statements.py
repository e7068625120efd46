"""What a rule has found, in one sentence with its counts; and the table of rules as text. Pure.

Invariants:
    1. No share without its n, no rate without the time it is of, and no word of what might come of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from einthoven import risk_rules as rules
from einthoven.risk_evidence import Found
from einthoven.risk_periods import HOUR_MS, Counts, WorstSpan
from einthoven.risk_rules import RULES, Rule


def rules_markdown() -> str:
    """The table as Markdown, for ``docs/risk-rules.md``."""
    head = "| rule | tier | what is found | rests on | source |\n| --- | --- | --- | --- | --- |\n"
    rows = (f"| `{r.name}` | {r.tier.name.lower()} | {r.finding} | {r.needs} | {r.source} |\n" for r in RULES)
    return head + "".join(rows)


def percent(part: int, n: int) -> str:
    """A share as per cent with one decimal, rounded down: 12.3 %."""
    tenths = part * 1000 // n if n else 0
    return f"{tenths // 10}.{tenths % 10} %"


def followed(counts: Counts) -> str:
    """How long beats were followed: 30 min, 1.5 h."""
    seconds = counts.rr_ms // 1000
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds / 3600:.1f} h"


def window_statement(rule: Rule, found: Found, conclusive: int) -> str:
    """Of a rule of windows."""
    episodes = ""
    if rule in (rules.AF_EPISODE, rules.AF_SHORT):
        longest = f", longest {found.longest_ms // 1000} s" if found.count > 1 else ""
        episodes = f": {_several(found.count, 'episode')}{longest},"
    return f"{rule.finding}{episodes} in {found.parts} of {conclusive} conclusive windows ({found.ms // 1000} s)"


def beat_statement(rule: Rule, found: Found, whole: Counts, worst: WorstSpan | None) -> str:
    """Of a rule of beats."""
    say = _SAID.get(rule.name)
    if say is not None:
        return say(rule, found, whole, worst)
    if rule.name.startswith(("tachycardia", "bradycardia")):
        word = "highest" if rule.name.startswith("tachy") else "lowest"
        rate = abs(found.worst or 0) // 1000
        return (
            f"{rule.finding}: {_several(found.count, 'stretch', 'es')}, {found.ms // 1000} s together, {word} mean of "
            f"{rules.RATE_SPAN_MS // 1000} s {rate}/min; in {followed(whole)} of usable intervals"
        )
    if rule in (rules.PAUSE_UNSURE, rules.NO_BEATS):
        return f"{rule.finding}: {_several(found.count, 'time')}, longest {found.longest_ms / 1000:.1f} s"
    if rule.name.startswith("pause"):
        return (
            f"{rule.finding}: {found.count} of {whole.intervals:,} intervals in usable seconds, longest "
            f"{found.longest_ms / 1000:.1f} s"
        )
    return f"{rule.finding}: {_rows(rule, found)}; {whole.beats:,} judged beats"


def _rows(rule: Rule, found: Found) -> str:
    beats, bpm = divmod(found.worst or 0, 1000)
    if rule in (rules.V_BIGEMINY, rules.V_TRIGEMINY):
        return f"{_several(found.count, 'time')}, longest with {beats} ventricular beats"
    if rule is rules.V_COUPLET:
        return _several(found.count, "time")
    lasts = f", {found.longest_ms / 1000:.1f} s" if found.longest_ms >= 10_000 else ""
    return f"{_several(found.count, 'time')}, longest {beats} beats, up to {bpm}/min{lasts}"


def _pvc(rule: Rule, found: Found, whole: Counts, worst: WorstSpan | None) -> str:
    forms = _forms(whole.v_couplets, whole.v_runs, whole.v_patterns)
    return f"{rule.finding}: {_burden(whole.ventricular, whole)}{forms}{_worst_hour(worst, whole)}"


def _pac(rule: Rule, found: Found, whole: Counts, worst: WorstSpan | None) -> str:
    forms = _forms(whole.s_couplets, whole.s_runs, whole.s_patterns)
    if whole.af_ms:
        forms += "; in atrial fibrillation none can be told apart"
    return f"{rule.finding}: {_burden(whole.supraventricular, whole)}{forms}"


def _pvc_burden(rule: Rule, found: Found, whole: Counts, worst: WorstSpan | None) -> str:
    if worst is None:
        return rule.finding
    share = f"{percent(worst.part, worst.n)} of {worst.n:,} judged beats within 24 h"
    return f"{rule.finding}: {share}; {_burden(whole.ventricular, whole)}"


def _pac_frequent(rule: Rule, found: Found, whole: Counts, worst: WorstSpan | None) -> str:
    if worst is None:
        return rule.finding
    most = f"at most {worst.part} in an hour ({worst.n:,} judged beats, to {_utc(worst.end_ms)})"
    return f"{rule.finding}: {most}; {_burden(whole.supraventricular, whole)}"


_SAID: Final[dict[str, Callable[[Rule, Found, Counts, WorstSpan | None], str]]] = {
    rules.PVC.name: _pvc,
    rules.PAC.name: _pac,
    rules.PVC_BURDEN.name: _pvc_burden,
    rules.PAC_FREQUENT.name: _pac_frequent,
}


def _burden(part: int, whole: Counts) -> str:
    return f"{part:,} of {whole.beats:,} judged beats ({percent(part, whole.beats)}) in {followed(whole)}"


def _worst_hour(worst: WorstSpan | None, whole: Counts) -> str:
    """The worst rolling hour as a phrase; empty without one, or where an hour is all there is."""
    if worst is None or whole.rr_ms <= HOUR_MS:
        return ""
    return f"; worst hour {percent(worst.part, worst.n)} of {worst.n:,}, to {_utc(worst.end_ms)}"


def _forms(couplets: int, runs: int, patterns: int) -> str:
    named = ((couplets, "couplet"), (runs, "run"), (patterns, "bi- or trigeminal stretch"))
    told = ", ".join(_several(count, name, "es" if name.endswith("ch") else "s") for count, name in named if count)
    return f"; {told}, certain or not" if told else "; all single"


def _several(count: int, name: str, ending: str = "s") -> str:
    return f"{count:,} {name}{'' if count == 1 else ending}"


def _utc(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return "a time out of the calendar"
