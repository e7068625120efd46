"""Passkeys over HTTP and TLS, with an authenticator in software."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.einthoven_server.authenticators import PRESENT, Authenticator
from tests.einthoven_server.people import Person, invited
from tests.einthoven_server.site import Answer, Site

from einthoven_protocol.oauth import base64url
from einthoven_server import limits
from einthoven_server.database import Connection

REFUSED = (401, "login_refused")


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.error


async def asked(person: Person) -> Any:
    """What an authenticator is asked to make."""
    answer = await person.site.send("POST", "/v1/invitations/passkey/options", json={"code": person.code})
    assert answer.status == 200, answer.body
    return answer.json


async def accept(person: Person, credential: Any) -> Answer:
    body = {"code": person.code, "credential": credential}
    return person.took(await person.post("/v1/invitations/passkey", body))


async def options(site: Site) -> Any:
    """What an authenticator is asked to sign."""
    return (await site.send("POST", "/v1/login/passkey/options", json={})).json


async def log_in(person: Person, credential: Any) -> Answer:
    return person.took(await person.post("/v1/login/passkey", {"credential": credential}))


@pytest.fixture
async def person(site: Site) -> Person:
    site.clock.stop()
    return await invited(site, "dr.miller")


@pytest.fixture
async def authenticator(person: Person) -> Authenticator:
    """The person's, registered."""
    made = Authenticator(person.site.url)
    answer = await accept(person, made.make(await asked(person)))
    assert answer.status == 200, answer.body
    return made


async def test_a_passkey_sets_an_account_up_and_logs_in(person: Person, authenticator: Authenticator) -> None:
    site = person.site
    assert (await person.ask()).status == 200
    for _ in range(2):
        answer = await log_in(person, authenticator.sign(await options(site)))
        assert answer.status == 200, answer.body
        assert (await person.ask()).status == 200
    assert (await person.refresh()).status == 200
    (listed,) = (await site.send("GET", "/v1/accounts", token=site.admin)).json["accounts"]
    assert (listed["ready"], listed["passkeys"], listed["recovery_codes"]) == (True, 1, 0)
    assert told(await accept(person, authenticator.make({"challenge": ""}))) == (403, "invitation_invalid")


async def test_what_an_authenticator_is_asked_demands_that_it_verifies_its_user(person: Person) -> None:
    made, signed = await asked(person), await options(person.site)
    assert made["authenticatorSelection"]["userVerification"] == signed["userVerification"] == "required"
    assert made["rp"]["id"] == signed["rpId"] == "127.0.0.1"
    assert {one["alg"] for one in made["pubKeyCredParams"]} == {-8, -7}
    assert signed.get("allowCredentials", []) == []
    assert made["challenge"] != (await asked(person))["challenge"]


WRONG: list[dict[str, Any]] = [
    {"origin": "https://127.0.0.1.attacker.example"},
    {"origin": "http://127.0.0.1"},
    {"rp_id": "attacker.example"},
    {"flags": PRESENT},
    {"flags": 0},
    {"challenge": base64url(bytes(40))},
    {"challenge": ""},
]


@pytest.mark.parametrize(
    "changed", [*WRONG, {"type": "webauthn.get"}, {"fmt": "packed", "statement": {"alg": -7, "sig": b""}}]
)
async def test_a_passkey_that_does_not_hold_is_not_registered(person: Person, changed: dict[str, Any]) -> None:
    made = Authenticator(person.site.url)
    answer = await accept(person, made.make(await asked(person), **changed))
    assert told(answer) == (400, "passkey_refused")
    assert (await accept(person, made.make(await asked(person)))).status == 200


@pytest.mark.parametrize(
    "changed",
    [*WRONG, {"type": "webauthn.create"}, {"count": 1}, {"count": 0}, {"key": ec.generate_private_key(ec.SECP256R1())}],
)
async def test_an_answer_that_does_not_hold_logs_nobody_in(
    person: Person, authenticator: Authenticator, changed: dict[str, Any]
) -> None:
    answer = await log_in(person, authenticator.sign(await options(person.site), **changed))
    assert told(answer) == REFUSED
    unknown = Authenticator(person.site.url).sign(await options(person.site))
    assert (await log_in(person, unknown)).body == answer.body
    assert (await log_in(person, authenticator.sign(await options(person.site)))).status == 200


