"""Entries of the audit log as FHIR R4 AuditEvents after IHE's Basic Audit Log Patterns (BALP 1.1). Pure.

It deliberately says less than the patterns have room for: no network address of a client (none is kept: the element
says that it is masked), and of a search not what was typed but for whom it was.

A pattern is claimed (``meta.profile``) for what succeeded, as BALP has it; a refusal has its outcome and code instead.

Invariants:
    1. An entry has one AuditEvent for each patient concerned, and one if there is none.
    2. Nothing is in it that is not in the entry, save the server's own name.
    3. An operation that is not known here maps all the same: by its last word, or as an ``operation``.
"""

from __future__ import annotations

import base64
import datetime as dt
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from einthoven_server.audit.chain import ALLOWED, NOBODY, Entry

_PROFILE: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_REST: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "Restful Operation",
}
_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_SOURCE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
_ABSENT: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_DEVICE: Final = "device"
PRINCIPAL_SYSTEM: Final = "urn:einthoven:principal"
DEVICE_SYSTEM: Final = "urn:einthoven:device"
OBJECT_SYSTEM: Final = "urn:einthoven:object:"
"""Before the kind of what is no FHIR resource."""
ROLE_SYSTEM: Final = "urn:einthoven:role"
OPERATION_SYSTEM: Final = "urn:einthoven:operation"

_SOURCE: Final = {"system": _DCM, "code": "110153", "display": "Source Role ID"}
_DESTINATION: Final = {"system": _DCM, "code": "110152", "display": "Destination Role ID"}
_APPLICATION: Final = {"system": _DCM, "code": "110150", "display": "Application"}
_CUSTODIAN: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "code": "custodian",
    "display": "Custodian",
}
_RECIPIENT: Final = {"system": _PARTICIPATION, "code": "IRCP", "display": "information recipient"}
_AUTHOR: Final = {"system": _PARTICIPATION, "code": "AUT", "display": "author (originator)"}


class _Pattern(NamedTuple):
    """How an interaction is told.

    Attributes:
        interaction: Code of FHIR's restful interactions.
        action: C, R, U, D or E.
        profile: BALP's pattern, ``""`` for none.
        client, server, user: Types of the agents.
    """

    interaction: str
    action: str
    profile: str
    client: dict[str, str] = _SOURCE
    server: dict[str, str] = _DESTINATION
    user: dict[str, str] = _AUTHOR


_READ: Final = _Pattern("read", "R", "Read", _DESTINATION, _SOURCE, _RECIPIENT)
_SEARCH: Final = _Pattern("search-type", "E", "Query", user=_RECIPIENT)
_CREATE: Final = _Pattern("create", "C", "Create")
_UPDATE: Final = _Pattern("update", "U", "Update")
_DELETE: Final = _Pattern("delete", "D", "Delete", _APPLICATION, _CUSTODIAN)
_OTHER: Final = _Pattern("operation", "E", "")
_PATTERNS: Final = MappingProxyType(
    {
        "read": _READ,
        "list": _SEARCH,
        "search": _SEARCH,
        "create": _CREATE,
        "add": _CREATE,
        "enrol": _CREATE,
        "upload": _CREATE,
        "assign": _CREATE,
        "put": _UPDATE,
        "annotate": _UPDATE,
        "update": _UPDATE,
        "revoke": _UPDATE,
        "delete": _DELETE,
        "remove": _DELETE,
        "erase": _DELETE,
        "capability": _Pattern("capabilities", "E", ""),
    }
)
_FAILED: Final = frozenset(
    {"internal", "busy", "database_unavailable", "audit_unavailable", "key_rotated", "key_service_unavailable"}
)
"""Refusals that are the server's fault: 'serious failure'; others are minor."""
_RESOURCES: Final = frozenset(
    {
        "Patient",
        "Device",
        "Observation",
        "DiagnosticReport",
        "RiskAssessment",
        "Provenance",
        "AuditEvent",
        "Consent",
        "Group",
        "Bundle",
    }
)


def audit_events(entry: Entry, server: str) -> list[dict[str, Any]]:
    """The AuditEvents of an entry: one for each patient concerned, at least one.

    Args:
        entry: The entry.
        server: The server's public name (host, without scheme).
    """
    patients = [*([entry.event.patient] if entry.event.patient else []), *entry.event.others]
    if not patients:
        return [_audit_event(entry, server, "", str(entry.seq))]
    ids = [str(entry.seq), *(f"{entry.seq}-{number}" for number in range(2, len(patients) + 1))]
    return [_audit_event(entry, server, patient, name) for patient, name in zip(patients, ids, strict=True)]


