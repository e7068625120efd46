"""The addresses of ``fhir``: FHIR R4 under /fhir/R4 (docs/fhir.md).

It deliberately takes no parameter it does not know: one that is ignored looks like one that was obeyed. AuditEvent
joins with a line in ``PARAMETERS`` and a pair of handlers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.database import Database, Scope
from einthoven_server.errors import RequestRefused
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import FHIR_TYPE
from einthoven_server.fhir.blind_index import BlindIndexKey
from einthoven_server.fhir.capability import capability_statement, smart_configuration
from einthoven_server.fhir.consent_addresses import ConsentAddresses
from einthoven_server.fhir.device_addresses import DeviceAddresses
from einthoven_server.fhir.devices import DeviceStore
from einthoven_server.fhir.exports import ExportAddresses, ExportStore
from einthoven_server.fhir.outcome import operation_outcome
from einthoven_server.fhir.patient_addresses import PATIENT_BY_ID, PatientAddresses
from einthoven_server.fhir.patient_store import PatientStore
from einthoven_server.fhir.result_addresses import ResultAddresses
from einthoven_server.fhir.result_index import ResultIndex
from einthoven_server.fhir.scopes import CREATE, READ, SEARCH, UPDATE, require
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.consent_store import ConsentStore
from einthoven_server.identity.guard import Guard, PrincipalHandler
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.store import IdentityStore
from einthoven_server.key_service import KeyService
from einthoven_server.patient_keys import PatientKeys
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


@dataclass(frozen=True, slots=True)
class FhirParts:
    """What ``fhir`` works on.

    Attributes:
        tenant: Whose.
        index: Where and when results lie.
        patients: Demographics.
        devices: Devices.
        exports: Bulk exports.
        consents: What patients agreed to.
    """

    tenant: str
    index: ResultIndex
    patients: PatientStore
    devices: DeviceStore
    exports: ExportStore
    consents: ConsentStore


def make_parts(
    database: Database,
    scope: Scope,
    *,
    key_service: KeyService,
    keys: PatientKeys,
    identities: IdentityStore,
    audit: AuditLog,
    consents: ConsentStore,
) -> FhirParts:
    """Make what ``fhir`` works on.

    Args:
        database: Open and migrated.
        scope: Shard and tenant.
        key_service: Wraps the key of the blind indexes.
        keys: Patients' data keys.
        identities: Makes patients.
        audit: The tenant's log.
        consents: What patients agreed to.
    """
    index_key = BlindIndexKey(database, key_service, scope)
    return FhirParts(
        tenant=scope.tenant,
        index=ResultIndex(database, scope, keys),
        patients=PatientStore(database, scope, keys, identities, audit, index_key),
        devices=DeviceStore(database, scope),
        exports=ExportStore(database, scope),
        consents=consents,
    )


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

    async def metadata(request: web.Request, trail: Trail) -> web.Response:
        del trail
        answers.check_acceptable(request)
        return json_response(capability_statement(base_url), 200, FHIR_TYPE)

    async def smart(request: web.Request, trail: Trail) -> web.Response:
        del request, trail
        return json_response(smart_configuration(public_url))

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
    guarded, status = guard.principal, "/$export-status/{export_id}"
    app.add_routes(
        [
            web.get("/metadata", guard.anyone(Operation.READ_CAPABILITY, metadata)),
            web.get("/.well-known/smart-configuration", guard.anyone(Operation.READ_CAPABILITY, smart)),
            web.post("/", guarded(Operation.TRANSACT, people.transact)),
            web.post("", guarded(Operation.TRANSACT, people.transact)),
            web.get("/$export", guarded(Operation.EXPORT, exports.begin)),
            web.get("/Patient/$export", guarded(Operation.EXPORT, exports.begin)),
            web.get(status, guarded(Operation.EXPORT, exports.status)),
            web.delete(status, guarded(Operation.EXPORT, exports.end)),
            web.get("/$export-file/{export_id}/{kind}.ndjson", guarded(Operation.FETCH_EXPORT, exports.file)),
            web.post("/Patient", guarded(Operation.BRING_PATIENT, _scoped("Patient", CREATE, people.create))),
            web.put(
                "/Patient/{id}",
                guarded(Operation.CHANGE_PATIENT, _scoped("Patient", UPDATE, people.change), about=PATIENT_BY_ID),
            ),
            web.post("/Consent", guarded(Operation.CREATE_CONSENT, agreed.create, about=agreed.named)),
            web.put("/Consent/{id}", guarded(Operation.WITHDRAW_CONSENT, agreed.withdraw, about=agreed.owner)),
        ]
    )
    of_results, of_patients, of_consents = (
        (Operation.READ_RESOURCE, Operation.SEARCH_RESOURCES),
        (Operation.READ_PATIENT, Operation.SEARCH_PATIENTS),
        (Operation.READ_CONSENT, Operation.SEARCH_CONSENTS),
    )
    handlers = {
        kind: (of_results, results.reads(*kinds), results.searches(kind), results.owner(*kinds))
        for kind, kinds in _KINDS.items()
    }
    handlers["Device"] = (of_results, devices.read, devices.search, devices.owner)
    handlers["Patient"] = (of_patients, people.read, people.search, PATIENT_BY_ID)
    handlers["Consent"] = (of_consents, agreed.read, agreed.search, agreed.owner)
    for kind, ((may_read, may_search), read, search, owner) in handlers.items():
        searched = guarded(may_search, _scoped(kind, SEARCH, search))
        app.add_routes(
            [
                web.get(f"/{kind}", searched),
                web.post(f"/{kind}/_search", searched),
                web.get(f"/{kind}/{{id}}", guarded(may_read, _scoped(kind, READ, read), about=owner)),
            ]
        )
    return app
