"""What accounts are made of, without a server: passwords, authenticators' codes, codes for once, waits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server import limits
from einthoven_server.errors import Busy, EnvelopeRefused
from einthoven_server.identity import account_codes, login_tries, sessions, totp
from einthoven_server.identity.account_keys import AccountSeals, NameRefused, folded_name
from einthoven_server.identity.passwords import PasswordHasher, PasswordRefused, check_password
from einthoven_server.identity.sessions import Kept, Use


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "elevenchars",
        "a" * 257,
        "aaaaaaaaaaaaaaaa",
        "abcabcabcabcabc",
        "passpasspass",
        "abcdefghijkl",
        "123456789012",
        "987654321098",
        "QwertyUiop12",
        "einthoven2026!",
        "my-einthoven-pw",
        "dr.miller-2026",
        "xxDR.MILLERxxxx",
    ],
)
def test_a_password_that_would_be_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused) as refused:
        check_password(password, "Dr.Miller@clinic.example")
    assert password not in str(refused.value)


@pytest.mark.parametrize(
    "password", ["correct horse battery", "пароль на тысячу лет", "tr0ub4dor&3 x9", "zwölf Zeichen"]
)
def test_a_long_password_of_whatever_characters_is_taken(password: str) -> None:
    assert check_password(password, "dr.miller") == password


def test_a_password_is_the_same_however_it_is_composed() -> None:
    assert check_password("schöner Garten", "dr.miller") == check_password("schöner Garten", "dr.miller")


async def test_a_password_is_hashed_as_rfc_9106_says_and_verified() -> None:
    hasher = PasswordHasher()
    phc = await hasher.hash("schöner Garten")
    assert phc.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert await hasher.hash("schöner Garten") != phc
    assert await hasher.verify(phc, "schöner Garten")
    assert not await hasher.verify(phc, "schoner Garten")


async def test_two_passwords_are_hashed_at_once_and_too_many_are_refused() -> None:
    hasher = PasswordHasher(at_once=2, waiting_max=3)
    phc = await hasher.hash("correct horse battery")
    found = await asyncio.gather(*(hasher.verify(phc, "x" * 12) for _ in range(9)), return_exceptions=True)
    assert [one for one in found if one is False] == [False] * 5
    assert sum(isinstance(one, Busy) for one in found) == 4
    assert await hasher.verify(phc, "correct horse battery")


# RFC 6238, appendix B, SHA-1: the last six of eight digits.
@pytest.mark.parametrize(
    ("at_s", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(at_s: int, code: str) -> None:
    secret = b"12345678901234567890"
    assert totp.matching_step(secret, code, at_s * 1000, 0) == at_s // 30
    for steps, counts in ((-2, False), (-1, True), (1, True), (2, False)):
        assert (totp.matching_step(secret, code, (at_s + 30 * steps) * 1000, 0) is not None) == counts


@given(now_ms=st.integers(60_000, 4_000_000_000_000))
def test_a_step_counts_once_and_none_before_it(now_ms: int) -> None:
    secret, step = bytes(20), totp.step_of(now_ms)
    assert totp.matching_step(secret, totp.code_at(secret, step), now_ms, step - 1) == step
    assert totp.matching_step(secret, totp.code_at(secret, step), now_ms, step) is None
    assert totp.matching_step(secret, totp.code_at(secret, step - 1), now_ms, step) is None


@given(st.text(max_size=8))
def test_whatever_is_typed_as_a_code_is_an_answer(code: str) -> None:
    assert totp.matching_step(b"12345678901234567890", code, 1_000, 5) is None


def test_an_authenticator_is_told_what_it_needs() -> None:
    found = totp.uri(b"12345678901234567890", "dr.miller")
    assert found.startswith("otpauth://totp/Einthoven:dr.miller?")
    assert "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" in found
    assert totp.shown_secret(b"12345678901234567890") == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


def test_waits_double_and_end_at_a_quarter_of_an_hour() -> None:
    waits_s = [login_tries.delay_ms(tries) // 1000 for tries in range(1, 20)]
    assert waits_s[:8] == [0, 0, 0, 0, 1, 2, 4, 8]
    assert waits_s[-1] == 900 == login_tries.delay_ms(10**9) // 1000
    assert login_tries.DELAYS_MS[-1] == limits.LOGIN_DELAY_MAX_MS
    # At the longest wait, so many tries a year find a code of six digits, three of which count, in less than 1 of 9.
    assert 365 * 86400 / 900 * 3 / 10**6 < 1 / 9


@given(st.text(max_size=80))
def test_whatever_is_shown_as_a_code_is_read_or_not(text: str) -> None:
    assert account_codes.read_two_parts(text) is None or len(text) == 64


def test_a_code_of_two_parts_is_found_by_one_and_proven_by_the_other() -> None:
    made = account_codes.new_two_parts()
    assert account_codes.read_two_parts(made.text()) == made
    kept = account_codes.verifier_hash("invitation", made.verifier)
    assert account_codes.is_verifier("invitation", made.verifier, kept)
    assert not account_codes.is_verifier("refresh", made.verifier, kept)
    assert made.verifier not in kept


def test_recovery_codes_are_read_however_they_are_typed() -> None:
    codes = account_codes.new_recovery_codes()
    assert len(set(codes)) == limits.RECOVERY_CODES
    code = codes[0]
    assert len(code.replace("-", "")) == 16
    kept = account_codes.recovery_hash("a", code)
    assert account_codes.recovery_hash("a", code.upper().replace("-", " ")) == kept
    assert account_codes.recovery_hash("b", code) != kept
    assert account_codes.recovery_hash("a", codes[1]) != kept


@pytest.mark.parametrize("name", ["ab", "a" * 129, "dr miller", "dr\nmiller", "dr\u200bmiller", "dr\x00miller", ""])
def test_a_name_that_looks_like_another_or_like_nothing_is_refused(name: str) -> None:
    with pytest.raises(NameRefused):
        folded_name(name)


def test_a_value_opens_for_its_account_and_column_only() -> None:
    seals = AccountSeals("t", bytes(32))
    sealed = seals.seal(b"secret", "password", "a")
    assert seals.open(sealed, "password", "a") == b"secret"
    for other, column, account in (
        (seals, "totp", "a"),
        (seals, "password", "b"),
        (AccountSeals("u", bytes(32)), "password", "a"),
    ):
        with pytest.raises(EnvelopeRefused):
            other.open(sealed, column, account)
    assert folded_name("Dr.Miller") == folded_name("dr.MILLER")
    assert seals.name_index("a") != AccountSeals("t", bytes([1] * 32)).name_index("a")


def test_a_refresh_token_is_judged_by_its_verifier_its_key_and_the_time() -> None:
    good, jkt = account_codes.new_two_parts(), "k" * 43
    kept = Kept(account_codes.verifier_hash("refresh", good.verifier), jkt, 0, 0, True)
    assert sessions.judge(kept, good.verifier, jkt, 1) is Use.GOOD
    assert sessions.judge(kept, good.verifier, "j" * 43, 1) is Use.REUSED
    assert sessions.judge(kept, bytes(32), jkt, 1) is Use.REUSED
    assert sessions.judge(kept, good.verifier, jkt, limits.SESSION_IDLE_MS - 1) is Use.GOOD
    assert sessions.judge(kept, good.verifier, jkt, limits.SESSION_IDLE_MS) is Use.OVER
    used = kept._replace(used_at_ms=limits.SESSION_LIFETIME_MS - 1)
    assert sessions.judge(used, good.verifier, jkt, limits.SESSION_LIFETIME_MS) is Use.OVER
    assert sessions.judge(kept._replace(current=False), good.verifier, jkt, 1) is Use.OVER