def _audit_event(entry: Entry, server: str, patient: str, name: str) -> dict[str, Any]:
    event = entry.event
    pattern = _PATTERNS.get(event.operation.rpartition(".")[2], _OTHER)
    allowed = event.outcome == ALLOWED
    resource: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": name,
        "type": _REST,
        "subtype": [{"system": _INTERACTION, "code": pattern.interaction}],
        "action": pattern.action,
        "recorded": _instant(event.at_ms),
        "outcome": "0" if allowed else "8" if event.outcome in _FAILED else "4",
        "agent": _agents(entry, pattern, server),
        "source": {
            "observer": {"display": server},
            "type": [{"system": _SOURCE_TYPE, "code": "4", "display": "Application Server"}],
        },
        "entity": _entities(entry, pattern, patient),
    }
    if allowed and pattern.profile:
        resource["meta"] = {"profile": [f"{_PROFILE}{'Patient' if patient else ''}{pattern.profile}"]}
    if pattern.interaction != "delete":  # BALP's Delete has room for one
        resource["subtype"].append({"system": OPERATION_SYSTEM, "code": event.operation})
    if not allowed:
        resource["outcomeDesc"] = event.outcome
    if event.purpose:
        resource["purposeOfEvent"] = [_purpose(event.purpose)]
    return resource


def _agents(entry: Entry, pattern: _Pattern, server: str) -> list[dict[str, Any]]:
    event = entry.event
    person = event.actor != NOBODY and event.role != _DEVICE
    client: dict[str, Any] = {
        "type": {"coding": [pattern.client]},
        "who": _who(entry),
        "requestor": not person,
        "network": {"extension": [{"url": _ABSENT, "valueCode": "masked"}]},
    }
    own = {
        "type": {"coding": [pattern.server]},
        "who": {"display": server},
        "requestor": False,
        "network": {"address": server, "type": "1"},
    }
    if not person:
        return [client, own]
    user: dict[str, Any] = {"type": {"coding": [pattern.user]}, "who": _who(entry), "requestor": True}
    if event.role:
        user["role"] = [{"coding": [{"system": ROLE_SYSTEM, "code": event.role}]}]
    if event.purpose:
        user["purposeOfUse"] = [_purpose(event.purpose)]
    return [client, own, user]


def _who(entry: Entry) -> dict[str, Any]:
    if entry.event.actor == NOBODY:
        return {"display": "nobody who is known"}
    system = DEVICE_SYSTEM if entry.event.role == _DEVICE else PRINCIPAL_SYSTEM
    return {"identifier": {"system": system, "value": entry.event.actor}}


def _entities(entry: Entry, pattern: _Pattern, patient: str) -> list[dict[str, Any]]:
    event = entry.event
    about: dict[str, Any] = {"type": {"system": _ENTITY, "code": "2", "display": "System Object"}}
    if pattern is _SEARCH:
        about["role"] = {"system": _ROLE, "code": "24", "display": "Query"}
        asked = f"{event.resource or event.operation}" + (f"?patient={patient}" if patient else "")
        about["query"] = base64.b64encode(asked.encode()).decode("ascii")
    else:
        about["role"] = {"system": _ROLE, "code": "4", "display": "Domain Resource"}
        about["what"] = _what(entry, patient)
    if not patient:
        return [about]
    person = {
        "type": {"system": _ENTITY, "code": "1", "display": "Person"},
        "role": {"system": _ROLE, "code": "1", "display": "Patient"},
        "what": {"reference": f"Patient/{patient}"},
    }
    return [person, about]


def _what(entry: Entry, patient: str) -> dict[str, Any]:
    event = entry.event
    if event.resource_id and event.resource in _RESOURCES:
        return {"reference": f"{event.resource}/{event.resource_id}"}
    if event.resource_id:
        return {"identifier": {"system": OBJECT_SYSTEM + event.resource, "value": event.resource_id}}
    if patient:
        return {"reference": f"Patient/{patient}"}
    return {"display": event.resource or event.operation}


def _purpose(code: str) -> dict[str, Any]:
    return {"coding": [{"system": _REASON, "code": code}]}


def _instant(at_ms: int) -> str:
    at = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
