"""How a person sees the risk: the command's lines, the live narrator's, the report's cards and strips."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from fractions import Fraction

import numpy as np
import pytest
from rich.console import Console
from tests.einthoven.risk_streams import START_MS, a_window, beats_of

from einthoven.cli_live import Narrator
from einthoven.cli_risk import assessment_document, show_assessment
from einthoven.events import EpisodeEnded, EpisodeFound
from einthoven.report import ReportContent, Trace, choose_strips, render_report
from einthoven.results import Rhythm, RiskTier
from einthoven.risk import RiskAssessment, RiskTally, WorstSpan
from einthoven.risk_evidence import Found
from einthoven.risk_periods import HOUR_MS, Counts
from einthoven.risk_rules import RULES
from einthoven.risk_statements import beat_statement, followed, percent

RATE = Fraction(100)


def a_recording() -> RiskAssessment:
    """Two hours with ectopy, a run, a pause and AF."""
    tally = RiskTally()
    letters = "NNNNNNNV" * 300 + "NVVVVN" + "SSSS" + "NNNN" * 1_100
    intervals = [800] * len(letters)
    intervals[2_401:2_406] = [400] * 5
    intervals[2_407:2_411] = [450] * 4
    intervals[-30] = 3_500
    tally.add_beats(beats_of(letters, intervals))
    for counter in range(1, 240):
        tally.add(a_window(counter, Rhythm.AF if counter in (80, 81, 90) else Rhythm.NORMAL))
    tally.cut()
    return tally.assessment()


@pytest.fixture(scope="module")
def assessment() -> RiskAssessment:
    return a_recording()


def test_the_document_names_everything_and_repeats_it(assessment):
    document = assessment_document(assessment)
    assert document["tier"] == "urgent"
    assert {"vt_run", "pause_3s", "af_episode", "pvc_burden"} <= {one["rule"] for one in document["evidence"]}
    for one in document["evidence"]:
        assert one["count"] <= one["n"]
        assert one["first_at"] <= one["last_at"]
        assert one["strips"]
    whole = document["whole"]
    assert whole["pvc_burden"] == whole["ventricular"] * 1000 // whole["beats"] / 1000
    assert len(document["hours"]) == 3
    assert sum(hour["beats"] for hour in document["hours"]) == whole["beats"]
    assert document["af_burden"] == 3 * 1000 // 239 / 1000
    assert {one["what"] for one in document["worst_hours"]} == {"pvc", "pac", "af"}
    assert document == assessment_document(a_recording())


def test_people_read_tier_evidence_and_hours(assessment):
    out = io.StringIO()
    show_assessment(Console(file=out, width=200), assessment_document(assessment))
    text = out.getvalue()
    assert "Risk tier: urgent (239 of 239 windows conclusive, 6,8" in text
    assert re.search(r"- urgent: run of ventricular tachycardia.*longest 4 beats, up to 150/min.*\(see 2", text)
    assert re.search(r"worst hour 1\d\.\d % of \d,\d{3}, to 2023-11-1", text)
    assert "hour (UTC)" in text


def test_what_was_not_judged_is_said():
    tally = RiskTally()
    tally.add_beats(beats_of("NNNN"))
    out = io.StringIO()
    show_assessment(Console(file=out, width=200), assessment_document(tally.assessment()))
    assert "not judged, pvc burden: needs 1000 judged beats within 24 h; there are 4" in out.getvalue()
    assert "not judged, tachycardia" in out.getvalue()


def test_a_time_out_of_the_calendar_is_still_shown():
    tally = RiskTally()
    tally.add_beats(beats_of("NNVVVNN", 400, start_ms=2**60))
    document = assessment_document(tally.assessment())
    assert "ms since 1970" in document["evidence"][0]["first_at"]


def test_the_report_draws_the_events_that_led_to_the_tier(assessment):
    windows = tuple(
        a_window(counter, Rhythm.AF if counter in (80, 81, 90) else Rhythm.NORMAL) for counter in range(1, 240)
    )
    recording = Trace(START_MS, RATE, np.zeros(239 * 30 * 100, np.int32))
    strips = choose_strips(recording, windows, evidence=assessment.evidence)
    events = [strip for strip in strips if strip.event]
    assert [strip.event for strip in strips] == [True] * len(events) + [False] * 2
    assert events[0].heading.startswith("Run of ventricular tachycardia")
    assert events[0].trace.duration_s == 10
    run = next(one for one in assessment.evidence if one.rule == "vt_run")
    assert events[0].trace.started_at_ms == run.strips[0].start_ms
    assert events[0].result.counter == run.strips[0].counters[-1]
    page = render_report(
        ReportContent(
            title="x",
            source_name="x",
            simulated=False,
            generated_at_ms=START_MS,
            recording=recording,
            windows=windows,
            assessment=assessment,
            strips=strips,
        )
    )
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    names = [one.get("id") for one in tree.iter() if one.get("id")]
    assert len(names) == len(set(names))
    text = " ".join("".join(tree.itertext()).split())
    whole = assessment.periods.whole
    assert f"PVC burden{percent(whole.ventricular, whole.beats)}" in text
    assert "judged beats" in text


def test_the_narrator_says_episodes():
    narrator = Narrator()
    found = EpisodeFound(START_MS, START_MS, "vt_run", RiskTier.URGENT, "3 beats in a row")
    ended = EpisodeEnded(START_MS + 1_000, START_MS, "vt_run", RiskTier.URGENT, "5 beats in a row")
    assert narrator.line(found) == "22:13:20  urgent: vt run, 3 beats in a row"
    assert narrator.line(ended) == "22:13:21  ended: vt run, 5 beats in a row"


@pytest.mark.parametrize(("rr_ms", "told"), [(30_000, "30 s"), (600_000, "10 min"), (9_000_000, "2.5 h")])
def test_how_long_beats_were_followed(rr_ms, told):
    assert followed(Counts(rr_ms=rr_ms)) == told


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_statement_needs_nothing_more_than_was_found(rule):
    found = Found()
    found.add(2**60, 2**60 + 1_000, severity=3_100)
    whole = Counts(beats=10, ventricular=1, supraventricular=1, rr_ms=2 * HOUR_MS, intervals=10)
    for worst in (None, WorstSpan("pvc", 2**60, 2**60 + HOUR_MS, 1, 10)):
        assert beat_statement(rule, found, whole, worst).startswith(rule.finding)
