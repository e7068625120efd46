"""A stored result as FHIR R4 resources (http://hl7.org/fhir/R4). Pure.

It deliberately gives the RiskAssessment no ``prediction.outcome`` and no ``probability``: the tier says how soon to
look, and the one probability there is (of the rhythm class) stands at the Observation, with its meaning.

Codes are given only where they are certain; what has none is text.

Invariants:
    1. An inconclusive result has no value: the Observation says why (``dataAbsentReason``), both are ``preliminary``.
    2. Ids are opaque: of patient, device alias and result; no name.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, NamedTuple

from einthoven_protocol.messages import AnnotationRow, ResultRow
from einthoven_server.records.resource_ids import Kind, result_text
from einthoven_server.records.stored_result import StoredResult

RESULT_SYSTEM: Final = "urn:einthoven:result"
DEVICE_SYSTEM: Final = "urn:einthoven:device-alias"
_LOINC: Final = "http://loinc.org"
_SNOMED: Final = "http://snomed.info/sct"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_UCUM: Final = "http://unitsofmeasure.org"

_HEART_RHYTHM: Final = {
    "coding": [{"system": _LOINC, "code": "8884-9", "display": "Heart rhythm"}],
    "text": "Rhythm class of a single-lead ECG",
}


class _Rhythm(NamedTuple):
    """A rhythm class in words, with its SNOMED CT code where there is a certain one."""

    text: str
    snomed: str | None


RHYTHM_CODE: Final = (_LOINC, "8884-9")
RHYTHM_CATEGORY: Final = (_CATEGORY, "procedure")
SNOMED: Final = _SNOMED

_RHYTHMS: Final = {
    0: _Rhythm("Normal rhythm", "64730000"),
    1: _Rhythm("Atrial fibrillation on ECG", "164889003"),
    2: _Rhythm("Other rhythm", None),
    3: _Rhythm("Too noisy to classify", None),
}
RHYTHMS_BY_CODE: Final = {rhythm.snomed: number for number, rhythm in _RHYTHMS.items() if rhythm.snomed is not None}
"""Rhythm classes that have a SNOMED CT code."""
_TIERS: Final = {1: "Routine review", 2: "Elevated: review soon", 3: "Urgent: review now"}
_REASONS: Final = {
    1: "The signal is too poor",
    2: "The recording is too short",
    3: "The classification is not certain enough",
    4: "The signal is unlike what the model was made for",
    5: "The heart rate is outside the supported range",
}
_QUALITIES: Final = {1: "gaps", 2: "flat signal", 4: "clipped signal"}


def observation(stored: StoredResult) -> dict[str, Any]:
    """The rhythm of one window as an Observation."""
    row = stored.row
    resource: dict[str, Any] = {
        "resourceType": Kind.OBSERVATION.value,
        "id": str(stored.observation_id),
        "identifier": [identifier_of(stored)],
        "status": status_of(row),
        "category": [{"coding": [{"system": _CATEGORY, "code": "procedure", "display": "Procedure"}]}],
        "code": _HEART_RHYTHM,
        "subject": subject_of(stored),
        "effectivePeriod": period_of(row),
        "device": device_of(stored.result.device_alias),
        "method": {"text": method_of(row)},
        "component": _components(row),
    }
    if row.reason:
        resource["dataAbsentReason"] = {
            "coding": [{"system": _ABSENT, "code": "unknown", "display": "Unknown"}],
            "text": reason_of(row),
        }
    else:
        resource["valueCodeableConcept"] = rhythm_of(row)
    notes = [_note(annotation) for annotation in stored.annotations]
    if notes:
        resource["note"] = notes
    return resource


def risk_assessment(stored: StoredResult) -> dict[str, Any]:
    """How soon someone should look at one window, as a RiskAssessment."""
    row = stored.row
    return {
        "resourceType": Kind.RISK.value,
        "id": str(stored.risk_id),
        "identifier": [identifier_of(stored)],
        "status": status_of(row),
        "method": {"text": method_of(row)},
        "code": {"text": "Review priority by rhythm and burden, from a single-lead ECG"},
        "subject": subject_of(stored),
        "occurrencePeriod": period_of(row),
        "performer": device_of(stored.result.device_alias),
        "basis": [{"reference": f"{Kind.OBSERVATION}/{stored.observation_id}"}],
        "prediction": [
            {
                "qualitativeRisk": {"text": tier_of(row)},
                "rationale": (
                    f"{rhythm_of(row)['text']} in {row.usable_s} usable s of a {row.duration_ms / 1000:g} s window. "
                    "States how soon to review, not the probability of any outcome."
                ),
            }
        ],
    }


def identifier_of(stored: StoredResult) -> dict[str, str]:
    """A result's own name."""
    return {"system": RESULT_SYSTEM, "value": result_text(stored.result)}


def status_of(row: ResultRow) -> str:
    """Final, or preliminary where there is no verdict."""
    return "preliminary" if row.reason else "final"


def subject_of(stored: StoredResult) -> dict[str, str]:
    """Whose it is."""
    return {"reference": f"Patient/{stored.patient_id}"}


def period_of(row: ResultRow) -> dict[str, str]:
    """The window, as a Period."""
    return {"start": instant(row.started_at_ms), "end": instant(row.started_at_ms + row.duration_ms)}


_LAST_MS: Final = 253_402_300_799_999
"""End of the year 9999, where calendars of this form end."""


def instant(at_ms: int) -> str:
    """A moment as FHIR writes it, to the millisecond, UTC."""
    at = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=min(at_ms, _LAST_MS))
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def method_of(row: ResultRow) -> str:
    """What came to the verdict."""
    manifest = row.model_digest.hex()
    return f"Int8 model with manifest sha256:{manifest}, integer front end version {row.front_end_version}"


def rhythm_of(row: ResultRow) -> dict[str, Any]:
    """The rhythm class as a CodeableConcept."""
    rhythm = _RHYTHMS.get(row.rhythm, _Rhythm(f"Rhythm class {row.rhythm}", None))
    concept: dict[str, Any] = {"text": rhythm.text}
    if rhythm.snomed is not None:
        concept["coding"] = [{"system": _SNOMED, "code": rhythm.snomed}]
    return concept


def tier_of(row: ResultRow) -> str:
    """How soon to look, in words; the reason where there is no verdict."""
    return f"Inconclusive: {reason_of(row)}" if row.reason else _TIERS.get(row.tier, f"Tier {row.tier}")


def device_of(alias: int) -> dict[str, Any]:
    """A logical reference to the device with this number."""
    return {"identifier": {"system": DEVICE_SYSTEM, "value": str(alias)}}


def reason_of(row: ResultRow) -> str:
    """Why there is no verdict, in words."""
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


def _note(annotation: AnnotationRow) -> dict[str, Any]:
    said = [
        f"rhythm {annotation.rhythm.value}" if annotation.rhythm.value else "",
        annotation.comment.value,
    ]
    return {"authorString": annotation.author, "text": ": ".join(part for part in said if part) or "(withdrawn)"}
