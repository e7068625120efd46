"""A result of this device as FHIR R4 resources, in the shapes and codes of the sync server's (http://hl7.org/fhir/R4).

What a patient exports from the device and what a clinic reads from the server say the same of the same row; a test
holds the two mappings together. Pure; it deliberately knows no store and no file.

Codes are given only where they are certain; what has none is text. The RiskAssessment has no ``prediction.outcome`` and
no ``probability``: the tier says how soon to look, and the one probability there is (of the rhythm class) stands at the
Observation, with its meaning.

Invariants:
    1. An inconclusive result has no value: the Observation says why (``dataAbsentReason``), both are ``preliminary``.
    2. Ids are computed (``einthoven_protocol.resource_ids``): the same row has the same ids here and on the server.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from einthoven_protocol import resource_ids
from einthoven_protocol.messages import AnnotationRow, ResultId, ResultRow

RESULT_SYSTEM: Final = "urn:einthoven:result"
DEVICE_SYSTEM: Final = "urn:einthoven:device-alias"
OBSERVATION: Final = "Observation"
RISK: Final = "RiskAssessment"
_LOINC: Final = "http://loinc.org"
_SNOMED: Final = "http://snomed.info/sct"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_UCUM: Final = "http://unitsofmeasure.org"
_LAST_MS: Final = 253_402_300_799_999
"""End of the year 9999, where calendars of this form end."""

_HEART_RHYTHM: Final = {
    "coding": [{"system": _LOINC, "code": "8884-9", "display": "Heart rhythm"}],
    "text": "Rhythm class of a single-lead ECG",
}


class _Rhythm(NamedTuple):
    """A rhythm class in words, with its SNOMED CT code where there is a certain one."""

    text: str
    snomed: str | None


_RHYTHMS: Final = {
    0: _Rhythm("Normal rhythm", "64730000"),
    1: _Rhythm("Atrial fibrillation on ECG", "164889003"),
    2: _Rhythm("Other rhythm", None),
    3: _Rhythm("Too noisy to classify", None),
}
_TIERS: Final = {1: "Routine review", 2: "Elevated: review soon", 3: "Urgent: review now"}
_REASONS: Final = {
    1: "The signal is too poor",
    2: "The recording is too short",
    3: "The classification is not certain enough",
    4: "The signal is unlike what the model was made for",
    5: "The heart rate is outside the supported range",
}
_QUALITIES: Final = {1: "gaps", 2: "flat signal", 4: "clipped signal"}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose results these are, as the server calls them; opaque.

    Attributes:
        tenant: The server's tenant; empty for a device that was never enrolled.
        patient_id: The patient.
        device_id: The device.
        device_alias: The device's number, part of every result's identity; 0 if it was never enrolled.
    """

    tenant: str
    patient_id: str
    device_id: str
    device_alias: int


@dataclass(frozen=True, slots=True)
class DescribedResult:
    """A result with what belongs to it.

    Attributes:
        owner: Whose it is.
        result: Its identity.
        row: What the device said.
        annotations: What people said of it, by author.
    """

    owner: Owner
    result: ResultId
    row: ResultRow
    annotations: tuple[AnnotationRow, ...]


def resource_id(tenant: str, result: ResultId, kind: str) -> str:
    """The FHIR id of a result's resource, as the server derives it."""
    return str(resource_ids.resource_id(tenant, result, kind))


def result_text(result: ResultId) -> str:
    """``alias-epoch-counter``."""
    return f"{result.device_alias}-{result.epoch}-{result.counter}"


def observation(described: DescribedResult) -> dict[str, Any]:
    """The rhythm of one window as an Observation."""
    row = described.row
    resource: dict[str, Any] = {
        "resourceType": OBSERVATION,
        "id": resource_id(described.owner.tenant, described.result, OBSERVATION),
        "identifier": [_identifier(described)],
        "status": _status(row),
        "category": [{"coding": [{"system": _CATEGORY, "code": "procedure", "display": "Procedure"}]}],
        "code": _HEART_RHYTHM,
        "subject": _subject(described),
        "effectivePeriod": period(row.started_at_ms, row.started_at_ms + row.duration_ms),
        "device": _device(described),
        "method": {"text": _method(row)},
        "component": _components(row),
    }
    if row.reason:
        resource["dataAbsentReason"] = {
            "coding": [{"system": _ABSENT, "code": "unknown", "display": "Unknown"}],
            "text": _reason(row),
        }
    else:
        resource["valueCodeableConcept"] = _rhythm(row)
    notes = [{"authorString": note.author, "text": note_text(note)} for note in described.annotations]
    if notes:
        resource["note"] = notes
    return resource


