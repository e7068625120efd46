"""One page that a clinician can read: risk with its reasons, the ECG on paper, what was kept, sent and replayed. Pure.

``render_report`` gives a self-contained HTML file: no script, nothing fetched, valid as XML too. It is made to be
looked at on a screen in light or dark, by keyboard and screen reader, and to be printed on A4 landscape at 100 %.

It deliberately judges nothing: what is on it was decided by ``risk`` and by the model, and is repeated with its n.

Invariants:
    1. Every text is escaped; nothing given can add an element, a script or a request.
    2. A simulated ECG is called simulated at the top and at every strip.
    3. A probability stands with the n it rests on.
    4. The size is bounded: ``MAX_STRIPS`` strips in full, an envelope of the rest, ``MAX_LINES`` lines a table.
    5. The same content gives the same bytes.
"""

from __future__ import annotations

from typing import Final

from einthoven.explanation_words import set_text
from einthoven.report_blocks import SIMULATED_BADGE, cards, table
from einthoven.report_content import (
    REASON_WORDS,
    RHYTHM_WORDS,
    TIER_WORDS,
    AnnotationLine,
    EventLine,
    FhirDocument,
    Figure,
    ReplayVerdict,
    ReportContent,
    Strip,
    SyncFigures,
    Trace,
)
from einthoven.report_ecg import paper
from einthoven.report_explained import basis, basis_n, described, driving_spans, explained_html, remarks, verdict_detail
from einthoven.report_keeping import fhir_section, figures_section, keeping_section, notes_section
from einthoven.report_strips import choose_strips
from einthoven.report_style import STYLE
from einthoven.report_text import clock, escaped, grouped, percent, utc
from einthoven.report_timeline import tier_class, tier_mark, timeline
from einthoven.results import Quality, RiskTier, WindowResult
from einthoven.risk import Counts

__all__ = [
    "AnnotationLine",
    "EventLine",
    "FhirDocument",
    "Figure",
    "ReplayVerdict",
    "ReportContent",
    "Strip",
    "SyncFigures",
    "Trace",
    "choose_strips",
    "render_report",
]

MAX_STRIPS: Final = 8

_BRAND: Final = (
    '<div class="brand"><svg viewBox="0 0 54 22" aria-hidden="true"><path d="M1 14h11l3-3 3 3h4l2 2 3-14 3 18 2-6h4'
    'c2 0 2-4 5-4s3 4 5 4h7"/></svg>Einthoven</div>'
)


def render_report(report: ReportContent) -> str:
    """Return the page as HTML text, to be written as UTF-8.

    Args:
        report: What to show.
    """
    sections = (
        _assessment(report),
        _overview(report),
        figures_section("Heart rate", report.heart),
        _strips(report),
        _events(report),
        notes_section(report.annotations),
        keeping_section(report),
        figures_section("Model", report.model),
        fhir_section(report.fhir),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
        f"<title>{escaped(report.title)}</title><style>{STYLE}</style></head><body>"
        f"{_header(report)}<main>{''.join(sections)}</main>{_footer(report)}</body></html>\n"
    )


def _badge(report: ReportContent) -> str:
    return SIMULATED_BADGE if report.simulated else ""


def _header(report: ReportContent) -> str:
    trace = report.recording
    meta = (
        f"<span><bdi>{escaped(report.source_name)}</bdi></span>",
        f"<span>Recorded {utc(trace.started_at_ms)}</span>",
        f"<span>{clock(round(trace.duration_s * 1000))} at {float(trace.sampling_rate_hz):g} Hz</span>",
        f"<span>Report of {utc(report.generated_at_ms)}</span>",
    )
    origin = "A mathematical model made this ECG; it is nobody's. " if report.simulated else ""
    return (
        f"<header>{_BRAND}<h1><bdi>{escaped(report.title)}</bdi>{_badge(report)}</h1>"
        f'<p class="meta">{"".join(meta)}</p>'
        f'<p class="notice"><strong>Not a medical device.</strong> {origin}For research and demonstration; no decision '
        "about a patient may rest on it.</p></header>"
    )


