"""Attacks 1 to 12 of the design's list, over HTTP and TLS, against a real server."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.people import joined
from tests.einthoven_server.site import Answer, Site, running_site
from tests.einthoven_server.tokens import Key, ask, assertion, proof, public_jwk, signed, use

from einthoven.account import Account
from einthoven_protocol.oauth import base64url
from einthoven_server.database import Connection

DOCUMENTS = "/v1/documents"


class Caller(NamedTuple):
    """A clinician with an access token."""

    client_id: str
    key: Ed25519PrivateKey
    token: str


async def made(site: Site, key: Key, role: str = "clinician", **more: Any) -> str:
    """Register a key; return whose it is."""
    body = {"role": role, "jwks": {"keys": [public_jwk(key, kid="k")]}, **more}
    answer = await site.send("POST", "/v1/principals", token=site.admin, json=body)
    assert answer.status == 201, answer.body
    return str(answer.json["principal_id"])


async def token_of(site: Site, client_id: str, key: Ed25519PrivateKey, kid: str = "k") -> str:
    answer = await ask(site, assertion(site, client_id, key, "EdDSA", kid), proof(site, key, "POST", "/v1/token"))
    assert answer.status == 200, answer.body
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("DPoP", 300)
    return str(answer.json["access_token"])


@pytest.fixture
async def caller(site: Site) -> Caller:
    key = Ed25519PrivateKey.generate()
    client_id = await made(site, key)
    return Caller(client_id, key, await token_of(site, client_id, key))


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return json.loads(_octets(header)), json.loads(_octets(claims))


def _octets(part: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def used(site: Site, caller: Caller, token: str) -> Answer:
    """Use a token as its holder would."""
    return await use(site, "GET", DOCUMENTS, token, proof(site, caller.key, "GET", DOCUMENTS, token))


async def test_a_token_with_its_proof_is_good(site: Site, caller: Caller) -> None:
    assert (await used(site, caller, caller.token)).status == 200
    header, claims = parts(caller.token)
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": header["kid"]}
    assert (claims["iss"], claims["aud"], claims["sub"]) == (site.url, site.url, caller.client_id)
    assert claims["exp"] - claims["iat"] <= 300
    assert not {"role", "patient_id", "name"} & claims.keys()


async def test_attack_1_alg_none_and_hs256_under_the_public_key(site: Site, caller: Caller) -> None:
    header, claims = parts(caller.token)
    jwks = (await site.send("GET", "/.well-known/jwks.json")).json
    public = _octets(jwks["keys"][0]["x"])
    for alg, key in (
        ("none", None),
        ("None", None),
        ("nOnE", None),
        ("HS256", public),
        ("HS256", jwks["keys"][0]["x"].encode()),
    ):
        forged = signed(header | {"alg": alg}, claims, key)
        for text in (forged, forged.rstrip(".")):
            assert (await used(site, caller, text)).status == 401, alg
    mine = _octets(public_jwk(caller.key)["x"])
    for alg, key in (("none", None), ("HS256", mine)):
        answer = await ask(
            site,
            assertion(site, caller.client_id, key, alg, "k"),  # type: ignore[arg-type]
            proof(site, caller.key, "POST", "/v1/token"),
        )
        assert (answer.status, answer.error) == (401, "invalid_client")
        answer = await use(
            site,
            "GET",
            DOCUMENTS,
            caller.token,
            signed({"typ": "dpop+jwt", "alg": alg, "jwk": public_jwk(caller.key)}, {"jti": "x" * 16}, key),
        )
        assert (answer.status, answer.error) == (401, "invalid_dpop_proof")


async def test_attack_2_a_key_that_the_token_brings_itself(site: Site, caller: Caller) -> None:
    header, claims = parts(caller.token)
    mine = Ed25519PrivateKey.generate()
    for more in ({"jwk": public_jwk(mine)}, {"jwk": public_jwk(mine), "kid": "mine"}, {"x5c": ["AAAA"]}):
        assert (await used(site, caller, signed(header | more, claims, mine))).status == 401
        answer = await ask(
            site,
            assertion(site, caller.client_id, mine, "EdDSA", "k", header=more),
            proof(site, mine, "POST", "/v1/token"),
        )
        assert (answer.status, answer.error) == (401, "invalid_client")


@pytest.mark.parametrize("member", ["jku", "x5u"])
async def test_attack_3_an_address_of_keys_is_never_asked(site: Site, caller: Caller, member: str) -> None:
    asked = 0

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    listening = await asyncio.start_server(answers, "127.0.0.1", 0)
    mine = Ed25519PrivateKey.generate()
    async with listening:
        more = {member: f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/keys"}
        header, claims = parts(caller.token)
        for key in (mine, caller.key):
            assert (await used(site, caller, signed(header | more, claims, key))).status == 401
            answer = await ask(
                site,
                assertion(site, caller.client_id, key, "EdDSA", "k", header=more),
                proof(site, key, "POST", "/v1/token"),
            )
            assert (answer.status, answer.error) == (401, "invalid_client")
            dpop = proof(site, caller.key, "GET", DOCUMENTS, caller.token, header=more)
            assert (await use(site, "GET", DOCUMENTS, caller.token, dpop)).status == 401
        await asyncio.sleep(0.2)
    assert asked == 0


@pytest.mark.parametrize(
    "more", [{"crit": ["b64"], "b64": False}, {"crit": ["x"], "x": 1}, {"crit": []}, {"zip": "DEF"}]
)
async def test_attack_4_what_must_be_understood_and_is_not(site: Site, caller: Caller, more: dict[str, Any]) -> None:
    answer = await ask(
        site,
        assertion(site, caller.client_id, caller.key, "EdDSA", "k", header=more),
        proof(site, caller.key, "POST", "/v1/token"),
    )
    assert (answer.status, answer.error) == (401, "invalid_client")
    dpop = proof(site, caller.key, "GET", DOCUMENTS, caller.token, header=more)
    assert (await use(site, "GET", DOCUMENTS, caller.token, dpop)).error == "invalid_dpop_proof"
    header, claims = parts(caller.token)
    assert (await used(site, caller, signed(header | more, claims, caller.key))).status == 401


async def test_attack_5_a_flood_of_key_ids_looks_up_little(site: Site, caller: Caller, connection: Connection) -> None:
    """What is counted is PostgreSQL's own count of scans of that table; a few are of before, reported late."""
    header, claims = parts(caller.token)
    site.clock.stop()
    await used(site, caller, caller.token)
    before = await scans(connection)
    for n in range(300):
        assert (await used(site, caller, signed(header | {"kid": f"k{n}"}, claims, caller.key))).status == 401
    assert await scans(connection) - before <= 10
    site.clock.offset_ms += 1_000
    for n in range(50):
        await used(site, caller, signed(header | {"kid": f"l{n}"}, claims, caller.key))
    assert await scans(connection) - before <= 10


