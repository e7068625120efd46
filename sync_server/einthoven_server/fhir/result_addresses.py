"""Read and search what results become: Observation, RiskAssessment, DiagnosticReport, Provenance.

It deliberately searches one patient at a time: a search over all would have to open all.

Invariants:
    1. Before anything of a result is opened, the request's access was asked about its patient, also where there is
       none.
    2. What comes along with a search (``_include``, ``_revinclude``) is of the same patient, and only if the caller may
       read it by itself.
    3. Of every resource those elements are shown that the access allows.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from aiohttp import web

from einthoven_protocol.messages import ResultId
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.errors import NotFound, ParameterRefused
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import encoded, entry
from einthoven_server.fhir.devices import DeviceStore
from einthoven_server.fhir.patient_store import PatientStore
from einthoven_server.fhir.reports import diagnostic_report, ecg_observation, provenance
from einthoven_server.fhir.result_index import ResultIndex
from einthoven_server.fhir.result_search import ids_of, kind_of, mask_of
from einthoven_server.fhir.scopes import READ, covers
from einthoven_server.fhir.search_parameters import Place, Search, page_text, parse_search
from einthoven_server.fhir.templates import Templates
from einthoven_server.identity.access import Access, Locator, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.consent import Category
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.identity.token_requests import PrincipalHandler
from einthoven_server.records.resource_ids import Kind, result_of
from einthoven_server.records.store import HeldResult, RecordStore
from einthoven_server.records.stored_result import StoredResult
from einthoven_server.records.waveforms import Waveforms

ALONE = frozenset({"_id", "identifier"})
"""What a search without a patient may name."""


_HELD: Final[web.RequestKey[list[HeldResult]]] = web.RequestKey("held", list)
"""What ``owner`` found, sealed, until the guard has let the handler run that opens it."""


class Shown(NamedTuple):
    """A resource that is ready: its type, its id and its JSON."""

    kind: str
    resource_id: str
    body: bytes


class _Found(NamedTuple):
    """A page: what is on it, how many there are in all, and where the next one begins."""

    stored: list[StoredResult]
    total: int | None
    following: Place | None


class ResultAddresses:
    """Handlers of what results become.

    Args:
        tenant: For ids.
        base_url: Of this service.
        store: Results.
        index: Where and when they lie.
        devices: Devices.
        patients: Patients, for what comes along.
        waveforms: ECGs.
    """

    def __init__(
        self,
        *,
        tenant: str,
        base_url: str,
        store: RecordStore,
        index: ResultIndex,
        devices: DeviceStore,
        patients: PatientStore,
        waveforms: Waveforms,
    ) -> None:
        self._tenant = tenant
        self._base_url = base_url
        self._store = store
        self._index = index
        self._devices = devices
        self._patients = patients
        self._waveforms = waveforms
        self._templates = Templates()

    def owner(self, *kinds: Kind) -> Locator:
        """How the patient of a resource is found; nothing of it is opened."""

        async def find(request: web.Request) -> str | None:
            _, result = self._named(request.match_info["id"], kinds)
            held = request[_HELD] = await self._store.held([] if result is None else [result])
            return held[0].patient_id if held else None

        return Locator(find, f"no such {kinds[0].value}")

    def reads(self, *kinds: Kind) -> PrincipalHandler:
        """GET /{type}/{id}, for a type whose ids are of ``kinds``."""

        async def read(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
            del principal
            answers.check_acceptable(request)
            answers.check_plain_read(request)
            kind, _ = self._named(request.match_info["id"], kinds)
            held: list[HeldResult] = request[_HELD]
            shown = await self.shown(kind, await self._store.opened(held), access_of(request))
            if not shown:
                raise NotFound(f"no such {kinds[0].value}", "check the id")
            trail.about(shown[0].kind, shown[0].resource_id)
            return answers.resource_answer(request, shown[0].body)

        return read

    def searches(self, kind: str) -> PrincipalHandler:
        """GET /{type}?..., POST /{type}/_search."""

        async def search(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
            answers.check_acceptable(request)
            trail.about(kind)
            access = access_of(request)
            asked = parse_search(kind, await answers.query_of(request), self._base_url)
            shown_as = kind_of(asked)
            found = await self._found(asked, shown_as, access)
            entries = [entry(self._base_url, *one) for one in await self.shown(shown_as, found.stored, access)]
            along = await self._along(asked, found.stored, access, principal.scopes)
            entries += [entry(self._base_url, *one, "include") for one in along]
            following = None if found.following is None else page_text(found.following)
            return answers.bundle_answer(
                answers.page(self._base_url, asked, entries, total=found.total, following=following)
            )

        return search

    def _named(self, text: str, kinds: Sequence[Kind]) -> tuple[Kind, ResultId | None]:
        try:
            wanted = uuid.UUID(text)
        except ValueError:
            return kinds[0], None
        for kind in kinds:
            result = result_of(self._tenant, wanted, kind) if str(wanted) == text else None
            if result is not None:
                return kind, result
        return kinds[0], None

    async def _found(self, asked: Search, kind: Kind, access: Access) -> _Found:
        of = [{str(value) for value in values} for values in asked.values("patient")]
        if not of:
            return await self._found_alone(asked, kind, access)
        wanted = set.intersection(*of)
        if any(len(values) > 1 for values in of):
            raise ParameterRefused("patient", "names several", "search for one patient after the other")
        seen = await access.seen(sorted(wanted))
        if not seen:
            return _Found([], 0, None)
        (patient_id,) = seen
        columns = await self._index.columns(patient_id)
        devices: dict[str, int] = {}
        if any(name in {"device", "performer", "agent"} for name, _ in asked.criteria):
            devices = {one.device_id: one.alias for one in await self._devices.of_patient(patient_id)}
        mask = mask_of(asked, kind, columns, self._tenant, devices)
        if kind is Kind.ECG:
            places = columns.page(mask, asked, limits.FHIR_ECG_SCANNED_MAX_ROWS)
            return await self._with_ecg(asked, places)
        count = asked.count
        if asked.include - {f"{asked.kind}:subject", f"{asked.kind}:patient"}:
            count = min(count, limits.FHIR_ECG_PAGE_MAX_ROWS)
        places = columns.page(mask, asked, count)
        following = places[-1] if len(places) == count else None
        return _Found(await self._store.named([_id(place) for place in places]), int(mask.sum()), following)

    async def _found_alone(self, asked: Search, kind: Kind, access: Access) -> _Found:
        others = [name for name, _ in asked.criteria if name not in ALONE]
        if others or not asked.criteria:
            raise ParameterRefused("patient", "is missing", "give patient={id}, or nothing but _id and identifier")
        ids = ids_of(asked, kind, self._tenant)
        wanted = sorted(set.intersection(*(set(some) for some in ids)))
        of = await self._store.patients_of(wanted)
        seen = await access.seen(sorted(set(of.values())))
        visible = await self._store.named([one for one in wanted if of.get(one) in seen])
        if kind is Kind.ECG:
            held = await self._waveforms.among([one.result for one in visible])
            visible = [one for one in visible if one.result in held]
        return _Found(visible, len(visible), None)

    async def _with_ecg(self, asked: Search, places: Sequence[Place]) -> _Found:
        held = await self._waveforms.among([_id(place) for place in places])
        count = min(asked.count, limits.FHIR_ECG_PAGE_MAX_ROWS)
        chosen = [place for place in places if _id(place) in held][:count]
        full = len(chosen) == count
        behind = chosen[-1] if full else places[-1] if len(places) == limits.FHIR_ECG_SCANNED_MAX_ROWS else None
        return _Found(await self._store.named([_id(place) for place in chosen]), None, behind)

    async def shown(self, kind: Kind, stored: Sequence[StoredResult], access: Access) -> list[Shown]:
        """Results as resources of a kind, as far as they may be shown; of ECGs, those that are stored.

        Raises:
            EnvelopeRefused: An ECG is not what was stored.
            Busy: One can't be read now.
        """
        if kind in {Kind.RISK, Kind.OBSERVATION}:
            render = self._templates.render
            ids = [one.risk_id if kind is Kind.RISK else one.observation_id for one in stored]
            fields = access.fields(Resource(kind.value))
            return [Shown(kind, str(name), render(kind, one, fields)) for name, one in zip(ids, stored, strict=True)]
        if kind is Kind.REPORT:
            held = await self._waveforms.among([one.result for one in stored])
            return [_made(diagnostic_report(one, self._tenant, has_ecg=one.result in held), access) for one in stored]
        if kind is Kind.PROVENANCE:
            return [_made(provenance(one, self._tenant), access) for one in stored]
        ecgs = []
        agreed = await access.seen(sorted({one.patient_id for one in stored}), Operation.READ_RESOURCE, Category.SIGNAL)
        for one in (some for some in stored if some.patient_id in agreed):
            waveform = await self._waveforms.of(one.result)
            if waveform is not None:
                ecgs.append(_made(ecg_observation(one, self._tenant, waveform), access))
        return ecgs

    async def _along(
        self, asked: Search, stored: Sequence[StoredResult], access: Access, scopes: Collection[str]
    ) -> list[Shown]:
        """What was asked to come along, as far as it may be read by itself."""
        along: list[Shown] = []
        if not (asked.include or asked.reverse_include):
            return along
        patients = sorted({one.patient_id for one in stored})
        read = await access.seen(patients, Operation.READ_RESOURCE)
        readable = [one for one in stored if one.patient_id in read]
        if "DiagnosticReport:result" in asked.include and covers(scopes, "Observation", READ):
            along += await self.shown(Kind.OBSERVATION, readable, access)
            along += await self.shown(Kind.ECG, readable, access)
        if asked.include - {"DiagnosticReport:result"} and covers(scopes, "Patient", READ):
            known = await self._patients.by_ids(sorted(await access.seen(patients, Operation.READ_PATIENT)))
            along += [_made(one.shown(), access) for one in known]
        if asked.reverse_include and covers(scopes, "Provenance", READ):
            along += await self.shown(Kind.PROVENANCE, readable, access)
        return along


def _id(place: Place) -> ResultId:
    return ResultId(*place[1:])


def _made(resource: dict[str, Any], access: Access) -> Shown:
    kind = resource["resourceType"]
    return Shown(kind, resource["id"], encoded(access.shown(Resource(kind), resource)))