def _assessment(report: ReportContent) -> str:
    found = report.assessment
    reasons = "".join(
        f'<li class="{tier_class(e.tier)}">{tier_mark(e.tier)}<div><span class="says">{TIER_WORDS[e.tier]}</span>:'
        f' {escaped(e.statement)}<br/><span class="small">{escaped(e.source)}</span></div></li>'
        for e in found.evidence
    )
    reasons += "".join(
        f'<li class="{tier_class(RiskTier.INCONCLUSIVE)}">{tier_mark(RiskTier.INCONCLUSIVE)}<div>'
        f"Not judged, {escaped(one.rule.replace('_', ' '))}: {escaped(one.missing)}</div></li>"
        for one in found.unjudged
    )
    if not reasons:
        reasons = "<li><span></span><div>No window could be judged, so nothing is said, for or against.</div></li>"
    unread = ", ".join(f"{count} {REASON_WORDS[reason]}" for reason, count in sorted(found.inconclusive.items()))
    burden = "–" if found.af_burden_permille is None else percent(found.af_burden_permille)
    seconds = sum(result.duration_ms for result in report.windows if result.tier is not RiskTier.INCONCLUSIVE) // 1000
    numbers = cards(
        (
            Figure("AF burden", burden, f"of {found.conclusive} conclusive windows, {grouped(seconds)} s"),
            Figure("Conclusive", f"{found.conclusive} of {found.windows}", "windows of at most 30 s"),
            Figure("Inconclusive", str(found.windows - found.conclusive), unread or "none"),
            *_ectopy(found.periods.whole),
        )
    )
    return (
        '<section aria-labelledby="h-risk"><h2 id="h-risk">Assessment</h2><div class="overall">'
        f'<div class="tier {tier_class(found.tier)}"><div class="small">Risk by rhythm and burden</div>'
        f'<div class="word">{tier_mark(found.tier)}{TIER_WORDS[found.tier]}</div>'
        f'<div class="small">n = {found.conclusive} conclusive windows</div></div>'
        f'<ul class="reasons">{reasons}</ul></div><div style="height:14px"></div>{numbers}</section>'
    )


def _ectopy(whole: Counts) -> tuple[Figure, ...]:
    """The burdens of beats; nothing where no beat was judged."""
    if whole.pvc_permille is None or whole.pac_permille is None:
        return ()
    n = f"of {grouped(whole.beats)} judged beats"
    return (
        Figure("PVC burden", percent(whole.pvc_permille), f"{grouped(whole.ventricular)} {n}"),
        Figure("PAC burden", percent(whole.pac_permille), f"{grouped(whole.supraventricular)} {n}"),
    )


def _overview(report: ReportContent) -> str:
    drawn = frozenset(strip.result.counter for strip in report.strips[:MAX_STRIPS] if not strip.event)
    legend = "".join(
        f'<li class="{tier_class(tier)}">{tier_mark(tier)}{TIER_WORDS[tier]}</li>'
        for tier in (RiskTier.ROUTINE, RiskTier.ELEVATED, RiskTier.URGENT, RiskTier.INCONCLUSIVE)
    )
    rows = [
        f'<tr class="{tier_class(r.tier)}"><td class="n">{r.counter}</td>'
        f'<td class="n">{clock(r.started_at_ms - report.recording.started_at_ms)}</td>'
        f"<td>{RHYTHM_WORDS[r.rhythm]}</td>"
        f'<td class="n">{percent(r.confidence_permille)}</td><td>{_set(report, r)}</td><td>{_tier_words(r)}</td>'
        f'<td class="n">{r.usable_s} of {r.duration_ms // 1000} s</td><td>{_quality(r.quality)}</td></tr>'
        for r in report.windows
    ]
    listed = table(
        f"Every window in order; the confidence is the calibrated probability of the rhythm ({basis_n(report)})",
        ("#", "From", "Rhythm", "Confidence", "Prediction set", "Tier", "Usable", "Signal"),
        rows,
        numeric=(0, 1, 3, 6),
    )
    return (
        f'<section aria-labelledby="h-all"><h2 id="h-all">Whole recording{_badge(report)}</h2>'
        f"{timeline(report.recording, report.windows, drawn, basis_n(report))}"
        f'<ul class="legend">{legend}<li><b>N</b> normal sinus</li><li><b>AF</b> atrial fibrillation</li>'
        f"<li><b>O</b> other rhythm</li><li><b>~</b> too noisy</li></ul>"
        f"<details><summary>All {len(rows)} windows</summary>{listed}{basis(report)}</details></section>"
    )


