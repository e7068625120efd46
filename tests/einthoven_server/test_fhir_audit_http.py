"""AuditEvent over HTTP: who sees which entries, search, pages."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from tests.einthoven_server.site import Answer, ManualClock, Site

from einthoven.account import Account
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection
from einthoven_server.serve import parts_of

ADDRESS = "/fhir/R4/AuditEvent"


@pytest.fixture
async def log(data_folder: Path, database_url: str, clock: ManualClock, site: Site) -> AsyncIterator[AuditLog]:
    """The tenant's log, as its server writes it."""
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        yield parts.audit


@pytest.fixture
async def patient(site: Site) -> str:
    return await site.new_patient()


async def ask(site: Site, query: str, token: Account | None) -> Answer:
    return await site.send("GET", ADDRESS + query, token=token)


def resources(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    Bundle.model_validate(answer.json)
    found = [one["resource"] for one in answer.json.get("entry", ())]
    for one in found:
        AuditEvent.model_validate(one)
    return found


def following(answer: Answer) -> str | None:
    links = {one["relation"]: one["url"] for one in answer.json["link"]}
    return "?" + urlsplit(links["next"]).query if "next" in links else None


def patients_of(resource: dict[str, Any]) -> set[str]:
    references = {one["what"].get("reference", "") for one in resource["entity"] if "what" in one}
    return {one.removeprefix("Patient/") for one in references if one.startswith("Patient/")}


async def in_the_name_of(site: Site, patient: str) -> Account:
    return (await site.new_principal("patient", patient=patient))[1]


async def test_a_patient_sees_who_looked_and_nothing_about_others(site: Site, patient: str) -> None:
    other = await site.new_patient()
    clinician_id, clinician = await site.new_principal("clinician")
    for one in (patient, other):
        assert (await site.send("GET", f"/v1/patients/{one}/notes", token=clinician)).status == 200
    token = await in_the_name_of(site, patient)
    found = resources(await ask(site, "", token))
    assert {one for resource in found for one in patients_of(resource)} == {patient}
    actors = {agent["who"].get("identifier", {}).get("value") for one in found for agent in one["agent"]}
    assert clinician_id in actors
    assert resources(await ask(site, f"?patient={patient}&_count=1000", token))[: len(found)] == found
    assert resources(await ask(site, f"?patient={other}", token)) == []


async def test_another_patients_entry_and_none_get_the_same_answer(site: Site, patient: str) -> None:
    other = await site.new_patient()
    token = await in_the_name_of(site, patient)
    (theirs, *_) = resources(await ask(site, f"?patient={other}", site.admin))
    (mine, *_) = resources(await ask(site, f"?patient={patient}", site.admin))
    own = await ask(site, f"/{mine['id']}", token)
    assert (own.status, own.json) == (200, mine)
    answers = [
        await ask(site, f"/{name}", token)
        for name in (theirs["id"], "999999999999", "0", "x", "-1", "1-1", f"{mine['id']}-2", "9" * 40)
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(404, answers[0].body)}


@pytest.mark.parametrize("role", ["clinician", "service"])
async def test_nobody_else_reads_the_log(site: Site, patient: str, role: str) -> None:
    _, token = await site.new_principal(role)
    assert (await ask(site, f"?patient={patient}", token)).status == 403
    assert (await ask(site, "/1", token)).status == 403


async def test_an_administrator_sees_all_of_the_tenant(site: Site, patient: str) -> None:
    await site.send("GET", "/v1/break-glass", token=site.admin)
    found = resources(await ask(site, "?_count=1000", site.admin))
    assert {frozenset(patients_of(one)) for one in found} >= {frozenset({patient}), frozenset()}
    about_nobody = next(one for one in found if not patients_of(one))
    assert (await ask(site, f"/{about_nobody['id']}", site.admin)).json == about_nobody


async def test_search_by_agent_and_date(site: Site, patient: str) -> None:
    clinician_id, clinician = await site.new_principal("clinician")
    site.clock.offset_ms += 24 * 3600 * 1000
    await site.send("GET", f"/v1/patients/{patient}/notes", token=clinician)
    found = resources(await ask(site, f"?agent={clinician_id}&patient={patient}", site.admin))
    assert [one["subtype"][1]["code"] for one in found][-1] == "notes.list"
    assert resources(await ask(site, f"?agent={uuid.uuid4()}", site.admin)) == []
    day = found[-1]["recorded"][:10]
    late = resources(await ask(site, f"?patient={patient}&date={day}", site.admin))
    early = resources(await ask(site, f"?patient={patient}&date=lt{day}", site.admin))
    assert late
    assert early
    assert {one["recorded"][:10] for one in late} == {day}
    assert max(one["recorded"] for one in early) < day
    assert resources(await ask(site, f"?patient={patient}&date=ge{day}&date=lt{day}", site.admin)) == []


@pytest.mark.parametrize("sort", ["date", "-date"])
async def test_pages_join_without_a_gap(site: Site, patient: str, sort: str) -> None:
    for _ in range(5):
        await site.send("GET", f"/v1/patients/{patient}/care-team", token=site.admin)
    token = await in_the_name_of(site, patient)
    whole = [one["id"] for one in resources(await ask(site, f"?date=lt2200&_count=1000&_sort={sort}", token))]
    assert whole == sorted(whole, key=int, reverse=sort == "-date")
    assert len(whole) >= 5
    pages: list[str] = []
    query: str | None = f"?_count=2&_sort={sort}"
    while query is not None and len(pages) < len(whole):
        answer = await ask(site, query, token)
        pages += [one["id"] for one in resources(answer)]
        query = following(answer)
    # Reading leaves entries of its own, which come first in the one order and last in the other.
    assert [one for one in pages if one in whole] == [one for one in whole if one in pages]
    assert len(set(pages)) == len(pages) >= len(whole)


async def test_an_entry_about_many_patients_is_one_event_for_each(
    site: Site, log: AuditLog, connection: Connection, patient: str
) -> None:
    others = [await site.new_patient() for _ in range(2)]
    query = "SELECT max(seq) FROM audit_entry WHERE tenant = $1"
    token = await in_the_name_of(site, others[1])
    # As a fetched file of an export leaves it.
    event = Event(site.clock.now_ms(), "s", "fhir.export.file", patient, "allowed", others=tuple(others))
    await log.record(event)
    seq = await connection.fetchval(query, site.tenant)
    found = resources(await ask(site, "?agent=s", token))
    assert [one["id"] for one in found] == [f"{seq}-3"]
    assert patients_of(found[0]) == {others[1]}
    assert (await ask(site, f"/{seq}-3", token)).status == 200
    assert (await ask(site, f"/{seq}", token)).status == 404
    ids = [one["id"] for one in resources(await ask(site, "?agent=s", site.admin))]
    assert ids == [str(seq), f"{seq}-2", f"{seq}-3"]


async def test_a_page_that_finds_nothing_goes_on(site: Site, log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FHIR_AUDIT_SCANNED_MAX_ROWS", 1)
    actor = str(uuid.uuid4())
    patient = await site.new_patient()
    await log.record(Event(site.clock.now_ms(), actor, "notes.list", patient, "allowed"))
    query: str | None = f"?agent={actor}"
    found: list[dict[str, Any]] = []
    pages = 0
    while query is not None and not found:
        answer = await ask(site, query, site.admin)
        found, query, pages = resources(answer), following(answer), pages + 1
    assert len(found) == 1
    assert pages > 1


@pytest.mark.parametrize("query", ["?entity=x", "?agent:identifier=x", "?_has:x=y", "?_page=x", "?patient=a,b"])
async def test_what_is_not_taken_is_refused(site: Site, query: str) -> None:
    answer = await ask(site, query, site.admin)
    assert (answer.status, answer.json["resourceType"]) == (400, "OperationOutcome")