async def scans(connection: Connection) -> int:
    await asyncio.sleep(1.1)  # a backend reports at most once a second
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return int(
        await connection.fetchval(
            "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'signing_key'"
        )
    )


async def test_attack_6_another_algorithm_than_the_keys(site: Site, caller: Caller) -> None:
    curve, long = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    service = await made(site, long, "service", bearer=True)
    for client_id, key, alg in (
        (caller.client_id, caller.key, "ES256"),
        (caller.client_id, curve, "ES256"),
        (caller.client_id, caller.key, "Ed448"),
        (service, long, "RS256"),
        (service, long, "PS384"),
        (service, long, "RS512"),
        (service, long, "EdDSA"),
    ):
        answer = await ask(
            site, assertion(site, client_id, key, alg, "k"), proof(site, caller.key, "POST", "/v1/token")
        )
        assert (answer.status, answer.error) == (401, "invalid_client"), alg
    dpop = proof(site, caller.key, "GET", DOCUMENTS, caller.token, header={"alg": "ES256"})
    assert (await use(site, "GET", DOCUMENTS, caller.token, dpop)).error == "invalid_dpop_proof"
    header, claims = parts(caller.token)
    assert (await used(site, caller, signed(header | {"alg": "ES256"}, claims, curve))).status == 401


