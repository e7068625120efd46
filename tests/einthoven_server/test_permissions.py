"""The table of decisions, written down a second time, and what each role sees."""

from __future__ import annotations

import pytest

from einthoven_server.identity.fields_seen import FIELDS_SEEN
from einthoven_server.identity.permissions import (
    GRANTABLE,
    Concern,
    Operation,
    Relation,
    Resource,
    Role,
    concern_of,
    decide,
    may_ever,
)

# Operation: who may do it, in which relations (s self, c care team, b break glass, t tenant, - nobody known).
EXPECTED = {
    "device.enrol": {Role.NOBODY: "-"},
    "token.issue": {Role.NOBODY: "-"},
    "session.begin": {Role.NOBODY: "-"},
    "session.challenge": {Role.NOBODY: "-"},
    "session.refresh": {Role.NOBODY: "-"},
    "session.end": {Role.NOBODY: "-"},
    "invitation.open": {Role.NOBODY: "-"},
    "invitation.accept": {Role.NOBODY: "-"},
    "account.create": {Role.ADMIN: "t"},
    "account.reset": {Role.ADMIN: "t"},
    "accounts.list": {Role.ADMIN: "t"},
    "patient.create": {Role.ADMIN: "t"},
    "patient.erase": {Role.ADMIN: "t"},
    "enrolment_code.create": {Role.ADMIN: "t"},
    "principal.create": {Role.ADMIN: "t"},
    "principal.keys": {Role.ADMIN: "t"},
    "principal.revoke": {Role.ADMIN: "t"},
    "signing_key.rotate": {Role.ADMIN: "t"},
    "audit_checkpoint.read": {Role.ADMIN: "t"},
    "audit_proof.read": {Role.ADMIN: "t"},
    "device.revoke": {Role.ADMIN: "t"},
    "care_team.assign": {Role.ADMIN: "t"},
    "care_team.remove": {Role.ADMIN: "t"},
    "care_team.list": {Role.ADMIN: "t", Role.CLINICIAN: "cb", Role.PATIENT: "s"},
    "break_glass.open": {Role.CLINICIAN: "cbt"},
    "break_glass.list": {Role.ADMIN: "t"},
    "patient_break_glass.list": {Role.ADMIN: "t", Role.CLINICIAN: "c", Role.PATIENT: "s"},
    "device.exchange": {Role.DEVICE: "s"},
    "device.repair": {Role.DEVICE: "s"},
    "device.wake": {Role.DEVICE: "s"},
    "signal.upload": {Role.DEVICE: "s"},
    "signal.read": {Role.CLINICIAN: "cb", Role.PATIENT: "s"},
    "results.list": {Role.CLINICIAN: "cb", Role.PATIENT: "s"},
    "result.annotate": {Role.CLINICIAN: "cb"},
    "notes.list": {Role.CLINICIAN: "cb", Role.PATIENT: "s"},
    "note.add": {Role.CLINICIAN: "cb"},
    "note.delete": {Role.CLINICIAN: "cb"},
    "document.put": {Role.ADMIN: "t"},
    "documents.list": {Role.ADMIN: "t", Role.CLINICIAN: "t"},
    "patient_document.put": {Role.ADMIN: "t"},
    "patient_documents.list": {Role.ADMIN: "t", Role.CLINICIAN: "cb", Role.PATIENT: "s"},
    "fhir.capability": {Role.NOBODY: "-"},
    "fhir.read": {Role.CLINICIAN: "cb", Role.PATIENT: "s", Role.DEVICE: "s", Role.SERVICE: "c"},
    "fhir.search": {Role.CLINICIAN: "cb", Role.PATIENT: "s", Role.DEVICE: "s", Role.SERVICE: "c"},
    "fhir.audit.read": {Role.ADMIN: "t", Role.PATIENT: "s"},
    "fhir.audit.search": {Role.ADMIN: "t", Role.PATIENT: "s"},
    "fhir.patient.read": {Role.ADMIN: "t", Role.CLINICIAN: "cb", Role.PATIENT: "s", Role.SERVICE: "c"},
    "fhir.patient.search": {Role.ADMIN: "t", Role.CLINICIAN: "cb", Role.PATIENT: "s", Role.SERVICE: "c"},
    "fhir.patient.create": {Role.ADMIN: "t", Role.SERVICE: "t"},
    "fhir.patient.update": {Role.ADMIN: "t", Role.SERVICE: "c"},
    "replays.list": {Role.ADMIN: "t"},
    "fhir.transaction": {Role.ADMIN: "t", Role.SERVICE: "c"},
    "fhir.export": {Role.SERVICE: "t"},
    "fhir.export.file": {Role.SERVICE: "c"},
    "fhir.consent.create": {Role.ADMIN: "t", Role.CLINICIAN: "c", Role.PATIENT: "s"},
    "fhir.consent.read": {Role.ADMIN: "t", Role.CLINICIAN: "cb", Role.PATIENT: "s", Role.SERVICE: "c"},
    "fhir.consent.search": {Role.ADMIN: "t", Role.CLINICIAN: "cb", Role.PATIENT: "s", Role.SERVICE: "c"},
    "fhir.consent.update": {Role.ADMIN: "t", Role.PATIENT: "s"},
    "restriction.put": {Role.ADMIN: "t"},
    "restriction.remove": {Role.ADMIN: "t"},
    "restriction.read": {Role.ADMIN: "t", Role.CLINICIAN: "cb", Role.PATIENT: "s"},
    "patient.export": {Role.CLINICIAN: "c", Role.PATIENT: "s"},
    "privacy_policy.put": {Role.ADMIN: "t"},
    "privacy_policy.read": {Role.ADMIN: "t"},
}
LETTERS = {
    Relation.SELF: "s",
    Relation.CARE_TEAM: "c",
    Relation.BREAK_GLASS: "b",
    Relation.TENANT: "t",
    Relation.NONE: "-",
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("operation", Operation)
def test_every_decision_is_as_written_down_here(role: Role, operation: Operation) -> None:
    expected = EXPECTED[operation.value].get(role, "")
    for relation, letter in LETTERS.items():
        assert decide(role, operation, relation).allowed == (letter in expected), relation
    assert may_ever(role, operation) == bool(expected)


def test_what_is_not_in_the_table_may_do_nothing_and_see_nothing() -> None:
    for operation in Operation:
        for relation in Relation:
            assert decide("owner", operation, relation) == (False, {})  # type: ignore[arg-type]
        assert decide(Role.ADMIN, operation, "friend") == (False, {})  # type: ignore[arg-type]
    assert not decide(Role.ADMIN, "results.delete", Relation.TENANT).allowed  # type: ignore[arg-type]
    assert frozenset({Role.ADMIN, Role.CLINICIAN, Role.PATIENT, Role.SERVICE}) == GRANTABLE


@pytest.mark.parametrize("operation", [one for one in Operation if concern_of(one) is not Concern.PATIENT])
def test_what_concerns_no_single_patient_needs_no_relation_to_one(operation: Operation) -> None:
    for role in Role:
        allowed = {relation for relation in Relation if decide(role, operation, relation).allowed}
        if concern_of(operation) is Concern.NO_PATIENT:
            assert allowed <= {Relation.TENANT, Relation.NONE}
        elif role is Role.ADMIN:
            assert allowed <= {Relation.TENANT}
        else:
            assert allowed <= {Relation.SELF, Relation.CARE_TEAM, Relation.BREAK_GLASS}


@pytest.mark.parametrize("role", Role)
def test_no_role_sees_more_than_the_fields_of_the_register(role: Role) -> None:
    clinician, admin = FIELDS_SEEN[Role.CLINICIAN], FIELDS_SEEN[Role.ADMIN]
    for resource, fields in FIELDS_SEEN.get(role, {}).items():
        assert fields <= clinician.get(resource, frozenset()) | admin.get(resource, frozenset())


def test_an_admin_sees_nothing_of_what_was_measured_or_said() -> None:
    measured = {
        Resource.RESULT,
        Resource.ANNOTATION,
        Resource.SUPERSEDED,
        Resource.NOTE,
        Resource.RISK_ASSESSMENT,
        Resource.OBSERVATION,
        Resource.REPORT,
        Resource.FHIR_PROVENANCE,
    }
    assert not measured & set(FIELDS_SEEN[Role.ADMIN])


def test_only_who_reviews_an_emergency_reads_its_words() -> None:
    assert [role for role, seen in FIELDS_SEEN.items() if "text" in seen.get(Resource.BREAK_GLASS, ())] == [Role.ADMIN]
