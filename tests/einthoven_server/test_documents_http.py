"""Documents over HTTP: put by an admin, signed, listed, and on the devices they are for."""

from __future__ import annotations

import asyncio
import base64
import uuid
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.einthoven_server.site import Answer, Device, Site

from einthoven_protocol.documents import signed_bytes
from einthoven_protocol.limits import MAX_DOCUMENT_BYTES
from einthoven_protocol.messages import Capability, Document
from einthoven_server import limits

JSON = {"Content-Type": "application/json"}


async def put(site: Site, name: str, body: bytes, patient: str = "", **more: Any) -> Answer:
    prefix = f"/v1/patients/{patient}" if patient else "/v1"
    given: dict[str, Any] = {"token": site.admin, "headers": JSON} | more
    return await site.send("PUT", f"{prefix}/documents/{name}", data=body, **given)


async def listed(site: Site, patient: str = "", token: str | None = None) -> Answer:
    prefix = f"/v1/patients/{patient}" if patient else "/v1"
    return await site.send("GET", f"{prefix}/documents", token=token or site.admin)


def verify(site: Site, patient: str, document: Document) -> None:
    public = x509.load_pem_x509_certificate(site.ca_pem.encode()).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    message = signed_bytes(site.tenant, patient, document.name, document.version, document.issued_at_ms, document.body)
    public.verify(document.signature, message, ec.ECDSA(hashes.SHA256()))


async def test_a_tenants_document_reaches_every_device_signed_by_the_pinned_authority(site: Site) -> None:
    answer = await put(site, "settings/alarms", b'{"hr": [40, 180]}')
    assert (answer.status, answer.json["version"], answer.json["body"]) == (200, 1, {"hr": [40, 180]})
    for device in (await site.new_device(), await site.new_device()):
        (document,) = (await device.exchange(capabilities=Capability.FEED)).documents
        assert (document.name, document.version, document.body) == ("settings/alarms", 1, b'{"hr": [40, 180]}')
        verify(site, "", document)


async def test_a_patients_document_reaches_that_patients_devices_only(site: Site) -> None:
    device, stranger = await site.new_device(), await site.new_device()
    patient = device.identity.patient_id
    assert (await put(site, "consents/research", b"true", patient)).status == 200
    (document,) = (await device.exchange(capabilities=Capability.FEED)).documents
    verify(site, patient, document)
    assert (await stranger.exchange(capabilities=Capability.FEED)).documents == ()
    assert (await device.exchange(capabilities=Capability.FEED)).documents == ()  # it has it now


async def test_each_new_body_is_a_new_version_and_the_same_one_is_not(site: Site, device: Device) -> None:
    for body, version in ((b"1", 1), (b"2", 2), (b"2", 2), (b"1", 3)):
        assert (await put(site, "models/beats", body)).json["version"] == version
    shown = (await listed(site)).json["documents"]
    assert [(document["name"], document["version"], document["body"]) for document in shown] == [("models/beats", 3, 1)]
    (document,) = (await device.exchange(capabilities=Capability.FEED)).documents
    assert (document.version, base64.b64encode(document.signature).decode()) == (3, shown[0]["signature"])


@pytest.fixture
async def device(site: Site) -> Device:
    return await site.new_device()


async def test_two_admins_at_once_both_get_a_version_of_their_own(site: Site, device: Device) -> None:
    answers = await asyncio.gather(*(put(site, "settings/x", str(n).encode()) for n in range(3)))
    assert sorted(answer.json["version"] for answer in answers) == [1, 2, 3]
    (document,) = (await device.exchange(capabilities=Capability.FEED)).documents
    verify(site, "", document)


async def test_documents_of_the_tenant_and_of_a_patient_are_listed_apart(site: Site, device: Device) -> None:
    patient = device.identity.patient_id
    await put(site, "settings/a", b"1")
    await put(site, "settings/b", b"2", patient)
    _, clinician = await site.new_principal("clinician")
    assert [document["body"] for document in (await listed(site)).json["documents"]] == [1]
    assert [document["body"] for document in (await listed(site, patient, clinician)).json["documents"]] == [2]


async def test_a_name_is_the_tenants_or_a_patients_but_never_both(site: Site, device: Device) -> None:
    patient = device.identity.patient_id
    await put(site, "settings/a", b"1")
    await put(site, "settings/b", b"1", patient)
    for name, whose in (("settings/a", patient), ("settings/b", "")):
        answer = await put(site, name, b"2", whose)
        assert (answer.status, answer.error) == (409, "name_taken")
    other = await site.new_patient()
    assert (await put(site, "settings/b", b"2", other)).status == 200


async def test_an_unknown_patient_is_404(site: Site) -> None:
    unknown = str(uuid.uuid4())
    assert (await put(site, "settings/a", b"1", unknown)).status == 404
    assert (await listed(site, unknown)).status == 404


@pytest.mark.parametrize("name", ["keys/ca", "settings/A", "settings/..", "settings/a/b", "settings/" + "x" * 56])
async def test_a_name_that_no_document_has_is_404(site: Site, name: str) -> None:
    assert (await put(site, name, b"1")).status in {404, 405}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"NaN", b'{"a":1,"a":2}', b'"\\ud800"', b"[" * 60_000, b"9" * 60_000, b"\xff", b"[" * 40 + b"]" * 40],
    ids=lambda body: body[:12].decode("latin-1"),
)
async def test_what_is_no_plain_json_is_400(site: Site, body: bytes) -> None:
    answer = await put(site, "settings/a", body)
    assert (answer.status, answer.error) == (400, "malformed")
    assert (await listed(site)).json["documents"] == []


async def test_size_type_and_encoding_are_held_to_their_limits(site: Site) -> None:
    largest = b'"' + b"x" * (MAX_DOCUMENT_BYTES - 2) + b'"'
    assert (await put(site, "settings/a", largest)).status == 200
    assert (await put(site, "settings/a", largest + b" ")).status == 413
    assert (await put(site, "settings/a", b"1", headers={"Content-Type": "text/plain"})).status == 415
    assert (await put(site, "settings/a", b"1", headers=JSON | {"Content-Encoding": "zstd"})).status == 415


async def test_there_are_so_many_documents_at_most(site: Site) -> None:
    for number in range(limits.DOCUMENTS_OF_ONE_MAX):
        assert (await put(site, f"settings/n{number}", b"1")).status == 200
    answer = await put(site, "settings/one-more", b"1")
    assert (answer.status, answer.error) == (409, "too_many_documents")
    assert (await put(site, "settings/n0", b"2")).json["version"] == 2


async def test_a_clinician_reads_documents_and_puts_none(site: Site, device: Device) -> None:
    _, clinician = await site.new_principal("clinician")
    patient = device.identity.patient_id
    for whose in ("", patient):
        answer = await put(site, "settings/a", b"1", whose, token=clinician)
        assert (answer.status, answer.error) == (403, "forbidden")
        assert (await put(site, "settings/a", b"1", whose, token=None)).status == 401
        assert (await listed(site, whose, clinician)).status == 200
