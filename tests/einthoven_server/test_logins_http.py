"""People log in, over HTTP and TLS: from an invitation to a session, and everything that must not get in."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.people import PASSWORD, Person, invited, joined
from tests.einthoven_server.site import Answer, Site
from tests.einthoven_server.tokens import proof, use

from einthoven_server import limits
from einthoven_server.database import Connection

REFUSED = (401, "login_refused")


@pytest.fixture
async def person(site: Site) -> Person:
    return await joined(site, "dr.miller@clinic.example")


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.error


async def entries(connection: Connection, site: Site, operation: str) -> list[Any]:
    query = (
        "SELECT actor, role, outcome, resource, resource_id FROM audit_entry "
        "WHERE tenant = $1 AND operation = $2 ORDER BY seq"
    )
    return [tuple(row) for row in await connection.fetch(query, site.tenant, operation)]


async def test_from_an_invitation_to_a_session_and_its_end(site: Site, connection: Connection) -> None:
    site.clock.stop()
    person = await invited(site, "Dr.Miller@Clinic.example")
    opened = await person.open()
    assert opened.json["name"] == "dr.miller@clinic.example"
    assert (await person.open()).json == opened.json
    accepted = await person.accept()
    assert accepted.status == 200, accepted.body
    assert accepted.json["token_type"] == "DPoP"
    assert accepted.json["expires_in"] == 300
    assert len(person.recovery_codes) == 10
    assert (await person.ask()).status == 200
    assert told(await person.accept()) == (403, "invitation_invalid")
    person.next_step()
    answer = await person.log_in(name="DR.MILLER@clinic.example")
    assert answer.status == 200, answer.body
    assert (await person.ask()).status == 200
    first = person.refresh_token
    assert (await person.refresh()).status == 200
    assert person.refresh_token != first
    assert (await person.ask()).status == 200
    ended = await person.post("/v1/login/end", {"refresh_token": person.refresh_token})
    assert ended.status == 200
    assert told(await person.ask()) == (401, "unauthorized")
    assert told(await person.refresh()) == (401, "session_over")
    account = ("clinician", "allowed")
    assert [(one[0], one[1], one[2]) for one in await entries(connection, site, "session.begin")] == [
        (person.account_id, *account)
    ]
    assert [one[2] for one in await entries(connection, site, "session.refresh")] == ["allowed", "session_over"]
    assert [one[:3] for one in await entries(connection, site, "session.end")] == [(person.account_id, *account)]
    assert [one[2] for one in await entries(connection, site, "invitation.accept")] == ["allowed", "invitation_invalid"]
    ((_, role, outcome, resource, resource_id),) = await entries(connection, site, "account.create")
    assert (role, outcome, resource, resource_id) == ("admin", "allowed", "account", person.account_id)


@pytest.mark.parametrize(
    "changed",
    [
        {"password": "correct horse batterz"},
        {"password": ""},
        {"totp": "000000"},
        {"totp": ""},
        {"name": "dr.nobody@clinic.example"},
        {"name": "x"},
        {"name": "a b c d"},
        {"totp": None, "recovery_code": "aaaa-aaaa-aaaa-aaaa"},
        {"name": "nobody@clinic.example", "totp": None, "recovery_code": "aaaa-aaaa-aaaa-aaaa"},
    ],
)
async def test_whatever_is_wrong_the_answer_is_one(person: Person, changed: dict[str, Any]) -> None:
    wrong, other = await person.log_in(**changed), await person.log_in(name="dr.unknown@clinic.example")
    assert told(wrong) == REFUSED
    assert wrong.body == other.body
    assert {name for name in wrong.headers if name != "Date"} == {name for name in other.headers if name != "Date"}
    assert (await person.log_in()).status == 200


async def test_a_code_counts_once_also_of_two_at_once(person: Person, connection: Connection) -> None:
    answers = await asyncio.gather(*(person.log_in() for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401]
    assert told(await person.log_in(totp=person.totp(-1))) == REFUSED
    person.next_step()
    assert (await person.log_in()).status == 200


async def test_a_recovery_code_counts_once(person: Person) -> None:
    code = person.recovery_codes[3]
    assert (await person.log_in(totp=None, recovery_code=code.upper())).status == 200
    assert told(await person.log_in(totp=None, recovery_code=code)) == REFUSED
    assert (await person.log_in(totp=None, recovery_code=person.recovery_codes[4])).status == 200
    listed = (await person.site.send("GET", "/v1/accounts", token=person.site.admin)).json["accounts"]
    assert [one["recovery_codes"] for one in listed] == [8]


async def test_both_or_neither_second_factor_is_malformed(person: Person) -> None:
    assert told(await person.log_in(totp=None)) == (400, "malformed")
    assert told(await person.log_in(recovery_code="aaaa")) == (400, "malformed")


async def test_nothing_is_given_without_a_proof_of_a_key(person: Person) -> None:
    body = {"name": person.name, "password": PASSWORD, "totp": person.totp()}
    assert told(await person.site.send("POST", "/v1/login", json=body)) == (400, "invalid_dpop_proof")
    for wrong in (
        proof(person.site, person.key, "POST", "/v1/login/refresh"),
        proof(person.site, person.key, "GET", "/v1/login"),
        proof(person.site, person.key, "POST", "/v1/login", htu="https://other.example/v1/login"),
    ):
        assert told(await person.post("/v1/login", body, dpop=wrong)) == (400, "invalid_dpop_proof")
    once = proof(person.site, person.key, "POST", "/v1/login")
    assert (await person.post("/v1/login", body, dpop=once)).status == 200
    person.next_step()
    again = body | {"totp": person.totp()}
    assert (await person.post("/v1/login", again, dpop=once)).status == 401


async def test_a_token_of_a_login_is_bound_to_the_key_that_was_proven(person: Person) -> None:
    assert (await person.log_in()).status == 200
    mine, path = Ed25519PrivateKey.generate(), "/v1/documents"
    stolen = person.access_token
    answer = await use(person.site, "GET", path, stolen, proof(person.site, mine, "GET", path, stolen))
    assert told(answer) == (401, "invalid_dpop_proof")
    assert (await use(person.site, "GET", path, stolen, None)).status == 401


async def test_a_refresh_token_that_was_used_ends_the_session(person: Person, connection: Connection) -> None:
    await person.log_in()
    stolen = person.refresh_token
    assert (await person.refresh()).status == 200
    held, token = person.refresh_token, person.access_token
    assert told(await person.refresh(stolen)) == (401, "session_over")
    assert told(await person.refresh(held)) == (401, "session_over")
    assert (await person.ask(token=token)).status == 401
    outcomes = [one[2:4] for one in await entries(connection, person.site, "session.refresh")]
    assert outcomes == [("allowed", "session"), ("session_reused", "session"), ("session_over", "")]


async def test_a_stolen_refresh_token_is_worth_nothing_without_its_key_and_ends_the_session(person: Person) -> None:
    await person.log_in()
    assert told(await person.refresh(key=Ed25519PrivateKey.generate())) == (401, "session_over")
    assert told(await person.refresh()) == (401, "session_over")


async def test_of_many_uses_of_one_refresh_token_at_once_one_succeeds_at_most(person: Person) -> None:
    await person.log_in()
    token = person.refresh_token
    answers = await asyncio.gather(*(person.refresh(token) for _ in range(8)))
    assert sum(answer.status == 200 for answer in answers) == 1
    assert (await person.ask()).status == 401


async def test_a_session_ends_when_it_is_not_used_and_after_twelve_hours(person: Person) -> None:
    clock = person.site.clock
    await person.log_in()
    clock.offset_ms += limits.SESSION_IDLE_MS
    assert told(await person.refresh()) == (401, "session_over")
    await person.log_in()
    for _ in range(24):
        clock.offset_ms += limits.SESSION_IDLE_MS - 1
        answer = await person.refresh()
        assert answer.status == 200
    assert answer.json["expires_in"] < 300
    assert (await person.ask()).status == 200
    clock.offset_ms += 24
    assert (await person.ask()).status == 401
    assert told(await person.refresh()) == (401, "session_over")


async def test_a_revoked_principal_and_a_reset_account_are_out_at_once(person: Person) -> None:
    site = person.site
    await person.log_in()
    answer = await site.send("POST", f"/v1/accounts/{person.account_id}/reset", token=site.admin)
    assert answer.status == 201
    assert (await person.ask()).status == 401
    assert told(await person.refresh()) == (401, "session_over")
    person.next_step()
    assert told(await person.log_in()) == REFUSED
    assert told(await person.log_in(totp=None, recovery_code=person.recovery_codes[0])) == REFUSED
    person.code = answer.json["code"]
    before = person.secret
    await person.open()
    assert person.secret != before
    assert (await person.accept(password="another long one")).status == 200
    person.next_step()
    assert (await person.log_in(password="another long one")).status == 200
    await site.send("POST", f"/v1/principals/{person.account_id}/revoke", token=site.admin)
    assert (await person.ask()).status == 401
    assert told(await person.refresh()) == (401, "session_over")
    person.next_step()
    assert told(await person.log_in(password="another long one")) == REFUSED


async def test_the_oldest_of_too_many_sessions_ends(person: Person, connection: Connection) -> None:
    for number in range(limits.SESSIONS_OF_ONE_MAX - 1):
        insert = (
            "INSERT INTO login_session SELECT shard, tenant, $1, principal_id, holder_version, $2, verifier_hash, jkt, "
            "began_at_ms, used_at_ms FROM login_session WHERE tenant = $3 LIMIT 1"
        )
        await connection.execute(insert, f"s{number}", bytes([number]) * 16, person.site.tenant)
    assert (await person.log_in()).status == 200
    count = await connection.fetchval("SELECT count(*) FROM login_session WHERE tenant = $1", person.site.tenant)
    assert count == limits.SESSIONS_OF_ONE_MAX
    assert (await person.refresh()).status == 200


async def test_an_invitation_expires_and_a_new_one_ends_it(site: Site) -> None:
    site.clock.stop()
    person = await invited(site, "dr.late")
    old = person.code
    answer = await site.send("POST", f"/v1/accounts/{person.account_id}/reset", token=site.admin)
    assert told(await person.open()) == (403, "invitation_invalid")
    person.code = answer.json["code"]
    assert (await person.open()).status == 200
    wrong = person.code[:22] + ("A" if person.code[22] != "A" else "B") + person.code[23:]
    for code in (old, wrong, person.code[:-1], "", "x" * 64):
        assert told(await site.send("POST", "/v1/invitations/open", json={"code": code})) == (403, "invitation_invalid")
    site.clock.offset_ms += limits.INVITATION_LIFETIME_MS
    assert told(await person.open()) == (403, "invitation_invalid")
    assert told(await person.accept()) == (403, "invitation_invalid")


async def test_an_account_is_set_up_with_a_good_password_and_a_right_code_only(site: Site) -> None:
    site.clock.stop()
    person = await invited(site, "dr.careful")
    person.secret = bytes(20)
    assert told(await person.accept()) == (400, "totp_wrong")
    await person.open()
    assert told(await person.accept(totp="000000")) == (400, "totp_wrong")
    answer = await person.accept(password="dr.careful 2026")
    assert told(answer) == (400, "password_refused")
    assert b"2026" not in answer.body
    assert told(await person.log_in()) == REFUSED
    answers = await asyncio.gather(*(person.accept() for _ in range(3)))
    assert sorted(told(one)[0] if one.status != 200 else 200 for one in answers) == [200, 403, 403]


async def test_a_patient_logs_in_and_sees_themselves(site: Site) -> None:
    patient, other = await site.new_patient(), await site.new_patient()
    person = await joined(site, "a.patient", "patient", patient_id=patient)
    assert (await person.ask(f"/v1/patients/{patient}/results")).status == 200
    assert (await person.ask(f"/v1/patients/{other}/results")).status == 404
    for body in ({"role": "patient", "name": "nobody"}, {"role": "admin", "name": "nobody", "patient_id": patient}):
        assert told(await site.send("POST", "/v1/accounts", token=site.admin, json=body)) == (400, "malformed")
    body = {"role": "patient", "name": "nobody", "patient_id": "00000000-0000-0000-0000-000000000000"}
    assert (await site.send("POST", "/v1/accounts", token=site.admin, json=body)).status == 404


async def test_a_name_is_taken_once_whatever_its_case(person: Person) -> None:
    site = person.site
    body = {"role": "admin", "name": person.name.upper()}
    assert told(await site.send("POST", "/v1/accounts", token=site.admin, json=body)) == (409, "name_taken")
    assert told(await site.send("POST", "/v1/accounts", token=site.admin, json={"role": "admin", "name": "a b"})) == (
        400,
        "malformed",
    )
    (listed,) = (await site.send("GET", "/v1/accounts", token=site.admin)).json["accounts"]
    assert (listed["name"], listed["ready"], listed["revoked"]) == (person.name, True, False)
    assert listed["invited_until_ms"] is None


async def test_somebody_who_logs_in_has_no_key_to_assert_with(person: Person) -> None:
    from tests.einthoven_server.tokens import ask, assertion

    made = assertion(person.site, person.account_id, person.key, "EdDSA", "k")
    answer = await ask(person.site, made, proof(person.site, person.key, "POST", "/v1/token"))
    assert told(answer) == (401, "invalid_client")


# ---- floods, and what can be learned ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dr.miller@clinic.example", "dr.nobody@clinic.example"])
async def test_a_flood_of_wrong_tries_waits_longer_and_longer_and_nobody_is_locked_out(
    person: Person, name: str
) -> None:
    answers = await asyncio.gather(*(person.log_in(name=name, password=f"wrong {n} password") for n in range(30)))
    tried = [answer for answer in answers if told(answer) == REFUSED]
    assert len(tried) == limits.LOGIN_TRIES_FREE
    late = [answer for answer in answers if answer.status == 429]
    assert len(tried) + len(late) == 30
    assert {answer.headers["Retry-After"] for answer in late} == {"1"}
    waits = []
    for _ in range(12):
        answer = await person.log_in(name=name)
        assert told(answer) == (429, "too_many_tries")
        waits.append(int(answer.headers["Retry-After"]))
        person.site.clock.offset_ms += waits[-1] * 1000
        assert told(await person.log_in(name=name, password="wrong password")) == REFUSED
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert (await person.log_in(name=person.name)).status == (429 if name == person.name else 200)
    person.site.clock.offset_ms += 900_000
    if name == person.name:
        assert (await person.log_in()).status == 200
        assert told(await person.log_in(password="wrong password")) == REFUSED


async def test_a_flood_at_many_names_is_bounded_and_reading_goes_on(person: Person) -> None:
    await person.log_in()

    async def one(number: int) -> Answer:
        return await person.log_in(Ed25519PrivateKey.generate(), name=f"somebody{number}@x.example")

    flood = asyncio.gather(*(one(number) for number in range(60)))
    await asyncio.sleep(0.3)
    began = time.perf_counter()
    assert (await person.ask()).status == 200
    took_s = time.perf_counter() - began
    answers = await flood
    assert {answer.status for answer in answers} <= {401, 503}
    refused = sum(answer.status == 401 for answer in answers)
    assert limits.PASSWORDS_AT_ONCE <= refused <= limits.PASSWORDS_AT_ONCE + limits.PASSWORDS_WAITING_MAX + 8
    assert all("Retry-After" in answer.headers for answer in answers if answer.status == 503)
    print(f"{refused} of 60 were looked at; a read meanwhile took {took_s:.2f} s")
    assert took_s < 5


async def test_an_unknown_name_takes_the_same_work(person: Person) -> None:
    site, times = person.site, {True: [], False: []}  # type: dict[bool, list[float]]
    await person.log_in(name="warm.up", password="wrong password")
    for number in range(8):
        for known in (True, False) if number % 2 else (False, True):
            name = person.name if known else f"dr.nobody{number}@x.example"
            began = time.process_time()
            answer = await person.log_in(name=name, password="wrong password")
            times[known].append(time.process_time() - began)
            assert told(answer) == REFUSED
            site.clock.offset_ms += 1_000_000
    pairs = [(known, unknown) for known in times[True] for unknown in times[False]]
    auc = sum((known > unknown) + (known == unknown) / 2 for known, unknown in pairs) / len(pairs)
    medians = {known: statistics.median(found) for known, found in times.items()}
    took = f"processor time known {medians[True] * 1000:.0f} ms, unknown {medians[False] * 1000:.0f} ms"
    print(f"{took}, AUC {auc:.2f}, n = 8 each")
    assert 0.5 < medians[True] / medians[False] < 2


async def test_the_database_alone_shows_no_name_no_password_and_no_code(person: Person, connection: Connection) -> None:
    await person.log_in()
    shown = (person.name, person.name.split("@")[0], PASSWORD, "argon2", person.code, person.refresh_token)
    for table in (
        "account",
        "account_invitation",
        "account_recovery_code",
        "login_try",
        "login_session",
        "audit_entry",
    ):
        for row in await connection.fetch(f"SELECT * FROM {table} WHERE tenant = $1", person.site.tenant):
            text = repr(tuple(row)).encode()
            octets = b"".join(bytes(value) for value in row if isinstance(value, bytes))
            for word in (*shown, *person.recovery_codes):
                assert word.encode() not in text + octets, table
            assert person.secret not in octets
