"""The addresses of ``fhir``: FHIR R4 under /fhir/R4 (docs/fhir.md).

It deliberately takes no parameter it does not know: one that is ignored looks like one that was obeyed.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from aiohttp import web

from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import RequestRefused
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import FHIR_TYPE
from einthoven_server.fhir.audit_addresses import AuditAddresses
from einthoven_server.fhir.capability import capability_statement, smart_configuration
from einthoven_server.fhir.consent_addresses import ConsentAddresses
from einthoven_server.fhir.device_addresses import DeviceAddresses
from einthoven_server.fhir.exports import ExportAddresses
from einthoven_server.fhir.outcome import operation_outcome
from einthoven_server.fhir.parts import FhirParts
from einthoven_server.fhir.patient_addresses import PATIENT_BY_ID, PatientAddresses
from einthoven_server.fhir.result_addresses import ResultAddresses
from einthoven_server.fhir.scopes import CREATE, READ, SEARCH, UPDATE, require
from einthoven_server.identity.access import Locator
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.token_requests import PrincipalHandler
from einthoven_server.records.consent_publisher import ConsentPublisher
from einthoven_server.records.resource_ids import Kind
from einthoven_server.records.store import RecordStore
from einthoven_server.records.waveforms import NoWaveforms, Waveforms
from einthoven_server.requests import answers_errors, json_response, with_headers

_KINDS: Final = {
    "RiskAssessment": (Kind.RISK,),
    "Observation": (Kind.OBSERVATION, Kind.ECG),
    "DiagnosticReport": (Kind.REPORT,),
    "Provenance": (Kind.PROVENANCE,),
}


_Routes: TypeAlias = list[web.RouteDef]


class _Resource(NamedTuple):
    """How resources of one type are read and searched.

    Attributes:
        reads: What reading one is.
        read: Reads one.
        owner: Whose it is; ``None`` where the handler asks about whom it concerns.
        searches: What searching is.
        search: Searches.
    """

    reads: Operation
    read: PrincipalHandler
    owner: Locator | None
    searches: Operation
    search: PrincipalHandler


def render_outcome(refused: RequestRefused) -> web.Response:
    """Answer a refusal as an OperationOutcome."""
    return with_headers(json_response(operation_outcome(refused), refused.status, FHIR_TYPE), refused)


def _scoped(kind: str, interactions: str, handler: PrincipalHandler) -> PrincipalHandler:
    """A handler for whose token's scopes cover it."""

    async def act(request: web.Request, principal: Principal, trail: Trail) -> web.StreamResponse:
        require(principal.scopes, kind, interactions)
        return await handler(request, principal, trail)

    return act


def make_application(
    *,
    parts: FhirParts,
    store: RecordStore,
    guard: Guard,
    clock: Clock,
    public_url: str,
    base_url: str,
    publisher: ConsentPublisher,
    waveforms: Waveforms | None = None,
) -> web.Application:
    """The application, to be mounted at /fhir/R4.

    Args:
        parts: What it works on.
        store: Results and annotations.
        guard: Authentication, permission, audit.
        clock: Wall time.
        public_url: The address of the server, where tokens are given.
        base_url: The address of the FHIR service, for links.
        publisher: Tells devices what patients agreed to.
        waveforms: ECGs; none where ``None``.
    """
    results = ResultAddresses(
        tenant=parts.tenant,
        base_url=base_url,
        store=store,
        index=parts.index,
        devices=parts.devices,
        patients=parts.patients,
        waveforms=NoWaveforms() if waveforms is None else waveforms,
    )
    people = PatientAddresses(base_url=base_url, patients=parts.patients, clock=clock)
    devices = DeviceAddresses(base_url=base_url, devices=parts.devices)
    exports = ExportAddresses(
        base_url=base_url,
        exports=parts.exports,
        patients=parts.patients,
        devices=parts.devices,
        store=store,
        results=results,
        guard=guard,
        clock=clock,
    )
    agreed = ConsentAddresses(base_url=base_url, consents=parts.consents, publisher=publisher, clock=clock)
    app = web.Application(middlewares=[answers_errors(render_outcome)])
    app.add_routes(_of_the_server(guard, public_url=public_url, base_url=base_url))
    app.add_routes(_of_exports(guard, exports))
    app.add_routes(_of_changes(guard, people, agreed))
    log = AuditAddresses(base_url=base_url, log=parts.log)
    for kind, resource in _resources(results, people, devices, log, agreed).items():
        app.add_routes(_of_resource(guard, kind, resource))
    return app


