"""The one table of who may do what, to whom, and what of it they see. Pure.

A decision is made of three things: the caller's role, the operation, and how the caller stands to the patient that the
operation concerns (the relation). What an answer may show of each resource is in ``fields_seen``.

Invariants:
    1. What is not in the table is refused; a field that is not in a role's register is not shown.
    2. Nothing else decides by role or relation.
    3. Each operation says what it concerns; one that concerns a patient is never decided without a relation to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from einthoven_server.identity.fields_seen import FIELDS_SEEN, Resource
from einthoven_server.identity.roles import CARERS, GRANTABLE, Relation, Role

__all__ = ["CARERS", "GRANTABLE", "Concern", "Decision", "Operation", "Relation", "Resource", "Role", "decide"]


class Operation(StrEnum):
    """What can be asked; a value is what the audit log keeps."""

    ENROL = "device.enrol"
    CREATE_PATIENT = "patient.create"
    ERASE_PATIENT = "patient.erase"
    CREATE_ENROLMENT_CODE = "enrolment_code.create"
    ISSUE_TOKEN = "token.issue"  # noqa: S105  # an operation's name
    LOG_IN = "session.begin"
    ASK_PASSKEY = "session.challenge"
    REFRESH_SESSION = "session.refresh"
    END_SESSION = "session.end"
    OPEN_INVITATION = "invitation.open"
    ACCEPT_INVITATION = "invitation.accept"
    CREATE_ACCOUNT = "account.create"
    RESET_ACCOUNT = "account.reset"
    LIST_ACCOUNTS = "accounts.list"
    CREATE_PRINCIPAL = "principal.create"
    REPLACE_KEYS = "principal.keys"
    REVOKE_PRINCIPAL = "principal.revoke"
    ROTATE_SIGNING_KEY = "signing_key.rotate"
    REVOKE_DEVICE = "device.revoke"
    ASSIGN_CARE = "care_team.assign"
    REMOVE_CARE = "care_team.remove"
    LIST_CARE_TEAM = "care_team.list"
    BREAK_GLASS = "break_glass.open"
    LIST_BREAK_GLASS = "break_glass.list"
    LIST_PATIENT_BREAK_GLASS = "patient_break_glass.list"
    EXCHANGE = "device.exchange"
    REPAIR = "device.repair"
    WAKE = "device.wake"
    UPLOAD_SIGNAL = "signal.upload"
    READ_SIGNAL = "signal.read"
    LIST_RESULTS = "results.list"
    ANNOTATE_RESULT = "result.annotate"
    LIST_NOTES = "notes.list"
    ADD_NOTE = "note.add"
    DELETE_NOTE = "note.delete"
    PUT_DOCUMENT = "document.put"
    LIST_DOCUMENTS = "documents.list"
    PUT_PATIENT_DOCUMENT = "patient_document.put"
    LIST_PATIENT_DOCUMENTS = "patient_documents.list"
    READ_CAPABILITY = "fhir.capability"
    READ_RESOURCE = "fhir.read"
    SEARCH_RESOURCES = "fhir.search"
    READ_AUDIT_CHECKPOINT = "audit_checkpoint.read"
    READ_AUDIT_PROOF = "audit_proof.read"
    READ_AUDIT_EVENT = "fhir.audit.read"
    SEARCH_AUDIT_EVENTS = "fhir.audit.search"
    READ_PATIENT = "fhir.patient.read"
    SEARCH_PATIENTS = "fhir.patient.search"
    BRING_PATIENT = "fhir.patient.create"
    CHANGE_PATIENT = "fhir.patient.update"
    TRANSACT = "fhir.transaction"
    EXPORT = "fhir.export"
    FETCH_EXPORT = "fhir.export.file"
    LIST_REPLAYS = "replays.list"
    CREATE_CONSENT = "fhir.consent.create"
    READ_CONSENT = "fhir.consent.read"
    SEARCH_CONSENTS = "fhir.consent.search"
    WITHDRAW_CONSENT = "fhir.consent.update"
    RESTRICT = "restriction.put"
    LIFT_RESTRICTION = "restriction.remove"
    READ_RESTRICTION = "restriction.read"
    EXPORT_PATIENT = "patient.export"
    PUT_PRIVACY_POLICY = "privacy_policy.put"
    READ_PRIVACY_POLICY = "privacy_policy.read"


class Concern(StrEnum):
    """Whom an operation is about."""

    NO_PATIENT = "no patient"
    PATIENT = "one patient, whom the guard finds before the handler runs"
    PATIENTS = "any number of patients, whom the handler asks the guard's access about, one by one or all"


_OTHER_CONCERN: Final = MappingProxyType(
    {
        Operation.ENROL: Concern.NO_PATIENT,
        Operation.ISSUE_TOKEN: Concern.NO_PATIENT,
        Operation.LOG_IN: Concern.NO_PATIENT,
        Operation.ASK_PASSKEY: Concern.NO_PATIENT,
        Operation.REFRESH_SESSION: Concern.NO_PATIENT,
        Operation.END_SESSION: Concern.NO_PATIENT,
        Operation.OPEN_INVITATION: Concern.NO_PATIENT,
        Operation.ACCEPT_INVITATION: Concern.NO_PATIENT,
        Operation.CREATE_ACCOUNT: Concern.NO_PATIENT,
        Operation.RESET_ACCOUNT: Concern.NO_PATIENT,
        Operation.LIST_ACCOUNTS: Concern.NO_PATIENT,
        Operation.CREATE_PATIENT: Concern.NO_PATIENT,
        Operation.CREATE_PRINCIPAL: Concern.NO_PATIENT,
        Operation.REPLACE_KEYS: Concern.NO_PATIENT,
        Operation.REVOKE_PRINCIPAL: Concern.NO_PATIENT,
        Operation.ROTATE_SIGNING_KEY: Concern.NO_PATIENT,
        Operation.READ_AUDIT_CHECKPOINT: Concern.NO_PATIENT,
        Operation.READ_AUDIT_PROOF: Concern.NO_PATIENT,
        Operation.LIST_BREAK_GLASS: Concern.NO_PATIENT,
        Operation.PUT_DOCUMENT: Concern.NO_PATIENT,
        Operation.LIST_DOCUMENTS: Concern.NO_PATIENT,
        Operation.READ_CAPABILITY: Concern.NO_PATIENT,
        Operation.SEARCH_RESOURCES: Concern.PATIENTS,
        # An entry may concern nobody, which is for admins; the handler asks about whom it does.
        Operation.READ_AUDIT_EVENT: Concern.PATIENTS,
        Operation.SEARCH_AUDIT_EVENTS: Concern.PATIENTS,
        Operation.SEARCH_PATIENTS: Concern.PATIENTS,
        Operation.BRING_PATIENT: Concern.NO_PATIENT,
        # Whom it makes is nobody's patient yet; the handler asks about those whom it changes.
        Operation.TRANSACT: Concern.PATIENTS,
        Operation.EXPORT: Concern.NO_PATIENT,
        Operation.LIST_REPLAYS: Concern.NO_PATIENT,
        Operation.FETCH_EXPORT: Concern.PATIENTS,
        Operation.SEARCH_CONSENTS: Concern.PATIENTS,
        Operation.PUT_PRIVACY_POLICY: Concern.NO_PATIENT,
        Operation.READ_PRIVACY_POLICY: Concern.NO_PATIENT,
    }
)

_NONE: Final = frozenset({Relation.NONE})
_SELF: Final = frozenset({Relation.SELF})
_TENANT: Final = frozenset({Relation.TENANT})
_TEAM: Final = frozenset({Relation.CARE_TEAM})
_TREATING: Final = frozenset({Relation.CARE_TEAM, Relation.BREAK_GLASS})

# An admin runs the system and reads no patient's results; a clinician reads those of whom they treat and runs nothing.
_ALLOWED: Final[Mapping[Role, Mapping[Operation, frozenset[Relation]]]] = MappingProxyType(
    {
        Role.NOBODY: {
            Operation.ENROL: _NONE,
            Operation.ISSUE_TOKEN: _NONE,
            Operation.LOG_IN: _NONE,
            Operation.ASK_PASSKEY: _NONE,
            Operation.REFRESH_SESSION: _NONE,
            Operation.END_SESSION: _NONE,
            Operation.OPEN_INVITATION: _NONE,
            Operation.ACCEPT_INVITATION: _NONE,
            Operation.READ_CAPABILITY: _NONE,
        },
        Role.ADMIN: {
            Operation.CREATE_PATIENT: _TENANT,
            Operation.ERASE_PATIENT: _TENANT,
            Operation.CREATE_ENROLMENT_CODE: _TENANT,
            Operation.CREATE_ACCOUNT: _TENANT,
            Operation.RESET_ACCOUNT: _TENANT,
            Operation.LIST_ACCOUNTS: _TENANT,
            Operation.CREATE_PRINCIPAL: _TENANT,
            Operation.REPLACE_KEYS: _TENANT,
            Operation.REVOKE_PRINCIPAL: _TENANT,
            Operation.ROTATE_SIGNING_KEY: _TENANT,
            Operation.READ_AUDIT_CHECKPOINT: _TENANT,
            Operation.READ_AUDIT_PROOF: _TENANT,
            Operation.REVOKE_DEVICE: _TENANT,
            Operation.ASSIGN_CARE: _TENANT,
            Operation.REMOVE_CARE: _TENANT,
            Operation.LIST_CARE_TEAM: _TENANT,
            Operation.LIST_BREAK_GLASS: _TENANT,
            Operation.LIST_PATIENT_BREAK_GLASS: _TENANT,
            Operation.PUT_DOCUMENT: _TENANT,
            Operation.LIST_DOCUMENTS: _TENANT,
            Operation.PUT_PATIENT_DOCUMENT: _TENANT,
            Operation.LIST_PATIENT_DOCUMENTS: _TENANT,
            Operation.READ_AUDIT_EVENT: _TENANT,
            Operation.SEARCH_AUDIT_EVENTS: _TENANT,
            Operation.READ_PATIENT: _TENANT,
            Operation.SEARCH_PATIENTS: _TENANT,
            Operation.BRING_PATIENT: _TENANT,
            Operation.CHANGE_PATIENT: _TENANT,
            Operation.TRANSACT: _TENANT,
            Operation.LIST_REPLAYS: _TENANT,
            # Who has no account of their own says it to the clinic, which writes it down.
            Operation.CREATE_CONSENT: _TENANT,
            Operation.READ_CONSENT: _TENANT,
            Operation.SEARCH_CONSENTS: _TENANT,
            Operation.WITHDRAW_CONSENT: _TENANT,
            Operation.RESTRICT: _TENANT,
            Operation.LIFT_RESTRICTION: _TENANT,
            Operation.READ_RESTRICTION: _TENANT,
            Operation.PUT_PRIVACY_POLICY: _TENANT,
            Operation.READ_PRIVACY_POLICY: _TENANT,
        },
        Role.CLINICIAN: {
            Operation.LIST_RESULTS: _TREATING,
            Operation.ANNOTATE_RESULT: _TREATING,
            Operation.READ_SIGNAL: _TREATING,
            Operation.LIST_NOTES: _TREATING,
            Operation.ADD_NOTE: _TREATING,
            Operation.DELETE_NOTE: _TREATING,
            Operation.LIST_CARE_TEAM: _TREATING,
            # Whoever is not in the care team may ask for an hour; who has one may ask for another.
            Operation.BREAK_GLASS: _TENANT | _TREATING,
            Operation.LIST_PATIENT_BREAK_GLASS: _TEAM,
            Operation.LIST_DOCUMENTS: _TENANT,
            Operation.LIST_PATIENT_DOCUMENTS: _TREATING,
            Operation.READ_RESOURCE: _TREATING,
            Operation.SEARCH_RESOURCES: _TREATING,
            Operation.READ_PATIENT: _TREATING,
            Operation.SEARCH_PATIENTS: _TREATING,
            # Whoever a consent keeps out must not take it back: that is for the patient and for administrators.
            Operation.CREATE_CONSENT: _TEAM,
            Operation.EXPORT_PATIENT: _TEAM,
            Operation.READ_CONSENT: _TREATING,
            Operation.SEARCH_CONSENTS: _TREATING,
            Operation.READ_RESTRICTION: _TREATING,
        },
        Role.PATIENT: {
            Operation.LIST_RESULTS: _SELF,
            Operation.READ_SIGNAL: _SELF,
            Operation.LIST_NOTES: _SELF,
            Operation.LIST_CARE_TEAM: _SELF,
            Operation.LIST_PATIENT_BREAK_GLASS: _SELF,
            Operation.LIST_PATIENT_DOCUMENTS: _SELF,
            Operation.READ_RESOURCE: _SELF,
            Operation.SEARCH_RESOURCES: _SELF,
            Operation.READ_AUDIT_EVENT: _SELF,
            Operation.SEARCH_AUDIT_EVENTS: _SELF,
            Operation.READ_PATIENT: _SELF,
            Operation.SEARCH_PATIENTS: _SELF,
            Operation.CREATE_CONSENT: _SELF,
            Operation.EXPORT_PATIENT: _SELF,
            Operation.READ_CONSENT: _SELF,
            Operation.SEARCH_CONSENTS: _SELF,
            Operation.WITHDRAW_CONSENT: _SELF,
            Operation.READ_RESTRICTION: _SELF,
        },
        Role.DEVICE: {
            Operation.EXCHANGE: _SELF,
            Operation.REPAIR: _SELF,
            Operation.WAKE: _SELF,
            Operation.UPLOAD_SIGNAL: _SELF,
            Operation.READ_RESOURCE: _SELF,
            Operation.SEARCH_RESOURCES: _SELF,
        },
        # A service reads the patients that an administrator gave it, like a clinician, and nobody in an emergency. It
        # may bring patients; that alone does not give it one.
        Role.SERVICE: {
            Operation.READ_RESOURCE: _TEAM,
            Operation.SEARCH_RESOURCES: _TEAM,
            Operation.READ_PATIENT: _TEAM,
            Operation.SEARCH_PATIENTS: _TEAM,
            Operation.BRING_PATIENT: _TENANT,
            Operation.CHANGE_PATIENT: _TEAM,
            Operation.TRANSACT: _TEAM,
            Operation.EXPORT: _TENANT,
            Operation.FETCH_EXPORT: _TEAM,
            Operation.READ_CONSENT: _TEAM,
            Operation.SEARCH_CONSENTS: _TEAM,
        },
    }
)


class Decision(NamedTuple):
    """What the table says.

    Attributes:
        allowed: Whether it may be done.
        fields: What may be shown of each resource; empty unless allowed.
    """

    allowed: bool
    fields: Mapping[Resource, frozenset[str]]


_NOTHING: Final[Mapping[Resource, frozenset[str]]] = MappingProxyType({})
_REFUSED: Final = Decision(False, _NOTHING)


def decide(role: Role, operation: Operation, relation: Relation) -> Decision:
    """Whether a role in a relation may do an operation, and what of it is shown."""
    if relation not in _ALLOWED.get(role, {}).get(operation, frozenset()):
        return _REFUSED
    return Decision(True, FIELDS_SEEN.get(role, _NOTHING))


def may_ever(role: Role, operation: Operation) -> bool:
    """Whether there is a relation in which a role may do an operation."""
    return bool(_ALLOWED.get(role, {}).get(operation))


def concern_of(operation: Operation) -> Concern:
    """Whom an operation is about: one patient, unless the table says otherwise."""
    return _OTHER_CONCERN.get(operation, Concern.PATIENT)
