"""The report: what it says, that nothing can be smuggled into it, and that its paper is true to scale."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.ports import MISSING_UV
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
from einthoven.report_ecg import MARGIN_MM, MM, WIDTH_MM, paper
from einthoven.report_text import clock, escaped, utc
from einthoven.report_timeline import timeline
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.risk import assess

START_MS = 1_753_000_000_000
TIERS = {Rhythm.NORMAL: RiskTier.ROUTINE, Rhythm.AF: RiskTier.ELEVATED, Rhythm.OTHER: RiskTier.ELEVATED}


def window(counter: int, rhythm: Rhythm, *, reason=InconclusiveReason.NONE, confidence_permille=900) -> WindowResult:
    return WindowResult(
        counter=counter,
        started_at_ms=START_MS + 30_000 * (counter - 1),
        duration_ms=30_000,
        n_steps=30,
        usable_s=28,
        quality=Quality.GAP | Quality.CLIPPED if reason else Quality.USABLE,
        rhythm=rhythm,
        confidence_permille=confidence_permille,
        logits=(1, 2, 3, 4),
        tier=RiskTier.INCONCLUSIVE if reason else TIERS[rhythm],
        reason=reason,
        model_digest=b"\xab" * 32,
        front_end_version=1,
        segment_digest=bytes(32),
    )


WINDOWS = (
    window(1, Rhythm.NORMAL, confidence_permille=870),
    window(2, Rhythm.NORMAL, confidence_permille=951),
    window(3, Rhythm.AF),
    window(4, Rhythm.NOISE, reason=InconclusiveReason.POOR_SIGNAL),
    window(5, Rhythm.OTHER),
)


def recording(rate_hz=Fraction(300), seconds=150) -> Trace:
    n = int(seconds * rate_hz)
    samples = (400 * np.sin(np.arange(n) / float(rate_hz) * 7)).astype(np.int32)
    return Trace(START_MS, rate_hz, samples)


def content(**changes) -> ReportContent:
    plain = ReportContent(
        title="Rhythm report",
        source_name="WFDB record, lead II",
        simulated=False,
        generated_at_ms=START_MS + 200_000,
        recording=recording(),
        windows=WINDOWS,
        assessment=assess(WINDOWS),
        strips=choose_strips(recording(), WINDOWS),
        events=(EventLine(START_MS + 60_000, "Risk changed", "Routine to Elevated", RiskTier.ELEVATED),),
        annotations=(AnnotationLine(3, "author-1", "A", "looks right"),),
        storage=(Figure("Encrypted store", "100 kB", "SQLCipher"),),
        sync=SyncFigures(6, 300, 120, 1, "aa" * 16, "aa" * 16),
        replay=ReplayVerdict(5, 5, "ab" * 32),
        model=(Figure("F1", "0.80", "n = 6,821"),),
        fhir=(FhirDocument("RiskAssessment", '{"system": "http://loinc.org"}'),),
    )
    return replace(plain, **changes)


def parsed(page: str) -> ElementTree.Element:
    first, _, rest = page.partition("\n")
    assert first == "<!DOCTYPE html>"
    return ElementTree.fromstring(rest)


def words(page: str) -> str:
    return " ".join(" ".join(parsed(page).itertext()).split())


def test_it_shows_the_risk_with_its_reasons_and_every_n():
    text = words(render_report(content()))
    assert "Elevated n = 4 conclusive windows" in text
    assert "atrial fibrillation for at least 30 s: 1 episode, in 1 of 4 conclusive windows (30 s)" in text
    assert "AF burden 25.0 % of 4 conclusive windows, 120 s" in text
    assert "Inconclusive 1 1 poor signal" in text
    assert "Not a medical device." in text
    assert "70.0 420 / 6, both directions" in text
    assert "✓ 5 of 5 the same, bit for bit" in text
    assert "✓ equal" in text
    assert "Window 3 , seen as A by author-1 looks right" in text


def test_a_simulated_ecg_says_so_at_the_top_and_at_every_strip():
    page = parsed(render_report(content(simulated=True)))
    assert "SIMULATED" in "".join(page.find(".//h1").itertext())
    strips = [div for div in page.iter("div") if div.get("class", "").startswith("strip ")]
    assert len(strips) == 4
    assert all("SIMULATED" in "".join(strip.itertext()) for strip in strips)
    assert "SIMULATED" not in render_report(content())


def test_what_failed_is_not_painted_as_success():
    text = words(
        render_report(
            content(sync=SyncFigures(0, 10, 10, 2, "aa", "bb"), replay=ReplayVerdict(5, 4, ""), assessment=assess(()))
        )
    )
    assert "✗ different" in text
    assert "✗ 4 of 5 the same" in text
    assert "✓" not in text
    assert "No window could be judged" in text


def test_nothing_of_the_optional_parts_is_needed():
    bare = content(
        strips=(), events=(), annotations=(), storage=(), sync=None, replay=None, model=(), fhir=(), windows=()
    )
    text = words(render_report(replace(bare, recording=Trace(START_MS, Fraction(300), np.zeros(0, dtype=np.int32)))))
    assert "Events" not in text
    assert "FHIR" not in text


HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;]]>\x00\x1b\u202e\ud800 javascript:"


def test_hostile_text_stays_text_everywhere():
    page = render_report(
        content(
            title=HOSTILE,
            source_name=HOSTILE,
            events=(EventLine(START_MS, HOSTILE, HOSTILE, RiskTier.URGENT),),
            annotations=(AnnotationLine(1, HOSTILE, HOSTILE, HOSTILE),),
            storage=(Figure(HOSTILE, HOSTILE, HOSTILE),),
            model=(Figure(HOSTILE, HOSTILE, HOSTILE),),
            sync=SyncFigures(1, 1, 1, 1, HOSTILE, HOSTILE),
            replay=ReplayVerdict(1, 1, HOSTILE),
            fhir=(FhirDocument(HOSTILE, HOSTILE),),
            strips=tuple(replace(strip, heading=HOSTILE) for strip in choose_strips(recording(), WINDOWS)),
        )
    )
    page.encode("utf-8")
    tags = {element.tag for element in parsed(page).iter()}
    assert not tags & {"script", "img", "iframe", "object", "embed", "link", "form", "input", "image", "use"}
    for element in parsed(page).iter():
        assert not [name for name in element.attrib if name.lower().startswith("on")]
    assert words(page).count("<script>alert(1)</script>") >= 12
    assert "\u202e" not in page


def test_nothing_is_fetched_from_anywhere():
    page = render_report(content())
    for element in parsed(page).iter():
        for name, value in element.attrib.items():
            if name in {"href", "src", "{http://www.w3.org/1999/xlink}href"}:
                assert value.startswith("#")
            assert "url(" not in value or value.startswith("url(#")
    style = parsed(page).find(".//style").text
    assert "@import" not in style
    assert "url(" not in style
    assert "default-src 'none'" in page


def test_links_lead_to_strips_and_ids_are_unique():
    page = parsed(render_report(content()))
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    targets = {element.get("href")[1:] for element in page.iter("a")}
    assert targets == {"window-2", "window-3", "window-4", "window-5"}
    assert targets <= set(ids)
    labels = {element.get("aria-labelledby") for element in page.iter("section")}
    assert labels <= set(ids)


def test_the_same_content_gives_the_same_bytes():
    assert render_report(content(simulated=True)) == render_report(content(simulated=True))


def points(path: str) -> list[list[tuple[int, int]]]:
    """Absolute points of each run of a trace's path data."""
    runs = []
    for run in path.split("M")[1:]:
        start, _, steps = run.partition("l")
        x, y = map(int, start.split("h")[0].split())
        run_points = [(x, y)]
        numbers = list(map(int, re.findall(r"-?\d+", steps)))
        for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = x + dx, y + dy
            run_points.append((x, y))
        runs.append(run_points)
    return runs


