"""Consent and restriction over HTTP: who gives, reads and withdraws them, and what they keep from whom, at once."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from tests.einthoven_server.site import Answer, Device, ManualClock, Site, running_site

from einthoven.account import Account
from einthoven_protocol.documents import signed_bytes
from einthoven_protocol.limits import MAX_DOCUMENT_BYTES
from einthoven_protocol.messages import Capability, Document
from einthoven_server import certificates, limits
from einthoven_server.audit.chain import Event
from einthoven_server.database import Connection
from einthoven_server.fhir.consents import shown
from einthoven_server.identity.consent import Agreement, Category, Consent, Provision, Purpose
from einthoven_server.identity.roles import Role
from einthoven_server.records.consent_publisher import DOCUMENT_NAME, ConsentPublisher, document_body
from einthoven_server.records.housekeeping import Housekeeping
from einthoven_server.serve import parts_of

FHIR = "application/fhir+json"
NO = Agreement(False, "2026-11-23")
YES = Agreement(True, "2026-11-23")
MUSTER = {"resourceType": "Patient", "name": [{"family": "Mustermann"}]}


async def ask(site: Site, method: str, path: str, token: Account, body: object = None, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    more: dict[str, Any] = {}
    if body is not None:
        more["data"] = msgspec.json.encode(body)
        given["Content-Type"] = FHIR
    return await site.send(method, f"/fhir/R4{path}", token=token, headers=given, **more)


def document(patient: str, agreement: Agreement) -> dict[str, Any]:
    made = shown(Consent("", patient, 1, True, 0, agreement))
    del made["id"], made["meta"]
    return made


async def consent(site: Site, patient: str, agreement: Agreement, token: Account | None = None) -> dict[str, Any]:
    answer = await ask(site, "POST", "/Consent", token or site.admin, document(patient, agreement))
    assert answer.status == 201, answer.body
    assert answer.headers["Location"].endswith(f"/Consent/{answer.json['id']}")
    return dict(answer.json)


async def withdraw(site: Site, given: dict[str, Any], token: Account | None = None, **headers: str) -> Answer:
    body = given | {"status": "inactive"}
    return await ask(site, "PUT", f"/Consent/{given['id']}", token or site.admin, body, **headers)


@pytest.fixture
async def patient(site: Site) -> str:
    return str((await ask(site, "POST", "/Patient", site.admin, MUSTER)).json["id"])


@pytest.fixture
async def device(site: Site, patient: str) -> Device:
    device = await site.new_device(patient)
    await device.exchange(device.rows(1, 3))
    return device


async def carer(site: Site, patient: str, role: str = "clinician") -> tuple[str, Account]:
    principal, account = await site.new_principal(role, treats=False)
    await site.join(patient, principal)
    return principal, account


async def what_is_seen(site: Site, device: Device, token: Account) -> dict[str, int]:
    """Statuses of everything that shows something of a patient to a clinician; of a search, what it found."""
    patient = device.identity.patient_id
    observation = shown_ids = None
    search = await ask(site, "GET", f"/Observation?patient={patient}", token)
    entries = search.json.get("entry", [])
    shown_ids = [one["resource"]["id"] for one in entries]
    observation = shown_ids[0] if shown_ids else str(uuid.uuid4())
    seen = {"found": len(entries)}
    for path in (
        f"/v1/patients/{patient}/results",
        f"/v1/patients/{patient}/notes",
        f"/v1/patients/{patient}/documents",
    ):
        seen[path.rpartition("/")[2]] = (await site.send("GET", path, token=token)).status
    for path in (f"/Patient/{patient}", f"/Observation/{observation}"):
        seen[path.split("/")[1]] = (await ask(site, "GET", path, token)).status
    seen["people"] = (await ask(site, "GET", "/Patient?family=mustermann", token)).json["total"]
    said = {"comment": "seen"}
    path = f"/v1/results/{device.alias}-1-1/annotation"
    seen["annotation"] = (await site.send("PUT", path, token=token, json=said)).status
    return seen


ALL = {
    **{"found": 3, "results": 200, "notes": 200, "documents": 200, "Patient": 200, "Observation": 200},
    **{"people": 1, "annotation": 200},
}
NOTHING = {name: 404 if value >= 200 else 0 for name, value in ALL.items()}


async def test_a_withdrawn_consent_bites_within_a_second(site: Site, patient: str, device: Device) -> None:
    assert (
        await site.send("PUT", "/v1/privacy/policy", token=site.admin, json={"permitted_without_consent": []})
    ).status == 200
    _, clinician = await carer(site, patient)
    assert await what_is_seen(site, device, clinician) == NOTHING
    given = await consent(site, patient, YES)
    assert await what_is_seen(site, device, clinician) == ALL
    assert (await withdraw(site, given)).status == 200
    begin = time.monotonic()
    answer = await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)
    assert (answer.status, time.monotonic() - begin < 1.0) == (404, True)
    assert await what_is_seen(site, device, clinician) == NOTHING


async def test_another_process_knows_at_once(
    site: Site, patient: str, device: Device, data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    _, clinician = await carer(site, patient)
    async with running_site(data_folder, database_url, clock, site.tenant) as other:
        path = f"/v1/patients/{patient}/results"
        assert (await other.send("GET", path, token=clinician)).status == 200
        given = await consent(site, patient, NO)
        assert (await other.send("GET", path, token=clinician)).status == 404
        assert (await withdraw(site, given)).status == 200
        begin = time.monotonic()
        assert (await other.send("GET", path, token=clinician)).status == 200
        assert time.monotonic() - begin < 1.0


async def test_who_is_kept_out_gets_the_answer_to_an_unknown_id(site: Site, patient: str, device: Device) -> None:
    _, clinician = await carer(site, patient)
    await consent(site, patient, NO)
    unknown = str(uuid.uuid4())
    for path in ("results", "notes"):
        answers = [await site.send("GET", f"/v1/patients/{one}/{path}", token=clinician) for one in (patient, unknown)]
        assert (answers[0].status, answers[0].body) == (answers[1].status, answers[1].body)
    pages = []
    for one in (patient, unknown):
        page = await ask(site, "GET", f"/Observation?patient={one}", clinician)
        pages.append((page.status, page.body.replace(one.encode(), b"")))
    assert pages[0] == pages[1]


async def test_the_patient_and_the_device_have_what_is_theirs(site: Site, patient: str, device: Device) -> None:
    _, account = await site.new_principal("patient", patient=patient)
    await consent(site, patient, NO, account)
    put = {"ground": "legal_claims"}
    assert (await site.send("PUT", f"/v1/patients/{patient}/restriction", token=site.admin, json=put)).status == 200
    assert (await site.send("GET", f"/v1/patients/{patient}/results", token=account)).status == 200
    assert (await ask(site, "GET", f"/Patient/{patient}", account)).status == 200
    await device.exchange(device.rows(4, 1))


async def test_an_exception_keeps_one_service_from_one_category(site: Site, patient: str, device: Device) -> None:
    first, one = await carer(site, patient, "service")
    _, other = await carer(site, patient, "service")
    _, clinician = await carer(site, patient)
    exception = Provision(principals=(first,), categories=(Category.DEMOGRAPHICS,))
    await consent(site, patient, Agreement(True, "2026-11-23", (exception,)))
    for token, expected in ((one, 404), (other, 200), (clinician, 200)):
        assert (await ask(site, "GET", f"/Patient/{patient}", token)).status == expected
        assert len((await ask(site, "GET", f"/Observation?patient={patient}", token)).json["entry"]) == 3
        along = await ask(site, "GET", f"/Observation?patient={patient}&_include=Observation:subject", token)
        kinds = {entry["resource"]["resourceType"] for entry in along.json["entry"]}
        assert ("Patient" in kinds) == (expected == 200)
    kicked = await ask(site, "GET", "/$export", one, Prefer="respond-async")
    status = kicked.headers["Content-Location"].removeprefix(f"{site.url}/fhir/R4")
    for file in (await ask(site, "GET", status, one)).json["output"]:
        lines = (await site.send("GET", file["url"].removeprefix(site.url), token=one)).body.splitlines()
        assert bool(lines) == (file["type"] != "Patient"), file["type"]


async def test_breaking_the_glass_overrides_consent_unless_the_policy_or_a_restriction_says_no(
    site: Site, patient: str, device: Device, connection: Connection
) -> None:
    principal, clinician = await carer(site, patient)
    await consent(site, patient, NO)
    path, results = f"/v1/patients/{patient}/break-glass", f"/v1/patients/{patient}/results"
    assert (await site.send("GET", results, token=clinician)).status == 404
    assert (await site.send("POST", path, token=clinician, json={"reason": "emergency", "text": "x"})).status == 201
    assert (await site.send("GET", results, token=clinician)).status == 200
    query = "SELECT purpose FROM audit_entry WHERE tenant = $1 AND actor = $2 ORDER BY seq DESC LIMIT 1"
    assert await connection.fetchval(query, site.tenant, principal) == "BTG"
    policy = {"emergency_overrides_consent": False}
    assert (await site.send("PUT", "/v1/privacy/policy", token=site.admin, json=policy)).status == 200
    assert (await site.send("GET", results, token=clinician)).status == 404
    policy = {"emergency_overrides_consent": True}
    await site.send("PUT", "/v1/privacy/policy", token=site.admin, json=policy)
    put = {"ground": "accuracy_contested"}
    await site.send("PUT", f"/v1/patients/{patient}/restriction", token=site.admin, json=put)
    assert (await site.send("GET", results, token=clinician)).status == 404


async def test_what_is_restricted_is_kept_and_shown_for_the_purposes_named(
    site: Site, patient: str, device: Device
) -> None:
    _, clinician = await carer(site, patient)
    _, service = await carer(site, patient, "service")
    path = f"/v1/patients/{patient}/restriction"
    answer = await site.send("PUT", path, token=site.admin, json={"ground": "unlawful_processing"})
    assert (answer.json["restricted"], answer.json["ground"]) == (True, "unlawful_processing")
    assert await what_is_seen(site, device, clinician) == NOTHING
    assert (await ask(site, "GET", f"/Patient/{patient}", site.admin)).status == 404
    assert (await ask(site, "GET", "/Patient?family=mustermann", site.admin)).json["total"] == 0
    for purposes, seen in ((["TREAT"], (200, 404, 404)), (["HOPERAT", "HSYSADMIN"], (404, 200, 200))):
        put = {"ground": "legal_claims", "purposes": purposes}
        assert (await site.send("PUT", path, token=site.admin, json=put)).json["purposes"] == purposes
        asked = [await ask(site, "GET", f"/Patient/{patient}", one) for one in (clinician, service, site.admin)]
        assert tuple(one.status for one in asked) == seen
    lifted = await site.send("DELETE", path, token=site.admin)
    assert lifted.json == {"restricted": False, "since_ms": None, "ground": None, "purposes": []}
    assert await what_is_seen(site, device, clinician) == ALL


@pytest.mark.parametrize("body", [{}, {"ground": "because"}, {"ground": "legal_claims", "purposes": ["FUN"]}])
async def test_a_restriction_has_a_ground_and_purposes_that_exist(site: Site, patient: str, body: object) -> None:
    answer = await site.send("PUT", f"/v1/patients/{patient}/restriction", token=site.admin, json=body)
    assert (answer.status, answer.error) == (400, "malformed")


async def test_who_is_kept_out_can_not_let_themselves_in(site: Site, patient: str, device: Device) -> None:
    _, clinician = await carer(site, patient)
    _, stranger = await site.new_principal("clinician", treats=False)
    given = await consent(site, patient, NO)
    assert (await withdraw(site, given, clinician)).status == 403
    # Another one that permits does not help: who denies decides.
    await consent(site, patient, YES, clinician)
    assert (await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)).status == 404
    assert (await ask(site, "POST", "/Consent", stranger, document(patient, YES))).status == 404
    assert (await ask(site, "GET", f"/Consent/{given['id']}", stranger)).status == 404
    assert (await ask(site, "GET", f"/Consent/{given['id']}", clinician)).status == 200


async def test_consents_are_found_read_and_withdrawn_once(site: Site, patient: str) -> None:
    _, account = await site.new_principal("patient", patient=patient)
    first, second = await consent(site, patient, YES, account), await consent(site, patient, NO, account)
    answer = await withdraw(site, second, account, If_Match='W/"7"')
    assert answer.status == 412
    answer = await withdraw(site, second, account, If_Match='W/"1"')
    assert (answer.status, answer.json["status"], answer.headers["ETag"]) == (200, "inactive", 'W/"2"')
    assert (await withdraw(site, second, account)).json["meta"] == answer.json["meta"]
    again = await ask(site, "PUT", f"/Consent/{second['id']}", account, second)
    assert (again.status, again.error) == (422, "unprocessable")
    changed = document(patient, YES) | {"id": second["id"], "status": "inactive"}
    assert (await ask(site, "PUT", f"/Consent/{second['id']}", account, changed)).status == 422
    for query, found in (
        (f"patient={patient}", {first["id"], second["id"]}),
        (f"patient={patient}&status=active", {first["id"]}),
        (f"patient={patient}&status=inactive&_id={second['id']}", {second["id"]}),
        (f"_id={first['id']}", {first["id"]}),
        (f"patient={uuid.uuid4()}", set()),
    ):
        page = (await ask(site, "GET", f"/Consent?{query}", account)).json
        Bundle.model_validate(page)
        assert {entry["resource"]["id"] for entry in page.get("entry", [])} == found, query
    CapabilityStatement.model_validate((await ask(site, "GET", "/metadata", account)).json)
    assert (await ask(site, "GET", "/Consent?category=x", account)).status == 400


async def test_a_patient_gives_a_consent_for_nobody_else(site: Site, patient: str) -> None:
    other = await site.new_patient()
    _, account = await site.new_principal("patient", patient=patient)
    theirs = await consent(site, other, YES)
    answers = [await ask(site, "POST", "/Consent", account, document(one, YES)) for one in (other, str(uuid.uuid4()))]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].body == answers[1].body
    assert (await withdraw(site, theirs, account)).status == 404


async def test_there_are_only_so_many(site: Site, patient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONSENTS_OF_ONE_MAX", 2)
    for _ in range(2):
        await withdraw(site, await consent(site, patient, YES))
    answer = await ask(site, "POST", "/Consent", site.admin, document(patient, YES))
    assert (answer.status, answer.error) == (409, "too_many_consents")


async def test_the_database_has_no_word_of_a_consent(site: Site, patient: str, connection: Connection) -> None:
    exception = Provision(principals=("secret-practice",), purposes=(Purpose.TREAT,), roles=(Role.SERVICE,))
    await consent(site, patient, Agreement(True, "2026-11-23", (exception,)))
    row = await connection.fetchrow("SELECT * FROM consent WHERE tenant = $1", site.tenant)
    assert b"secret-practice" not in b"".join(value for value in row.values() if isinstance(value, bytes))
    assert b"2026-11" not in row["body_sealed"]


async def test_one_event_each_and_the_log_names_the_consent(site: Site, patient: str, connection: Connection) -> None:
    given = await consent(site, patient, YES)
    await withdraw(site, given)
    rows = await connection.fetch(
        "SELECT operation, patient, resource, resource_id FROM audit_entry "
        "WHERE tenant = $1 AND operation LIKE 'fhir.consent%' ORDER BY seq",
        site.tenant,
    )
    assert [tuple(row) for row in rows] == [
        ("fhir.consent.create", patient, "Consent", given["id"]),
        ("fhir.consent.update", patient, "Consent", given["id"]),
    ]


async def document_of(device: Device) -> Document:
    """The consents that a device was told last."""
    told = (await device.exchange(capabilities=Capability.FEED)).documents
    return [one for one in told if one.name == DOCUMENT_NAME][-1]


async def test_the_device_gets_it_signed_by_the_authority_that_it_pinned(
    site: Site, patient: str, device: Device
) -> None:
    given = await consent(site, patient, Agreement(True, "2026-11-23", (Provision(categories=(Category.SIGNAL,)),)))
    first = await document_of(device)
    said = msgspec.json.decode(first.body)
    assert (said["restricted"], said["complete"]) == (False, True)
    assert said["consents"] == [
        {"id": given["id"], "permits": True, "said": "2026-11-23", "exceptions": [{"categories": ["signal"]}]}
    ]
    key = x509.load_pem_x509_certificate(site.ca_pem.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    fields = (first.name, first.version, first.issued_at_ms, first.body)
    key.verify(first.signature, signed_bytes(site.tenant, patient, *fields), ec.ECDSA(hashes.SHA256()))
    await withdraw(site, given)
    second = await document_of(device)
    assert (second.version, msgspec.json.decode(second.body)["consents"]) == (2, [])
    put = {"ground": "legal_claims"}
    await site.send("PUT", f"/v1/patients/{patient}/restriction", token=site.admin, json=put)
    assert msgspec.json.decode((await document_of(device)).body)["restricted"]


async def test_devices_that_were_not_told_are_told_by_housekeeping(
    site: Site, patient: str, device: Device, data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts, parts.writer.running():
        await parts.consents.create(patient, NO, clock.now_ms(), Event(0, "-", "test", patient, "allowed"))
        assert await parts.privacy.unpublished(10) == [patient]
        signer = certificates.ensure(data_folder, "127.0.0.1", dt.datetime.now(dt.UTC)).signer
        shared = (parts.consents, parts.privacy, parts.words, parts.keys, parts.writer, signer, site.tenant)
        publisher = ConsentPublisher(*shared)
        house = Housekeeping(parts.changes, parts.identities, clock, consents=publisher)
        await house.round()
        assert await parts.privacy.unpublished(10) == []
    assert not msgspec.json.decode((await document_of(device)).body)["consents"][0]["permits"]


def test_of_more_consents_than_fit_a_document_it_says_so() -> None:
    one = {"id": "x" * 36, "permits": True, "said": "2026", "exceptions": [{"principals": ["y" * 256] * 16}] * 8}
    body = document_body(restricted=False, consents=[one] * 64)
    said = msgspec.json.decode(body)
    assert (said["complete"], 0 < len(said["consents"]) < 64, len(body) <= MAX_DOCUMENT_BYTES) == (False, True, True)


async def test_a_consent_that_can_not_be_opened_keeps_carers_out_and_never_the_patient(
    site: Site, patient: str, device: Device, connection: Connection
) -> None:
    _, clinician = await carer(site, patient)
    _, account = await site.new_principal("patient", patient=patient)
    await consent(site, patient, YES)
    await connection.execute("UPDATE consent SET body_sealed = '\\x0102' WHERE tenant = $1", site.tenant)
    for token, expected in ((clinician, 404), (account, 200)):
        assert (await site.send("GET", f"/v1/patients/{patient}/results", token=token)).status == expected
