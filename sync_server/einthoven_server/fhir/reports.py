"""What rests on a result beside its Observation and RiskAssessment: report, provenance, and the ECG itself. Pure.

It deliberately names no lead: a single-lead device's place on the body is not told to it. Code 131328 of ISO/IEEE
11073-10101 (MDC_ECG_ELEC_POTL) is an ECG of a lead that is not specified.

Invariants:
    1. Samples stand as they were recorded, in microvolts, without rounding; what was never received is ``E``.
    2. An ECG's component has the very number of samples that the device committed to.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from einthoven_server.fhir.mapping import (
    device_of,
    identifier_of,
    instant,
    method_of,
    period_of,
    rhythm_of,
    status_of,
    subject_of,
    tier_of,
)
from einthoven_server.records.resource_ids import Kind, resource_id
from einthoven_server.records.stored_result import StoredResult
from einthoven_server.records.waveforms import Waveform

ECG_CODE: Final = ("urn:iso:std:iso:11073:10101", "131328")
REPORT_CODE: Final = ("http://loinc.org", "11524-6")
REPORT_CATEGORY: Final = ("http://terminology.hl7.org/CodeSystem/v2-0074", "EC")
MODEL_SYSTEM: Final = "urn:einthoven:sha256"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_AGENT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_ECG: Final = {
    "coding": [{"system": ECG_CODE[0], "code": ECG_CODE[1], "display": "MDC_ECG_ELEC_POTL"}],
    "text": "Single-lead ECG",
}


def diagnostic_report(stored: StoredResult, tenant: str, *, has_ecg: bool) -> dict[str, Any]:
    """A result as a report: what was seen, and how soon to look."""
    results = [{"reference": f"{Kind.OBSERVATION}/{stored.observation_id}"}]
    if has_ecg:
        results.append({"reference": f"{Kind.OBSERVATION}/{resource_id(tenant, stored.result, Kind.ECG)}"})
    resource: dict[str, Any] = {
        "resourceType": Kind.REPORT.value,
        "id": str(resource_id(tenant, stored.result, Kind.REPORT)),
        "identifier": [identifier_of(stored)],
        "status": status_of(stored.row),
        "category": [{"coding": [{"system": REPORT_CATEGORY[0], "code": REPORT_CATEGORY[1]}]}],
        "code": {
            "coding": [{"system": REPORT_CODE[0], "code": REPORT_CODE[1], "display": "EKG study"}],
            "text": "Single-lead ECG, read by a model",
        },
        "subject": subject_of(stored),
        "effectivePeriod": period_of(stored.row),
        "performer": [device_of(stored.result.device_alias)],
        "result": results,
        "conclusion": tier_of(stored.row),
    }
    if not stored.row.reason:
        resource["conclusionCode"] = [rhythm_of(stored.row)]
    return resource


def provenance(stored: StoredResult, tenant: str) -> dict[str, Any]:
    """Where a result comes from: the device, and the model that it named when it sealed the result.

    ``recorded`` is the end of the window, which is when the device made it.
    """
    row = stored.row
    report_id = resource_id(tenant, stored.result, Kind.REPORT)
    return {
        "resourceType": Kind.PROVENANCE.value,
        "id": str(resource_id(tenant, stored.result, Kind.PROVENANCE)),
        "target": [
            {"reference": f"{Kind.OBSERVATION}/{stored.observation_id}"},
            {"reference": f"{Kind.RISK}/{stored.risk_id}"},
            {"reference": f"{Kind.REPORT}/{report_id}"},
        ],
        "occurredPeriod": period_of(row),
        "recorded": instant(row.started_at_ms + row.duration_ms),
        "activity": {"text": method_of(row)},
        "agent": [
            {
                "type": {"coding": [{"system": _AGENT, "code": "assembler", "display": "Assembler"}]},
                "who": device_of(stored.result.device_alias),
            }
        ],
        "entity": [
            {
                "role": "source",
                "what": {
                    "identifier": {"system": MODEL_SYSTEM, "value": row.model_digest.hex()},
                    "display": "Signed manifest of the model",
                },
            }
        ],
    }


def ecg_observation(stored: StoredResult, tenant: str, waveform: Waveform) -> dict[str, Any]:
    """The ECG that a result rests on, as SampledData."""
    return {
        "resourceType": Kind.OBSERVATION.value,
        "id": str(resource_id(tenant, stored.result, Kind.ECG)),
        "identifier": [identifier_of(stored)],
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": "procedure", "display": "Procedure"}]}],
        "code": _ECG,
        "subject": subject_of(stored),
        "effectivePeriod": period_of(stored.row),
        "device": device_of(stored.result.device_alias),
        "component": [{"code": _ECG, "valueSampledData": _sampled(waveform)}],
    }


def _sampled(waveform: Waveform) -> dict[str, Any]:
    samples = list(map(str, waveform.samples_uv.tolist()))
    for place in np.flatnonzero(waveform.missing).tolist():
        samples[place] = "E"
    rate = waveform.sampling_rate_hz
    period_ms = 1000 * rate.denominator / rate.numerator
    return {
        "origin": {"value": 0, "unit": "uV", "system": "http://unitsofmeasure.org", "code": "uV"},
        "period": int(period_ms) if period_ms.is_integer() else period_ms,
        "dimensions": 1,
        "data": " ".join(samples),
    }
