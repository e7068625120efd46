"""What the FHIR side can do, as a CapabilityStatement. Pure."""

from __future__ import annotations

from typing import Any, Final

from einthoven_server.records.resource_ids import Kind

_PUBLISHED: Final = "2026-01-01"


def capability_statement(base_url: str) -> dict[str, Any]:
    """The CapabilityStatement of a server at ``base_url``."""
    read = {"code": "read"}
    search = {"name": "subject", "type": "reference", "documentation": "Patient/{id}; required"}
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _PUBLISHED,
        "kind": "instance",
        "implementation": {"description": "Einthoven: results of single-lead ECG analysis", "url": base_url},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "security": {"description": "TLS 1.3; a bearer token of a clinician"},
                "resource": [
                    {
                        "type": Kind.RISK.value,
                        "interaction": [read, {"code": "search-type"}],
                        "searchParam": [search],
                    },
                    {"type": Kind.OBSERVATION.value, "interaction": [read]},
                ],
            }
        ],
    }
