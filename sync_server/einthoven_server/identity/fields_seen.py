"""The register of fields: what each role may be shown of each resource (data minimisation, GDPR article 5(1)(c)). Pure.

It deliberately lists fields one by one, so that a field which is added to an answer is shown to nobody until it is
added here. FHIR resources are listed by their top-level elements.

Invariants:
    1. A role that has no entry for a resource sees nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from einthoven_server.identity.roles import Role


class Resource(StrEnum):
    """What answers are made of; those of FHIR by their type's name."""

    RESULT = "result"
    ANNOTATION = "annotation"
    SUPERSEDED = "superseded"
    NOTE = "note"
    DOCUMENT = "document"
    CARE_TEAM_MEMBER = "care_team_member"
    BREAK_GLASS = "break_glass"
    REPLAY = "replay"
    ACCOUNT = "account"
    RISK_ASSESSMENT = "RiskAssessment"
    OBSERVATION = "Observation"
    REPORT = "DiagnosticReport"
    FHIR_PROVENANCE = "Provenance"
    DEVICE = "Device"
    PATIENT = "Patient"
    AUDIT_EVENT = "AuditEvent"
    CONSENT = "Consent"
    RESTRICTION = "restriction"
    PRIVACY_POLICY = "privacy_policy"


_PROVENANCE: Final = frozenset({"logits", "model_digest", "front_end_version", "n_steps"})
"""How a result was computed: for who judges it, not for who is told it."""
_RESULT: Final = _PROVENANCE | {
    "id",
    "device_alias",
    "epoch",
    "counter",
    "started_at_ms",
    "duration_ms",
    "usable_s",
    "quality",
    "rhythm",
    "confidence_permille",
    "tier",
    "reason",
    "risk_assessment_id",
    "observation_id",
    "annotations",
    "superseded",
}
_ANNOTATION: Final = frozenset({"target", "author", "rhythm", "comment"})
_SUPERSEDED: Final = frozenset({"author", "field", "value", "written_at_ms", "concurrent"})
_NOTE: Final = frozenset({"id", "device_alias", "author", "at_ms", "text"})
_DOCUMENT: Final = frozenset({"name", "version", "issued_at_ms", "body", "signature"})
_MEMBER: Final = frozenset({"principal_id", "role", "since_ms"})
_BREAK_GLASS: Final = frozenset(
    {"access_id", "patient_id", "principal_id", "reason", "text", "opened_at_ms", "expires_at_ms"}
)
_REPLAY: Final = frozenset({"result_id", "patient_id", "outcome", "differing", "model_digest", "replayed_at_ms"})
"""Names of fields that differ, none of their values: what it takes to find a device that computes something else."""
_ACCOUNT: Final = frozenset(
    {
        "account_id",
        "name",
        "role",
        "patient_id",
        "created_at_ms",
        "revoked",
        "ready",
        "invited_until_ms",
        "recovery_codes",
        "passkeys",
    }
)
_FHIR: Final = frozenset({"resourceType", "id", "meta", "identifier", "status", "code", "subject", "note", "method"})
_RISK: Final = _FHIR | {"occurrencePeriod", "performer", "basis", "prediction"}
_OBSERVATION: Final = _FHIR | {
    "category",
    "effectivePeriod",
    "device",
    "component",
    "valueCodeableConcept",
    "dataAbsentReason",
    "interpretation",
}
_REPORT: Final = (_FHIR - {"note", "method"}) | {
    "category",
    "effectivePeriod",
    "performer",
    "result",
    "conclusion",
    "conclusionCode",
}
_FHIR_PROVENANCE: Final = frozenset({"resourceType", "id", "target", "occurredPeriod", "recorded", "agent"})
_HOW: Final = frozenset({"activity", "entity"})
"""Of a FHIR Provenance, the same as ``_PROVENANCE`` of a result."""
_DEVICE: Final = frozenset({"resourceType", "id", "identifier", "status", "type", "patient"})
_PATIENT: Final = frozenset({"resourceType", "id", "meta", "identifier", "name", "telecom", "gender", "birthDate"})
_AUDIT_EVENT: Final = frozenset(
    {
        "resourceType",
        "id",
        "meta",
        "type",
        "subtype",
        "action",
        "recorded",
        "outcome",
        "outcomeDesc",
        "purposeOfEvent",
        "agent",
        "source",
        "entity",
    }
)
_CONSENT: Final = frozenset(
    {"resourceType", "id", "meta", "status", "scope", "category", "patient", "dateTime", "policyRule", "provision"}
)
_RESTRICTION: Final = frozenset({"restricted", "since_ms", "ground", "purposes"})
_POLICY: Final = frozenset({"version", "updated_at_ms", "permitted_without_consent", "emergency_overrides_consent"})