def drawn(trace: Trace) -> ElementTree.Element:
    return ElementTree.fromstring(paper(trace, recording_started_at_ms=START_MS, name="t", label="test"))


def traces(svg: ElementTree.Element) -> list[str]:
    return [path.get("d") for path in svg.iter("path") if path.get("class") == "trace"]


@pytest.mark.parametrize("rate_hz", [Fraction(100), Fraction(300), Fraction(511422, 1000), Fraction(1000)])
def test_a_second_is_25_mm_and_a_millivolt_10_mm_at_every_rate(rate_hz):
    n = int(10 * rate_hz)
    samples = np.zeros(n, dtype=np.int32)
    at = [round(second * rate_hz) for second in (2, 5, 9)]
    samples[at] = 1000  # spikes of 1 mV after 2, 5 and 9 s
    svg = drawn(Trace(START_MS, rate_hz, samples))
    width_mm, height_mm = (float(svg.get(name).removesuffix("mm")) for name in ("width", "height"))
    _, _, width, height = map(float, svg.get("viewBox").split())
    assert (width / width_mm, height / height_mm) == (MM, MM)
    assert width_mm == WIDTH_MM
    (run,) = points(traces(svg)[0])
    line = max(y for _, y in run)
    peaks = [(x, y) for x, y in run if y < line - 5 * MM]
    for (x, y), second in zip(peaks, (2, 5, 9), strict=True):
        assert abs(x / MM - (MARGIN_MM + 25 * second)) <= 0.15
        assert (line - y) / MM == 10


