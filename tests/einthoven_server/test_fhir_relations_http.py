"""FHIR as each relation to a patient has it: who is found, shown, changed and exported, and what the audit log says."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.provenance import Provenance
from tests.einthoven_server.site import Answer, Device, Site

from einthoven.account import Account
from einthoven_server import limits
from einthoven_server.database import Connection
from einthoven_server.fhir.scopes import covers

FHIR = "application/fhir+json"
ONLY = {"If-None-Exist": "identifier=urn:clinic|MRN-1"}
MUSTER: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:clinic", "value": "MRN-1"}],
    "name": [{"family": "Mustermann"}],
}
KINDS = ("Observation", "RiskAssessment", "DiagnosticReport", "Provenance", "Device")


async def ask(site: Site, method: str, path: str, token: Account | None, body: object = None, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    more: dict[str, Any] = {}
    if body is not None:
        more["data"] = msgspec.json.encode(body)
        given["Content-Type"] = FHIR
    answer = await site.send(method, f"/fhir/R4{path}", token=token, headers=given, **more)
    if answer.status >= 400:
        OperationOutcome.model_validate(answer.json)
    return answer


async def found(site: Site, path: str, token: Account) -> list[dict[str, Any]]:
    answer = await ask(site, "GET", path, token)
    assert answer.status == 200, answer.body
    return [entry["resource"] for entry in answer.json.get("entry", [])]


@pytest.fixture
async def patient(site: Site) -> str:
    """Somebody with demographics, whom nobody treats."""
    return str((await ask(site, "POST", "/Patient", site.admin, MUSTER)).json["id"])


@pytest.fixture
async def device(site: Site, patient: str) -> Device:
    device = await site.new_device(patient)
    await device.exchange(device.rows(1, 3))
    return device


async def stranger(site: Site, role: str) -> tuple[str, Account]:
    return await site.new_principal(role, treats=False)


async def test_a_clinician_finds_who_is_treated_and_nobody_else(site: Site, patient: str, device: Device) -> None:
    principal, account = await stranger(site, "clinician")
    named = ("/Patient?family=mustermann", f"/Patient?_id={patient}", "/Patient?identifier=MRN-1")
    results = [f"/{kind}?patient={patient}" for kind in KINDS]
    for path in (*named, *results):
        assert await found(site, path, account) == [], path
    assert (await ask(site, "GET", f"/Patient/{patient}", account)).status == 404
    await site.join(patient, principal)
    for path in (*named, *results):
        assert await found(site, path, account), path
    assert (await ask(site, "GET", f"/Patient/{patient}", account)).status == 200
    path = f"/v1/patients/{patient}/care-team/{principal}"
    assert (await site.send("DELETE", path, token=site.admin)).status == 200
    for path in (*named, *results):
        assert await found(site, path, account) == [], path


async def test_whoever_breaks_the_glass_finds_that_patient_and_the_log_says_so(
    site: Site, patient: str, device: Device, connection: Connection
) -> None:
    principal, account = await stranger(site, "clinician")
    body = {"reason": "emergency", "text": "collapsed"}
    path = f"/v1/patients/{patient}/break-glass"
    assert (await site.send("POST", path, token=account, json=body)).status == 201
    for path in (f"/Observation?patient={patient}", "/Patient?family=mustermann", f"/Patient/{patient}"):
        assert (await ask(site, "GET", path, account)).status == 200
    rows = await connection.fetch(
        "SELECT operation, patient, purpose FROM audit_entry WHERE tenant = $1 AND actor = $2 "
        "AND operation LIKE 'fhir%' ORDER BY seq",
        site.tenant,
        principal,
    )
    assert [tuple(row) for row in rows] == [
        ("fhir.search", patient, "BTG"),
        ("fhir.patient.search", patient, "BTG"),
        ("fhir.patient.read", patient, "BTG"),
    ]
    site.clock.offset_ms += limits.BREAK_GLASS_LIFETIME_MS
    assert (await ask(site, "GET", f"/Patient/{patient}", account)).status == 404
    site.clock.offset_ms = 0


async def test_a_patient_sees_itself_without_what_is_for_judges(site: Site, patient: str, device: Device) -> None:
    other = await site.new_patient()
    _, account = await site.new_principal("patient", patient=patient)
    assert [one["id"] for one in await found(site, "/Patient?family=mustermann", account)] == [patient]
    for kind in KINDS:
        assert await found(site, f"/{kind}?patient={patient}", account), kind
        assert await found(site, f"/{kind}?patient={other}", account) == [], kind
    assert (await ask(site, "GET", f"/Patient/{other}", account)).status == 404
    (first, *_) = await found(site, f"/Provenance?patient={patient}", account)
    Provenance.model_validate(first)
    assert not {"activity", "entity"} & first.keys()
    digest = bytes(range(32)).hex()
    for kind in KINDS:
        assert digest not in msgspec.json.encode(await found(site, f"/{kind}?patient={patient}", account)).decode()
    for method, path in (("PUT", f"/Patient/{patient}"), ("POST", "/Patient"), ("POST", "")):
        assert (await ask(site, method, path, account, MUSTER)).status == 403


async def test_an_admin_sees_who_patients_are_and_nothing_that_was_measured(
    site: Site, patient: str, device: Device
) -> None:
    assert [one["id"] for one in await found(site, "/Patient?family=mustermann", site.admin)] == [patient]
    for kind in KINDS:
        assert (await ask(site, "GET", f"/{kind}?patient={patient}", site.admin)).status == 403
    assert (await ask(site, "GET", "/$export", site.admin, Prefer="respond-async")).status == 403


async def test_a_service_sees_no_free_text(site: Site, patient: str, device: Device) -> None:
    _, clinician = await site.new_principal("clinician", treats=False)
    path = f"/v1/patients/{patient}/break-glass"
    await site.send("POST", path, token=clinician, json={"reason": "emergency", "text": "x"})
    said = {"comment": "looks like an artefact"}
    path = f"/v1/results/{device.alias}-1-1/annotation"
    assert (await site.send("PUT", path, token=clinician, json=said)).status == 200
    principal, service = await stranger(site, "service")
    await site.join(patient, principal)
    shown = {"clinician": clinician, "service": service}
    pages = {name: await found(site, f"/Observation?patient={patient}", one) for name, one in shown.items()}
    assert ["note" in one for one in pages["clinician"]] == [True, False, False]
    assert ["note" in one for one in pages["service"]] == [False, False, False]
    Observation.model_validate(pages["service"][0])


async def test_a_service_that_brings_a_patient_does_not_thereby_see_it(site: Site, patient: str) -> None:
    principal, service = await stranger(site, "service")
    again = await ask(site, "POST", "/Patient", service, MUSTER, **ONLY)
    assert (again.status, again.body) == (200, b"")
    assert again.headers["Location"].endswith(f"/Patient/{patient}")
    request = {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:clinic|MRN-1"}
    new = {"resource": MUSTER | {"identifier": [{"value": "MRN-2"}]}, "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": MUSTER, "request": request}, new]}
    answer = await ask(site, "POST", "", service, bundle, Prefer="return=representation")
    assert ["resource" in entry for entry in answer.json["entry"]] == [False, True]
    made = answer.json["entry"][1]["resource"]["id"]
    for one in (patient, made):
        assert (await ask(site, "GET", f"/Patient/{one}", service)).status == 404
        change = await ask(site, "PUT", f"/Patient/{one}", service, MUSTER | {"id": one, "gender": "female"})
        assert change.status == 404
    await site.join(patient, principal)
    assert (await ask(site, "POST", "/Patient", service, MUSTER, **ONLY)).json["id"] == patient
    change = await ask(site, "PUT", f"/Patient/{patient}", service, MUSTER | {"id": patient, "gender": "female"})
    assert (change.status, change.json["gender"]) == (200, "female")


async def test_a_bundle_changes_none_that_is_not_the_callers(site: Site, patient: str) -> None:
    principal, service = await stranger(site, "service")
    mine = await site.new_patient()
    await site.join(mine, principal)

    def change(one: str) -> dict[str, Any]:
        resource = {"resourceType": "Patient", "id": one, "gender": "other"}
        return {"resource": resource, "request": {"method": "PUT", "url": f"Patient/{one}"}}

    bodies = []
    for other in (patient, str(uuid.uuid4())):
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [change(mine), change(other)]}
        answer = await ask(site, "POST", "", service, bundle)
        assert answer.status == 404
        bodies.append(answer.body)
    assert bodies[0] == bodies[1]
    assert "gender" not in (await ask(site, "GET", f"/Patient/{mine}", service)).json


async def test_who_is_not_seen_is_not_counted_among_too_many(site: Site) -> None:
    resource = {"resourceType": "Patient", "name": [{"family": "Lang"}]}
    for count in (limits.FHIR_BUNDLE_MAX_ENTRIES, 1):
        entries = [{"resource": resource, "request": {"method": "POST", "url": "Patient"}}] * count
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert (await ask(site, "POST", "", site.admin, bundle)).status == 200
    _, account = await stranger(site, "clinician")
    assert (await ask(site, "GET", "/Patient?family=lang", site.admin)).status == 400
    answer = await ask(site, "GET", "/Patient?family=lang", account)
    assert (answer.status, answer.json["total"]) == (200, 0)


async def test_an_export_has_the_care_team_s_patients_and_its_entry_names_them(
    site: Site, patient: str, device: Device, connection: Connection
) -> None:
    principal, service = await stranger(site, "service")
    second, third = await site.new_patient(), await site.new_patient()
    for one in (patient, second):
        await site.join(one, principal)
    kicked = await ask(site, "GET", "/$export", service, Prefer="respond-async")
    status = kicked.headers["Content-Location"].removeprefix(f"{site.url}/fhir/R4")
    files = {
        one["type"]: one["url"].removeprefix(site.url)
        for one in (await ask(site, "GET", status, service)).json["output"]
    }

    async def patients() -> set[str]:
        answer = await site.send("GET", files["Patient"], token=service)
        return {msgspec.json.decode(line)["id"] for line in answer.body.splitlines()}

    assert await patients() == {patient, second}
    row = await connection.fetchrow(
        "SELECT patient, others FROM audit_entry WHERE tenant = $1 AND operation = 'fhir.export.file'", site.tenant
    )
    assert row is not None
    assert {row["patient"], *row["others"].split()} == {patient, second}
    path = f"/v1/patients/{second}/care-team/{principal}"
    assert (await site.send("DELETE", path, token=site.admin)).status == 200
    assert await patients() == {patient}
    assert third not in await patients()


@pytest.mark.parametrize(
    ("scopes", "kind", "interactions", "covered"),
    [
        (set(), "Patient", "cru", True),
        ({"system/Patient.rs"}, "Patient", "r", True),
        ({"system/Patient.rs"}, "Patient", "cr", False),
        ({"system/Patient.r", "system/Patient.c"}, "Patient", "cr", True),
        ({"system/*.rs"}, "Observation", "s", True),
        ({"system/Patient.rs"}, "Observation", "r", False),
    ],
)
def test_scopes_narrow(scopes: set[str], kind: str, interactions: str, covered: bool) -> None:
    assert covers(scopes, kind, interactions) is covered


async def test_a_token_does_no_more_than_its_scopes_say(site: Site, patient: str, device: Device) -> None:
    principal, service = await site.new_principal("service", treats=False, scopes=["system/Observation.s"])
    await site.join(patient, principal)
    (first, *_) = await found(site, f"/Observation?patient={patient}&_include=Observation:subject", service)
    assert await found(site, f"/Observation?patient={patient}&_include=Observation:subject", service) != []
    along = await found(site, f"/Observation?patient={patient}&_revinclude=Provenance:target", service)
    assert {one["resourceType"] for one in along} == {"Observation"}
    refused = [("GET", f"/Observation/{first['id']}", None), ("GET", f"/Patient/{patient}", None)]
    refused += [("GET", f"/{kind}?patient={patient}", None) for kind in KINDS if kind != "Observation"]
    refused += [("GET", "/Patient?family=mustermann", None), ("GET", "/$export", None), ("POST", "/Patient", MUSTER)]
    for method, path, body in refused:
        answer = await ask(site, method, path, service, body, Prefer="respond-async")
        assert (answer.status, answer.error) == (403, "insufficient_scope"), path
