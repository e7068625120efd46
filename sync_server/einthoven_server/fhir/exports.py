"""Bulk Data export (HL7 FHIR Bulk Data Access 2.0): kick-off, status, files, end.

It deliberately stores no file: an export is a note of what was asked, and a file is made while it is fetched, from what
the caller may see then. So nothing lies about in the clear, an erased patient is in no file, and
revocation bites at once.

Invariants:
    1. An export belongs to who began it; for everybody else it is not there.
    2. The audit entry of a file is written before its first byte, and names every patient who may be in it.
    3. A file that can't be finished ends without its end: the client sees a broken transfer, not a short file.
    4. Memory grows with the number of patients by their ids alone, and not with results.
    5. Whoever is taken from the caller while a file is made is in no page of it that begins later.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.database import Database, Scope
from einthoven_server.errors import Malformed, NotFound, ParameterRefused, TooMany
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import encoded
from einthoven_server.fhir.devices import DeviceStore, device_resource
from einthoven_server.fhir.mapping import instant
from einthoven_server.fhir.patient_store import PatientStore
from einthoven_server.fhir.result_addresses import ResultAddresses
from einthoven_server.fhir.scopes import READ, covers, require
from einthoven_server.fhir.search_values import alternatives, shown
from einthoven_server.identity.access import Access, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.records.resource_ids import Kind
from einthoven_server.records.store import RecordStore
from einthoven_server.requests import SECURITY_HEADERS, json_response, path_id

NDJSON_TYPE: Final = "application/fhir+ndjson"
KINDS: Final = ("Patient", "Device", "Observation", "DiagnosticReport", "RiskAssessment", "Provenance")
_OF_RESULTS: Final = {
    "Observation": (Kind.OBSERVATION, Kind.ECG),
    "DiagnosticReport": (Kind.REPORT,),
    "RiskAssessment": (Kind.RISK,),
    "Provenance": (Kind.PROVENANCE,),
}
_FORMATS: Final = frozenset({NDJSON_TYPE, "application/ndjson", "ndjson"})


def _shows(kind: str) -> Operation:
    """What fetching a file of a kind comes to: what patients agreed to differs by it."""
    return Operation.READ_PATIENT if kind == "Patient" else Operation.READ_RESOURCE


class Export(NamedTuple):
    """What was asked.

    Attributes:
        export_id: Unguessable name.
        kinds: Resource types.
        request_url: The kick-off's address.
        created_at_ms: When, ms since 1970.
        expires_at_ms: Until when it is there.
    """

    export_id: str
    kinds: tuple[str, ...]
    request_url: str
    created_at_ms: int
    expires_at_ms: int


class ExportStore:
    """Exports of one tenant.

    Args:
        database: Where they are noted.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def begin(self, principal_id: str, kinds: tuple[str, ...], url: str, now_ms: int) -> Export:
        """Note one; those that have expired are forgotten.

        Raises:
            TooMany: The caller has too many.
        """
        await self._database.fetch(
            "DELETE FROM fhir_export WHERE shard = $1 AND tenant = $2 AND expires_at_ms <= $3", *self._scope, now_ms
        )
        rows = await self._database.fetch(
            "SELECT 1 FROM fhir_export WHERE shard = $1 AND tenant = $2 AND principal_id = $3",
            *self._scope,
            principal_id,
        )
        if len(rows) >= limits.EXPORTS_OF_ONE_MAX:
            raise TooMany("too many exports are under way", "end one of them", limits.RETRY_AFTER_MAX_S)
        made = Export(secrets.token_hex(16), kinds, url, now_ms, now_ms + limits.EXPORT_LIFETIME_MS)
        await self._database.fetch(
            "INSERT INTO fhir_export VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *self._scope,
            made.export_id,
            principal_id,
            ",".join(kinds),
            url,
            made.created_at_ms,
            made.expires_at_ms,
        )
        return made

    async def find(self, export_id: str, principal_id: str, now_ms: int) -> Export:
        """One of the caller's.

        Raises:
            NotFound: There is none, or it has expired.
        """
        row = await self._database.fetchrow(
            "SELECT kinds, request_url, created_at_ms, expires_at_ms FROM fhir_export "
            "WHERE shard = $1 AND tenant = $2 AND export_id = $3 AND principal_id = $4 AND expires_at_ms > $5",
            *self._scope,
            export_id,
            principal_id,
            now_ms,
        )
        if row is None:
            raise NotFound("no such export", "begin a new one")
        kinds = tuple(row["kinds"].split(","))
        return Export(export_id, kinds, row["request_url"], row["created_at_ms"], row["expires_at_ms"])

    async def end(self, export_id: str) -> None:
        """Forget one."""
        await self._database.fetch(
            "DELETE FROM fhir_export WHERE shard = $1 AND tenant = $2 AND export_id = $3", *self._scope, export_id
        )


