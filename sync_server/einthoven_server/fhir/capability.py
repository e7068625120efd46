"""What the FHIR side can do: CapabilityStatement and SMART configuration, made of the tables that do it. Pure."""

from __future__ import annotations

from typing import Any, Final

from einthoven_server.fhir.search_parameters import INCLUDES, PARAMETERS, REVERSE_INCLUDES
from einthoven_server.identity import dpop
from einthoven_server.identity.clients import SERVICE_ALGORITHMS

_PUBLISHED: Final = "2026-01-01"
_WRITES: Final = ("create", "update")
_WRITTEN: Final = frozenset({"Patient", "Consent"})


def capability_statement(base_url: str) -> dict[str, Any]:
    """The CapabilityStatement of a server at ``base_url``."""
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
                "security": {
                    "cors": False,
                    "service": [
                        {
                            "coding": [
                                {
                                    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                                    "code": "SMART-on-FHIR",
                                }
                            ]
                        }
                    ],
                    "description": "TLS 1.3; an access token of 5 minutes with a DPoP proof (RFC 9449)",
                },
                "resource": [_resource(kind) for kind in sorted(PARAMETERS)],
                "interaction": [{"code": "transaction", "documentation": "Patients only; all of them or none"}],
                "operation": [
                    {"name": "export", "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"}
                ],
            }
        ],
    }


def _resource(kind: str) -> dict[str, Any]:
    writes = _WRITES if kind in _WRITTEN else ()
    resource: dict[str, Any] = {
        "type": kind,
        "interaction": [{"code": code} for code in ("read", "search-type", *writes)],
        "versioning": "versioned" if writes else "no-version",
        "searchParam": [
            {"name": name, "type": parameter.form.value, "documentation": parameter.says}
            for name, parameter in PARAMETERS[kind].items()
        ],
    }
    if kind == "Patient":
        resource |= {"conditionalCreate": True, "updateCreate": False}
    if kind in INCLUDES:
        resource["searchInclude"] = list(INCLUDES[kind])
        resource["searchRevInclude"] = list(REVERSE_INCLUDES[kind])
    return resource


def smart_configuration(public_url: str) -> dict[str, Any]:
    """SMART App Launch 2.2, section 8: what a client has to know before it has a token."""
    return {
        "issuer": public_url,
        "jwks_uri": f"{public_url}/.well-known/jwks.json",
        "token_endpoint": f"{public_url}/v1/token",
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": sorted(SERVICE_ALGORITHMS),
        "grant_types_supported": ["client_credentials"],
        "dpop_signing_alg_values_supported": list(dpop.ALGORITHMS),
        "scopes_supported": [f"system/{kind}.rs" for kind in sorted(PARAMETERS)] + ["system/Patient.cu"],
        "capabilities": ["client-confidential-asymmetric", "permission-v2"],
    }
