"""What the demo's steps found, and how it becomes the report's page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven import (
    AnnotationRow,
    Explanation,
    HeartSummary,
    Model,
    Replay,
    ReplayOutcome,
    RiskAssessment,
    RiskChanged,
    SignalTally,
    SyncReport,
    SystemClock,
    WindowResult,
    explain_window,
    summarize_heart,
)
from einthoven.analysis import Runner
from einthoven.ports import Source, Store
from einthoven.report import (
    AnnotationLine,
    EventLine,
    FhirDocument,
    Figure,
    ReplayVerdict,
    ReportContent,
    SyncFigures,
    Trace,
    choose_strips,
    render_report,
)
from einthoven.risk import assess


@dataclass(slots=True)
class Findings:
    """Filled step by step.

    Attributes:
        signal: Beats and quality of the ECG.
        seconds: The ECG as it was pushed, int32 microvolts.
        results: One a window.
        changes: Every change of the risk tier.
        assessment: What the windows add up to.
        ms_per_second: Mean milliseconds a second of ECG took, stored.
        needles: Known plaintexts that were looked for.
        plaintexts_found: How often one of them was there.
        file_bytes: Size of the encrypted store.
        sync: The exchange after the outage.
        annotations: What came down.
        fhir: Resources read back.
        replays: Every result, recomputed.
    """

    signal: SignalTally
    seconds: list[NDArray[np.int32]] = field(default_factory=list)
    results: list[WindowResult] = field(default_factory=list)
    changes: list[RiskChanged] = field(default_factory=list)
    assessment: RiskAssessment = field(default_factory=lambda: assess(()))
    ms_per_second: float = 0.0
    needles: int = 0
    plaintexts_found: int = 0
    file_bytes: int = 0
    sync: SyncReport | None = None
    annotations: tuple[AnnotationRow, ...] = ()
    fhir: tuple[dict[str, Any], ...] = ()
    replays: tuple[Replay, ...] = ()


def write_report(path: Path, source: Source, model: Model, runner: Runner, store: Store, found: Findings) -> None:
    """Write the page whole or not at all."""
    page = render_report(_content(source, model, runner, store, found))
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def _content(source: Source, model: Model, runner: Runner, store: Store, found: Findings) -> ReportContent:
    def explained(result: WindowResult) -> Explanation | None:
        segment = store.segment(result.segment_digest)
        if segment is None:
            return None
        return explain_window(model, runner, segment.samples_uv, segment.sampling_rate_hz)

    signal = found.signal.signal
    recording = Trace(found.results[0].started_at_ms, source.sampling_rate_hz, np.concatenate(found.seconds))
    return ReportContent(
        title="ECG report",
        source_name=source.name,
        simulated=source.simulated,
        generated_at_ms=SystemClock().now_ms(),
        recording=recording,
        windows=tuple(found.results),
        assessment=found.assessment,
        strips=choose_strips(
            recording,
            found.results,
            r_peaks=signal.r_peaks,
            flags=signal.flags,
            evidence=found.assessment.evidence,
            explain=explained,
        ),
        judge=model,
        heart=_heart(summarize_heart(signal, source.sampling_rate_hz)),
        events=tuple(_event(change) for change in found.changes),
        annotations=tuple(_note(row) for row in found.annotations),
        storage=_storage(store, found),
        sync=_sync(found),
        replay=ReplayVerdict(
            len(found.replays), sum(one.outcome is ReplayOutcome.SAME for one in found.replays), model.digest.hex()
        ),
        model=_model(model),
        fhir=tuple(FhirDocument(f"FHIR R4 {one['resourceType']}", json.dumps(one, indent=2)) for one in found.fhir),
    )


def _heart(heart: HeartSummary) -> tuple[Figure, ...]:
    rate, span = "–", "no usable interval"
    if heart.mean_bpm is not None:
        rate = f"{heart.mean_bpm:.0f}/min"
        span = f"single intervals {heart.lowest_bpm:.0f} to {heart.highest_bpm:.0f}; {heart.beats} beats"
    found = heart.variability
    sdnn, rmssd, basis = "–", "–", f"not given: {found.refusal.name.lower().replace('_', ' ')}"
    if found.measures is not None:
        sdnn, rmssd = f"{found.measures.sdnn_ms:.0f} ms", f"{found.measures.rmssd_ms:.0f} ms"
        basis = f"{found.n_normal} normal intervals, {found.nn_s:.0f} s"
    faults = ", ".join(f"{(flag.name or '').lower().replace('_', ' ')} {n} s" for flag, n in heart.faults_s)
    return (
        Figure("Mean", rate, span),
        Figure("SDNN", sdnn, basis),
        Figure("RMSSD", rmssd, basis),
        Figure("Usable signal", f"{heart.usable_s} of {heart.seconds} s", faults or "no fault found"),
    )


def _event(change: RiskChanged) -> EventLine:
    why = change.evidence[0].statement if change.evidence else ""
    what = f"Risk {change.previous.name.lower()} to {change.tier.name.lower()}"
    return EventLine(change.at_ms, what, why, change.tier)


def _note(row: AnnotationRow) -> AnnotationLine:
    return AnnotationLine(row.target.counter, row.author, row.rhythm.value, row.comment.value)


def _storage(store: Store, found: Findings) -> tuple[Figure, ...]:
    stats = store.stats()
    return (
        Figure("Encrypted file", f"{found.file_bytes:,} B", "SQLCipher, AES-256, 256-bit key"),
        Figure("Signal", f"{stats.segment_bytes:,} B", f"{stats.segments} segments, compressed without loss"),
        Figure("Plaintext found", str(found.plaintexts_found), f"of {found.needles} known byte strings looked for"),
        Figure("Time", f"{found.ms_per_second:.2f} ms", f"a second of ECG, stored; mean, n = {len(found.seconds)}"),
    )


def _sync(found: Findings) -> SyncFigures | None:
    if found.sync is None:
        return None
    report = found.sync
    device, server = (f"{digest.count}:{digest.total:032x}" for digest in (report.state.digest, report.server_digest))
    rows = report.results_up + report.annotations_up + report.annotations_down
    return SyncFigures(rows, report.bytes_up, report.bytes_down, report.round_trips, device, server)


def _model(model: Model) -> tuple[Figure, ...]:
    figures = {figure["id"].rsplit(".", 1)[-1]: figure for figure in model.manifest.metrics.get("figures", ())}
    shown = [Figure("Model", f"{len(model.content):,} B", f"int8, manifest SHA-256 {model.digest.hex()[:16]}…")]
    for name, label in (("f1_nao", "F1, mean of N, A, O"), ("f1_af", "F1, AF"), ("ece", "Calibration error")):
        if name in figures:
            low, high = figures[name]["spread"]
            basis = f"cross-validated, n = {figures[name]['n']:,}; 95 % interval {low:.3f} to {high:.3f}"
            shown.append(Figure(label, f"{figures[name]['value']:.3f}", basis))
    return tuple(shown)
