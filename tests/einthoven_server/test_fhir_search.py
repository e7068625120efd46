"""Search parameters, result columns and templates: pure, against plain Python as the oracle."""

from __future__ import annotations

import contextlib
import datetime as dt

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven_server.site import result_row

from einthoven_protocol.limits import MAX_TIME_MS
from einthoven_protocol.messages import AnnotationRow, Register, ResultId
from einthoven_server import limits
from einthoven_server.errors import Malformed, ParameterRefused
from einthoven_server.fhir.mapping import observation, risk_assessment
from einthoven_server.fhir.result_columns import COLUMNS, ResultColumns
from einthoven_server.fhir.result_search import kind_of, mask_of
from einthoven_server.fhir.search_parameters import PARAMETERS, Place, Search, page_text, parse_search
from einthoven_server.fhir.search_values import DateRange, Token, alternatives, parse_date, parse_token
from einthoven_server.fhir.templates import Templates
from einthoven_server.records.resource_ids import Kind, resource_id
from einthoven_server.records.stored_result import StoredResult

BASE = "https://x/fhir/R4"
DAY_MS = 86_400_000


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "prefix", "begin", "end"),
    [
        ("2024", "eq", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("ge2024-02", "ge", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("lt2024-12", "lt", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("2024-02-29", "eq", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2024-02-29T10:20", "eq", "2024-02-29T10:20:00Z", "2024-02-29T10:21:00Z"),
        ("sa2024-02-29T10:20:30Z", "sa", "2024-02-29T10:20:30Z", "2024-02-29T10:20:31Z"),
        ("2024-02-29T10:20:30.25+02:00", "eq", "2024-02-29T08:20:30.250Z", "2024-02-29T08:20:30.251Z"),
    ],
)
def test_a_date_is_a_range(text: str, prefix: str, begin: str, end: str) -> None:
    assert parse_date("date", text) == DateRange(prefix, ms(begin), ms(end))


@pytest.mark.parametrize(
    "text", ["", "ge", "ap2024", "24", "2023-02-29", "2024-13", "2024-01-01T25:00", "2024-01-01T10:00+99:00", "٢٠٢٤"]
)
def test_what_is_no_date_is_refused_by_name(text: str) -> None:
    with pytest.raises(ParameterRefused, match="'date'"):
        parse_date("date", text)


def test_the_last_year_of_the_calendar_has_no_end_and_is_refused() -> None:
    with pytest.raises(ParameterRefused):
        parse_date("date", "9999")


def test_tokens_and_alternatives() -> None:
    assert parse_token("code", "a") == Token(None, "a")
    assert parse_token("code", "s|a") == Token("s", "a")
    assert parse_token("code", "|a") == Token("", "a")
    assert parse_token("code", "s|") == Token("s", None)
    assert alternatives("code", r"a\,b,c") == ["a,b", "c"]
    for wrong in ("", ",", "a,", "a" * (limits.FHIR_VALUE_MAX_CHARS + 1), ",".join("a" * 33)):
        with pytest.raises(ParameterRefused):
            alternatives("code", wrong)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ([("name", "x")], "name"),
        ([("patient", "x"), ("patient.name", "y")], "patient.name"),
        ([("patient:Patient.name", "y")], "patient:Patient.name"),
        ([("_has:Observation:subject:code", "1")], "_has:Observation:subject:code"),
        ([("code:in", "x")], "code:in"),
        ([("_sort", "status")], "_sort"),
        ([("_count", "0")], "_count"),
        ([("_count", "5"), ("_count", "5")], "_count"),
        ([("_page", "A" * 28)], "_page"),
        ([("_page", "'")], "_page"),
        ([("_include", "Observation:performer")], "_include"),
        ([("_revinclude", "AuditEvent:entity")], "_revinclude"),
        ([("_format", "xml")], "_format"),
        ([("_summary", "count")], "_summary"),
        ([("_filter", "1 eq 1")], "_filter"),
        ([("date", "' or 1=1")], "date"),
        ([("patient", "Device/x")], "patient"),
        ([("_id", "a'b")], "_id"),
        ([("date", "2024")] * (limits.FHIR_PARAMETERS_MAX + 1), "date"),
    ],
)
def test_what_is_not_taken_is_refused_by_its_name(query: list[tuple[str, str]], named: str) -> None:
    with pytest.raises(ParameterRefused) as caught:
        parse_search("Observation", query, BASE)
    assert str(caught.value).startswith(f"'{named}' ")
    assert caught.value.location == f"http.{named}"


def test_a_name_in_an_answer_has_only_what_names_have() -> None:
    with pytest.raises(ParameterRefused) as caught:
        parse_search("Observation", [("<script>\x00 Müller", "x")], BASE)
    assert str(caught.value).startswith("'scriptMller' ")


def test_both_kinds_of_observation_at_once_are_refused() -> None:
    both = "http://loinc.org|8884-9,urn:iso:std:iso:11073:10101|131328"
    with pytest.raises(ParameterRefused, match="'code'"):
        kind_of(parse_search("Observation", [("patient", "x"), ("code", both)], BASE))


texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["2024", "ge2024-01-01", "Patient/x", "s|c", "|", "-date", "date", "5", "a,b", "final", "json"]),
)
names = st.one_of(st.text(max_size=20), st.sampled_from(sorted({name for of in PARAMETERS.values() for name in of})))


