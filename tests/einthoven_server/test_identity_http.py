"""Enrolment, patients, principals, devices over HTTP: what works, and what every bad input gets."""

from __future__ import annotations

import asyncio
import json
import uuid

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.site import Device, Site, b64

from einthoven.account import Account
from einthoven_protocol.enrolment import EnrolResponse, parse_code
from einthoven_server import limits
from einthoven_server.database import Connection


def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


async def test_a_code_makes_one_device_of_its_patient(site: Site) -> None:
    patient = await site.new_patient()
    code = await site.new_code(patient)
    assert parse_code(code).url == site.url
    answer = await site.enrol(code, key())
    response = msgspec.json.decode(answer.body, type=EnrolResponse)
    assert (response.patient_id, response.tenant) == (patient, site.tenant)
    assert uuid.UUID(response.device_id).version == 4
    again = await site.enrol(code, key())
    assert (again.status, again.error) == (403, "code_used")


async def test_aliases_are_small_and_differ(site: Site) -> None:
    aliases = [(await site.new_device()).alias for _ in range(3)]
    assert aliases == [1, 2, 3]


async def test_the_same_key_gets_its_lost_answer_again(site: Site) -> None:
    code, mine = await site.new_code(await site.new_patient()), key()
    first, second = [json.loads((await site.enrol(code, mine)).body) for _ in range(2)]
    del first["server_time_ms"], second["server_time_ms"]
    assert first == second


async def test_a_revoked_device_does_not_come_back_by_its_old_code(site: Site) -> None:
    code, mine = await site.new_code(await site.new_patient()), key()
    device = json.loads((await site.enrol(code, mine)).body)["device_id"]
    assert (await site.send("POST", f"/v1/devices/{device}/revoke", token=site.admin)).status == 200
    assert (await site.enrol(code, mine)).error == "code_used"


async def test_a_code_tried_by_many_at_once_makes_one_device(site: Site) -> None:
    code = await site.new_code(await site.new_patient())
    answers = await asyncio.gather(*(site.enrol(code, key()) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [403] * 9


async def test_an_unknown_code_and_a_wrong_secret_look_the_same(site: Site) -> None:
    code = await site.new_code(await site.new_patient())
    right = parse_code(code).secret
    unknown = await site.enrol(code, key(), secret=bytes(32))
    wrong = await site.enrol(code, key(), secret=right[:8] + bytes(24))
    assert (unknown.status, unknown.body) == (wrong.status, wrong.body)
    assert (unknown.status, unknown.error) == (403, "code_invalid")


async def test_an_expired_code_is_refused(site: Site) -> None:
    code = await site.new_code(await site.new_patient())
    site.clock.offset_ms += limits.ENROLMENT_CODE_LIFETIME_MS
    answer = await site.enrol(code, key())
    assert (answer.status, answer.error) == (403, "code_expired")


async def test_five_wrong_tries_kill_a_code(site: Site) -> None:
    code = await site.new_code(await site.new_patient())
    wrong = parse_code(code).secret[:8] + bytes(24)
    for _ in range(limits.ENROLMENT_WRONG_TRIES_MAX):
        assert (await site.enrol(code, key(), secret=wrong)).error == "code_invalid"
    assert (await site.enrol(code, key())).error == "code_invalid"


async def test_four_wrong_tries_do_not(site: Site) -> None:
    code = await site.new_code(await site.new_patient())
    wrong = parse_code(code).secret[:8] + bytes(24)
    for _ in range(limits.ENROLMENT_WRONG_TRIES_MAX - 1):
        await site.enrol(code, key(), secret=wrong)
    assert (await site.enrol(code, key())).status == 200


async def test_guessing_is_slowed_over_all_codes(site: Site) -> None:
    code = await site.new_code(await site.new_patient())
    site.clock.stop()
    for _ in range(limits.ENROLMENT_WRONG_TRIES_A_MINUTE):
        answer = await site.enrol(code, key(), secret=bytes(32))
    assert answer.status == 403
    answer = await site.enrol(code, key(), secret=bytes(32))
    assert (answer.status, answer.error) == (429, "too_many_tries")
    assert int(answer.headers["Retry-After"]) >= 1
    site.clock.offset_ms += 60_000
    assert (await site.enrol(code, key())).status == 200


async def test_a_proof_for_another_server_is_refused(site: Site) -> None:
    code = await site.new_code(await site.new_patient())
    answer = await site.enrol(code, key(), url="https://elsewhere.example")
    assert (answer.status, answer.error) == (400, "bad_proof")
    assert (await site.enrol(code, key())).status == 200


async def test_secrets_are_kept_as_hashes_only(site: Site, connection: Connection) -> None:
    code = await site.new_code(await site.new_patient())
    secret = parse_code(code).secret
    rows = await connection.fetch("SELECT * FROM enrolment_code WHERE tenant = $1", site.tenant)
    assert all(secret[8:] not in bytes(row["secret_hash"]) for row in rows)
    await site.new_principal("clinician")
    rows = await connection.fetch("SELECT jwks FROM principal WHERE tenant = $1", site.tenant)
    assert len(rows) == 2
    assert all(json.loads(row["jwks"])["keys"][0].keys() <= {"kty", "crv", "x", "kid", "use", "alg"} for row in rows)
    device = await site.new_device()
    sealed = await connection.fetchval("SELECT sync_key_sealed FROM device WHERE tenant = $1", site.tenant)
    assert device.identity.sync_key not in sealed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"secret": 5}',
        b'{"secret":"AA==","public_key":"AA==","proof":"AA=="}',
        b"[" * 4000,
        b'{"secret":' + b"9" * 4000 + b"}",
        b'{"secret":NaN}',
        b'{"secret":"\xff\xfe"}',
        b'{"secret":"\\ud800"}',
        json.dumps(
            {"secret": b64(bytes(32)), "public_key": b64(bytes(32)), "proof": b64(bytes(64)), "role": "admin"}
        ).encode(),
    ],
)
async def test_a_malformed_enrolment_is_400(site: Site, body: bytes) -> None:
    answer = await site.send("POST", "/v1/enrol", data=body, headers={"Content-Type": "application/json"})
    assert answer.status == 400, answer.body
    assert answer.error == "malformed"
    assert "\n" not in answer.json["message"]