async def test_attack_7_an_encrypted_token_that_asks_for_much_work(site: Site, caller: Caller) -> None:
    header = {"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 2**31 - 1, "p2s": base64url(bytes(16)), "kid": "k"}
    jwe = ".".join([base64url(json.dumps(header).encode()), *(base64url(bytes(n)) for n in (40, 12, 32, 16))])
    dpop = proof(site, caller.key, "POST", "/v1/token")
    await used(site, caller, jwe)
    spent_ms = []
    for _ in range(5):
        began = time.perf_counter()
        for answer in (
            await use(site, "GET", DOCUMENTS, jwe, dpop),
            await use(site, "GET", DOCUMENTS, caller.token, jwe),
            await ask(site, jwe, dpop),
        ):
            assert answer.status == 401
        spent_ms.append((time.perf_counter() - began) * 1000 / 3)
    assert min(spent_ms) < 10 + 20, spent_ms  # 10 ms of it; the rest is TLS, audit and fsync on a busy machine


async def test_attack_7_is_refused_before_any_work() -> None:
    from einthoven_server.identity import access_tokens
    from einthoven_server.identity.compact_tokens import TokenMalformed

    jwe = ".".join([base64url(json.dumps({"alg": "PBES2-HS512+A256KW", "p2c": 2**31}).encode())] + ["AAAA"] * 4)
    began = time.perf_counter()
    for _ in range(100):
        with pytest.raises(TokenMalformed):
            access_tokens.read(jwe)
    assert (time.perf_counter() - began) / 100 < 0.010


@pytest.mark.parametrize("second_node", [False, True])
async def test_attack_8_a_replay_a_hundred_at_once_succeeds_once(
    site: Site, caller: Caller, data_folder: Path, database_url: str, second_node: bool
) -> None:
    async def over(asks: Any) -> list[Answer]:
        return await asyncio.gather(*(asks(n) for n in range(100)))

    async with running_site(data_folder, database_url, site.clock, site.tenant, public_url=site.url) as other:
        nodes = (site, other) if second_node else (site, site)
        asked = assertion(site, caller.client_id, caller.key, "EdDSA", "k")
        answers = await over(lambda n: ask(nodes[n % 2], asked, proof(site, caller.key, "POST", "/v1/token")))
        assert sorted(answer.status for answer in answers) == [200] + [401] * 99
        dpop = proof(site, caller.key, "GET", DOCUMENTS, caller.token)
        answers = await over(lambda n: use(nodes[n % 2], "GET", DOCUMENTS, caller.token, dpop))
        assert sorted(answer.status for answer in answers) == [200] + [401] * 99
        assert {answer.error for answer in answers if answer.status != 200} == {"replayed"}
        admin = Account(site.admin.client_id, site.admin._key)
        shown = await site.authorization(admin).headers(site.http, "POST", "/v1/patients")
        answers = await over(lambda n: nodes[n % 2].send("POST", "/v1/patients", headers=shown))
        assert sorted(answer.status for answer in answers) == [201] + [401] * 99


async def test_attack_9_what_lives_too_long_or_is_for_somebody_else(site: Site, caller: Caller) -> None:
    now_s = site.clock.now_ms() // 1000
    for changed in (
        {"exp": now_s + 400},
        {"exp": now_s - 1},
        {"exp": None},
        {"exp": 10**30},
        {"exp": now_s + 200, "iat": now_s - 200},
        {"iat": now_s + 120},
        {"nbf": now_s + 120},
        {"aud": "https://elsewhere.example/v1/token"},
        {"aud": [site.url, "https://elsewhere.example"]},
        {"aud": None},
        {"iss": "somebody"},
        {"sub": "somebody", "iss": "somebody"},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 129},
        {"header": {"typ": "at+jwt"}},
    ):
        answer = await ask(
            site,
            assertion(site, caller.client_id, caller.key, "EdDSA", "k", **changed),
            proof(site, caller.key, "POST", "/v1/token"),
        )
        assert (answer.status, answer.error) == (401, "invalid_client"), changed
    header, claims = parts(caller.token)
    for typ in ("JWT", "id_token", "application/at+jwt"):
        assert (await used(site, caller, signed(header | {"typ": typ}, claims, caller.key))).status == 401
    site.clock.offset_ms += 300_000
    assert (await used(site, caller, caller.token)).status == 401


