"""The report's strips: what drove a verdict is shaded where it is, and said in words and to screen readers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.einthoven.explained_windows import RATE, ScriptedRunner, a_model, heart, regular

from einthoven.analysis import analyze_window
from einthoven.explanation import explain_window
from einthoven.ports import Segment
from einthoven.report import ReportContent, Trace, choose_strips, render_report
from einthoven.report_content import Strip
from einthoven.report_ecg import MARGIN_MM, MM, MM_A_SECOND, paper
from einthoven.report_explained import driving_spans
from einthoven.results import RiskTier
from einthoven.risk import assess
from einthoven.risk_evidence import Evidence, EvidenceStrip
from einthoven.verdicts import window_result

START_MS = 1_753_000_000_000
MODEL = a_model()
PAUSE = [at for at in np.arange(0.4, 29.8, 0.9) if not 14 < at < 16.9]
"""A heart that pauses from about 14 to 17 s."""


def hears_af(*seconds: int) -> ScriptedRunner:
    return ScriptedRunner(lambda second: [1, 100 * (second in seconds), 0, 0])


WINDOWS = [(hears_af(4, 5, 12), regular()), (ScriptedRunner(lambda _: [9, 0, 0, 0]), heart(PAUSE))]


def content(evidence: tuple[Evidence, ...] = (), *, explained: bool = True) -> ReportContent:
    """Two windows: AF heard in seconds 4, 5 and 12; and a pause."""
    results, explanations = [], {}
    for number, (runner, samples) in enumerate(WINDOWS, 1):
        verdict = window_result(
            MODEL,
            analyze_window(MODEL, runner, samples, RATE),
            Segment(RATE, samples),
            START_MS + 30_000 * (number - 1),
        )
        results.append(replace(verdict, counter=number))
        explanations[number] = explain_window(MODEL, runner, samples, RATE)
    recording = Trace(START_MS, RATE, np.concatenate([samples for _, samples in WINDOWS]))
    strips = (
        choose_strips(recording, results, evidence=evidence, explain=lambda result: explanations[result.counter])
        if explained
        else choose_strips(recording, results, evidence=evidence)
    )
    return ReportContent(
        title="Report",
        source_name="test",
        simulated=False,
        generated_at_ms=START_MS,
        recording=recording,
        windows=tuple(results),
        assessment=assess(results),
        strips=strips,
        judge=MODEL if explained else None,
    )


def pause_event() -> Evidence:
    strip = EvidenceStrip(START_MS + 41_000, START_MS + 51_000, (2,))
    return Evidence("pause_3s", "pause: one", "source", (2,), RiskTier.ELEVATED, 1, 1, START_MS, START_MS, (strip,))


def drawn(report: ReportContent) -> dict[str, ElementTree.Element]:
    page = ElementTree.fromstring(render_report(report).partition("\n")[2])
    return {div.get("id"): div for div in page.iter("div") if (div.get("class") or "").startswith("strip ")}


def shaded(element: ElementTree.Element) -> list[tuple[int, float, float]]:
    """(row, from, to) of each shaded stretch in seconds of its row."""
    svg = element if element.tag == "svg" else next(one for one in element.iter("svg") if one.get("class") == "ecg")
    rows = sum(path.get("class") == "trace" for path in svg.iter("path"))
    row_height = int(svg.get("viewBox").split()[3]) // rows
    found = []
    for rect in svg.iter("rect"):
        if rect.get("class") == "drive":
            x, y, width = (int(rect.get(name)) for name in ("x", "y", "width"))
            from_s = (x / MM - MARGIN_MM) / MM_A_SECOND
            found.append((y // row_height, from_s, from_s + width / MM / MM_A_SECOND))
    return found


def test_the_seconds_that_drove_a_verdict_are_shaded_where_they_are():
    strips = drawn(content())
    assert shaded(strips["window-1"]) == [(0, 4, 6), (1, 2, 3)]
    svg = next(one for one in strips["window-1"].iter("svg") if one.get("class") == "ecg")
    bars = [rect for rect in svg.iter("rect") if rect.get("class") == "drive-bar"]
    assert len(bars) == 2
    assert all(int(bar.get("height")) == MM for bar in bars)


def test_the_shading_is_told_in_words_and_to_screen_readers():
    strip = drawn(content())["window-1"]
    svg = next(one for one in strip.iter("svg") if one.get("class") == "ecg")
    by_id = {one.get("id"): one for one in svg.iter() if one.get("id")}
    assert by_id[svg.get("aria-labelledby")].text.startswith("ECG of window 1")
    assert by_id[svg.get("aria-describedby")].text == "Shaded seconds drove the verdict: 0:04–0:06, 0:12–0:13."
    titles = [title.text for rect in svg.iter("rect") for title in rect.iter("title")]
    assert titles == ["0:04–0:06 drove the verdict", "0:12–0:13 drove the verdict"]
    text = " ".join("".join(strip.itertext()).split())
    assert "Strongest at 0:04–0:06, 0:12–0:13 (3 of 30 seconds hold" in text
    assert "Atrial fibrillation" in text


def test_a_pause_shades_the_seconds_it_spans_and_says_how_long():
    strip = drawn(content((pause_event(),)))["event-0"]
    ((row, first, last),) = shaded(strip)
    assert row == 0
    assert first <= 3
    assert last >= 5.5
    remarks = [text.text for text in strip.iter("text") if text.get("class") == "remark"]
    assert [remark for remark in remarks if remark.endswith(" s")]
    assert "Shaded seconds hold the beats of this event: 0:4" in "".join(strip.itertext())
    assert "Window 2: Normal sinus rhythm" in "".join(strip.itertext())


def test_without_explanations_nothing_is_shaded_nor_said():
    page = render_report(content(explained=False))
    assert 'class="drive"' not in page
    assert 'class="why"' not in page
    assert "confidence" in page
    assert "n in the model card" in page


def test_probabilities_and_sets_stand_with_their_n():
    page = render_report(content())
    assert "n = 6,800 records" in page
    assert "6,800 records (4,000 N, 600 A, 2,000 O, 200 ~)" in page
    assert "at least 95.0 % of the records have their class in the set" in page
    heads = [th.text for th in ElementTree.fromstring(page.partition("\n")[2]).iter("th")]
    assert "Prediction set" in heads


def test_verdicts_of_another_model_get_no_set():
    report = content()
    other = replace(report, windows=tuple(replace(one, model_digest=bytes(32)) for one in report.windows))
    assert report.opinion(report.windows[0]) is not None
    assert other.opinion(other.windows[0]) is None
    assert "<td>–</td>" in render_report(other)


@pytest.mark.parametrize("rate", [Fraction(300), Fraction("512.617")])
def test_a_stretch_over_a_rows_end_is_shaded_in_both(rate):
    trace = Trace(START_MS, rate, np.zeros(int(rate * 25), np.int32))
    svg = paper(
        trace, recording_started_at_ms=START_MS, name="t", label="test", driving_ms=[(9_000, 12_000), (24_500, 99_000)]
    )
    found = shaded(ElementTree.fromstring(svg))
    assert [(row, round(first, 1), round(last, 1)) for row, first, last in found] == [
        (0, 9.0, 10.0),
        (1, 0.0, 2.0),
        (2, 4.5, 5.0),
    ]


def test_remarks_stand_in_their_row_and_are_escaped():
    trace = Trace(START_MS, RATE, np.zeros(6_000, np.int32))
    svg = ElementTree.fromstring(
        paper(
            trace,
            recording_started_at_ms=START_MS,
            name="t",
            label="test",
            remarks=[(12_000, "<V>"), (-5, "no"), (20_000, "no")],
        )
    )
    (remark,) = [text for text in svg.iter("text") if text.get("class") == "remark"]
    assert remark.text == "<V>"
    assert int(remark.get("x")) == (MARGIN_MM + 2 * MM_A_SECOND) * MM


def test_a_strip_without_explanation_has_no_spans():
    report = content()
    bare = replace(report.strips[0], explained=())
    assert isinstance(bare, Strip)
    assert driving_spans(bare) == []
