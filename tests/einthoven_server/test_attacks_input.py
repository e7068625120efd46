"""Attacks 20 to 28 and 42 at every address: they are read off /v1/openapi.json, so new ones join by themselves."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gzip
import random
import re
import resource
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from tests.einthoven_server.site import Device, Site
from yarl import URL

from einthoven.account import Account
from einthoven_protocol.codec import encode_request
from einthoven_server import tls
from einthoven_server.fhir.consents import shown
from einthoven_server.identity.consent import Agreement, Consent

ROOT = Path(__file__).parents[2]
MIB = 2**20
MEMORY_MAX_BYTES = 50 * MIB
JSON_TYPES = ("application/json", "application/fhir+json")
HOSTILE = {
    "depth": b"[" * 100_000,
    "deep object": b'{"a":' * 10_000,
    "digits": b'{"a":' + b"9" * 200_000 + b"}",
    "NaN": b'{"text":NaN}',
    "infinity": b'{"text":1e999}',
    "surrogate": b'{"text":"\\ud800"}',
    "twice": b'{"text":"a","text":"b"}',
    "not UTF-8": b'{"text":"\xff"}',
    "cut": b'{"text":"',
}
INJECTED = (
    "' OR '1'='1",
    "'; DROP TABLE patient; --",
    "$1) UNION SELECT mac FROM audit_event --",
    "(a+)+$",
    "%resource.descendants()",
    "../../../etc/passwd",
    "..%2f..%2fkey-encryption-key",
    "\x00",
    "a\r\nX-Injected: 1",
    "٣٣",
    "9" * 400,
    "-1",
    "NULL",
)


class Callers:
    """Somebody of each role, and what may stand in a path."""

    def __init__(self, site: Site, accounts: dict[str, Account], patient: str, device: Device, consent_id: str) -> None:
        self.site, self.accounts, self.patient, self.consent_id = site, accounts, patient, consent_id
        self.places = {
            "patient_id": patient,
            "device_id": device.identity.device_id,
            "result_id": f"{device.alias}-1-1",
            "id": patient,
            "kind": "settings",
            "name": "x",
        }

    def filled(self, path: str, **changed: str) -> str:
        consent = {"id": self.consent_id} if path.startswith("/fhir/R4/Consent/") else {}
        places = self.places | consent | changed
        return re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], "x"), path)

    async def routes(self) -> list[tuple[str, str, dict[str, Any]]]:
        document = (await self.site.send("GET", "/v1/openapi.json")).json
        return [
            (method.upper(), path, described)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
        ]

    def who(self, described: dict[str, Any]) -> Account | None:
        allowed = [role for role in described.get("x-einthoven-allowed", {}) if role in self.accounts]
        return self.accounts[allowed[0]] if allowed else None


@pytest.fixture
async def callers(site: Site) -> Callers:
    patient = await site.new_patient()
    device = await site.new_device(patient)
    await device.exchange(device.rows(1, 2))
    accounts = {"admin": site.admin}
    for role in ("clinician", "service"):
        _, accounts[role] = await site.new_principal(role)
    _, accounts["patient"] = await site.new_principal("patient", patient=patient)
    agreed = shown(Consent("", patient, 1, True, 0, Agreement(True, "2026-11-23")))
    del agreed["id"], agreed["meta"]
    made = await site.send("POST", "/fhir/R4/Consent", token=site.admin, json=agreed)
    assert made.status == 201, made.body
    return Callers(site, accounts, patient, device, made.json["id"])


async def test_attack_20_what_is_injected_into_any_parameter_or_place_is_refused(callers: Callers) -> None:
    tried = 0
    for method, path, described in await callers.routes():
        if method != "GET" or "signature" in str(described["security"]):
            continue
        names = [one["name"] for one in described["parameters"] if one["in"] == "query"]
        places = [one["name"] for one in described["parameters"] if one["in"] == "path"]
        for number, nasty in enumerate(INJECTED):
            asked = [(callers.filled(path, **{name: quote(nasty, safe="")}), True) for name in places]
            if names and not path.startswith("/fhir"):  # FHIR's searches have a test of their own
                name = names[number % len(names)]
                asked.append((f"{callers.filled(path)}?{name}={quote(nasty, safe='')}", False))
            for given, in_place in asked:
                # As the client will write it: what it signs is what it sends.
                address = URL(callers.site.url + given).raw_path_qs
                answer = await callers.site.send("GET", address, token=callers.who(described))
                assert answer.status in ({400, 403, 404} if in_place else {400}), (address, answer.status)
                assert "X-Injected" not in answer.headers
                assert nasty.encode() not in answer.body
                tried += 1
    assert tried > 200
    assert (await callers.site.send("GET", "/readyz")).status == 200


async def test_attack_21_a_bomb_is_not_unpacked_at_any_address(callers: Callers) -> None:
    bomb = gzip.compress(bytes(200 * MIB), 9)
    assert len(bomb) * 900 < 200 * MIB
    before = psutil.Process().memory_info().rss
    tried = 0
    for method, path, described in await callers.routes():
        for kind in described.get("requestBody", {}).get("content", {}):
            for encoding in ("gzip", "zstd"):
                headers = {"Content-Type": kind, "Content-Encoding": encoding}
                answer = await callers.site.send(
                    method, callers.filled(path), token=callers.who(described), data=bomb, headers=headers
                )
                assert 400 <= answer.status < 500, (path, answer.status)
                tried += 1
    assert tried > 30
    assert psutil.Process().memory_info().rss - before < MEMORY_MAX_BYTES


async def test_attack_21_a_million_headers_are_cut_off(site: Site) -> None:
    before = psutil.Process().memory_info().rss
    host, port = site.url.removeprefix("https://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls.client_context(site.ca_pem))
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
    sent = 0
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while sent < 1_000_000 and not reader.at_eof():
            writer.write(b"A: b\r\n" * 1_000)
            sent += 1_000
            await writer.drain()
    answer = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer == b"" or b" 400 " in answer.partition(b"\r\n")[0]
    assert psutil.Process().memory_info().rss - before < MEMORY_MAX_BYTES
    assert (await site.send("GET", "/livez")).status == 200


async def test_attack_22_hostile_json_is_refused_at_every_address(callers: Callers) -> None:
    tried = 0
    for method, path, described in await callers.routes():
        for kind in described.get("requestBody", {}).get("content", {}):
            if kind not in JSON_TYPES:
                continue
            for name, octets in HOSTILE.items():
                answer = await callers.site.send(
                    method,
                    callers.filled(path),
                    token=callers.who(described),
                    data=octets,
                    headers={"Content-Type": kind},
                )
                assert answer.status in {400, 413}, (method, path, name, answer.status)
                tried += 1
    assert tried >= 9 * len(HOSTILE)


async def test_attack_23_xml_is_refused_at_every_address(callers: Callers) -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
    tried = 0
    for method, path, described in await callers.routes():
        if "requestBody" not in described or "signature" in str(described["security"]):
            continue
        for kind in ("application/xml", "text/xml", "application/fhir+xml"):
            answer = await callers.site.send(
                method, callers.filled(path), token=callers.who(described), data=bomb, headers={"Content-Type": kind}
            )
            assert answer.status == 415, (method, path, answer.status)
            tried += 1
    assert tried >= 30


UNPACKING = frozenset({"extractall", "unpack_archive"})


def calls_in(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    archives = re.search(r"^\s*(import|from) (zipfile|tarfile)", text, re.MULTILINE) is not None
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            yield "extractall" if archives and name == "extract" else name


def test_attack_24_nothing_of_the_product_writes_files_by_the_names_of_an_archive() -> None:
    """No archive is unpacked anywhere: what imports read, they read from one file's bytes."""
    looked_at = 0
    for part in ("sdk", "sync_server", "edge_models", "mobile_demo"):
        for path in sorted((ROOT / part).rglob("*.py")):
            assert not UNPACKING & set(calls_in(path)), path
            looked_at += 1
    assert looked_at > 300