async def test_a_challenge_counts_once_for_its_purpose_and_for_five_minutes(
    person: Person, authenticator: Authenticator
) -> None:
    site = person.site
    challenge = await options(site)
    answers = await asyncio.gather(*(log_in(person, authenticator.sign(challenge)) for _ in range(4)))
    assert sum(answer.status == 200 for answer in answers) == 1
    assert {told(answer) for answer in answers if answer.status != 200} <= {(401, "replayed"), REFUSED}
    other = await invited(site, "dr.other")
    assert told(await log_in(person, authenticator.sign(await asked(other)))) == REFUSED
    third = await invited(site, "dr.third")
    for wrong in (await asked(third), await options(site)):
        assert told(await accept(other, Authenticator(site.url).make(wrong))) == (400, "passkey_refused")
    late = await options(site)
    site.clock.offset_ms += limits.PASSKEY_CHALLENGE_MS
    assert told(await log_in(person, authenticator.sign(late))) == REFUSED


async def test_an_authenticator_that_does_not_count_logs_in_again(person: Person) -> None:
    made = Authenticator(person.site.url, count=None)
    assert (await accept(person, made.make(await asked(person)))).status == 200
    for _ in range(2):
        assert (await log_in(person, made.sign(await options(person.site)))).status == 200


async def test_nobody_takes_the_name_of_anothers_passkey(person: Person, authenticator: Authenticator) -> None:
    site = person.site
    other = await invited(site, "dr.other")
    thief = Authenticator(site.url, credential_id=authenticator.credential_id)
    assert told(await accept(other, thief.make(await asked(other)))) == (403, "invitation_invalid")
    assert (await log_in(person, authenticator.sign(await options(site)))).status == 200
    assert (await accept(other, Authenticator(site.url).make(await asked(other)))).status == 200


async def test_a_public_key_that_was_moved_to_another_account_opens_nothing(
    person: Person, authenticator: Authenticator, connection: Connection
) -> None:
    other = await invited(person.site, "dr.other")
    query = "UPDATE account_passkey SET principal_id = $1 WHERE credential_id = $2"
    await connection.execute(query, other.account_id, authenticator.credential_id)
    answer = await log_in(person, authenticator.sign(await options(person.site)))
    assert answer.status == 500
    assert answer.error == "internal"


async def test_a_reset_takes_the_passkey(person: Person, authenticator: Authenticator) -> None:
    site = person.site
    assert (await site.send("POST", f"/v1/accounts/{person.account_id}/reset", token=site.admin)).status == 201
    assert (await person.ask()).status == 401
    assert told(await log_in(person, authenticator.sign(await options(site)))) == REFUSED


@pytest.mark.parametrize(
    "credential",
    [
        {},
        {"id": "AA"},
        {"id": 1},
        {"id": "é"},
        {"id": "A" * 4000},
        {"id": "AA", "rawId": "AA", "type": "public-key", "response": {}},
        {"id": "AA", "rawId": "AA", "type": "public-key", "response": None},
        {"id": "AA", "rawId": "AA", "type": "x", "response": {"clientDataJSON": "e30", "attestationObject": "oA"}},
        {"id": "AA", "response": {"clientDataJSON": "W10", "authenticatorData": "", "signature": ""}},
    ],
)
async def test_whatever_is_sent_as_a_credential_is_refused(
    person: Person, authenticator: Authenticator, credential: dict[str, Any]
) -> None:
    assert told(await log_in(person, credential)) == REFUSED
    if "response" in credential:
        mine = {**credential, "id": base64url(authenticator.credential_id)}
        assert told(await log_in(person, mine)) == REFUSED
    other = await invited(person.site, "dr.other")
    assert told(await accept(other, credential)) == (400, "passkey_refused")
