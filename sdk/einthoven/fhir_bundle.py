"""All that a store holds as one FHIR R4 Bundle of type ``collection``, entry by entry. Pure.

Patient (an identifier, nothing else), Device, a DocumentReference for each EDF file, an Observation and a
RiskAssessment for each result (``fhir_results``), a Communication for each note on a result that is not here, and an
AuditEvent for each entry of the local audit trail. Signals are in the EDF files, by reference.

It deliberately states no name, no time of its own making and no settings (they hold the device's keys), and is no
document to be signed: what proves a result is its replay.

Invariants:
    1. The same store gives the same bytes.
    2. Entries are encoded one at a time: memory does not grow with their number.
    3. ``fullUrl`` is where the server has the same resource, or would have it, so that references resolve
       (http://hl7.org/fhir/R4/bundle.html#references).
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from einthoven.fhir_results import DEVICE_SYSTEM, RESULT_SYSTEM, Owner, instant, note_text, period, result_text
from einthoven.store_values import AuditEntry
from einthoven_protocol.messages import AnnotationRow, NoteRow

PATIENT_SYSTEM: Final = "urn:einthoven:patient"
SHA256_SYSTEM: Final = "urn:einthoven:sha256"
AUDIT_SYSTEM: Final = "urn:einthoven:audit-action"
_LOINC: Final = "http://loinc.org"

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFile:
    """An EDF or BDF file beside the bundle.

    Attributes:
        name: Its name, which is also its address from the bundle.
        content_type: Its media type.
        n_bytes: Its size.
        sha1: Its SHA-1, 20 bytes: the one hash that R4 has a field for.
        sha256: Its SHA-256, 32 bytes.
        started_at_ms: UTC of its first sample, ms since 1970.
        ended_at_ms: UTC of its end, ms since 1970.
        summary: What it is, in one line.
    """

    name: str
    content_type: str
    n_bytes: int
    sha1: bytes
    sha256: bytes
    started_at_ms: int
    ended_at_ms: int
    summary: str


def bundle_bytes(resources: Iterable[Resource], base_url: str) -> Iterator[bytes]:
    """Yield the Bundle in pieces, an entry a line.

    Args:
        resources: At least one: FHIR has no empty arrays.
        base_url: What every ``fullUrl`` begins with.
    """
    separator = b'{"resourceType":"Bundle","type":"collection","entry":[\n'
    for resource in resources:
        entry = {"fullUrl": f"{base_url}/{resource['resourceType']}/{resource['id']}", "resource": resource}
        yield separator + msgspec.json.encode(entry)
        separator = b",\n"
    yield b"\n]}\n"


def patient(owner: Owner) -> Resource:
    """The patient, by an identifier alone."""
    return {
        "resourceType": "Patient",
        "id": owner.patient_id,
        "identifier": [{"system": PATIENT_SYSTEM, "value": owner.patient_id}],
    }


def device(owner: Owner) -> Resource:
    """The device that recorded and judged."""
    return {
        "resourceType": "Device",
        "id": owner.device_id,
        "identifier": [{"system": DEVICE_SYSTEM, "value": str(owner.device_alias)}],
        "deviceName": [{"name": "Einthoven", "type": "model-name"}],
        "patient": {"reference": f"Patient/{owner.patient_id}"},
    }


def document_reference(owner: Owner, file: SignalFile) -> Resource:
    """An EDF file."""
    return {
        "resourceType": "DocumentReference",
        "id": document_id(owner, file),
        "identifier": [{"system": SHA256_SYSTEM, "value": file.sha256.hex()}],
        "status": "current",
        "type": {"coding": [{"system": _LOINC, "code": "11524-6", "display": "EKG study"}]},
        "subject": {"reference": f"Patient/{owner.patient_id}"},
        "description": file.summary,
        "content": [
            {
                "attachment": {
                    "contentType": file.content_type,
                    "url": file.name,
                    "size": file.n_bytes,
                    "hash": base64.b64encode(file.sha1).decode("ascii"),
                    "title": file.name,
                }
            }
        ],
        "context": {"period": period(file.started_at_ms, file.ended_at_ms)},
    }


def document_id(owner: Owner, file: SignalFile) -> str:
    """The FHIR id of an EDF file: by its content."""
    return _derived(owner, f"document/{file.sha256.hex()}")


def communication(owner: Owner, note: AnnotationRow) -> Resource:
    """A note on a result that this store does not hold."""
    return {
        "resourceType": "Communication",
        "id": _derived(owner, f"note/{result_text(note.target)}/{note.author}"),
        "status": "completed",
        "subject": {"reference": f"Patient/{owner.patient_id}"},
        "about": [{"identifier": {"system": RESULT_SYSTEM, "value": result_text(note.target)}}],
        "payload": [{"contentString": f"{note.author}: {note_text(note)}"}],
    }


def diary_entry(owner: Owner, note: NoteRow) -> Resource:
    """A note of the diary."""
    name = f"{note.device_alias}:{note.epoch}:{note.counter}"
    return {
        "resourceType": "Communication",
        "id": _derived(owner, f"diary/{name}"),
        "status": "completed",
        "subject": {"reference": f"Patient/{owner.patient_id}"},
        "sent": instant(note.at_ms),
        "payload": [{"contentString": f"{note.author}: {note.text}"}],
    }


def audit_event(owner: Owner, entry: AuditEntry) -> Resource:
    """An entry of the local audit trail."""
    by = {"identifier": {"system": DEVICE_SYSTEM, "value": str(owner.device_alias)}}
    resource: Resource = {
        "resourceType": "AuditEvent",
        "id": _derived(owner, f"audit/{entry.seq}/{entry.entry_hash.hex()}"),
        "type": {"system": AUDIT_SYSTEM, "code": entry.action.name.lower()},
        "recorded": instant(entry.at_ms),
        "agent": [{"who": by, "requestor": False}],
        "source": {"observer": by},
        "entity": [
            {
                "detail": [
                    {"type": "seq", "valueString": str(entry.seq)},
                    {"type": "entry_hash", "valueString": entry.entry_hash.hex()},
                ]
            }
        ],
    }
    if entry.subject:
        resource["entity"][0]["description"] = entry.subject
    return resource


def _derived(owner: Owner, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:einthoven:{owner.tenant}/{owner.device_alias}/{name}"))
