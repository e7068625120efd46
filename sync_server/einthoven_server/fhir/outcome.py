"""Refusals as an OperationOutcome. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from einthoven_server.errors import ParameterRefused, RequestRefused, Unprocessable

_ISSUES: Final = {
    HTTPStatus.UNAUTHORIZED: "login",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.NOT_ACCEPTABLE: "not-supported",
    HTTPStatus.METHOD_NOT_ALLOWED: "not-supported",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-long",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "not-supported",
    HTTPStatus.TOO_MANY_REQUESTS: "throttled",
    HTTPStatus.INTERNAL_SERVER_ERROR: "exception",
    HTTPStatus.SERVICE_UNAVAILABLE: "transient",
}


def operation_outcome(refused: RequestRefused) -> dict[str, Any]:
    """The OperationOutcome of a refusal."""
    issue: dict[str, Any] = {
        "severity": "error",
        "code": _ISSUES.get(HTTPStatus(refused.status), "invalid"),
        "details": {"text": refused.code},
        "diagnostics": str(refused),
    }
    if isinstance(refused, ParameterRefused | Unprocessable):
        issue["expression"] = [refused.location]
    return {"resourceType": "OperationOutcome", "issue": [issue]}
