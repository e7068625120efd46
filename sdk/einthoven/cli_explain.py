"""`einthoven explain`: why each window of a file, or of the store, got its verdict.

It deliberately explains nothing itself (``explanation`` does), and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from einthoven import cli_render as render
from einthoven.analysis import Runner
from einthoven.cli_options import (
    FILE_HELP,
    Home,
    Json,
    Lead,
    ModelFolder,
    SamplingRate,
    TrustedKeys,
    Unit,
    open_model,
    open_runner,
    open_store,
    parsed_rate,
)
from einthoven.cli_risk import TIER_COLOUR
from einthoven.errors import InputError
from einthoven.explanation import explain_window
from einthoven.explanation_events import ExplainedWindow, what_drove
from einthoven.explanation_parts import BeatMark, Contribution, Second
from einthoven.explanation_words import SECONDS_HEARD, runs, sentences
from einthoven.models import Model
from einthoven.ports import Store
from einthoven.recordings import analyze
from einthoven.results import Rhythm, RiskTier, WindowResult
from einthoven.risk import Evidence
from einthoven.sources import open_source
from einthoven.store_memory import MemoryStore

TOLD_WINDOWS: Final = 5
"""Windows that are told in sentences; those that are not routine first."""
_BATCH: Final = 500
"""Results read from the store at a time."""

Document = dict[str, Any]


def explain(
    home: Home,
    file: Annotated[Path | None, typer.Argument(help=f"{FILE_HELP} The store, if not given.")] = None,
    window: Annotated[int | None, typer.Option(help="Only this window or stored result.", min=1)] = None,
    sampling_rate_hz: SamplingRate = None,
    unit: Unit = None,
    lead: Lead = None,
    model_folder: ModelFolder = None,
    trusted_key: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Say why: which seconds, beats and measures drove each verdict of a file, or of the store; nothing is kept."""
    model = open_model(model_folder, trusted_key)
    runner = open_runner(model)
    if file is None:
        with open_store(home, create=False) as store:
            document = explained_document(model, runner, store, results_of(store, window))
    else:
        source = open_source(file, sampling_rate_hz=parsed_rate(sampling_rate_hz), unit=unit, lead=lead)
        memory = MemoryStore()
        recording = analyze(model, memory, source, runner=runner)
        results = results_of(memory, window)
        document = explained_document(model, runner, memory, results, recording.assessment.evidence)
        document |= {"record": source.name, "simulated": source.simulated}
    if as_json:
        render.print_json(document)
    else:
        show_explained(Console(highlight=False), document)


def results_of(store: Store, counter: int | None) -> list[WindowResult]:
    """The stored results, or one of them.

    Raises:
        InputError: There is no such one.
    """
    if counter is not None:
        stored = store.result(counter)
        if stored is None:
            raise InputError(f"there is no window {counter}", "leave out --window to see which there are")
        return [stored]
    results: list[WindowResult] = []
    while batch := store.results(first_counter=len(results) + 1, limit=_BATCH):
        results += batch
    return results


def explained_document(
    model: Model, runner: Runner, store: Store, results: Sequence[WindowResult], evidence: Sequence[Evidence] = ()
) -> Document:
    """Recompute windows from their stored signal and explain them.

    Args:
        model: A verified model.
        runner: Runs it.
        store: Holds the segments.
        results: What to explain; those of another model, or without a segment, are named only.
        evidence: What led to a risk tier, for the events.
    """
    windows: list[ExplainedWindow] = []
    unexplained: list[Document] = []
    for result in results:
        same = (result.model_digest, result.front_end_version) == (model.digest, model.front_end_version)
        segment = store.segment(result.segment_digest) if same else None
        if segment is None:
            why = "no_segment" if same else "other_model"
            unexplained.append({"counter": result.counter, "why": why})
            continue
        explanation = explain_window(model, runner, segment.samples_uv, segment.sampling_rate_hz)
        windows.append(ExplainedWindow(result, explanation))
    return {
        "model_digest": model.digest.hex(),
        "calibration": render.calibration_document(model),
        "windows": [window_document(model, window) for window in windows],
        "events": [_event(found, windows) for found in evidence if found.strips and found.tier > RiskTier.ROUTINE],
        "unexplained": unexplained,
        "notice": render.NOT_A_DEVICE,
    }


