"""The later half of a report: notes, what was stored, synced and replayed, the model's figures, FHIR. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from einthoven.report_blocks import MAX_LINES, cards, table
from einthoven.report_content import AnnotationLine, FhirDocument, Figure, ReplayVerdict, ReportContent, SyncFigures
from einthoven.report_text import escaped, grouped

MAX_FHIR_DOCUMENTS: Final = 8
MAX_FHIR_CHARS: Final = 100_000
"""Characters of one resource; what is longer is cut."""


def notes_section(notes: Sequence[AnnotationLine]) -> str:
    """What clinicians said."""
    if not notes:
        return ""
    quotes = "".join(
        f"<blockquote><strong>Window {note.counter}</strong>"
        f"{f', seen as <strong><bdi>{escaped(note.rhythm)}</bdi></strong>' if note.rhythm else ''}"
        f' <span class="small">by <bdi>{escaped(note.author)}</bdi></span><br/>'
        f"<bdi>{escaped(note.comment)}</bdi></blockquote>"
        for note in notes[:MAX_LINES]
    )
    return f'<section aria-labelledby="h-notes"><h2 id="h-notes">Clinician’s notes</h2>{quotes}</section>'


def keeping_section(report: ReportContent) -> str:
    """Storage, sync and replay."""
    parts = []
    if report.storage:
        parts.append(cards(report.storage))
    if report.sync is not None:
        parts.append(_sync(report.sync))
    if report.replay is not None:
        parts.append(_replay(report.replay))
    if not parts:
        return ""
    body = '<div style="height:12px"></div>'.join(parts)
    return f'<section aria-labelledby="h-kept"><h2 id="h-kept">Kept, sent, replayed</h2>{body}</section>'


def _sync(sync: SyncFigures) -> str:
    total = sync.bytes_up + sync.bytes_down
    per_row = f"{total / sync.rows:.1f}" if sync.rows else "–"
    equal = sync.device_digest == sync.server_digest
    verdict = '<span class="ok">✓ equal</span>' if equal else '<span class="bad">✗ different</span>'
    rows = [
        f'<tr><td>Device</td><td class="hash">{escaped(sync.device_digest)}</td></tr>',
        f'<tr><td>Server</td><td class="hash">{escaped(sync.server_digest)}</td></tr>',
        f"<tr><td>Digests</td><td>{verdict}</td></tr>",
    ]
    figures = cards(
        (
            Figure(
                "Rows synced", grouped(sync.rows), f"in {sync.round_trips} round trip{'s' * (sync.round_trips != 1)}"
            ),
            Figure("Bytes", grouped(total), f"{grouped(sync.bytes_up)} up, {grouped(sync.bytes_down)} down"),
            Figure("Bytes a row", per_row, f"{grouped(total)} / {grouped(sync.rows)}, both directions"),
        )
    )
    digests = table("Digest over all rows, after the exchange", ("Replica", "Digest"), rows, numeric=())
    return f'{figures}<div style="height:12px"></div>{digests}'


def _replay(replay: ReplayVerdict) -> str:
    same = replay.replayed > 0 and replay.identical == replay.replayed
    verdict = (
        f'<span class="ok">✓ {replay.identical} of {replay.replayed} the same, bit for bit</span>'
        if same
        else f'<span class="bad">✗ {replay.identical} of {replay.replayed} the same</span>'
    )
    return (
        f"<p style='margin:0'>Replayed from the stored signal: {verdict}</p>"
        f'<p class="small" style="margin:0">Model, SHA-256 of its manifest '
        f'<span class="hash">{escaped(replay.model_digest)}</span></p>'
    )


def figures_section(heading: str, figures: Sequence[Figure]) -> str:
    """Figures under a heading of ours."""
    if not figures:
        return ""
    name = "h-" + heading.lower().replace(" ", "-")
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>{cards(figures)}</section>'


def fhir_section(documents: Sequence[FhirDocument]) -> str:
    """Resources, folded."""
    if not documents:
        return ""
    shown = "".join(
        f"<details><summary>{escaped(document.heading)}</summary>"
        f"<pre><code>{escaped(document.json_text[:MAX_FHIR_CHARS])}</code></pre></details>"
        for document in documents[:MAX_FHIR_DOCUMENTS]
    )
    return f'<section aria-labelledby="h-fhir"><h2 id="h-fhir">FHIR R4, as the server returned it</h2>{shown}</section>'
