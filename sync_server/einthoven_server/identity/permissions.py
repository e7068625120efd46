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
    DEVICE = "device"
    SERVICE = "service"
    NOBODY = "nobody"


GRANTABLE: Final = frozenset({Role.ADMIN, Role.CLINICIAN, Role.SERVICE})
"""Roles that a principal with a token may have; a device gets its own by enrolment."""


class Operation(StrEnum):
    """What can be asked; a value is what the audit log keeps."""

    ENROL = "device.enrol"
    CREATE_PATIENT = "patient.create"
    CREATE_ENROLMENT_CODE = "enrolment_code.create"
    CREATE_PRINCIPAL = "principal.create"
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
    READ_PATIENT = "fhir.patient.read"
    SEARCH_PATIENTS = "fhir.patient.search"
    WRITE_PATIENT = "fhir.patient.write"
    TRANSACT = "fhir.transaction"
    EXPORT = "fhir.export"


_ALLOWED: Final = MappingProxyType(
    {
        Role.NOBODY: frozenset({Operation.ENROL, Operation.READ_CAPABILITY}),
        Role.DEVICE: frozenset({Operation.EXCHANGE, Operation.REPAIR, Operation.WAKE, Operation.UPLOAD_SIGNAL}),
        Role.ADMIN: frozenset(
            {
                Operation.CREATE_PATIENT,
                Operation.CREATE_ENROLMENT_CODE,
                Operation.CREATE_PRINCIPAL,
                Operation.REVOKE_DEVICE,
                Operation.PUT_DOCUMENT,
                Operation.LIST_DOCUMENTS,
                Operation.READ_CAPABILITY,
                Operation.READ_PATIENT,
                Operation.SEARCH_PATIENTS,
                Operation.WRITE_PATIENT,
                Operation.TRANSACT,
            }
        ),
        # What another system of the clinic reads, and whom it brings.
        Role.SERVICE: frozenset(
            {
                Operation.READ_CAPABILITY,
                Operation.READ_RESOURCE,
                Operation.SEARCH_RESOURCES,
                Operation.READ_PATIENT,
                Operation.SEARCH_PATIENTS,
                Operation.WRITE_PATIENT,
                Operation.TRANSACT,
                Operation.EXPORT,
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
                Operation.READ_PATIENT,
                Operation.SEARCH_PATIENTS,
            }
        ),
    }
)


def allowed(role: Role, operation: Operation) -> bool:
    """Whether a role may do an operation."""
    return operation in _ALLOWED.get(role, frozenset())
