"""Patients, bundles and exports over HTTP, with PostgreSQL behind: attacks 17, 18, 22, 23, as far as FHIR goes."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.device import Device as FhirDevice
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.patient import Patient
from tests.einthoven_server.site import Answer, Site

from einthoven.account import Account
from einthoven_server import limits
from einthoven_server.database import Connection, Scope

FHIR = "application/fhir+json"
MUSTER: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:clinic", "value": "MRN-1"}],
    "name": [{"family": "Mustermann", "given": ["Änne"]}],
    "telecom": [{"system": "email", "value": "aenne@clinic.example"}],
    "gender": "female",
    "birthDate": "1980-05-03",
}
ONLY = {"If-None-Exist": "identifier=urn:clinic|MRN-1"}


async def ask(site: Site, method: str, path: str, token: Account | None, **more: Any) -> Answer:
    answer = await site.send(method, f"/fhir/R4{path}", token=token, **more)
    if answer.status >= 400:
        OperationOutcome.model_validate(answer.json)
    return answer


async def post(site: Site, path: str, body: object, token: Account | None = None, **headers: str) -> Answer:
    octets = body if isinstance(body, bytes) else msgspec.json.encode(body)
    given = {"Content-Type": FHIR} | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await ask(site, "POST", path, token or site.admin, data=octets, headers=given)
    if answer.status in {200, 201} and not path.endswith("_search"):
        places = [entry["response"]["location"] for entry in answer.json["entry"]] if path in {"", "/"} else []
        for place in places or [answer.headers["Location"].removeprefix(f"{site.url}/fhir/R4/")]:
            patient = place.split("/")[1]
            if patient not in site.patients:
                await site.adopt(patient)
    return answer


@pytest.fixture
async def clinician(site: Site) -> Account:
    return (await site.new_principal("clinician"))[1]


@pytest.fixture
async def service(site: Site) -> Account:
    return (await site.new_principal("service"))[1]


async def ids(site: Site, query: str, token: Account) -> list[str]:
    answer = await ask(site, "GET", f"/Patient?{query}", token)
    assert answer.status == 200, answer.body
    Bundle.model_validate(answer.json)
    return [entry["resource"]["id"] for entry in answer.json.get("entry", [])]


async def test_a_patient_is_made_read_found_and_changed(site: Site, clinician: Account) -> None:
    made = await post(site, "/Patient", MUSTER)
    assert made.status == 201
    patient_id = made.json["id"]
    assert made.headers["Location"] == f"{site.url}/fhir/R4/Patient/{patient_id}"
    Patient.model_validate(made.json)
    assert (await ask(site, "GET", f"/Patient/{patient_id}", clinician)).json == made.json
    for query in (
        "identifier=urn:clinic|MRN-1",
        "identifier=MRN-1",
        "family=MUSTERMANN",
        "given=anne",
        "name=mustermann&gender=female",
        "birthdate=1980-05-03",
        "birthdate=1980",
        "family=mustermann&birthdate=lt1990",
        "family=mustermann,other&email=AENNE@clinic.example",
        f"_id={patient_id}&gender=http://hl7.org/fhir/administrative-gender|female",
        "family=mustermann&_lastUpdated=ge2020",
    ):
        assert await ids(site, query, clinician) == [patient_id], query
    for query in ("identifier=urn:other|MRN-1", "identifier=|MRN-1", "family=Muster", "family=mustermann&gender=male"):
        assert await ids(site, query, clinician) == [], query

    changed = made.json | {"name": [{"family": "Neumann"}]}
    headers = {"Content-Type": FHIR, "If-Match": 'W/"1"'}
    body = msgspec.json.encode(changed)
    answer = await ask(site, "PUT", f"/Patient/{patient_id}", site.admin, data=body, headers=headers)
    assert (answer.status, answer.headers["ETag"]) == (200, 'W/"2"')
    again = await ask(site, "PUT", f"/Patient/{patient_id}", site.admin, data=body, headers=headers)
    assert again.status == 412
    assert await ids(site, "family=mustermann", clinician) == []
    assert await ids(site, "family=neumann", clinician) == [patient_id]


async def test_a_patient_of_whom_nothing_was_said_is_shown_by_its_id(site: Site, clinician: Account) -> None:
    patient_id = await site.new_patient()
    answer = await ask(site, "GET", f"/Patient/{patient_id}", clinician)
    Patient.model_validate(answer.json)
    assert answer.json["identifier"] == [{"system": "urn:einthoven:patient", "value": patient_id}]
    device = await site.new_device(patient_id)
    page = (await ask(site, "GET", f"/Device?patient={patient_id}", clinician)).json
    Bundle.model_validate(page)
    (found,) = (entry["resource"] for entry in page["entry"])
    FhirDevice.model_validate(found)
    assert (await ask(site, "GET", f"/Device/{found['id']}", clinician)).json == found
    assert found["identifier"][0]["value"] == str(device.alias)
    assert (await ask(site, "GET", f"/Device/{uuid.uuid4()}", clinician)).status == 404
    assert (await ask(site, "GET", f"/Device?patient={patient_id}&status=inactive", clinician)).json["total"] == 0


async def test_creating_on_condition_makes_one_also_at_once(site: Site, clinician: Account) -> None:
    answers = await asyncio.gather(*(post(site, "/Patient", MUSTER, **ONLY) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(await ids(site, "family=mustermann", clinician)) == 1
    assert (await post(site, "/Patient", MUSTER)).status == 201
    assert (await post(site, "/Patient", MUSTER, **ONLY)).status == 412
    for wrong in ("family=mustermann", "identifier=", "x", "identifier=a&identifier=b"):
        assert (await post(site, "/Patient", MUSTER, If_None_Exist=wrong)).status == 400


async def test_preferences_tags_and_formats(site: Site, clinician: Account) -> None:
    minimal = await post(site, "/Patient", MUSTER, Prefer="return=minimal")
    assert (minimal.status, minimal.body) == (201, b"")
    path = minimal.headers["Location"].removeprefix(f"{site.url}/fhir/R4")
    first = await ask(site, "GET", path, clinician)
    known = await ask(site, "GET", path, clinician, headers={"If-None-Match": f'W/"9", {first.headers["ETag"]}'})
    assert (known.status, known.body) == (304, b"")
    for accept in ("application/fhir+json", "application/json;q=0.9, text/html", "*/*", f"{FHIR}; fhirVersion=4.0"):
        assert (await ask(site, "GET", path, clinician, headers={"Accept": accept})).status == 200, accept
    for accept in ("application/fhir+xml", "text/turtle", f"{FHIR}; fhirVersion=3.0", "text/html"):
        assert (await ask(site, "GET", path, clinician, headers={"Accept": accept})).status == 406, accept
    assert (await ask(site, "GET", f"{path}?_format=xml", clinician)).status == 406
    assert (await ask(site, "GET", f"{path}?_elements=name", clinician)).status == 400


async def test_attack_23_xml_is_refused_unparsed(site: Site) -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Patient>&e;</Patient>'
    answer = await post(site, "/Patient", bomb, Content_Type="application/fhir+xml")
    assert answer.status == 415
    assert (await post(site, "/Patient", bomb)).status == 400


@pytest.mark.parametrize(
    "octets",
    [
        b"[" * 60_000,
        b'{"resourceType":"Patient","gender":"male","gender":"female"}',
        b'{"resourceType":"Patient","birthDate":NaN}',
        b'{"resourceType":"Patient","birthDate":"\\ud800"}',
        b'{"resourceType":"Patient","birthDate":' + b"9" * 60_000 + b"}",
    ],
)
async def test_attack_22_hostile_json_is_400(site: Site, octets: bytes) -> None:
    assert (await post(site, "/Patient", octets)).status == 400
    assert (await post(site, "", octets)).status == 400


async def test_attack_18_what_is_the_servers_is_refused_and_nothing_written(
    site: Site, scope: Scope, connection: Connection
) -> None:
    for changed in (
        {"id": str(uuid.uuid4())},
        {"tenant": "other"},
        {"role": "admin"},
        {"meta": {"versionId": "9", "lastUpdated": "2020-01-01T00:00:00Z"}},
        {"extension": [{"url": "urn:einthoven:model-version", "valueString": "1"}]},
    ):
        answer = await post(site, "/Patient", MUSTER | changed)
        assert answer.status == 422
        assert answer.json["issue"][0]["expression"][0].startswith("Patient.")
        assert "Mustermann" not in answer.body.decode()
    assert await connection.fetchval("SELECT count(*) FROM patient WHERE tenant = $1", scope.tenant) == 0


def bundle(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def make(n: int, **request: str) -> dict[str, Any]:
    patient = MUSTER | {"identifier": [{"system": "urn:clinic", "value": f"MRN-{n}"}]}
    return {"resource": patient, "request": {"method": "POST", "url": "Patient"} | request}


async def test_a_transaction_is_done_once_however_often_it_comes(site: Site, clinician: Account) -> None:
    body = bundle(*(make(n, ifNoneExist=f"identifier=urn:clinic|MRN-{n}") for n in range(3)))
    first, second = await post(site, "", body), await post(site, "/", body, Prefer="return=representation")
    for answer, status in ((first, "201 Created"), (second, "200 OK")):
        assert answer.status == 200, answer.body
        Bundle.model_validate(answer.json)
        assert [entry["response"]["status"] for entry in answer.json["entry"]] == [status] * 3
    assert [entry["response"]["location"] for entry in first.json["entry"]] == [
        entry["response"]["location"] for entry in second.json["entry"]
    ]
    assert len(await ids(site, "family=mustermann", clinician)) == 3


async def test_attack_17_a_bundle_with_a_foreign_patient_is_refused_whole(
    site: Site, data_folder: Any, database_url: str, scope: Scope, connection: Connection
) -> None:
    from tests.einthoven_server.site import running_site

    async with running_site(data_folder, database_url, site.clock, str(uuid.uuid4())) as elsewhere:
        foreign = (await post(elsewhere, "/Patient", MUSTER)).json["id"]
    for stranger in (foreign, str(uuid.uuid4())):
        change = {
            "resource": MUSTER | {"id": stranger},
            "request": {"method": "PUT", "url": f"Patient/{stranger}"},
        }
        link = make(2)
        link["resource"] = link["resource"] | {
            "link": [{"other": {"reference": f"Patient/{stranger}"}, "type": "refer"}]
        }
        report = {
            "resource": {"resourceType": "Observation", "subject": {"reference": f"Patient/{stranger}"}},
            "request": {"method": "POST", "url": "Observation"},
        }
        assert [(await post(site, "", bundle(make(1), one))).status for one in (change, link, report)] == [
            404,
            422,
            422,
        ]
    assert await connection.fetchval("SELECT count(*) FROM patient WHERE tenant = $1", scope.tenant) == 0
    assert await connection.fetchval("SELECT count(*) FROM patient_blind_index WHERE tenant = $1", scope.tenant) == 0
    version = await connection.fetchval("SELECT version FROM patient_demographics WHERE patient_id = $1", foreign)
    assert version == 1


async def test_a_stranger_and_nobody_get_equal_answers(
    site: Site, clinician: Account, data_folder: Any, database_url: str
) -> None:
    from tests.einthoven_server.site import running_site

    async with running_site(data_folder, database_url, site.clock, str(uuid.uuid4())) as elsewhere:
        foreign = (await post(elsewhere, "/Patient", MUSTER)).json["id"]
    for path in ("/Patient/{}", "/Observation?patient={}", "/Device?patient={}", "/Patient?_id={}"):
        nobody = str(uuid.uuid4())
        a, b = [await ask(site, "GET", path.format(one), clinician) for one in (foreign, nobody)]
        assert a.status == b.status, path
        assert a.body.replace(foreign.encode(), b"") == b.body.replace(nobody.encode(), b"")
        kept = {"Content-Type", "Cache-Control", "Server", "X-Content-Type-Options"}
        assert {name: a.headers.get(name) for name in kept} == {name: b.headers.get(name) for name in kept}
    assert await ids(site, "identifier=urn:clinic|MRN-1", clinician) == []


async def test_demographics_lie_in_the_database_sealed_and_hashed_alone(
    site: Site, scope: Scope, connection: Connection
) -> None:
    assert (await post(site, "/Patient", MUSTER)).status == 201
    for table in ("patient", "patient_demographics", "patient_blind_index", "audit_entry"):
        rows = await connection.fetch(f"SELECT * FROM {table} WHERE tenant = $1", scope.tenant)
        said = b" ".join(
            str(value).encode() + bytes(value if isinstance(value, bytes) else b"") for row in rows for value in row
        )
        assert rows
        for canary in (b"ustermann", b"nne", b"MRN-1", b"clinic.example", b"1980-05"):
            assert canary not in said, (table, canary)


async def test_a_search_that_is_too_broad_is_refused_by_name(site: Site, clinician: Account) -> None:
    for query in ("", "?gender=female", "?birthdate=ge1900", "?phone=1", "?identifier=urn:clinic|", "?active=true"):
        answer = await ask(site, "GET", f"/Patient{query}", clinician)
        assert answer.status == 400, query
        assert answer.json["issue"][0]["expression"]


async def test_a_search_may_be_posted_so_that_no_name_is_in_an_address(site: Site, clinician: Account) -> None:
    made = (await post(site, "/Patient", MUSTER)).json["id"]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await ask(site, "POST", "/Patient/_search", clinician, data=b"family=Mustermann", headers=form)
    assert [entry["resource"]["id"] for entry in answer.json["entry"]] == [made]
    for wrong in (b"\xff=1", b"family", b"&".join([b"a=1"] * 500), b"x" * (limits.FHIR_QUERY_MAX_BYTES + 1)):
        answer = await ask(site, "POST", "/Patient/_search", clinician, data=wrong, headers=form)
        assert answer.status in {400, 413}, wrong[:9]
    assert (await post(site, "/Patient/_search", b"{}", clinician)).status == 415


async def test_who_may_write_and_export(site: Site, clinician: Account, service: Account) -> None:
    assert (await post(site, "/Patient", MUSTER, clinician)).status == 403
    assert (await post(site, "", bundle(make(1)), clinician)).status == 403
    assert (await post(site, "/Patient", MUSTER, service)).status == 201
    for token in (clinician, site.admin):
        answer = await ask(site, "GET", "/$export", token, headers={"Prefer": "respond-async"})
        assert answer.status == 403


async def test_one_audit_entry_a_request(site: Site, scope: Scope, connection: Connection, service: Account) -> None:
    async def count() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM audit_entry WHERE tenant = $1", scope.tenant))

    made = (await post(site, "/Patient", MUSTER, service)).json["id"]
    kicked = await ask(site, "GET", "/$export", service, headers={"Prefer": "respond-async"})
    status = kicked.headers["Content-Location"].removeprefix(f"{site.url}/fhir/R4")
    file = (await ask(site, "GET", status, service)).json["output"][0]["url"].removeprefix(f"{site.url}/fhir/R4")
    requests = [
        ("GET", "/metadata"),
        ("GET", f"/Patient/{made}"),
        ("GET", f"/Patient/{uuid.uuid4()}"),
        ("GET", "/Patient?family=x"),
        ("GET", "/Patient?role=x"),
        ("GET", f"/Observation?patient={made}"),
        ("GET", status),
        ("GET", file),
        ("DELETE", status),
    ]
    for method, path in requests:
        before = await count()
        await ask(site, method, path, service)
        assert await count() == before + 1, path
    for body in (MUSTER, MUSTER | {"role": "x"}):
        before = await count()
        octets = msgspec.json.encode(body)
        await ask(site, "POST", "/Patient", service, data=octets, headers={"Content-Type": FHIR})
        assert await count() == before + 1


async def test_an_export_gives_what_the_caller_may_see_line_by_line(site: Site, service: Account) -> None:
    made = (await post(site, "/Patient", MUSTER)).json["id"]
    device = await site.new_device(made)
    await device.exchange(device.rows(1, 5))
    async_only = {"Prefer": "respond-async"}
    assert (await ask(site, "GET", "/$export", service)).status == 400
    for wrong in ("?_since=2020-01-01T00:00:00Z", "?_type=Binary", "?_outputFormat=csv", "?_typeFilter=x"):
        assert (await ask(site, "GET", f"/$export{wrong}", service, headers=async_only)).status == 400
    kicked = await ask(site, "GET", "/Patient/$export", service, headers=async_only)
    assert kicked.status == 202
    where = kicked.headers["Content-Location"].removeprefix(site.url)
    manifest = await site.send("GET", where, token=service)
    assert manifest.json["requiresAccessToken"] is True
    lines = {}
    for output in manifest.json["output"]:
        answer = await site.send("GET", output["url"].removeprefix(site.url), token=service)
        assert answer.headers["Content-Type"] == "application/fhir+ndjson"
        lines[output["type"]] = [msgspec.json.decode(line) for line in answer.body.splitlines()]
        assert {line["resourceType"] for line in lines[output["type"]]} == {output["type"]}
    assert {kind: len(some) for kind, some in lines.items()} == {
        "Patient": 1,
        "Device": 1,
        "Observation": 5,
        "DiagnosticReport": 5,
        "RiskAssessment": 5,
        "Provenance": 5,
    }
    assert lines["Patient"][0]["name"][0]["family"] == "Mustermann"

    other = (await site.new_principal("service"))[1]
    file = manifest.json["output"][0]["url"].removeprefix(site.url)
    for path in (where, file):
        assert (await site.send("GET", path, token=other)).status == 404
    site.clock.offset_ms += limits.EXPORT_LIFETIME_MS
    assert (await site.send("GET", where, token=service)).status == 404
    site.clock.offset_ms = 0
    assert (await site.send("DELETE", where, token=service)).status == 202
    assert (await site.send("GET", file, token=service)).status == 404


async def test_exports_of_one_are_limited(site: Site, service: Account) -> None:
    async def kick() -> int:
        return (await ask(site, "GET", "/$export", service, headers={"Prefer": "respond-async"})).status

    assert [await kick() for _ in range(limits.EXPORTS_OF_ONE_MAX + 1)] == [202] * limits.EXPORTS_OF_ONE_MAX + [429]


async def test_what_the_server_can_do_is_said_to_anybody(site: Site) -> None:
    statement = (await ask(site, "GET", "/metadata", None)).json
    CapabilityStatement.model_validate(statement)
    assert {resource["type"] for resource in statement["rest"][0]["resource"]} == {
        "Patient",
        "Device",
        "Observation",
        "DiagnosticReport",
        "RiskAssessment",
        "Provenance",
        "Consent",
    }
    smart = await site.send("GET", "/fhir/R4/.well-known/smart-configuration")
    assert smart.headers["Content-Type"].startswith("application/json")
    assert smart.json["token_endpoint"] == f"{site.url}/v1/token"
