"""What a consent says, as a pure decision: purpose x category x actor, and a FHIR Consent there and back."""

from __future__ import annotations

from typing import Any

import pytest
from fhir.resources.R4B.consent import Consent as FhirConsent
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server.errors import Unprocessable
from einthoven_server.fhir.consents import shown, taken
from einthoven_server.identity.consent import (
    CATEGORIES,
    CONSENTED_PURPOSES,
    UNGOVERNED,
    Agreement,
    Asked,
    Category,
    Consent,
    Period,
    Policy,
    Provision,
    Purpose,
    Standing,
    governs,
    lets_through,
    purpose_of,
)
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.roles import CARERS, Relation, Role

DAY_MS = 86_400_000
CLINICIAN = Asked(Role.CLINICIAN, "doc", "TREAT", DAY_MS)
RESCUER = Asked(Role.CLINICIAN, "doc", "BTG", DAY_MS)
SERVICE = Asked(Role.SERVICE, "app", "HOPERAT", DAY_MS)
ADMIN = Asked(Role.ADMIN, "root", "HSYSADMIN", DAY_MS)
RESULTS = frozenset({Category.RESULTS})
YES, NO = Agreement(True, "2026"), Agreement(False, "2026")


def but(base: Agreement, **exception: Any) -> Agreement:
    return Agreement(base.permits, base.said, (Provision(**exception),))


def said(*agreements: Agreement, **more: Any) -> Standing:
    return Standing(Policy(), agreements, **more)


@pytest.mark.parametrize(
    ("standing", "asked", "expected"),
    [
        (said(), CLINICIAN, True),
        (said(), SERVICE, True),
        (said(NO), CLINICIAN, False),
        (said(NO), SERVICE, False),
        (said(NO), RESCUER, True),
        (said(NO), ADMIN, True),
        (said(YES, NO), CLINICIAN, False),
        (said(but(YES, roles=(Role.SERVICE,))), SERVICE, False),
        (said(but(YES, roles=(Role.SERVICE,))), CLINICIAN, True),
        (said(but(YES, principals=("app",))), SERVICE, False),
        (said(but(YES, principals=("other",))), SERVICE, True),
        (said(but(YES, principals=("other",), roles=(Role.SERVICE,))), SERVICE, False),
        (said(but(YES, purposes=(Purpose.HOPERAT,))), SERVICE, False),
        (said(but(YES, purposes=(Purpose.HOPERAT,))), CLINICIAN, True),
        (said(but(YES, categories=(Category.SIGNAL,))), SERVICE, True),
        (said(but(YES, categories=(Category.RESULTS, Category.SIGNAL))), SERVICE, False),
        (said(but(NO, principals=("doc",), categories=(Category.RESULTS,))), CLINICIAN, True),
        (said(but(NO, principals=("doc",), categories=(Category.SIGNAL,))), CLINICIAN, False),
        (said(but(YES, period=Period(0, DAY_MS))), CLINICIAN, True),
        (said(but(YES, period=Period(0, DAY_MS + 1))), CLINICIAN, False),
        (said(Agreement(False, "x", period=Period(DAY_MS + 1, 2 * DAY_MS))), CLINICIAN, True),
        (said(restricted=True), CLINICIAN, False),
        (said(restricted=True), RESCUER, False),
        (said(restricted=True), ADMIN, False),
        (said(restricted=True, purposes=frozenset({"TREAT"})), CLINICIAN, True),
        (said(NO, restricted=True, purposes=frozenset({"TREAT"})), CLINICIAN, False),
        (said(YES, restricted=True, purposes=frozenset({"TREAT"})), SERVICE, False),
        (Standing(Policy(permitted_without_consent=())), CLINICIAN, False),
        (Standing(Policy(permitted_without_consent=()), (YES,)), CLINICIAN, True),
        (Standing(Policy(permitted_without_consent=(Purpose.TREAT,))), SERVICE, False),
        (Standing(Policy(emergency_overrides_consent=False)), RESCUER, False),
        (Standing(Policy(emergency_overrides_consent=False), (YES,)), RESCUER, True),
        (Standing(Policy(emergency_overrides_consent=False), (but(YES, purposes=(Purpose.BTG,)),)), RESCUER, False),
    ],
)
def test_what_was_said_decides(standing: Standing, asked: Asked, expected: bool) -> None:
    assert lets_through(standing, asked, RESULTS) is expected


def test_all_of_what_an_operation_shows_has_to_be_permitted() -> None:
    standing = said(but(YES, categories=(Category.DEMOGRAPHICS,)))
    assert lets_through(standing, SERVICE, RESULTS)
    assert not lets_through(standing, SERVICE, RESULTS | {Category.DEMOGRAPHICS})


def test_only_others_who_come_close_are_asked_about() -> None:
    for role in Role:
        for relation in Relation:
            carer = role in CARERS and relation in (Relation.CARE_TEAM, Relation.BREAK_GLASS, Relation.SELF)
            own = relation in (Relation.SELF, Relation.NONE)
            assert governs(role, relation, RESULTS, restricted=False) == (carer and not own), (role, relation)
            assert governs(role, relation, RESULTS, restricted=True) == (not own), (role, relation)
            assert not governs(role, relation, (), restricted=True)
    assert purpose_of(Role.CLINICIAN, Relation.BREAK_GLASS) == "BTG"
    assert purpose_of(Role.SERVICE, Relation.CARE_TEAM) == "HOPERAT"