class ExportAddresses:
    """Handlers of exports.

    Args:
        base_url: Of this service.
        exports: What was asked.
        patients: Patients.
        devices: Devices.
        store: Results.
        results: Shows them.
        guard: Writes the audit entry before a file begins.
        clock: Wall time.
    """

    def __init__(
        self,
        *,
        base_url: str,
        exports: ExportStore,
        patients: PatientStore,
        devices: DeviceStore,
        store: RecordStore,
        results: ResultAddresses,
        guard: Guard,
        clock: Clock,
    ) -> None:
        self._base_url = base_url
        self._exports = exports
        self._patients = patients
        self._devices = devices
        self._store = store
        self._results = results
        self._guard = guard
        self._clock = clock

    async def begin(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /$export, GET /Patient/$export."""
        del trail
        answers.check_acceptable(request)
        if answers.prefers(request, "respond-async") is None:
            raise Malformed("an export is made on the side only", "send Prefer: respond-async")
        kinds = tuple(kind for kind in KINDS if covers(principal.scopes, kind, READ))
        for name, text in request.query.items():
            if name == "_type":
                kinds = tuple(dict.fromkeys(alternatives(name, text)))
            elif name != "_outputFormat" or text not in _FORMATS:
                raise ParameterRefused(shown(name), "is not taken here", "give _type and _outputFormat only")
        if not set(kinds) <= set(KINDS):
            raise ParameterRefused("_type", "has a type that is not exported", f"known are {', '.join(KINDS)}")
        for kind in kinds or KINDS:
            require(principal.scopes, kind, READ)
        address = f"{self._base_url}{request.path[request.path.index('/R4') + 3 :]}"
        url = address + (f"?_type={','.join(kinds)}" if "_type" in request.query else "")
        made = await self._exports.begin(principal.principal_id, kinds, url, self._clock.now_ms())
        headers = SECURITY_HEADERS | {"Content-Location": f"{self._base_url}/$export-status/{made.export_id}"}
        return web.Response(status=202, headers=headers)

    async def status(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /$export-status/{export_id}: files are ready when they are asked for."""
        del trail
        answers.check_acceptable(request)
        export = await self._find(request, principal)
        return json_response(
            {
                "transactionTime": instant(export.created_at_ms),
                "request": export.request_url,
                "requiresAccessToken": True,
                "output": [
                    {"type": kind, "url": f"{self._base_url}/$export-file/{export.export_id}/{kind}.ndjson"}
                    for kind in export.kinds
                ],
                "error": [],
            }
        )

    async def end(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """DELETE /$export-status/{export_id}."""
        del trail
        export = await self._find(request, principal)
        await self._exports.end(export.export_id)
        return web.Response(status=202, headers=SECURITY_HEADERS)

    async def file(self, request: web.Request, principal: Principal, trail: Trail) -> web.StreamResponse:
        """GET /$export-file/{export_id}/{type}.ndjson."""
        answers.check_acceptable(request, _FORMATS)
        export = await self._find(request, principal)
        kind = request.match_info["kind"]
        require(principal.scopes, kind if kind in KINDS else "*", READ)
        if kind not in export.kinds:
            raise NotFound("no such file", "see the export's status")
        access = access_of(request)
        patients = await access.patients(_shows(kind))
        trail.about(kind)
        trail.concern(patients)
        await self._guard.enter(trail)
        response = web.StreamResponse(headers=SECURITY_HEADERS | {"Content-Type": NDJSON_TYPE})
        await response.prepare(request)
        try:
            async for lines in self._lines(kind, patients, access):
                await response.write(lines)
        except Exception:
            # The head has gone: all that can still be said is that this is not the end.
            if request.transport is not None:
                request.transport.abort()
            raise
        await response.write_eof()
        return response

    async def _find(self, request: web.Request, principal: Principal) -> Export:
        return await self._exports.find(
            path_id(request, "export_id", "export"), principal.principal_id, self._clock.now_ms()
        )

    async def _lines(self, kind: str, patients: Sequence[str], access: Access) -> AsyncIterator[bytes]:
        for begin in range(0, len(patients), limits.FHIR_PAGE_ROWS):
            page = patients[begin : begin + limits.FHIR_PAGE_ROWS]
            seen = sorted(await access.seen(page, _shows(kind)))
            if kind == "Patient":
                for one in await self._patients.by_ids(seen):
                    yield encoded(access.shown(Resource.PATIENT, one.shown())) + b"\n"
                continue
            for patient_id in seen:
                async for lines in self._of_patient(kind, patient_id, access):
                    yield lines

    async def _of_patient(self, kind: str, patient_id: str, access: Access) -> AsyncIterator[bytes]:
        if kind == "Device":
            for device in await self._devices.of_patient(patient_id):
                yield encoded(access.shown(Resource.DEVICE, device_resource(device))) + b"\n"
            return
        place = None
        while some := await self._store.results_of(patient_id, place, limits.EXPORT_READ_ROWS):
            place = some[-1].result
            for as_kind in _OF_RESULTS[kind]:
                if as_kind is not Kind.ECG:
                    yield b"".join(one.body + b"\n" for one in await self._results.shown(as_kind, some, access))
                    continue
                for one in some:
                    yield b"".join(ecg.body + b"\n" for ecg in await self._results.shown(as_kind, [one], access))