async def test_an_enrolment_over_the_limit_is_413_and_another_type_415(site: Site) -> None:
    json_type = {"Content-Type": "application/json"}
    assert (await site.send("POST", "/v1/enrol", data=b" " * 5000, headers=json_type)).status == 413
    assert (await site.send("POST", "/v1/enrol", data=b"{}", headers={"Content-Type": "text/plain"})).status == 415
    packed = json_type | {"Content-Encoding": "gzip"}
    assert (await site.send("POST", "/v1/enrol", data=b"\x1f\x8b", headers=packed)).status == 415


async def test_ids_that_are_not_there_are_404(site: Site) -> None:
    nobody = str(uuid.uuid4())
    for path in (f"/v1/patients/{nobody}/enrolment-codes", f"/v1/devices/{nobody}/revoke", "/v1/devices/%00/revoke"):
        answer = await site.send("POST", path, token=site.admin)
        assert (answer.status, answer.error) == (404, "not_found"), path


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"role": "device"},
        {"role": "nobody"},
        {"role": "ADMIN"},
        {"role": ["admin"]},
        {"role": "patient"},
        {"role": "patient", "patient_id": ""},
        {"role": "patient", "patient_id": "x\n"},
        {"role": "patient", "patient_id": "\0"},
        {"role": "clinician", "patient_id": "x"},
        {"role": "admin", "patient_id": "x"},
    ],
)
async def test_a_principal_has_a_role_that_can_be_given(site: Site, body: dict[str, object]) -> None:
    body = body | {"jwks": Account().public_jwks()}
    answer = await site.send("POST", "/v1/principals", token=site.admin, json=body)
    assert (answer.status, answer.error) == (400, "malformed")


async def test_a_patients_principal_is_of_a_patient_who_exists(site: Site) -> None:
    body = {"role": "patient", "patient_id": str(uuid.uuid4()), "jwks": Account().public_jwks()}
    answer = await site.send("POST", "/v1/principals", token=site.admin, json=body)
    assert (answer.status, answer.error) == (404, "not_found")


async def test_mass_assignment_is_refused(site: Site) -> None:
    body = {"role": "clinician", "jwks": Account().public_jwks(), "tenant": "other", "principal_id": "me"}
    assert (await site.send("POST", "/v1/principals", token=site.admin, json=body)).status == 400


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "Bearer " + "x" * 5000, "Bearer \xff\xfe", "bearer a b"],
)
async def test_no_valid_token_is_401(site: Site, authorization: str) -> None:
    answer = await site.send("POST", "/v1/patients", headers={"Authorization": authorization})
    assert (answer.status, answer.error) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("DPoP ")


async def test_two_tokens_are_none(site: Site) -> None:
    given = await site.authorization(site.admin).headers(site.http, "POST", "/v1/patients")
    headers = [*given.items(), ("Authorization", "Bearer other")]
    async with site.http.post(site.url + "/v1/patients", headers=headers) as response:
        assert response.status == 401


async def test_a_clinician_runs_nothing_and_an_admin_reads_nothing(site: Site) -> None:
    device: Device = await site.new_device()
    await device.exchange(device.rows(1, 1))
    _, clinician = await site.new_principal("clinician")
    patient = device.identity.patient_id
    for method, path in (
        ("POST", "/v1/patients"),
        ("POST", f"/v1/patients/{patient}/enrolment-codes"),
        ("POST", "/v1/principals"),
        ("POST", f"/v1/devices/{device.identity.device_id}/revoke"),
    ):
        answer = await site.send(method, path, token=clinician, json={"role": "admin"})
        assert (answer.status, answer.error) == (403, "forbidden"), path
    for method, path in (
        ("GET", f"/v1/patients/{patient}/results"),
        ("PUT", f"/v1/results/{device.alias}-1-1/annotation"),
        ("GET", f"/fhir/R4/RiskAssessment?subject=Patient/{patient}"),
    ):
        assert (await site.send(method, path, token=site.admin, json={})).status == 403, path


async def test_revoking_twice_keeps_the_first_time(site: Site) -> None:
    device = await site.new_device()
    path = f"/v1/devices/{device.identity.device_id}/revoke"
    first = (await site.send("POST", path, token=site.admin)).json
    site.clock.offset_ms += 60_000
    assert (await site.send("POST", path, token=site.admin)).json == first


async def test_the_authority_is_open_to_all(site: Site) -> None:
    answer = await site.send("GET", "/v1/ca")
    assert (answer.status, answer.body.decode()) == (200, site.ca_pem)