def test_every_operation_is_governed_or_said_not_to_be() -> None:
    # Written out here, so that an operation that is added has to be thought about.
    free = {
        *("device.enrol", "patient.create", "enrolment_code.create", "token.issue", "principal.create"),
        *("principal.keys", "principal.revoke", "signing_key.rotate", "device.revoke"),
        *("care_team.assign", "care_team.remove", "care_team.list"),
        *("break_glass.open", "break_glass.list", "patient_break_glass.list"),
        *("device.exchange", "device.repair", "device.wake", "signal.upload"),
        *("document.put", "documents.list", "patient_document.put"),
        *("fhir.capability", "audit_checkpoint.read", "audit_proof.read", "fhir.patient.create", "fhir.export"),
        *("fhir.consent.create", "fhir.consent.read", "fhir.consent.search", "fhir.consent.update"),
        *("fhir.audit.read", "fhir.audit.search", "replays.list", "patient.erase"),
        *("session.begin", "session.challenge", "session.refresh", "session.end"),
        *("invitation.open", "invitation.accept", "account.create", "account.reset", "accounts.list"),
        *("restriction.put", "restriction.remove", "restriction.read", "privacy_policy.put", "privacy_policy.read"),
    }
    assert {one.value for one in UNGOVERNED} == free
    assert set(CATEGORIES) | UNGOVERNED == set(Operation)


PERIODS = st.sampled_from(
    [None, Period(1_767_225_600_000, 2**53, "2026-01-01"), Period(-(2**53), 1_767_312_000_000, None, "2026-01-01")]
)
PROVISIONS = st.builds(
    Provision,
    roles=st.lists(st.sampled_from(sorted(CARERS)), max_size=2, unique=True).map(tuple),
    principals=st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True).map(tuple),
    purposes=st.lists(st.sampled_from(CONSENTED_PURPOSES), max_size=3, unique=True).map(tuple),
    categories=st.lists(st.sampled_from(Category), max_size=5, unique=True).map(tuple),
    period=PERIODS,
)
AGREEMENTS = st.builds(
    Agreement,
    permits=st.booleans(),
    said=st.sampled_from(["2026-11-23", "2026-11-23T10:00:00Z", "2026"]),
    exceptions=st.lists(PROVISIONS, max_size=3).map(tuple),
    period=PERIODS,
)


@given(AGREEMENTS, st.booleans())
def test_what_is_shown_is_fhir_and_reads_as_what_was_said(agreement: Agreement, active: bool) -> None:
    document = shown(Consent("c", "p", 3, active, 0, agreement))
    FhirConsent.model_validate(document)
    assert taken(document) == ("p", active, agreement, "c")


GOOD: dict[str, Any] = shown(Consent("c", "p", 1, True, 0, but(YES, roles=(Role.SERVICE,), purposes=(Purpose.TREAT,))))
RULE = "Consent.provision.provision[0]"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"status": "draft"}, "Consent.status"),
        ({"scope": {"coding": [{"system": "x", "code": "research"}]}}, "Consent.scope"),
        ({"category": [{"coding": [{"system": "x", "code": "y"}]}]}, "Consent.category[0]"),
        ({"patient": {"reference": "Group/1"}}, "Consent.patient.reference"),
        ({"dateTime": "gt2026"}, "Consent.dateTime"),
        ({"dateTime": "2026-11-23T10:00:00"}, "Consent.dateTime"),
        ({"dateTime": "yesterday"}, "Consent.dateTime"),
        ({"policyRule": {"coding": [{"system": "x", "code": "OPTIN"}]}}, "Consent.policyRule"),
        ({"organization": []}, "Consent.organization"),
        ({"provision": {"type": "permit"}}, "Consent.provision.type"),
        ({"provision": {"period": {"start": "2027", "end": "2026"}}}, "Consent.provision.period"),
        ({"provision": {"provision": [{"type": "permit"}]}}, f"{RULE}.type"),
        ({"provision": {"provision": [{"type": "deny", "provision": []}]}}, f"{RULE}.provision"),
        (
            {"provision": {"provision": [{"type": "deny", "purpose": [{"system": "x", "code": "TREAT"}]}]}},
            f"{RULE}.purpose[0]",
        ),
        (
            {"provision": {"provision": [{"type": "deny", "class": [{"system": "x", "code": "y"}]}]}},
            f"{RULE}.class[0]",
        ),
    ],
)
def test_what_is_not_taken_is_refused_by_its_path(change: dict[str, Any], where: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        taken(GOOD | change)
    assert refused.value.location == where


@pytest.mark.parametrize(
    ("role", "who"),
    [
        ("AUT", {"system": "urn:einthoven:principal", "value": "x"}),
        ("IRCP", {"system": "urn:einthoven:role", "value": "admin"}),
        ("IRCP", {"system": "urn:other", "value": "x"}),
    ],
)
def test_an_actor_is_one_whom_a_consent_can_speak_of(role: str, who: dict[str, str]) -> None:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": role}
    actor = {"role": {"coding": [coding]}, "reference": {"identifier": who}}
    with pytest.raises(Unprocessable, match="actor"):
        taken(GOOD | {"provision": {"provision": [{"type": "deny", "actor": [actor]}]}})