def risk_assessment(described: DescribedResult) -> dict[str, Any]:
    """How soon someone should look at one window, as a RiskAssessment."""
    row = described.row
    observed = resource_id(described.owner.tenant, described.result, OBSERVATION)
    return {
        "resourceType": RISK,
        "id": resource_id(described.owner.tenant, described.result, RISK),
        "identifier": [_identifier(described)],
        "status": _status(row),
        "method": {"text": _method(row)},
        "code": {"text": "Review priority by rhythm and burden, from a single-lead ECG"},
        "subject": _subject(described),
        "occurrencePeriod": period(row.started_at_ms, row.started_at_ms + row.duration_ms),
        "performer": _device(described),
        "basis": [{"reference": f"{OBSERVATION}/{observed}"}],
        "prediction": [
            {
                "qualitativeRisk": {"text": tier_text(row)},
                "rationale": (
                    f"{rhythm_text(row)} in {row.usable_s} usable s of a {row.duration_ms / 1000:g} s window. "
                    "States how soon to review, not the probability of any outcome."
                ),
            }
        ],
    }


def instant(at_ms: int) -> str:
    """A moment as FHIR writes it, to the millisecond, UTC."""
    at = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=min(at_ms, _LAST_MS))
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def period(started_at_ms: int, ended_at_ms: int) -> dict[str, str]:
    """A Period."""
    return {"start": instant(started_at_ms), "end": instant(ended_at_ms)}


def rhythm_text(row: ResultRow) -> str:
    """A row's rhythm class in words."""
    return _named(row).text


def tier_text(row: ResultRow) -> str:
    """A row's tier in words, with the reason where it is inconclusive."""
    return f"Inconclusive: {_reason(row)}" if row.reason else _TIERS.get(row.tier, f"Tier {row.tier}")


def note_text(annotation: AnnotationRow) -> str:
    """What an annotation says."""
    said = [f"rhythm {annotation.rhythm.value}" if annotation.rhythm.value else "", annotation.comment.value]
    return ": ".join(part for part in said if part) or "(withdrawn)"


def _identifier(described: DescribedResult) -> dict[str, str]:
    return {"system": RESULT_SYSTEM, "value": result_text(described.result)}


def _status(row: ResultRow) -> str:
    return "preliminary" if row.reason else "final"


def _subject(described: DescribedResult) -> dict[str, str]:
    return {"reference": f"Patient/{described.owner.patient_id}"}


def _device(described: DescribedResult) -> dict[str, Any]:
    return {"identifier": {"system": DEVICE_SYSTEM, "value": str(described.result.device_alias)}}


def _method(row: ResultRow) -> str:
    manifest = row.model_digest.hex()
    return f"Int8 model with manifest sha256:{manifest}, integer front end version {row.front_end_version}"


def _named(row: ResultRow) -> _Rhythm:
    return _RHYTHMS.get(row.rhythm, _Rhythm(f"Rhythm class {row.rhythm}", None))


def _rhythm(row: ResultRow) -> dict[str, Any]:
    rhythm = _named(row)
    concept: dict[str, Any] = {"text": rhythm.text}
    if rhythm.snomed is not None:
        concept["coding"] = [{"system": _SNOMED, "code": rhythm.snomed}]
    return concept


def _reason(row: ResultRow) -> str:
    return _REASONS.get(row.reason, f"reason {row.reason}")


def _components(row: ResultRow) -> list[dict[str, Any]]:
    found = [text for flag, text in _QUALITIES.items() if row.quality & flag]
    components: list[dict[str, Any]] = [
        {
            "code": {"text": "Usable signal"},
            "valueQuantity": {"value": row.usable_s, "unit": "s", "system": _UCUM, "code": "s"},
        },
        {"code": {"text": "Signal quality"}, "valueString": ", ".join(found) or "usable"},
    ]
    if not row.reason:
        components.append(
            {
                "code": {"text": "Calibrated probability that the rhythm class is the one given (see the model card)"},
                "valueQuantity": {"value": row.confidence_permille / 1000, "system": _UCUM, "code": "1"},
            }
        )
    return components