async def test_attack_9_what_this_server_signed_for_another_use_or_address(
    site: Site, caller: Caller, data_folder: Path, database_url: str
) -> None:
    """By the server's own key: only what is in the token keeps it out."""
    from einthoven_server.serve import parts_of

    header, claims = parts(caller.token)
    async with parts_of(data_folder, database_url, site.clock, site.tenant) as opened:
        key = (await opened.signing_keys.current()).private.private_key
    assert isinstance(key, Ed25519PrivateKey)
    assert (await used(site, caller, signed(header, claims, key))).status == 200
    for more in (
        {"exp": claims["iat"] + 301},
        {"iat": claims["iat"] + 200, "exp": claims["iat"] + 300},
        {"aud": "https://elsewhere.example"},
        {"iss": "https://elsewhere.example"},
        {"client_id": "other"},
        {"keys": 2},
        {"nonce": "of an id_token"},
        {"role": "admin"},
    ):
        assert (await used(site, caller, signed(header, claims | more, key))).status == 401, more
    assert (await used(site, caller, signed(header | {"typ": "JWT"}, claims, key))).status == 401
    unbound = {name: value for name, value in claims.items() if name != "cnf"}
    assert (await use(site, "GET", DOCUMENTS, signed(header, unbound, key), None)).status == 401


async def test_attack_9_an_id_token_is_no_access_token_whoever_signed_it(site: Site, caller: Caller) -> None:
    header, claims = parts(caller.token)
    told = {"nonce": "n", "auth_time": claims["iat"], "email": "a@clinic.example", "azp": caller.client_id}
    theirs = Ed25519PrivateKey.generate()
    keys = (theirs, caller.key)
    for typ in ({"typ": "JWT"}, {"typ": "id_token"}, {}, {"typ": "at+jwt"}):
        named = {name: value for name, value in header.items() if name != "typ"} | typ
        for issuer in ("https://login.clinic.example", claims["iss"]):
            for key in keys:
                text = signed(named, claims | told | {"iss": issuer, "aud": caller.client_id}, key)
                assert (await used(site, caller, text)).status == 401, typ
                answer = await use(site, "GET", DOCUMENTS, text, None)
                assert answer.status == 401, typ


async def test_attack_9_a_refresh_token_is_no_access_token_and_no_other_way_round(site: Site) -> None:
    person = await joined(site, "dr.miller")
    await person.log_in()
    assert (await person.ask(token=person.refresh_token)).status == 401
    assert (await person.refresh(person.access_token)).status in (400, 401)
    assert (await person.ask()).status == 200