def _of_the_server(guard: Guard, *, public_url: str, base_url: str) -> _Routes:
    """What the server can do."""

    async def metadata(request: web.Request, trail: Trail) -> web.Response:
        del trail
        answers.check_acceptable(request)
        return json_response(capability_statement(base_url), 200, FHIR_TYPE)

    async def smart(request: web.Request, trail: Trail) -> web.Response:
        del request, trail
        return json_response(smart_configuration(public_url))

    return [
        web.get("/metadata", guard.anyone(Operation.READ_CAPABILITY, metadata)),
        web.get("/.well-known/smart-configuration", guard.anyone(Operation.READ_CAPABILITY, smart)),
    ]


def _of_exports(guard: Guard, exports: ExportAddresses) -> _Routes:
    guarded, status = guard.principal, "/$export-status/{export_id}"
    return [
        web.get("/$export", guarded(Operation.EXPORT, exports.begin)),
        web.get("/Patient/$export", guarded(Operation.EXPORT, exports.begin)),
        web.get(status, guarded(Operation.EXPORT, exports.status)),
        web.delete(status, guarded(Operation.EXPORT, exports.end)),
        web.get("/$export-file/{export_id}/{kind}.ndjson", guarded(Operation.FETCH_EXPORT, exports.file)),
    ]


def _of_changes(guard: Guard, people: PatientAddresses, agreed: ConsentAddresses) -> _Routes:
    """What writes: patients, and what they agree to."""
    guarded, changes = guard.principal, _scoped("Patient", UPDATE, people.change)
    return [
        web.post("/", guarded(Operation.TRANSACT, people.transact)),
        web.post("", guarded(Operation.TRANSACT, people.transact)),
        web.post("/Patient", guarded(Operation.BRING_PATIENT, _scoped("Patient", CREATE, people.create))),
        web.put("/Patient/{id}", guarded(Operation.CHANGE_PATIENT, changes, about=PATIENT_BY_ID)),
        web.post("/Consent", guarded(Operation.CREATE_CONSENT, agreed.create, about=agreed.named)),
        web.put("/Consent/{id}", guarded(Operation.WITHDRAW_CONSENT, agreed.withdraw, about=agreed.owner)),
    ]


def _resources(
    results: ResultAddresses,
    people: PatientAddresses,
    devices: DeviceAddresses,
    log: AuditAddresses,
    agreed: ConsentAddresses,
) -> dict[str, _Resource]:
    """What can be read and searched, by type."""
    reads, searches = Operation.READ_RESOURCE, Operation.SEARCH_RESOURCES
    found = {
        kind: _Resource(reads, results.reads(*kinds), results.owner(*kinds), searches, results.searches(kind))
        for kind, kinds in _KINDS.items()
    }
    found["Device"] = _Resource(reads, devices.read, devices.owner, searches, devices.search)
    found["Patient"] = _Resource(
        Operation.READ_PATIENT, people.read, PATIENT_BY_ID, Operation.SEARCH_PATIENTS, people.search
    )
    found["Consent"] = _Resource(
        Operation.READ_CONSENT, agreed.read, agreed.owner, Operation.SEARCH_CONSENTS, agreed.search
    )
    found["AuditEvent"] = _Resource(
        Operation.READ_AUDIT_EVENT, log.read, None, Operation.SEARCH_AUDIT_EVENTS, log.search
    )
    return found


def _of_resource(guard: Guard, kind: str, resource: _Resource) -> _Routes:
    searched = guard.principal(resource.searches, _scoped(kind, SEARCH, resource.search))
    read = guard.principal(resource.reads, _scoped(kind, READ, resource.read), about=resource.owner)
    return [
        web.get(f"/{kind}", searched),
        web.post(f"/{kind}/_search", searched),
        web.get(f"/{kind}/{{id}}", read),
    ]
