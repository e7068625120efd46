"""Access tokens: services, forms, keys and their rotation, over HTTP; what is pure, on its own."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven_server.site import Answer, Site
from tests.einthoven_server.test_attacks_tokens import DOCUMENTS, made, parts, token_of
from tests.einthoven_server.tokens import ask, assertion, proof, public_jwk, use

from einthoven.account import Account
from einthoven_protocol.oauth import FORM_TYPE
from einthoven_server import limits
from einthoven_server.database import Connection
from einthoven_server.identity import access_tokens, client_assertions, dpop
from einthoven_server.identity.clients import SERVICE_ALGORITHMS, granted, keys_of
from einthoven_server.identity.compact_tokens import TokenMalformed
from einthoven_server.identity.public_keys import KeyMalformed, public_key_of
from einthoven_server.identity.signing_keys import Lifetime, overdue, signer
from einthoven_server.serve import parts_of

RSA = rsa.generate_private_key(65537, 2048)
P384 = ec.generate_private_key(ec.SECP384R1())


async def listed(site: Site, account: Account) -> Answer:
    return await site.send("GET", "/v1/documents", token=account)


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS384"), (P384, "ES384")])
async def test_a_service_of_smart_gets_a_bearer_token_if_it_is_registered_so(site: Site, key: Any, alg: str) -> None:
    client_id = await made(site, key, "service", bearer=True, scopes=["system/Observation.rs", "system/Patient.r"])
    answer = await ask(site, assertion(site, client_id, key, alg, "k"), scope="system/Patient.r system/Device.r")
    assert answer.status == 200, answer.body
    assert (answer.json["token_type"], answer.json["scope"]) == ("Bearer", "system/Patient.r")
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json["access_token"]
    nobody = f"/fhir/R4/Patient/{uuid.uuid4()}"
    assert (await use(site, "GET", nobody, token, None)).status == 404
    headers = {"Authorization": f"DPoP {token}", "DPoP": proof(site, Ed25519PrivateKey.generate(), "GET", nobody)}
    assert (await site.send("GET", nobody, headers=headers)).status == 401
    none = await ask(site, assertion(site, client_id, key, alg, "k"), scope="system/Device.r")
    assert (none.status, none.error) == (400, "invalid_scope")


async def test_a_service_that_is_not_needs_a_proof_and_a_person_always(site: Site) -> None:
    key = Ed25519PrivateKey.generate()
    for role in ("service", "clinician"):
        client_id = await made(site, key, role)
        answer = await ask(site, assertion(site, client_id, key, "EdDSA", "k"))
        assert (answer.status, answer.error) == (400, "invalid_dpop_proof")
        assert await token_of(site, client_id, key)


@pytest.mark.parametrize(
    "body",
    [
        {"role": "clinician"},
        {"role": "clinician", "jwks": {}},
        {"role": "clinician", "jwks": {"keys": []}},
        {"role": "clinician", "jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}},
        {"role": "clinician", "jwks": {"keys": [public_jwk(RSA)]}},
        {"role": "clinician", "jwks": {"keys": [public_jwk(P384) | {"crv": "P-256"}]}},
        {"role": "clinician", "jwks": {"keys": [public_jwk(RSA)] * 2}},
        {"role": "clinician", "jwks": {"keys": [Account().public_jwks()["keys"][0] | {"d": "AA"}]}},  # type: ignore[index]
        {"role": "clinician", "jwks": Account().public_jwks() | {"jwks_uri": "https://elsewhere.example"}},
        {"role": "clinician", "jwks": Account().public_jwks(), "bearer": True},
        {"role": "clinician", "jwks": Account().public_jwks(), "patient_id": "x"},
        {"role": "patient", "jwks": Account().public_jwks()},
        {"role": "service", "jwks": Account().public_jwks(), "scopes": ["user/*.cruds"]},
        {"role": "service", "jwks": {"keys": [public_jwk(rsa.generate_private_key(65537, 1024))]}},
    ],
)
async def test_a_principal_that_would_be_weak_or_more_than_it_should_is_refused(site: Site, body: object) -> None:
    answer = await site.send("POST", "/v1/principals", token=site.admin, json=body)
    assert (answer.status, answer.error) == (400, "malformed"), answer.body


async def test_a_patient_is_one_that_is_there(site: Site) -> None:
    patient = await site.new_patient()
    _, account = await site.new_principal("patient", patient_id=patient)
    assert (await site.send("GET", f"/v1/patients/{patient}/results", token=account)).status == 200
    body = {"role": "patient", "jwks": Account().public_jwks(), "patient_id": str(uuid.uuid4())}
    assert (await site.send("POST", "/v1/principals", token=site.admin, json=body)).status == 404


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (b"", "unsupported_grant_type"),
        (b"grant_type", "invalid_request"),
        (b"\xff=\xfe", "invalid_request"),
        (b"a=b&" * 17 + b"a=b", "invalid_request"),
        (b"grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        (b"grant_type=password", "unsupported_grant_type"),
        (b"grant_type=client_credentials", "invalid_request"),
        (b"grant_type=client_credentials&client_id=a&client_secret=b", "invalid_request"),
    ],
)
async def test_a_form_that_can_not_be_read_is_400(site: Site, form: bytes, code: str) -> None:
    answer = await site.send("POST", "/v1/token", data=form, headers={"Content-Type": FORM_TYPE})
    assert (answer.status, answer.error) == (400, code)


async def test_the_set_of_keys_shows_public_halves_and_rotates_with_an_overlap(site: Site) -> None:
    _, account = await site.new_principal("clinician")
    assert (await listed(site, account)).status == 200
    first = (await site.send("GET", "/.well-known/jwks.json")).json["keys"]
    assert [key.keys() for key in first] == [{"kty", "crv", "x", "kid", "alg", "use"}]
    rotated = await site.send("POST", "/v1/signing-keys", token=site.admin, json={})
    assert rotated.status == 201
    again = await site.send("POST", "/v1/signing-keys", token=site.admin, json={})
    assert again.json == rotated.json  # one that waits is taken for the new one
    shown = await site.send("GET", "/.well-known/jwks.json")
    assert {key["kid"] for key in shown.json["keys"]} == {first[0]["kid"], rotated.json["kid"]}
    assert shown.headers["Cache-Control"] == "public, max-age=60"
    assert await signed_by(site, account) == first[0]["kid"]
    site.clock.offset_ms += limits.SIGNING_KEY_LEAD_MS
    assert (await listed(site, account)).status == 200  # by a token of the former key
    assert await signed_by(site, await fresh(site)) == rotated.json["kid"]
    site.clock.offset_ms += limits.SIGNING_KEY_OVERLAP_MS
    assert [key["kid"] for key in (await site.send("GET", "/.well-known/jwks.json")).json["keys"]] == [
        rotated.json["kid"]
    ]


async def test_a_disclosed_signing_key_ends_all_tokens_at_once(site: Site) -> None:
    _, account = await site.new_principal("clinician")
    shown = await site.authorization(account).headers(site.http, "GET", "/v1/documents")
    assert (await site.send("POST", "/v1/signing-keys", token=site.admin, json={"at_once": True})).status == 201
    assert (await site.send("GET", "/v1/documents", headers=shown)).status == 401


async def fresh(site: Site) -> Account:
    return (await _principal(site))[1]


async def _principal(site: Site) -> tuple[str, Account]:
    account = Account(site.admin.client_id, site.admin._key)
    answer = await site.send(
        "POST", "/v1/principals", token=account, json={"role": "clinician", "jwks": (new := Account()).public_jwks()}
    )
    return answer.json["principal_id"], new.named(answer.json["principal_id"])


async def signed_by(site: Site, account: Account) -> str:
    shown = await site.authorization(account).headers(site.http, "GET", DOCUMENTS)
    return str(parts(shown["Authorization"].removeprefix("DPoP "))[0]["kid"])


async def test_a_signing_key_is_kept_wrapped_replaced_in_time_and_forgotten(
    site: Site, connection: Connection, data_folder: Path, database_url: str
) -> None:
    async with parts_of(data_folder, database_url, site.clock, site.tenant) as opened:
        keys = opened.signing_keys
        first = (await keys.current()).lifetime.kid
        private = (await keys.current()).private.private_key
        assert isinstance(private, Ed25519PrivateKey)
        stored = await connection.fetch("SELECT * FROM signing_key WHERE tenant = $1", site.tenant)
        assert private.private_bytes_raw() not in bytes(stored[0]["private_wrapped"])
        site.clock.offset_ms += limits.SIGNING_KEY_LIFETIME_MS
        await keys.keep()
        site.clock.offset_ms += limits.SIGNING_KEY_LEAD_MS + limits.SIGNING_KEY_OVERLAP_MS
        await keys.keep()
        assert (await keys.current()).lifetime.kid != first
        assert await connection.fetchval("SELECT count(*) FROM signing_key WHERE tenant = $1", site.tenant) == 1


async def test_used_ids_are_forgotten_when_they_have_expired(
    site: Site, connection: Connection, data_folder: Path, database_url: str
) -> None:
    await site.new_patient()
    count = "SELECT count(*) FROM token_jti WHERE tenant = $1"
    assert await connection.fetchval(count, site.tenant) == 3  # assertion, its proof, the request's
    async with parts_of(data_folder, database_url, site.clock, site.tenant) as opened:
        site.clock.offset_ms += 2 * limits.PROOF_AGE_MAX_S * 1000
        await opened.identities.forget_nonces(site.clock.now_ms())
    assert await connection.fetchval(count, site.tenant) == 0


async def test_what_the_server_says_of_itself(site: Site) -> None:
    document = (await site.send("GET", "/.well-known/oauth-authorization-server")).json
    assert (document["issuer"], document["token_endpoint"]) == (site.url, site.url + "/v1/token")
    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]


async def test_a_request_for_a_token_leaves_one_entry(site: Site, connection: Connection) -> None:
    key = Ed25519PrivateKey.generate()
    client_id = await made(site, key)
    asked = assertion(site, client_id, key, "EdDSA", "k")
    for _ in range(2):
        await ask(site, asked, proof(site, key, "POST", "/v1/token"))
    await ask(site, "garbage", None)
    rows = await connection.fetch(
        "SELECT actor, outcome FROM audit_entry WHERE tenant = $1 AND operation = 'token.issue' ORDER BY seq",
        site.tenant,
    )
    assert [tuple(row) for row in rows][1:] == [
        (client_id, "allowed"),
        (client_id, "replayed"),
        ("-", "invalid_client"),
    ]


@pytest.mark.parametrize(
    ("at_ms", "signs", "ended"),
    [(0, "a", set()), (10, "a", set()), (100, "b", set()), (100 + limits.SIGNING_KEY_OVERLAP_MS, "b", {"a"})],
)
def test_which_key_signs_and_which_is_over(at_ms: int, signs: str, ended: set[str]) -> None:
    keys = [Lifetime("a", 10), Lifetime("b", 100)]
    assert signer(keys, at_ms) == signs
    assert overdue(keys, at_ms) == ended
    assert signer([], at_ms) is None


def test_scopes_are_what_is_asked_for_and_registered() -> None:
    assert granted("a b", "") == "a b"
    assert granted("a b", "b c") == "b"
    assert granted("", "a") == ""


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "keys", "d"]), inner, max_size=6),
    max_leaves=8,
)  # fmt: skip
KINDS = st.fixed_dictionaries(
    {
        "kty": st.sampled_from(["OKP", "EC", "RSA", "oct"]),
        "crv": st.sampled_from(["Ed25519", "P-256", "P-384", "X25519"]),
    },
    optional={name: st.text(alphabet="AQab-_=", max_size=50) for name in ("x", "y", "n", "e", "kid")},
)  # fmt: skip


@given(JUNK | KINDS)
def test_whatever_is_said_to_be_a_key_is_one_or_is_refused(document: object) -> None:
    for call in (public_key_of, lambda given: keys_of({"keys": [given]}, SERVICE_ALGORITHMS)):
        with contextlib.suppress(KeyMalformed):
            call(document)


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}"))
def test_whatever_is_said_to_be_a_token_is_refused_in_one_way(text: str) -> None:
    target = dpop.Target("GET", "https://a", "")
    for read in (access_tokens.read, client_assertions.read, lambda given: dpop.prove([given], target, 0)):
        with pytest.raises(TokenMalformed):
            read(text)


@pytest.mark.parametrize("depth", [10, 1_000])
def test_deep_json_in_a_token_is_refused(depth: int) -> None:
    from einthoven_protocol.oauth import base64url

    part = base64url(b"[" * depth)
    with pytest.raises(TokenMalformed):
        access_tokens.read(f"{part}.{part}.AA")


def test_a_token_costs_little_to_judge() -> None:
    """Not a figure: what would make a flood of tokens costly is orders of magnitude above it."""
    key = Ed25519PrivateKey.generate()
    document = json.loads(json.dumps(public_jwk(key)))
    began = time.perf_counter()
    for _ in range(100):
        public_key_of(document)
    assert (time.perf_counter() - began) / 100 < 0.01
