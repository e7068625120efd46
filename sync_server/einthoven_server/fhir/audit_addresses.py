"""AuditEvent: read and search. It deliberately creates and changes none: the log writes itself.

Invariants:
    1. Who sees the whole tenant (administrators) sees every entry; anybody else those that concern a patient whom the
       access allows, and of them the one AuditEvent that is about that patient.
    2. An entry about somebody else and one that does not exist get the same answer, after the same look-ups.
    3. A page looks at ``FHIR_AUDIT_SCANNED_MAX_ROWS`` entries at most; its next link goes on behind them, also where it
       found nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.chain import Entry
from einthoven_server.audit.search import AuditSearch, Run
from einthoven_server.audit.trail import Trail
from einthoven_server.errors import NotFound, ParameterRefused
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import encoded, entry
from einthoven_server.fhir.audit_event import audit_events
from einthoven_server.fhir.result_columns import fits
from einthoven_server.fhir.search_parameters import Place, Search, Value, page_text, parse_search
from einthoven_server.fhir.search_values import DateRange
from einthoven_server.identity.access import Access, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.permissions import Resource

_KIND: Final = "AuditEvent"
_ID: Final = re.compile(r"([1-9][0-9]{0,17})(?:-([1-9][0-9]{0,5}))?", re.ASCII)


class _Told(NamedTuple):
    """One AuditEvent and the patient it is about, ``""`` for none."""

    patient: str
    resource: dict[str, Any]


class AuditAddresses:
    """Handlers of the audit log.

    Args:
        base_url: Of this service.
        log: The tenant's entries.
    """

    def __init__(self, *, base_url: str, log: AuditSearch) -> None:
        self._base_url = base_url
        self._server = urlsplit(base_url).hostname or base_url
        self._log = log

    async def read(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /AuditEvent/{id}."""
        del principal
        answers.check_acceptable(request)
        answers.check_plain_read(request)
        access = access_of(request)
        found = await self._named(request.match_info["id"])
        seen = await access.seen([found.patient] if found is not None and found.patient else [])
        everybody = access.sees_everybody()
        if found is None or not (everybody or found.patient in seen):
            raise NotFound("no such AuditEvent", "check the id")
        trail.about(_KIND, found.resource["id"])
        return answers.resource_answer(request, encoded(access.shown(Resource.AUDIT_EVENT, found.resource)))

    async def search(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /AuditEvent?..., POST /AuditEvent/_search."""
        del principal
        answers.check_acceptable(request)
        trail.about(_KIND)
        access = access_of(request)
        asked = parse_search(_KIND, await answers.query_of(request), self._base_url)
        patients = await self._patients(asked, access)
        told, following = await self._page(asked, patients)
        shown = [encoded(access.shown(Resource.AUDIT_EVENT, one.resource)) for one in told]
        entries = [
            entry(self._base_url, _KIND, one.resource["id"], body) for one, body in zip(told, shown, strict=True)
        ]
        behind = None if following is None else page_text(Place(following, 0, 0, 0))
        return answers.bundle_answer(answers.page(self._base_url, asked, entries, total=None, following=behind))

    async def _named(self, text: str) -> _Told | None:
        found = _ID.fullmatch(text)
        held = await self._log.entry(int(found[1]) if found is not None else 0)
        told = [] if held is None else self._told(held)
        return next((one for one in told if one.resource["id"] == text), None)

    async def _patients(self, asked: Search, access: Access) -> str | None:
        """Whose entries may be looked at: one patient's, ``""`` for nobody's, ``None`` for everybody's."""
        of = [{str(value) for value in values} for values in asked.values("patient")]
        if any(len(values) > 1 for values in of):
            raise ParameterRefused("patient", "names several", "search for one patient after the other")
        if of:
            seen = await access.seen(sorted(set.intersection(*of)))
            return next(iter(seen), "")
        if access.sees_everybody():
            return None
        own = await access.patients()
        if len(own) > 1:
            raise ParameterRefused("patient", "is missing", "give patient={id}")
        return next(iter(await access.seen(own)), "")

    async def _page(self, asked: Search, patient: str | None) -> tuple[list[_Told], int | None]:
        """What fits, and the number of the entry behind which the next page begins."""
        if patient == "":
            return [], None
        behind = None if asked.after is None else asked.after.started_at_ms
        scanned = await self._log.run(Run(patient, behind, asked.descending, limits.FHIR_AUDIT_SCANNED_MAX_ROWS))
        told: list[_Told] = []
        for held in _dated(asked, scanned):
            told += [one for one in self._told(held) if patient in {None, one.patient} and _fits(asked, held, one)]
            if len(told) >= asked.count:
                return told, held.seq
        full = len(scanned) == limits.FHIR_AUDIT_SCANNED_MAX_ROWS
        return told, scanned[-1].seq if full else None

    def _told(self, held: Entry) -> list[_Told]:
        patients = [*([held.event.patient] if held.event.patient else []), *held.event.others] or [""]
        return [_Told(*one) for one in zip(patients, audit_events(held, self._server), strict=True)]


def _dated(asked: Search, scanned: Sequence[Entry]) -> list[Entry]:
    """Those of the time asked for."""
    at = np.array([held.event.at_ms for held in scanned], np.int64)
    mask = np.ones(len(at), np.bool_)
    for values in asked.values("date"):
        mask &= np.any([fits(value, at, at + 1) for value in values if isinstance(value, DateRange)], axis=0)
    return [held for held, good in zip(scanned, mask, strict=True) if good]


def _fits(asked: Search, held: Entry, told: _Told) -> bool:
    return all(any(_one_fits(name, value, held, told) for value in values) for name, values in asked.criteria)


def _one_fits(name: str, value: Value, held: Entry, told: _Told) -> bool:
    match name:
        case "_id":
            return bool(value == told.resource["id"])
        case "agent":
            return value == held.event.actor
        case _:
            return True