@given(st.sampled_from(sorted(PARAMETERS)), st.lists(st.tuples(names, texts), max_size=6))
def test_whatever_is_asked_is_a_search_or_refused(kind: str, query: list[tuple[str, str]]) -> None:
    with contextlib.suppress(Malformed):
        asked = parse_search(kind, query, BASE)
        if kind in {"Observation", "RiskAssessment", "DiagnosticReport", "Provenance"}:
            mask_of(asked, kind_of(asked), ResultColumns(np.zeros(2, COLUMNS)), "tenant", {"x": 1})


@given(st.builds(Place, st.integers(-(2**62), 2**62), *[st.integers(0, 2**32 - 1)] * 3))
def test_a_link_leads_to_its_place(place: Place) -> None:
    assert parse_search("Observation", [("_page", page_text(place))], BASE).after == place


# ---- columns ------------------------------------------------------------------------------------------------------

rows = st.lists(
    st.tuples(
        st.integers(0, 5).map(lambda day: day * DAY_MS),
        st.integers(0, 2 * DAY_MS),
        st.integers(1, 2),
        st.integers(1, 2),
        st.integers(1, 9),
        st.integers(0, 3),
        st.integers(0, 1),
    ),
    max_size=30,
    unique_by=lambda row: row[2:5],
)


def columns(given_rows: list[tuple[int, ...]]) -> ResultColumns:
    return ResultColumns(np.array(given_rows, COLUMNS))


def names_of(places: list[Place]) -> list[tuple[int, ...]]:
    return [tuple(place) for place in places]


def compare(prefix: str, begin: int, end: int, low: int, high: int) -> bool:
    within = low <= begin and end <= high
    return {
        "eq": within,
        "ne": not within,
        "gt": end > high,
        "lt": begin < low,
        "ge": within or end > high,
        "le": within or begin < low,
        "sa": begin >= high,
        "eb": end <= low,
    }[prefix]


@given(rows, st.sampled_from(["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]), st.integers(0, 5), st.integers(1, 3))
def test_dates_select_as_plain_python_would(
    given_rows: list[tuple[int, ...]], prefix: str, day: int, days: int
) -> None:
    asked = DateRange(prefix, day * DAY_MS, (day + days) * DAY_MS)
    held = columns(given_rows)
    found = held.page(held.of_date(asked), Search("Observation", (), 100), 100)
    expected = [row for row in given_rows if compare(prefix, row[0], row[0] + row[1], asked.begin_ms, asked.end_ms)]
    assert names_of(found) == sorted((row[0], *row[2:5]) for row in expected)


@given(rows, st.booleans(), st.integers(1, 4))
def test_pages_give_each_result_once_and_in_order(
    given_rows: list[tuple[int, ...]], descending: bool, count: int
) -> None:
    held, found, after = columns(given_rows), [], None
    while True:
        asked = Search("Observation", (), count, descending=descending, after=after)
        page = held.page(held.every(), asked, count)
        found += page
        if len(page) < count:
            break
        after = page[-1]
    assert names_of(found) == sorted(((row[0], *row[2:5]) for row in given_rows), reverse=descending)


@given(rows, rows)
def test_results_come_and_go(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    known = {row[2:5] for row in first}
    new = [row for row in second if row[2:5] not in known]
    gone = [row[2:5] for row in first[::2]]
    held = columns(first).changed([np.array(new, COLUMNS)], [ResultId(*name) for name in gone])
    expected = sorted((row[0], *row[2:5]) for row in first + new if row[2:5] not in gone)
    assert names_of(held.page(held.every(), Search("Observation", (), 100), 100)) == expected


def test_a_page_behind_a_result_that_went_is_still_in_order() -> None:
    held = columns([(10 * n, 5, 1, 1, n, 0, 0) for n in range(1, 6)]).changed([], [ResultId(1, 1, 3)])
    for descending, expected in ((False, [4, 5]), (True, [2, 1])):
        asked = Search("Observation", (), 10, descending=descending, after=Place(30, 1, 1, 3))
        assert [place.counter for place in held.page(held.every(), asked, 10)] == expected


# ---- templates ----------------------------------------------------------------------------------------------------


@given(
    counter=st.integers(1, 2**31 - 1),
    rhythm=st.integers(0, 5),
    tier=st.integers(0, 5),
    reason=st.integers(0, 2),
    quality=st.integers(0, 7),
    usable_s=st.integers(0, 30),
    started_at_ms=st.integers(0, MAX_TIME_MS),
    duration_ms=st.integers(0, 24 * 3600 * 1000),
    confidence_permille=st.integers(0, 1000),
    comment=st.sampled_from(["", "100 % of it", "\x7f0\x7f"]),
    hidden=st.frozensets(st.sampled_from(["note", "method", "component", "basis", "identifier", "subject"])),
)
def test_a_template_says_what_the_mapping_says(comment: str, hidden: frozenset[str], **changed: int) -> None:
    result = ResultId(3, 1, changed["counter"])
    note = AnnotationRow(target=result, author="a", rhythm=Register("", 1), comment=Register(comment, 1))
    given_result = StoredResult(
        result,
        "patient-1",
        result_row(**changed),
        (note,) if comment else (),
        resource_id("t", result, Kind.RISK),
        resource_id("t", result, Kind.OBSERVATION),
    )
    for kind, resource in ((Kind.RISK, risk_assessment(given_result)), (Kind.OBSERVATION, observation(given_result))):
        for fields in (frozenset(resource), frozenset(resource) - hidden, frozenset({"id"})):
            for _ in range(2):  # made, then kept
                shown = {name: value for name, value in resource.items() if name in fields}
                assert TEMPLATES.render(kind, given_result, fields) == msgspec.json.encode(shown)


TEMPLATES = Templates()
