"""Enrolment codes and the table of roles, both pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server import limits
from einthoven_server.identity.codes import StoredCode, Try, TryLimit, hash_verifier, judge, new_secret, split
from einthoven_server.identity.permissions import GRANTABLE, Operation, Role, allowed

VERIFIER = b"v" * 24


def stored(**changed: object) -> StoredCode:
    given = {
        "patient_id": "p",
        "secret_hash": hash_verifier(VERIFIER),
        "expires_at_ms": 1_000,
        "wrong_tries": 0,
        "used_by": None,
    }
    return StoredCode(**given | changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "verifier", "now_ms", "expected"),
    [
        (stored(), VERIFIER, 999, Try.GOOD),
        (stored(), VERIFIER, 1_000, Try.EXPIRED),
        (stored(used_by="d"), VERIFIER, 0, Try.USED),
        (stored(used_by="d"), VERIFIER, 1_000, Try.EXPIRED),
        (stored(), b"w" * 24, 0, Try.WRONG),
        (stored(used_by="d"), b"w" * 24, 0, Try.WRONG),
        (stored(wrong_tries=4), VERIFIER, 0, Try.GOOD),
        (stored(wrong_tries=5), VERIFIER, 0, Try.WRONG),
        (None, VERIFIER, 0, Try.WRONG),
        (None, b"", 0, Try.WRONG),
    ],
)
def test_a_code_is_judged(code: StoredCode | None, verifier: bytes, now_ms: int, expected: Try) -> None:
    assert judge(code, verifier, now_ms) is expected


@given(st.binary(max_size=80))
def test_any_presented_secret_can_be_judged(secret: bytes) -> None:
    selector, verifier = split(secret)
    assert selector + verifier == secret
    assert judge(stored(), verifier, 0) is Try.WRONG


def test_secrets_differ_and_hashes_do_not_show_them() -> None:
    a, b = new_secret(), new_secret()
    assert a != b
    assert a.verifier not in hash_verifier(a.verifier)


def test_guessing_empties_the_bucket_and_time_refills_it() -> None:
    bucket = TryLimit(tries_a_minute=3)
    for _ in range(3):
        assert bucket.wait_s(1_000) == 0
        bucket.count_wrong(1_000)
    assert bucket.wait_s(1_000) == 20
    assert bucket.wait_s(21_000) == 0
    bucket.count_wrong(21_000)
    assert bucket.wait_s(21_000) > 0
    assert bucket.wait_s(10 * 60_000) == 0


def test_a_clock_that_goes_back_refills_nothing() -> None:
    bucket = TryLimit(tries_a_minute=1)
    bucket.count_wrong(60_000)
    assert bucket.wait_s(0) == 60


def test_limits_are_what_the_protocol_says() -> None:
    assert limits.ENROLMENT_WRONG_TRIES_MAX == 5
    assert limits.ENROLMENT_CODE_LIFETIME_MS == 15 * 60 * 1000


EXPECTED = {
    Role.NOBODY: {"device.enrol", "fhir.capability"},
    Role.DEVICE: {"device.exchange", "device.repair", "device.wake", "signal.upload"},
    Role.ADMIN: {
        "patient.create",
        "enrolment_code.create",
        "principal.create",
        "device.revoke",
        "document.put",
        "documents.list",
        "fhir.capability",
        "fhir.patient.read",
        "fhir.patient.search",
        "fhir.patient.write",
        "fhir.transaction",
    },
    Role.SERVICE: {
        "fhir.capability",
        "fhir.read",
        "fhir.search",
        "fhir.patient.read",
        "fhir.patient.search",
        "fhir.patient.write",
        "fhir.transaction",
        "fhir.export",
    },
    Role.CLINICIAN: {
        "results.list",
        "result.annotate",
        "signal.read",
        "notes.list",
        "note.add",
        "note.delete",
        "documents.list",
        "fhir.capability",
        "fhir.read",
        "fhir.search",
        "fhir.patient.read",
        "fhir.patient.search",
    },
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("operation", Operation)
def test_every_role_and_operation_is_as_written_down_here(role: Role, operation: Operation) -> None:
    assert allowed(role, operation) == (operation.value in EXPECTED[role])


def test_a_role_that_is_not_in_the_table_may_do_nothing() -> None:
    assert not any(allowed("owner", operation) for operation in Operation)  # type: ignore[arg-type]
    assert frozenset({Role.ADMIN, Role.CLINICIAN, Role.SERVICE}) == GRANTABLE