def window_document(model: Model, window: ExplainedWindow) -> Document:
    """Return one explanation; times are in seconds of the window, strengths and falls in 1/1024 octave."""
    found, result = window.explanation, window.result
    return {
        **render.result_document(result, model),
        "replays": (found.analysis.logits, found.analysis.reason) == (result.logits, result.reason),
        "about": found.about.name.lower(),
        "strength": found.strength,
        "af_log_odds": found.af_log_odds,
        "driving_s": [list(run) for run in runs(found.driving)],
        "driving_share": found.driving_permille / 1000,
        "sentences": list(sentences(found, model.verdict.tables)),
        "groups": [_contribution(one) for one in found.groups],
        "measures": [_contribution(one) for one in found.measures],
        "unusual": [_contribution(one) for one in found.unusual],
        "faults_s": {(flag.name or "").lower(): list(seconds) for flag, seconds in found.faults},
        "beats": [_beat(mark) for mark in found.beats],
        "rhythmicity": {name: getattr(found.rhythmicity, name) for name in type(found.rhythmicity).__slots__},
        "seconds": [_second(second) for second in found.seconds],
    }


def show_explained(out: Console, document: Document) -> None:
    """Show a line a window, then some of them in sentences."""
    if "record" in document:
        out.print(document["record"] + (" (simulated)" if document["simulated"] else ""), markup=False)
    windows = document["windows"]
    table = Table(box=None, pad_edge=False)
    for name in ("window", "time (UTC)", "class", "prediction set", "reason", "driven by seconds"):
        table.add_column(name)
    for window in windows[: render.SHOWN_WINDOWS]:
        table.add_row(
            str(window["counter"]),
            window["started_at"][11:19],
            f"{render.RHYTHM_TEXT[Rhythm[window['rhythm'].upper()]]} {window['confidence']:.2f}",
            window["prediction_set_text"],
            f"[{TIER_COLOUR[window['tier']]}]{(window['reason'] or '-').replace('_', ' ')}[/]",
            ", ".join(f"{first}–{past}" for first, past in window["driving_s"]) or "-",
        )
    out.print(table)
    if (hidden := len(windows) - render.SHOWN_WINDOWS) > 0:
        out.print(f"... and {hidden} more windows (--json lists them all)")
    out.print(f"[dim]{document['calibration']['basis']}[/]")
    told = sorted(windows, key=lambda one: one["tier"] == "routine")[:TOLD_WINDOWS]
    for window in sorted(told, key=lambda one: one["counter"]):
        out.print(f"\nWindow {window['counter']}", style="bold")
        for sentence in window["sentences"]:
            out.print(f"  - {sentence}", markup=False)
    for event in document["events"]:
        what = "hold its beats" if event["by_beats"] else "drove it"
        at = ", ".join(f"{first[11:19]}–{last[11:19]}" for first, last in event["driven_by"])
        out.print(f"\n[{TIER_COLOUR[event['tier']]}]{event['tier']}[/]: ", end="")
        driven = f"seconds that {what}: {at} UTC" if at else "no single second"
        out.print(f"{event['statement']}; {driven}", markup=False)
    for one in document["unexplained"]:
        out.print(f"Not explained: window {one['counter']} ({one['why'].replace('_', ' ')})", markup=False)
    out.print(f"\n[dim]{SECONDS_HEARD}\n{document['notice']}[/]")


def _event(found: Evidence, windows: Sequence[ExplainedWindow]) -> Document:
    """An event's first strip, and which of its seconds drove it."""
    strip = found.strips[0]
    driven = what_drove(
        found.rule, (strip.start_ms, strip.end_ms), [one for one in windows if one.result.counter in strip.counters]
    )
    return {
        "rule": found.rule,
        "tier": found.tier.name.lower(),
        "statement": found.statement,
        "windows": list(strip.counters),
        "by_beats": driven.by_beats,
        "driven_by": [[_utc(first), _utc(last)] for first, last in driven.spans],
    }


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _contribution(one: Contribution) -> Document:
    return {"name": one.name, "fall": one.fall, "share": one.permille / 1000, "unusual": one.unusual}


def _beat(mark: BeatMark) -> Document:
    return {
        "at_ms": mark.at_ms,
        "class": mark.beat_class.name.lower(),
        "early": mark.early,
        "pause": mark.pause,
        "rr_ms": mark.rr_ms,
    }


def _second(second: Second) -> Document:
    return {
        "second": second.index,
        "logits": None if second.logits is None else list(second.logits),
        "heard": None if second.heard is None else second.heard.name.lower(),
        "counted": second.counted,
        "quality": [flag.name.lower() for flag in second.quality if flag.name],
        "beats": second.beats,
        "fall": second.fall,
        "af_fall": second.af_fall,
        "without": second.without.name.lower(),
    }