FIELDS_SEEN: Final[Mapping[Role, Mapping[Resource, frozenset[str]]]] = MappingProxyType(
    {
        Role.ADMIN: {
            Resource.DOCUMENT: _DOCUMENT,
            Resource.CARE_TEAM_MEMBER: _MEMBER,
            # Reviewing an emergency access takes its reason in words.
            Resource.BREAK_GLASS: _BREAK_GLASS,
            Resource.REPLAY: _REPLAY,
            Resource.ACCOUNT: _ACCOUNT,
            Resource.PATIENT: _PATIENT,
            Resource.AUDIT_EVENT: _AUDIT_EVENT,
            Resource.CONSENT: _CONSENT,
            Resource.RESTRICTION: _RESTRICTION,
            Resource.PRIVACY_POLICY: _POLICY,
        },
        Role.CLINICIAN: {
            Resource.RESULT: _RESULT,
            Resource.ANNOTATION: _ANNOTATION,
            Resource.SUPERSEDED: _SUPERSEDED,
            Resource.NOTE: _NOTE,
            Resource.DOCUMENT: _DOCUMENT,
            Resource.CARE_TEAM_MEMBER: _MEMBER,
            Resource.BREAK_GLASS: _BREAK_GLASS - {"text"},
            Resource.RISK_ASSESSMENT: _RISK,
            Resource.OBSERVATION: _OBSERVATION,
            Resource.REPORT: _REPORT,
            Resource.FHIR_PROVENANCE: _FHIR_PROVENANCE | _HOW,
            Resource.DEVICE: _DEVICE,
            Resource.PATIENT: _PATIENT,
            Resource.CONSENT: _CONSENT,
            Resource.RESTRICTION: _RESTRICTION,
        },
        Role.PATIENT: {
            Resource.RESULT: _RESULT - _PROVENANCE - {"superseded"},
            Resource.ANNOTATION: _ANNOTATION,
            Resource.NOTE: _NOTE,
            Resource.DOCUMENT: _DOCUMENT - {"signature"},
            Resource.CARE_TEAM_MEMBER: _MEMBER,
            Resource.BREAK_GLASS: _BREAK_GLASS - {"text"},
            Resource.RISK_ASSESSMENT: _RISK - {"method"},
            Resource.OBSERVATION: _OBSERVATION - {"method"},
            Resource.REPORT: _REPORT,
            Resource.FHIR_PROVENANCE: _FHIR_PROVENANCE,
            Resource.DEVICE: _DEVICE,
            Resource.PATIENT: _PATIENT,
            Resource.AUDIT_EVENT: _AUDIT_EVENT,
            Resource.CONSENT: _CONSENT,
            Resource.RESTRICTION: _RESTRICTION,
        },
        Role.DEVICE: {
            Resource.RISK_ASSESSMENT: _RISK,
            Resource.OBSERVATION: _OBSERVATION,
            Resource.REPORT: _REPORT,
            Resource.FHIR_PROVENANCE: _FHIR_PROVENANCE | _HOW,
            Resource.DEVICE: _DEVICE,
        },
        # What somebody said in free text stays with those who treat, and with the patient.
        Role.SERVICE: {
            Resource.RISK_ASSESSMENT: _RISK - {"note"},
            Resource.OBSERVATION: _OBSERVATION - {"note"},
            Resource.REPORT: _REPORT,
            Resource.FHIR_PROVENANCE: _FHIR_PROVENANCE | _HOW,
            Resource.DEVICE: _DEVICE,
            Resource.PATIENT: _PATIENT,
            Resource.CONSENT: _CONSENT,
        },
    }
)
