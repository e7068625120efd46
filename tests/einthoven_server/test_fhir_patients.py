"""Demographics: what is taken, how it is found, and that nothing that is not taken gets in (attack 18)."""

from __future__ import annotations

import contextlib

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.patient import Patient
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server.errors import Malformed, Unprocessable
from einthoven_server.fhir.blind_index import blind_hash
from einthoven_server.fhir.patients import (
    PATIENT_SYSTEM,
    Demographics,
    KnownPatient,
    Written,
    folded,
    opened_form,
    read_patient,
    sealed_form,
    shown,
    taken,
    terms,
)
from einthoven_server.fhir.transactions import read_transaction, transaction_response

MUSTER = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:clinic", "value": "MRN-1", "use": "usual"}],
    "name": [{"family": "Müller-Lüdenscheidt", "given": ["Änne", "Sofie"], "use": "official"}],
    "telecom": [{"system": "phone", "value": "+49 30 1234", "use": "mobile"}],
    "gender": "female",
    "birthDate": "1980-05-03",
}


def test_what_was_given_is_shown_and_valid() -> None:
    demographics = taken(MUSTER, patient_id=None)
    resource = shown("p-1", opened_form(sealed_form(demographics)), 3, 1_700_000_000_000)
    Patient.model_validate(resource)
    assert {name: resource[name] for name in ("name", "telecom", "gender", "birthDate")} == {
        name: MUSTER[name] for name in ("name", "telecom", "gender", "birthDate")
    }
    assert resource["identifier"] == [{"system": PATIENT_SYSTEM, "value": "p-1"}, *MUSTER["identifier"]]
    assert resource["meta"] == {"versionId": "3", "lastUpdated": "2023-11-14T22:13:20.000Z"}


def test_what_was_read_may_be_sent_back() -> None:
    demographics = taken(MUSTER, patient_id=None)
    assert taken(shown("p-1", demographics, 3, 0), patient_id="p-1") == demographics
    with pytest.raises(Unprocessable, match=r"'Patient\.id'"):
        taken(shown("p-2", demographics, 3, 0), patient_id="p-1")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"role": "admin"}, "Patient.role"),
        ({"tenant": "other"}, "Patient.tenant"),
        ({"active": True}, "Patient.active"),
        ({"link": [{"other": {"reference": "Patient/x"}, "type": "refer"}]}, "Patient.link"),
        ({"generalPractitioner": [{"reference": "Practitioner/x"}]}, "Patient.generalPractitioner"),
        ({"extension": [{"url": "urn:model-version", "valueString": "2"}]}, "Patient.extension"),
        ({"meta": {"tag": [{"code": "x"}]}}, "Patient.meta.tag"),
        ({"meta": {"versionId": "7"}}, "Patient.meta"),
        ({"id": "mine"}, "Patient.id"),
        ({"name": [{"family": "A", "role": "x"}]}, "Patient.name[0].role"),
        ({"gender": "F-secret"}, "Patient.gender"),
        ({"birthDate": "1980-02-30"}, "Patient.birthDate"),
        ({"birthDate": "1620-01-01"}, "Patient.birthDate"),
        ({"identifier": [{"system": PATIENT_SYSTEM, "value": "forged"}]}, "Patient.identifier"),
        ({"identifier": []}, "Patient.identifier"),
        ({"name": [{"family": "x" * 300}]}, "Patient.name[0].family"),
    ],
)
def test_what_is_not_taken_is_refused_by_name_and_not_by_value(changed: dict[str, object], named: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        taken(MUSTER | changed, patient_id=None)
    assert caught.value.location == named
    assert "secret" not in str(caught.value)
    assert "forged" not in str(caught.value)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"resourceType":"Patient","a":' * 5_000,
        b'{"resourceType":"Patient","gender":"male","gender":"female"}',
        b'{"resourceType":"Patient","birthDate":NaN}',
        b'{"resourceType":"Patient","birthDate":"\\ud800"}',
        b'{"resourceType":"Patient","birthDate":' + b"9" * 100_000 + b"}",
        b'{"resourceType":"Observation"}',
        b"\xff\xfe",
        b"<Patient/>",
    ],
)
def test_hostile_json_is_refused(octets: bytes) -> None:
    with pytest.raises((Malformed, Unprocessable)):
        read_patient(octets, patient_id=None)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*MUSTER, "meta", "id", "text"]), json_like), st.booleans())