def test_attack_24_the_check_finds_what_unpacks(tmp_path: Path) -> None:
    for call in ("zipfile.ZipFile('a').extractall()", "tarfile.open('a').extract('b')", "shutil.unpack_archive('a')"):
        (tmp_path / "x.py").write_text(f"import zipfile, tarfile, shutil\n{call}\n", encoding="utf-8")
        assert UNPACKING & set(calls_in(tmp_path / "x.py"))


async def test_attack_26_a_thousand_slow_clients_keep_nobody_else_out(site: Site) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4_096)), hard))
    host, port = site.url.removeprefix("https://").rsplit(":", 1)
    slow: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        for _ in range(20):
            slow += await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(50)))
        for _, writer in slow:
            writer.write(b"\x16\x03\x01\x02\x00\x01")  # a ClientHello that does not go on
        for _ in range(20):
            async with asyncio.timeout(10):
                assert (await site.send("GET", "/readyz")).status == 200
    finally:
        for _, writer in slow:
            writer.transport.abort()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(slow) == 1_000
    assert (await site.send("GET", "/livez")).status == 200


async def test_attack_28_a_message_that_was_cut_or_flipped_leaves_nothing_but_what_was_sealed(site: Site) -> None:
    device = await site.new_device()
    rows = device.rows(1, 3)
    message = encode_request(device.request(rows))
    _, clinician = await site.new_principal("clinician")
    path = f"/v1/patients/{device.identity.patient_id}/results"
    drawn, taken = random.Random(28), 0
    for _ in range(150):
        octets = bytearray(message)
        if drawn.random() < 0.3:
            octets = octets[: drawn.randrange(len(octets))]
        else:
            octets[drawn.randrange(len(octets))] ^= 1 << drawn.randrange(8)
        answer = await device.post(bytes(octets))
        assert answer.status == 200 or 400 <= answer.status < 500, answer.status
        taken += answer.status == 200
    stored = (await site.send("GET", path, token=clinician)).json["results"]
    sealed = {row.counter: (row.started_at_ms, row.rhythm, list(row.logits)) for row in rows}
    for one in stored:
        assert sealed[one["counter"]] == (one["started_at_ms"], one["rhythm"], one["logits"])
    assert 0 < taken < 150
    # Rows that no seal covers are kept apart: nobody is shown them.
    other = await site.new_device()
    changed = other.rows(1, 3, rhythm=0)
    await other.post(other.request(changed, seals=(other.seal(other.rows(1, 3)),)))
    path = f"/v1/patients/{other.identity.patient_id}/results"
    assert (await site.send("GET", path, token=clinician)).json["results"] == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_attack_42_older_tls_is_refused_by_the_running_server(site: Site, version: ssl.TLSVersion) -> None:
    host, port = site.url.removeprefix("https://").rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=site.ca_pem)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(host, int(port), ssl=context)


