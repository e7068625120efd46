"""How the `einthoven` command shows things: one JSON document each, and the same for people with rich.

Pure but for the printing. A document is made first and shown second, so that both say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from einthoven.cli_heart import heart_document, show_classes, show_heart
from einthoven.cli_risk import TIER_COLOUR, assessment_document, show_assessment
from einthoven.explanation_words import basis_text, set_text
from einthoven.models import Model
from einthoven.ports import LiveSource, Source
from einthoven.recordings import Recording
from einthoven.replaying import Replay, ReplayOutcome
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult

NOT_A_DEVICE = "Not a medical device. A clinician has to confirm every finding."
RHYTHM_TEXT = {
    Rhythm.NORMAL: "normal sinus rhythm",
    Rhythm.AF: "atrial fibrillation",
    Rhythm.OTHER: "other rhythm",
    Rhythm.NOISE: "noise",
}
SHOWN_WINDOWS = 40
"""Windows listed for people; the rest are counted."""

Document = dict[str, Any]


def print_json(document: object) -> None:
    """Write one JSON document and a newline to standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def result_document(result: WindowResult, model: Model) -> Document:
    """Return one result of a model with names instead of numbers; what its probabilities rest on stands beside it."""
    opinion = model.verdict.of_logits(result.logits) if result.n_steps else None
    return {
        "counter": result.counter,
        "started_at": _utc(result.started_at_ms),
        "duration_s": result.duration_ms / 1000,
        "analysed_s": result.n_steps,
        "usable_s": result.usable_s,
        "quality": _flags(result.quality),
        "rhythm": result.rhythm.name.lower(),
        "confidence": result.confidence_permille / 1000,
        "confidence_n": sum(model.verdict.tables.sets.n),
        "probabilities": None if opinion is None else [share / 1000 for share in opinion.permilles],
        "prediction_set": [] if opinion is None else [one.name.lower() for one in opinion.prediction_set],
        "prediction_set_text": "–" if opinion is None else set_text(opinion.prediction_set, opinion.rhythm),
        "logits": list(result.logits),
        "tier": result.tier.name.lower(),
        "reason": None if result.reason is InconclusiveReason.NONE else result.reason.name.lower(),
        "model_digest": result.model_digest.hex(),
        "front_end_version": result.front_end_version,
        "segment_sha256": result.segment_digest.hex(),
    }


def analysis_document(source: Source | LiveSource, model: Model, recording: Recording) -> Document:
    """Return a whole analysis."""
    return {
        "record": source.name,
        "simulated": source.simulated,
        "sampling_rate_hz": float(source.sampling_rate_hz),
        "model_digest": model.digest.hex(),
        "front_end_version": model.front_end_version,
        "assessment": assessment_document(recording.assessment),
        "heart": heart_document(recording.heart),
        "windows": [result_document(result, model) for result in recording.results],
        "calibration": calibration_document(model),
        "notice": NOT_A_DEVICE,
    }


def calibration_document(model: Model) -> Document:
    """Return what a model's probabilities and prediction sets rest on."""
    sets = model.verdict.tables.sets
    return {
        "n": {one.name.lower(): sets.n[one] for one in Rhythm},
        "coverage": sets.coverage_permille / 1000,
        "basis": basis_text(sets),
    }


def show_analysis(out: Console, document: Document) -> None:
    """Show an analysis: the tier, why, and a line a window."""
    simulated = " (simulated)" if document["simulated"] and "simulated" not in document["record"].lower() else ""
    out.print(f"{document['record']}{simulated}, {document['sampling_rate_hz']:g} Hz", markup=False)
    table = Table(box=None, pad_edge=False)
    for name in ("window", "time (UTC)", "length", "rhythm", "confidence", "prediction set", "tier"):
        table.add_column(name)
    for window in document["windows"][:SHOWN_WINDOWS]:
        tier = window["tier"] + (f": {window['reason'].replace('_', ' ')}" if window["reason"] else "")
        colour = TIER_COLOUR[window["tier"]]
        table.add_row(
            str(window["counter"]),
            window["started_at"][11:19],
            f"{window['duration_s']:.0f} s",
            RHYTHM_TEXT[Rhythm[window["rhythm"].upper()]],
            f"{window['confidence']:.2f}",
            window["prediction_set_text"],
            f"[{colour}]{tier}[/]",
        )
    out.print(table)
    if (hidden := len(document["windows"]) - SHOWN_WINDOWS) > 0:
        out.print(f"... and {hidden} more windows (--json lists them all)")
    out.print(f"[dim]{document['calibration']['basis']}[/]")
    show_assessment(out, document["assessment"])
    show_heart(out, document["heart"])
    out.print(f"[dim]{NOT_A_DEVICE}[/]")


def show_beats(out: Console, document: Document) -> None:
    """Show what beats and signal add up to."""
    out.print(f"{document['record']}, {document['sampling_rate_hz']:g} Hz", markup=False)
    show_heart(out, document["heart"])
    show_classes(out, document["beat_class_counts"])
    out.print(f"[dim]{NOT_A_DEVICE} --json lists every beat and second.[/]")


def show_identity(out: Console, document: Document) -> None:
    """Show an enrolment."""
    out.print(f"Enrolled with {document['server']} as device {document['device_id']}.", markup=False)


def replay_document(replays: Sequence[Replay]) -> Document:
    """Return what replaying found."""
    return {
        "replayed": len(replays),
        "same": sum(one.outcome is ReplayOutcome.SAME for one in replays),
        "results": [
            {"counter": one.stored.counter, "outcome": one.outcome.value, "differing": list(one.differing)}
            for one in replays
        ],
    }


def show_replay(out: Console, document: Document) -> None:
    """Show how many replayed, and each that did not."""
    out.print(f"{document['same']} of {document['replayed']} results replay bit for bit from their stored signal.")
    for one in document["results"]:
        if one["outcome"] != ReplayOutcome.SAME:
            fields = f" ({', '.join(one['differing'])})" if one["differing"] else ""
            out.print(f"  result {one['counter']}: {one['outcome'].replace('_', ' ')}{fields}", markup=False)


def tier_style(tier: RiskTier) -> str:
    """Return the rich style of a tier."""
    return TIER_COLOUR[tier.name.lower()]


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _flags(quality: Quality) -> list[str]:
    return [flag.name.lower() for flag in quality if flag.name]