def _set(report: ReportContent, result: WindowResult) -> str:
    opinion = report.opinion(result)
    return "–" if opinion is None else escaped(set_text(opinion.prediction_set, opinion.rhythm))


def _tier_words(result: WindowResult) -> str:
    reason = f' <span class="small">{REASON_WORDS[result.reason]}</span>' if result.reason else ""
    return f'{tier_mark(result.tier)} <span class="says">{TIER_WORDS[result.tier]}</span>{reason}'


def _quality(quality: Quality) -> str:
    names = [flag.name.lower().replace("_", " ") for flag in Quality if flag & quality and flag.name]
    return ", ".join(names) or "usable"


def _strips(report: ReportContent) -> str:
    if not report.strips:
        return ""
    drawn = []
    for number, strip in enumerate(report.strips[:MAX_STRIPS]):
        r = strip.result
        from_ms = strip.trace.started_at_ms - report.recording.started_at_ms
        span = f"{clock(from_ms)}–{clock(from_ms + round(strip.trace.duration_s * 1000))}"
        name = f"event-{number}" if strip.event else f"window-{r.counter}"
        svg = paper(
            strip.trace,
            recording_started_at_ms=report.recording.started_at_ms,
            name=f"s{number}",
            label=f"ECG of window {r.counter}, {span}: {RHYTHM_WORDS[r.rhythm]}, {TIER_WORDS[r.tier]}",
            r_peaks=strip.r_peaks.tolist(),
            poor_s=strip.poor_s,
            driving_ms=driving_spans(strip),
            remarks=remarks(strip),
            description=described(strip, report.recording.started_at_ms),
        )
        drawn.append(
            f'<div class="strip {tier_class(r.tier)}" id="{name}"><div class="strip-head">'
            f"<h3>{escaped(strip.heading)}</h3><span>Window {r.counter}, {span}</span><span>{_tier_words(r)}</span>"
            f'<span class="small">{RHYTHM_WORDS[r.rhythm]}, {escaped(verdict_detail(report, r))}</span>'
            f"{_badge(report)}</div>"
            f'<div class="scroll" tabindex="0" role="group" aria-label="ECG, window {r.counter}">{svg}</div>'
            f"{explained_html(strip, report)}</div>"
        )
    return (
        f'<section aria-labelledby="h-ecg"><h2 id="h-ecg">ECG</h2>{"".join(drawn)}'
        '<p class="small" style="margin:12px 0 0">25 mm/s, 10 mm/mV, pulse 1 mV × 200 ms; unfiltered, as received; '
        f"true to scale when printed at 100 %.</p>{basis(report)}</section>"
    )


def _events(report: ReportContent) -> str:
    if not report.events:
        return ""
    rows = []
    for event in report.events:
        kind = "" if event.tier is None else tier_class(event.tier)
        mark = "" if event.tier is None else f"{tier_mark(event.tier)} "
        at = clock(event.at_ms - report.recording.started_at_ms)
        rows.append(
            f'<tr class="{kind}"><td class="n">{at}</td><td>{mark}{escaped(event.what)}</td>'
            f"<td>{escaped(event.detail)}</td></tr>"
        )
    listed = table("Times count from the first sample", ("At", "Event", "Detail"), rows, numeric=(0,))
    return f'<section aria-labelledby="h-events"><h2 id="h-events">Events</h2>{listed}</section>'


def _footer(report: ReportContent) -> str:
    digests = sorted({(r.model_digest.hex(), r.front_end_version) for r in report.windows})
    made = "".join(
        f'<p>Model, SHA-256 of its manifest <span class="hash">{digest}</span>, front end version {version}</p>'
        for digest, version in digests
    )
    return f"<footer>{made}<p>Risk is defined by rhythm and burden, never as a prediction of outcome.</p></footer>"