def test_the_calibration_pulse_is_1_mv_by_200_ms():
    svg = drawn(recording(seconds=10))
    (pulse,) = [path.get("d") for path in svg.iter("path") if path.get("class") == "cal"]
    assert f"v-{10 * MM}h{5 * MM}v{10 * MM}" in pulse


def test_the_grid_has_a_line_each_mm_and_a_strong_one_each_5():
    svg = drawn(recording(seconds=10))
    weak, strong = (next(p.get("d") for p in svg.iter("path") if p.get("class") == kind) for kind in ("mm1", "mm5"))
    x_of = {kind: {int(x) for x in re.findall(r"M(\d+) 0V", path)} for kind, path in (("1", weak), ("5", strong))}
    assert x_of["5"] == {mm * MM for mm in range(0, WIDTH_MM + 1, 5)}
    assert x_of["1"] | x_of["5"] == {mm * MM for mm in range(WIDTH_MM + 1)}
    assert MARGIN_MM % 5 == 0  # so that the first sample stands on a strong line


def test_thirty_seconds_take_three_rows_with_running_time():
    svg = drawn(replace_start(recording(seconds=30), 60_000))
    assert len(traces(svg)) == 3
    assert [text.text for text in svg.iter("text")] == ["1:00", "1:05", "1:10", "1:15", "1:20", "1:25"]


def replace_start(trace: Trace, later_ms: int) -> Trace:
    return Trace(trace.started_at_ms + later_ms, trace.sampling_rate_hz, trace.samples_uv)


@pytest.mark.parametrize("rate_hz", [Fraction(250), Fraction(1000)])
def test_missing_samples_break_the_line_and_are_hatched(rate_hz):
    samples = np.arange(int(10 * rate_hz), dtype=np.int32) % 50
    first, last = int(3 * rate_hz), int(5 * rate_hz)
    samples[first:last] = MISSING_UV
    svg = drawn(Trace(START_MS, rate_hz, samples))
    before, after = points(traces(svg)[0])
    assert before[-1][0] <= (MARGIN_MM + 75) * MM
    assert after[0][0] == (MARGIN_MM + 125) * MM
    (gap,) = [rect for rect in svg.iter("rect") if rect.get("class") == "gap"]
    assert (int(gap.get("x")), int(gap.get("width"))) == ((MARGIN_MM + 75) * MM, 50 * MM)
    assert "no signal" in [text.text for text in svg.iter("text")]


