"""The one table of who may do what. Pure.

Invariants:
    1. What is not in the table is refused.
    2. Nothing else decides by role.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Role(StrEnum):
    """What kind of caller; a value is what the database keeps."""

    ADMIN = "admin"
    CLINICIAN = "clinician"
    PATIENT = "patient"
    DEVICE = "device"
    SERVICE = "service"
    NOBODY = "nobody"


GRANTABLE: Final = frozenset({Role.ADMIN, Role.CLINICIAN, Role.PATIENT, Role.SERVICE})
"""Roles that a principal may have; a device gets its own by enrolment."""


class Operation(StrEnum):
    """What can be asked; a value is what the audit log keeps."""

    ENROL = "device.enrol"
    CREATE_PATIENT = "patient.create"
    CREATE_ENROLMENT_CODE = "enrolment_code.create"
    ISSUE_TOKEN = "token.issue"  # noqa: S105  # an operation's name
    CREATE_PRINCIPAL = "principal.create"
    REPLACE_KEYS = "principal.keys"
    REVOKE_PRINCIPAL = "principal.revoke"
    ROTATE_SIGNING_KEY = "signing_key.rotate"
    REVOKE_DEVICE = "device.revoke"
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
    READ_CAPABILITY = "fhir.capability"
    READ_RESOURCE = "fhir.read"
    SEARCH_RESOURCES = "fhir.search"
    READ_AUDIT_CHECKPOINT = "audit_checkpoint.read"
    READ_AUDIT_PROOF = "audit_proof.read"


_ALLOWED: Final = MappingProxyType(
    {
        Role.NOBODY: frozenset({Operation.ENROL, Operation.ISSUE_TOKEN}),
        Role.DEVICE: frozenset(
            {
                Operation.EXCHANGE,
                Operation.REPAIR,
                Operation.WAKE,
                Operation.UPLOAD_SIGNAL,
                Operation.READ_CAPABILITY,
            }
        ),
        Role.PATIENT: frozenset({Operation.READ_CAPABILITY}),
        Role.SERVICE: frozenset({Operation.READ_CAPABILITY}),
        Role.ADMIN: frozenset(
            {
                Operation.CREATE_PATIENT,
                Operation.CREATE_ENROLMENT_CODE,
                Operation.CREATE_PRINCIPAL,
                Operation.REPLACE_KEYS,
                Operation.REVOKE_PRINCIPAL,
                Operation.ROTATE_SIGNING_KEY,
                Operation.REVOKE_DEVICE,
                Operation.PUT_DOCUMENT,
                Operation.LIST_DOCUMENTS,
                Operation.READ_CAPABILITY,
                Operation.READ_AUDIT_CHECKPOINT,
                Operation.READ_AUDIT_PROOF,
            }
        ),
        # An admin runs the system and reads no patient's results; a clinician reads them and runs nothing.
        Role.CLINICIAN: frozenset(
            {
                Operation.LIST_RESULTS,
                Operation.ANNOTATE_RESULT,
                Operation.READ_SIGNAL,
                Operation.LIST_NOTES,
                Operation.ADD_NOTE,
                Operation.DELETE_NOTE,
                Operation.LIST_DOCUMENTS,
                Operation.READ_CAPABILITY,
                Operation.READ_RESOURCE,
                Operation.SEARCH_RESOURCES,
            }
        ),
    }
)


def allowed(role: Role, operation: Operation) -> bool:
    """Whether a role may do an operation."""
    return operation in _ALLOWED.get(role, frozenset())