def test_any_json_is_taken_or_refused(body: dict[str, object], right: bool) -> None:
    given_body = {**body, "resourceType": "Patient"} if right else body
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": given_body, "request": {"method": "POST", "url": "Patient"}}],
    }
    for read in (lambda: taken(given_body, patient_id=None), lambda: read_transaction(bundle)):
        with contextlib.suppress(Unprocessable):
            read()


def test_terms_are_whole_words_without_case_and_accents() -> None:
    assert folded(" MÜLLER ") == folded("müller") == "muller"
    found = set(terms(taken(MUSTER, patient_id=None)))
    assert ("identifier", "MRN-1") in found
    assert ("identifier", "urn:clinic|MRN-1") in found
    assert {("family", "muller"), ("family", "ludenscheidt"), ("family", "muller-ludenscheidt")} <= found
    assert {("given", "anne"), ("given", "sofie")} <= found
    assert {("birthdate", "1980"), ("birthdate", "1980-05"), ("birthdate", "1980-05-03")} <= found
    assert list(terms(Demographics())) == []


def test_a_hash_depends_on_key_index_and_value() -> None:
    key, other = bytes(32), bytes(31) + b"\x01"
    given_hash = blind_hash(key, "family", "muller")
    assert given_hash == blind_hash(key, "family", "muller")
    assert len(given_hash) == 16
    others = {
        blind_hash(other, "family", "muller"),
        blind_hash(key, "given", "muller"),
        blind_hash(key, "family", "mulle"),
        blind_hash(key, "familym", "uller"),
    }
    assert len(others | {given_hash}) == 5


# ---- transactions -------------------------------------------------------------------------------------------------


def entry(**changed: object) -> dict[str, object]:
    return {"resource": MUSTER, "request": {"method": "POST", "url": "Patient"}} | changed


def bundle(*entries: object, **changed: object) -> dict[str, object]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)} | changed


def test_a_bundle_is_read_and_answered() -> None:
    request = {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:clinic|MRN-1"}
    change = {"method": "PUT", "url": "Patient/p-1", "ifMatch": 'W/"2"'}
    read = read_transaction(
        bundle(entry(request=request, fullUrl="urn:uuid:x"), entry(request=change, resource=MUSTER | {"id": "p-1"}))
    )
    assert [one.patient_id for one in read] == [None, "p-1"]
    assert [(one.if_none_exist, one.if_match) for one in read] == [(request["ifNoneExist"], None), (None, 'W/"2"')]
    written = [Written(201, KnownPatient("p-1", 1, 0, read[0].demographics))]
    for full in ({"p-1": written[0].patient.shown()}, {}):
        Bundle.model_validate(transaction_response(written, full))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (bundle(), "Bundle"),
        (bundle(entry(), type="batch"), "Bundle"),
        (bundle(entry(), role="admin"), "Bundle"),
        (bundle(entry(resource={"resourceType": "Observation"})), "Bundle.entry[0].resource"),
        (bundle(entry(), entry(resource={"resourceType": "Consent"})), "Bundle.entry[1].resource"),
        (bundle(entry(request={"method": "DELETE", "url": "Patient/x"})), "Bundle"),
        (bundle(entry(request={"method": "PUT", "url": "Patient?identifier=x"})), "Bundle.entry[0].request"),
        (bundle(entry(request={"method": "POST", "url": "Device"})), "Bundle.entry[0].request"),
        (
            bundle(entry(), entry(resource=MUSTER | {"link": [{"other": {"reference": "Patient/foreign"}}]})),
            "Bundle.entry[1].resource.link",
        ),
        (
            bundle(*[entry(request={"method": "PUT", "url": "Patient/p"}, resource=MUSTER | {"id": "p"})] * 2),
            "Bundle.entry",
        ),
        (bundle(*[entry()] * 201), "Bundle"),
    ],
)
def test_a_bundle_with_what_is_not_taken_is_refused_whole(body: dict[str, object], named: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        read_transaction(body)
    assert caught.value.location.startswith(named)