def test_a_wholly_missing_and_an_empty_trace_are_drawn_too():
    assert points(traces(drawn(Trace(START_MS, Fraction(250), np.full(5000, MISSING_UV, dtype=np.int32))))[0]) == []
    assert traces(drawn(Trace(START_MS, Fraction(250), np.zeros(0, dtype=np.int32)))) == []


def test_extremes_survive_at_high_rates_and_the_path_stays_small():
    samples = np.zeros(10_000, dtype=np.int32)
    samples[4321], samples[7777] = 1500, -900
    (path,) = traces(drawn(Trace(START_MS, Fraction(1000), samples)))
    (run,) = points(path)
    line = run[0][1]
    assert min(y for _, y in run) == line - 15 * MM
    assert max(y for _, y in run) == line + 9 * MM
    assert len(run) <= 5_002


@settings(max_examples=30, deadline=None)
@given(
    rate_hz=st.sampled_from([Fraction(128), Fraction(300), Fraction(512617, 1000), Fraction(1000)]),
    samples=st.lists(st.sampled_from([0, 5, -1000, 1_000_000, -1_000_000, MISSING_UV]), max_size=3000),
)
def test_any_signal_can_be_drawn(rate_hz, samples):
    trace = Trace(START_MS, rate_hz, np.array(samples, dtype=np.int32))
    svg = drawn(trace)
    height = float(svg.get("viewBox").split()[3])
    assert 0 < height < 20_000
    ElementTree.fromstring(timeline(trace, (), frozenset()))


def test_ten_minutes_and_a_day_stay_under_two_megabytes():
    for minutes in (10, 24 * 60):
        many = tuple(window(n + 1, (Rhythm.NORMAL, Rhythm.AF, Rhythm.OTHER)[n % 3]) for n in range(minutes * 2))
        noise = np.random.default_rng(1).normal(0, 300, minutes * 60 * 128).astype(np.int32)
        trace = Trace(START_MS, Fraction(128), noise)
        page = render_report(
            content(recording=trace, windows=many, assessment=assess(many), strips=choose_strips(trace, many))
        )
        assert len(page.encode()) < 2_000_000
        parsed(page)


def test_the_timeline_tells_a_tier_by_class_shape_and_letters():
    svg = ElementTree.fromstring(timeline(recording(), WINDOWS, frozenset()))
    cells = [g for g in svg.iter("g") if g.get("class", "").startswith("cell")]
    assert [cell.get("class").split()[1] for cell in cells] == [
        "t-routine",
        "t-routine",
        "t-elevated",
        "t-inconclusive",
        "t-elevated",
    ]
    assert [cell.find("text").text for cell in cells] == ["N", "N", "AF", "~", "O"]
    shapes = {cell.get("class"): ElementTree.tostring(cell.find("g")[0]) for cell in cells}
    assert len(set(shapes.values())) == 3
    assert cells[3].find("title").text == "Window 4, 1:30–2:00: Too noisy, 90.0 %; Inconclusive, poor signal"


def test_strips_are_one_of_each_verdict_in_order_of_time():
    strips = choose_strips(recording(), WINDOWS)
    assert [(strip.heading, strip.result.counter) for strip in strips] == [
        ("Normal sinus rhythm", 2),
        ("Atrial fibrillation", 3),
        ("Inconclusive", 4),
        ("Other rhythm", 5),
    ]
    assert all(strip.trace.samples_uv.size == 30 * 300 for strip in strips)
    assert strips[1].trace.started_at_ms == WINDOWS[2].started_at_ms


def test_text_and_times():
    assert escaped('<a href="x">&\'\x00') == "&lt;a href=&quot;x&quot;&gt;&amp;&#x27;\ufffd"
    assert [clock(ms) for ms in (0, 65_999, 3_725_000, -5_000)] == ["0:00", "1:05", "1:02:05", "−0:05"]
    assert utc(0) == "1970-01-01 00:00:00 UTC"
    assert utc(10**18) == "–"
