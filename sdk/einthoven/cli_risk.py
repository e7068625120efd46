"""How the `einthoven` command shows a risk assessment: one document, and the same for people. Pure but for printing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from einthoven.risk import Counts, Evidence, Period, RiskAssessment, WorstSpan

Document = dict[str, Any]

TIER_COLOUR: Final = {"routine": "green", "elevated": "yellow", "urgent": "bold red", "inconclusive": "dim"}
_HOURS_SHOWN: Final = 48


def assessment_document(assessment: RiskAssessment) -> Document:
    """Return a recording's tier with its evidence; shares are of 1, each beside its n."""
    periods = assessment.periods
    return {
        "tier": assessment.tier.name.lower(),
        "windows": assessment.windows,
        "conclusive_windows": assessment.conclusive,
        "af_burden": _share(assessment.af_burden_permille),
        "inconclusive": {reason.name.lower(): count for reason, count in sorted(assessment.inconclusive.items())},
        "evidence": [_evidence(found) for found in assessment.evidence],
        "unjudged": [{"rule": one.rule, "missing": one.missing} for one in assessment.unjudged],
        "whole": _counts(periods.whole),
        "worst_hours": [_worst(one) for one in periods.worst_hours],
        "worst_days": [_worst(one) for one in periods.worst_days],
        "minutes": _periods(periods.minutes),
        "hours": _periods(periods.hours),
        "days": _periods(periods.days),
    }


def show_assessment(out: Console, assessment: Document) -> None:
    """Show tier and evidence; hours, where there are several."""
    tier, whole = assessment["tier"], assessment["whole"]
    judged = f", {whole['beats']:,} beats judged" if whole["beats"] else ""
    of = f"{assessment['conclusive_windows']} of {assessment['windows']} windows conclusive{judged}"
    out.print(f"\nRisk tier: [{TIER_COLOUR[tier]}]{tier}[/] ({of})")
    for found in assessment["evidence"]:
        at = ", ".join(strip["from"][11:19] for strip in found["strips"])
        where = f" (see {at} UTC)" if at and found["tier"] != "routine" else ""
        colour = TIER_COLOUR[found["tier"]]
        out.print(f"  - [{colour}]{found['tier']}[/]: ", end="")
        out.print(f"{found['statement']}{where}", markup=False)
    for reason, count in assessment["inconclusive"].items():
        out.print(f"  - inconclusive, {reason.replace('_', ' ')}: {count} windows", markup=False)
    for one in assessment["unjudged"]:
        out.print(f"  - not judged, {one['rule'].replace('_', ' ')}: {one['missing']}", markup=False)
    if len(assessment["hours"]) > 1:
        out.print(_hour_table(assessment["hours"]))


def _hour_table(hours: Sequence[Document]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("hour (UTC)", "beats", "V", "S", "runs V/S", "pauses", "rate", "AF of"):
        table.add_column(name, justify="left" if name.startswith("hour") else "right")
    for hour in hours[-_HOURS_SHOWN:]:
        read_s = hour["conclusive_s"]
        table.add_row(
            hour["from"][:13].replace("T", " "),
            f"{hour['beats']:,}",
            _of(hour["pvc_burden"]),
            _of(hour["pac_burden"]),
            f"{hour['v_runs']}/{hour['s_runs']}",
            str(hour["pauses"]),
            "-" if hour["mean_bpm"] is None else str(hour["mean_bpm"]),
            f"{_of(hour['af_burden'])} {read_s:.0f} s" if read_s else "-",
        )
    return table


def _of(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _evidence(found: Evidence) -> Document:
    return {
        "rule": found.rule,
        "tier": found.tier.name.lower(),
        "statement": found.statement,
        "source": found.source,
        "windows": list(found.counters),
        "count": found.count,
        "n": found.n,
        "first_at": None if found.first_ms is None else _utc(found.first_ms),
        "last_at": None if found.last_ms is None else _utc(found.last_ms),
        "strips": [
            {"from": _utc(strip.start_ms), "to": _utc(strip.end_ms), "windows": list(strip.counters)}
            for strip in found.strips
        ],
    }


def _counts(counts: Counts) -> Document:
    return {
        "beats": counts.beats,
        "ventricular": counts.ventricular,
        "pvc_burden": _share(counts.pvc_permille),
        "supraventricular": counts.supraventricular,
        "pac_burden": _share(counts.pac_permille),
        "unknown": counts.unknown,
        "unusable": counts.unusable,
        "followed_s": counts.rr_ms / 1000,
        "mean_bpm": counts.mean_bpm,
        "v_couplets": counts.v_couplets,
        "v_runs": counts.v_runs,
        "v_patterns": counts.v_patterns,
        "s_couplets": counts.s_couplets,
        "s_runs": counts.s_runs,
        "s_patterns": counts.s_patterns,
        "pauses": counts.pauses,
        "longest_rr_ms": counts.longest_rr_ms,
        "windows": counts.windows,
        "conclusive_s": counts.conclusive_ms / 1000,
        "af_s": counts.af_ms / 1000,
        "af_burden": _share(counts.af_permille),
    }


def _periods(periods: Sequence[Period]) -> list[Document]:
    return [{"from": _utc(one.start_ms), **_counts(one.counts)} for one in periods]


def _worst(span: WorstSpan) -> Document:
    seconds = span.what == "af"
    unit = 1000 if seconds else 1
    return {
        "what": span.what,
        "from": _utc(span.start_ms),
        "to": _utc(span.end_ms),
        "part": span.part / unit if seconds else span.part,
        "n": span.n / unit if seconds else span.n,
        "unit": "s" if seconds else "beats",
        "share": _share(span.permille),
    }


def _share(permille: int | None) -> float | None:
    return None if permille is None else permille / 1000


def _utc(at_ms: int) -> str:
    """An instant in UTC; the number itself where it is out of the calendar."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, OSError, ValueError):
        return f"{at_ms} ms since 1970"