async def test_attack_10_a_stolen_token_without_its_key(site: Site, caller: Caller) -> None:
    thief = Ed25519PrivateKey.generate()
    token = caller.token
    for dpop in (
        None,
        proof(site, thief, "GET", DOCUMENTS, token),
        proof(site, thief, "GET", DOCUMENTS, token, header={"jwk": public_jwk(caller.key)}),
        proof(site, caller.key, "POST", DOCUMENTS, token),
        proof(site, caller.key, "GET", "/v1/audit/checkpoint", token),
        proof(site, caller.key, "GET", DOCUMENTS, token, htu="https://elsewhere.example" + DOCUMENTS),
        proof(site, caller.key, "GET", DOCUMENTS, token + "x"),
        proof(site, caller.key, "GET", DOCUMENTS),
        proof(site, caller.key, "GET", DOCUMENTS, token, iat=site.clock.now_ms() // 1000 - 62),
        proof(site, caller.key, "GET", DOCUMENTS, token, iat=site.clock.now_ms() // 1000 + 62),
        proof(site, caller.key, "GET", DOCUMENTS, token, header={"typ": "JWT"}),
        proof(site, caller.key, "GET", DOCUMENTS, token, jti=""),
    ):
        assert (await use(site, "GET", DOCUMENTS, token, dpop)).status == 401
    bearer = {"Authorization": f"Bearer {token}", "DPoP": proof(site, caller.key, "GET", DOCUMENTS, token)}
    assert (await site.send("GET", DOCUMENTS, headers=bearer)).status == 401
    assert (await used(site, caller, token)).status == 200


async def test_attack_11_a_revoked_principal_is_refused_within_a_second(
    site: Site, caller: Caller, data_folder: Path, database_url: str
) -> None:
    async with running_site(data_folder, database_url, site.clock, site.tenant, public_url=site.url) as other:
        for node in (site, other):
            dpop = proof(site, caller.key, "GET", DOCUMENTS, caller.token)
            assert (await use(node, "GET", DOCUMENTS, caller.token, dpop)).status == 200
        path = f"/v1/principals/{caller.client_id}/revoke"
        first = await site.send("POST", path, token=site.admin)
        assert first.status == 200
        began = time.monotonic()
        for node in (site, other):
            dpop = proof(site, caller.key, "GET", DOCUMENTS, caller.token)
            assert (await use(node, "GET", DOCUMENTS, caller.token, dpop)).status == 401
        assert time.monotonic() - began < 1.0
    answer = await ask(
        site,
        assertion(site, caller.client_id, caller.key, "EdDSA", "k"),
        proof(site, caller.key, "POST", "/v1/token"),
    )
    assert (answer.status, answer.error) == (401, "invalid_client")
    assert (await site.send("POST", path, token=site.admin)).json == first.json


async def test_attack_11_replaced_keys_end_the_tokens_of_the_old_ones(site: Site, caller: Caller) -> None:
    new = Ed25519PrivateKey.generate()
    path = f"/v1/principals/{caller.client_id}/keys"
    body = {"jwks": {"keys": [public_jwk(new, kid="new")]}}
    assert (await site.send("PUT", path, token=site.admin, json=body)).status == 200
    assert (await used(site, caller, caller.token)).status == 401
    again = caller._replace(key=new, token=await token_of(site, caller.client_id, new, "new"))
    assert (await used(site, again, again.token)).status == 200


async def test_attack_12_a_revoked_device_whatever_a_proxy_is_said_to_say(site: Site) -> None:
    device = await site.new_device()
    device_id, key = device.identity.device_id, device.key
    address = f"/fhir/R4/Device/{device_id}"
    kid = Account(device_id, key).public_jwks()["keys"][0]["kid"]  # type: ignore[index]
    token = await token_of(site, device_id, key, kid)
    assert (await use(site, "GET", address, token, proof(site, key, "GET", address, token))).status == 200
    assert (await site.send("POST", f"/v1/devices/{device_id}/revoke", token=site.admin)).status == 200
    forged = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "localhost",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-User": site.admin.client_id,
        "X-Real-IP": "127.0.0.1",
        "Forwarded": "for=127.0.0.1;host=localhost",
        "X-SSL-Client-Verify": "SUCCESS",
        "X-Original-URL": "/livez",
    }
    for more in ({}, forged):
        dpop = proof(site, key, "GET", address, token)
        answer = await use(site, "GET", address, token, dpop, headers=dict(more))
        assert (answer.status, answer.error) == (401, "device_revoked")
        answer = await device.post(device.request(), headers=device.sign(tokens_body(device)) | more)
        assert answer.status == 401
        answer = await ask(site, assertion(site, device_id, key, "EdDSA", kid), proof(site, key, "POST", "/v1/token"))
        assert (answer.status, answer.error) == (401, "invalid_client")
    assert (await site.send("POST", "/v1/patients", headers=forged)).status == 401


def tokens_body(device: Any) -> bytes:
    from einthoven_protocol.codec import encode_request

    return encode_request(device.request())