async def test_attack_42_plain_text_gets_no_answer(site: Site) -> None:
    host, port = site.url.removeprefix("https://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert b"HTTP/" not in answer
    assert b"alive" not in answer


async def test_attack_20_nul_in_any_text_of_a_body_is_no_error_of_ours(callers: Callers) -> None:
    """PostgreSQL takes no NUL in text: whoever lets one through answers 500."""
    site, patient = callers.site, callers.patient
    jwks: dict[str, Any] = Account().public_jwks()
    named = {"keys": [{**jwks["keys"][0], "kid": "a\x00b"}]}
    clinician, admin = callers.accounts["clinician"], callers.accounts["admin"]
    person = {"resourceType": "Patient", "name": [{"family": "a\x00b"}]}
    entry = {"resource": person, "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=a\x00b"}}
    for method, path, who, body in (
        ("POST", "/v1/principals", admin, {"role": "clinician", "jwks": jwks | {"more": "a\x00b"}}),
        ("POST", "/v1/principals", admin, {"role": "clinician", "jwks": named}),
        ("POST", "/v1/principals", admin, {"role": "service", "jwks": jwks, "scopes": ["a\x00b"]}),
        ("POST", f"/v1/patients/{patient}/notes", clinician, {"text": "a\x00b"}),
        ("POST", f"/v1/patients/{patient}/break-glass", clinician, {"reason": "emergency", "text": "a\x00b"}),
        ("PUT", callers.filled("/v1/results/{result_id}/annotation"), clinician, {"comment": "a\x00b"}),
        ("PUT", "/v1/documents/settings/x", admin, {"a\x00b": "a\x00b"}),
        ("PUT", f"/v1/patients/{patient}/documents/settings/y", admin, "a\x00b"),
        ("POST", "/fhir/R4/Patient", admin, person),
        ("PUT", f"/fhir/R4/Patient/{patient}", admin, person | {"id": patient}),
        ("POST", "/fhir/R4", admin, {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}),
    ):
        answer = await site.send(method, path, token=who, json=body)
        assert answer.status < 500, (path, body, answer.body)
    form = {"grant_type": "client_credentials", "client_id": "a\x00b", "client_assertion": "a\x00b"}
    assert (await site.send("POST", "/v1/token", data=form)).status == 400
