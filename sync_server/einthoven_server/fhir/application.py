"""The addresses of ``fhir``: read and search results as FHIR R4.

It deliberately takes no parameter it does not know: one that is ignored looks like one that was obeyed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.errors import Malformed, NotFound, RequestRefused
from einthoven_server.fhir.capability import capability_statement
from einthoven_server.fhir.mapping import bundle, observation, risk_assessment
from einthoven_server.fhir.outcome import operation_outcome
from einthoven_server.identity.access import Locator, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard, PrincipalHandler
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.records.resource_ids import Kind, parse_result, result_text
from einthoven_server.records.store import RecordStore
from einthoven_server.records.stored_result import StoredResult
from einthoven_server.requests import answers_errors, json_response, with_headers

STORE: Final = web.AppKey("fhir_store", RecordStore)
BASE_URL: Final = web.AppKey("fhir_base_url", str)
FHIR_TYPE: Final = "application/fhir+json"
_SUBJECT: Final = re.compile(r"Patient/([A-Za-z0-9.-]{1,64})", re.ASCII)
_PARAMETERS: Final = frozenset({"subject", "_count", "_after", "_format"})


def render_outcome(refused: RequestRefused) -> web.Response:
    """Answer a refusal as an OperationOutcome."""
    return with_headers(_fhir(operation_outcome(refused), refused.status), refused)


def _fhir(resource: dict[str, Any], status: int = 200) -> web.Response:
    return json_response(resource, status, FHIR_TYPE)


async def metadata(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /fhir/R4/metadata."""
    del principal, trail
    return _fhir(capability_statement(request.app[BASE_URL]))


def _of(kind: Kind) -> Locator:
    """How the patient of a resource is found; nothing of it is opened."""

    async def find(request: web.Request) -> str | None:
        wanted = _id(request)
        return None if wanted is None else await request.app[STORE].patient_of_resource(kind, wanted)

    return Locator(find, f"no such {kind}")


def _id(request: web.Request) -> uuid.UUID | None:
    try:
        wanted = uuid.UUID(request.match_info["id"])
    except ValueError:
        return None
    return wanted if str(wanted) == request.match_info["id"] else None


def _reads(kind: Kind, resource_of: Callable[[StoredResult], dict[str, Any]]) -> PrincipalHandler:
    async def read(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        del principal
        wanted = _id(request)
        stored = None if wanted is None else await request.app[STORE].by_resource_id(kind, wanted)
        if stored is None:
            raise NotFound(f"no such {kind}", "check the id")
        trail.about(kind.value, str(wanted))
        return _fhir(access_of(request).shown(Resource(kind.value), resource_of(stored)))

    return read


async def search_risk(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /fhir/R4/RiskAssessment?subject=Patient/{id}; an unknown subject, or another's patient, has no results."""
    del principal
    query = request.query
    unknown = sorted(set(query) - _PARAMETERS)
    if unknown or len(query) != len(set(query)):
        raise Malformed("a search parameter is unknown or given twice", "use subject, _count, _after once each")
    subject = _SUBJECT.fullmatch(query.get("subject", ""))
    if subject is None:
        raise Malformed("'subject' is missing or no reference to a patient", "give subject=Patient/{id}")
    count = query.get("_count", str(limits.RESULTS_PAGE_ROWS))
    if not re.fullmatch(r"[1-9][0-9]{0,5}", count, re.ASCII):
        raise Malformed("'_count' is no positive number", f"give 1 to {limits.RESULTS_PAGE_MAX_ROWS}")
    after = parse_result(query["_after"]) if "_after" in query else None
    if "_after" in query and after is None:
        raise Malformed("'_after' is not from a link of this server", "follow the bundle's next link")
    limit = min(int(count), limits.RESULTS_PAGE_MAX_ROWS)
    trail.about(Kind.RISK.value)
    access = access_of(request)
    seen = await access.sees(subject[1])
    found = await request.app[STORE].results_of(subject[1] if seen else "", after, limit)
    base = f"{request.app[BASE_URL]}"
    search = f"{base}/{Kind.RISK}?subject=Patient/{subject[1]}&_count={limit}"
    page = bundle(
        [access.shown(Resource.RISK_ASSESSMENT, risk_assessment(stored)) for stored in found],
        base_url=base,
        self_url=search + (f"&_after={result_text(after)}" if after is not None else ""),
        next_url=f"{search}&_after={result_text(found[-1].result)}" if len(found) == limit else None,
    )
    return _fhir(page)


def make_application(*, store: RecordStore, guard: Guard, base_url: str) -> web.Application:
    """The application, to be mounted at /fhir/R4.

    Args:
        store: Results and annotations.
        guard: Authentication, permission, audit.
        base_url: The address of the FHIR service, for links.
    """
    app = web.Application(middlewares=[answers_errors(render_outcome)])
    app[STORE] = store
    app[BASE_URL] = base_url
    reads = guard.principal

    def resource(kind: Kind, resource_of: Callable[[StoredResult], dict[str, Any]]) -> Handler:
        return reads(Operation.READ_RESOURCE, _reads(kind, resource_of), about=_of(kind))

    app.add_routes(
        [
            web.get("/metadata", reads(Operation.READ_CAPABILITY, metadata)),
            web.get(f"/{Kind.RISK}", reads(Operation.SEARCH_RESOURCES, search_risk)),
            web.get(f"/{Kind.RISK}/{{id}}", resource(Kind.RISK, risk_assessment)),
            web.get(f"/{Kind.OBSERVATION}/{{id}}", resource(Kind.OBSERVATION, observation)),
        ]
    )
    return app
