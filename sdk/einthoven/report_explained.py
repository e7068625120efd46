"""What a report says of why: shaded seconds, remarks at beats, sentences beneath, probabilities with their n. Pure.

It deliberately explains nothing itself (``explanation`` and ``explanation_events`` do).

Invariants:
    1. Nothing outside a strip is shaded on it, and nothing is shaded that the text does not name.
    2. A probability stands with the n it rests on, or is said to have none.
"""

from __future__ import annotations

from typing import Final

from einthoven.explanation_events import Driven, ExplainedWindow, Span, what_drove
from einthoven.explanation_words import SECONDS_HEARD, Clock, basis_text, probabilities_text, sentences, set_text
from einthoven.report_content import ReportContent, Strip
from einthoven.report_text import clock, escaped, percent
from einthoven.results import BeatClass, WindowResult

_SWATCH: Final = (
    '<svg class="swatch" viewBox="0 0 26 15" aria-hidden="true">'
    '<rect class="drive" x=".5" y=".5" width="25" height="14"/>'
    '<rect class="drive-bar" y="12" width="26" height="3"/></svg>'
)


def driving_spans(strip: Strip) -> list[Span]:
    """What is shaded: stretches in milliseconds since the strip's first sample, in order, apart from each other."""
    start_ms = strip.trace.started_at_ms
    return [(first - start_ms, last - start_ms) for first, last in _driven(strip).spans]


def remarks(strip: Strip) -> list[tuple[int, str]]:
    """Texts at beats that stand out, milliseconds since the strip's first sample."""
    told = []
    for window in strip.explained:
        for mark in window.explanation.beats:
            at_ms = _offset_ms(strip, window) + mark.at_ms
            if mark.pause and mark.rr_ms is not None:
                told.append((at_ms - mark.rr_ms // 2, f"{mark.rr_ms / 1000:.1f} s"))
            letter = {BeatClass.VENTRICULAR: "V", BeatClass.SUPRAVENTRICULAR: "S"}.get(mark.beat_class)
            if letter or mark.early:
                told.append((at_ms, letter or "e"))
    return told


def described(strip: Strip, recording_started_at_ms: int) -> str:
    """The shading in words."""
    driven, start_ms = _driven(strip), recording_started_at_ms
    shaded = ", ".join(f"{clock(first - start_ms)}–{clock(last - start_ms)}" for first, last in driven.spans)
    if not shaded:
        return "No second is shaded." if strip.explained else ""
    what = "hold the beats of this event" if driven.by_beats else "drove the verdict"
    return f"Shaded seconds {what}: {shaded}."


def explained_html(strip: Strip, report: ReportContent) -> str:
    """What stands beneath a strip; nothing where no window of it was explained."""
    if not strip.explained or report.judge is None:
        return ""
    start_ms = report.recording.started_at_ms
    shading = described(strip, start_ms)
    keys = "; ".join(
        text
        for text, used in (
            ("V ventricular", any(text == "V" for _, text in remarks(strip))),
            ("S supraventricular", any(text == "S" for _, text in remarks(strip))),
            ("e early", any(text == "e" for _, text in remarks(strip))),
        )
        if used
    )
    legend = f"{_SWATCH if driving_spans(strip) else ''}{escaped(shading)}{' Beats: ' + keys + '.' if keys else ''}"
    lines = []
    for window in strip.explained:
        from_ms = window.result.started_at_ms - start_ms
        told = sentences(window.explanation, report.judge.verdict.tables, _clock_from(from_ms))
        name = f"Window {window.result.counter}: " if strip.event else ""
        lines += [f"<li>{escaped(name + sentence)}</li>" for sentence in (told[:1] if strip.event else told)]
    return f'<div class="why"><p>{legend}</p><ul>{"".join(lines)}</ul></div>'


def probability(report: ReportContent, result: WindowResult) -> str:
    """A verdict's probability with its n."""
    return f"{percent(result.confidence_permille)} ({basis_n(report)})"


def basis_n(report: ReportContent) -> str:
    """The n behind every probability on the page."""
    if report.judge is None:
        return "n in the model card"
    return f"n = {sum(report.judge.verdict.tables.sets.n):,} records"


def verdict_detail(report: ReportContent, result: WindowResult) -> str:
    """All probabilities and the prediction set of a verdict, with the n."""
    opinion = report.opinion(result)
    if opinion is None:
        return f"confidence {probability(report, result)}"
    return f"{set_text(opinion.prediction_set, opinion.rhythm)} · {probabilities_text(opinion)} ({basis_n(report)})"


def basis(report: ReportContent) -> str:
    """What probabilities and sets rest on, and what is to be known of the seconds; for a section's foot."""
    if report.judge is None:
        return ""
    heard = f" {SECONDS_HEARD}" if any(strip.explained for strip in report.strips) else ""
    return f'<p class="small">{escaped(basis_text(report.judge.verdict.tables.sets) + heard)}</p>'


def _driven(strip: Strip) -> Driven:
    start_ms = strip.trace.started_at_ms
    return what_drove(strip.rule, (start_ms, start_ms + round(strip.trace.duration_s * 1000)), strip.explained)


def _clock_from(from_ms: int) -> Clock:
    return lambda second: clock(from_ms + second * 1000)


def _offset_ms(strip: Strip, window: ExplainedWindow) -> int:
    return window.result.started_at_ms - strip.trace.started_at_ms
