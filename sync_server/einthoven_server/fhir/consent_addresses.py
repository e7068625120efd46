"""Consent: create, read, search, withdraw.

It deliberately changes nothing of what a consent says: who means something else gives another one, so that what was
said before stays as proof.

Invariants:
    1. The patient whom a new consent names is found before the table of permissions is asked, by the guard.
    2. What was written is told to the patient's devices; where that fails, housekeeping tells them.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import ParameterRefused, Unprocessable
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import FHIR_TYPE, encoded, entry
from einthoven_server.fhir.consents import Given, shown, taken
from einthoven_server.fhir.patient_addresses import version_of
from einthoven_server.fhir.result_search import is_token
from einthoven_server.fhir.search_parameters import Search, parse_search
from einthoven_server.identity.access import Locator, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.consent import Consent
from einthoven_server.identity.consent_store import ConsentStore
from einthoven_server.identity.permissions import Resource
from einthoven_server.records.consent_publisher import ConsentPublisher
from einthoven_server.requests import read_body
from einthoven_server.strict_json import check_json

_CONSENT_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_GIVEN: Final = web.RequestKey("consent_given", Given)
_KIND: Final = "Consent"
_STATUSES: Final = "http://hl7.org/fhir/consent-state-codes"


class ConsentAddresses:
    """Handlers of consents.

    Args:
        base_url: Of this service.
        consents: Consents.
        publisher: Tells devices.
        clock: Wall time.

    ``named``: how the patient is found whom a new consent names; ``owner``: whose one consent is.
    """

    def __init__(self, *, base_url: str, consents: ConsentStore, publisher: ConsentPublisher, clock: Clock) -> None:
        self._base_url = base_url
        self._consents = consents
        self._publisher = publisher
        self._clock = clock
        self.named = Locator(self._named, "no such Patient")
        self.owner = Locator(self._owner, "no such Consent")

    async def create(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """POST /Consent."""
        del principal
        answers.check_acceptable(request)
        given, access = request[_GIVEN], access_of(request)
        if not given.active:
            raise Unprocessable("Consent.status", "is not active", "give active; withdraw it later")
        if given.consent_id is not None:
            raise Unprocessable("Consent.id", "is the server's", "leave it out")
        trail.about(_KIND)
        made = await self._consents.create(access.patient_id, given.agreement, self._clock.now_ms(), trail.event())
        trail.written = True
        await self._publisher.tell(access.patient_id, self._clock.now_ms())
        return self._answer(request, made, 201)

    async def withdraw(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """PUT /Consent/{id}: what was read, with status inactive; also only a version (If-Match)."""
        del principal
        answers.check_acceptable(request)
        access, consent_id = access_of(request), request.match_info["id"]
        trail.about(_KIND, consent_id)
        given, version = await self._read(request), version_of(request.headers.get("If-Match"))
        held = await self._consents.find(consent_id)
        if held is None:
            raise self.owner.refused()
        if given.consent_id != consent_id:
            raise Unprocessable("Consent.id", "is not that of the address", "send what was read, as inactive")
        if given.patient_id != held.patient_id:
            raise Unprocessable("Consent.patient", "is not whose it is", "send what was read, as inactive")
        if given.agreement != held.agreement:
            raise Unprocessable("Consent", "says something else than it did", "withdraw it, and give another one")
        if given.active:
            raise Unprocessable("Consent.status", "withdraws nothing", "give inactive; a withdrawn one stays so")
        done = await self._consents.withdraw(consent_id, version, self._clock.now_ms(), trail.event())
        trail.written = True
        await self._publisher.tell(access.patient_id, self._clock.now_ms())
        return self._answer(request, done, 200)

    async def read(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Consent/{id}."""
        del principal
        answers.check_acceptable(request)
        answers.check_plain_read(request)
        found = await self._consents.find(request.match_info["id"])
        if found is None:
            raise self.owner.refused()
        trail.about(_KIND, found.consent_id)
        return self._answer(request, found, 200)

    async def search(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Consent?patient=..., POST /Consent/_search."""
        del principal
        answers.check_acceptable(request)
        asked = parse_search(_KIND, await answers.query_of(request), self._base_url)
        of = [{str(value) for value in values} for values in asked.values("patient")]
        named = [{str(value) for value in values} for values in asked.values("_id")]
        if not of and not named:
            raise ParameterRefused("patient", "is missing", "give patient={id} or _id")
        trail.about(_KIND)
        access = access_of(request)
        found: list[Consent] = []
        if of:
            for patient_id in sorted(await access.seen(sorted(set.intersection(*of)))):
                found += await self._consents.of_patient(patient_id)
        else:
            owners = {one: await self._consents.patient_of(one) for one in sorted(set.intersection(*named))}
            seen = await access.seen(sorted({owner for owner in owners.values() if owner is not None}))
            some = [await self._consents.find(one) for one, owner in owners.items() if owner in seen]
            found = [one for one in some if one is not None]
        fitting = [one for one in found if _fits(asked, one)]
        entries = [
            entry(self._base_url, _KIND, one.consent_id, encoded(access.shown(Resource.CONSENT, shown(one))))
            for one in fitting
        ]
        body = answers.page(self._base_url, asked, entries[: asked.count], total=len(fitting), following=None)
        return answers.bundle_answer(body)

    def _answer(self, request: web.Request, consent: Consent, status: int) -> web.Response:
        body = encoded(access_of(request).shown(Resource.CONSENT, shown(consent)))
        location = f"{self._base_url}/Consent/{consent.consent_id}"
        more = {"Location": location} if status == 201 else {}
        return answers.resource_answer(request, body, tag=str(consent.version), status=status, **more)

    async def _read(self, request: web.Request) -> Given:
        kind = request.content_type if request.content_type in {FHIR_TYPE, "application/json"} else FHIR_TYPE
        return taken(check_json(await read_body(request, limits.JSON_BODY_MAX_BYTES, kind)))

    async def _named(self, request: web.Request) -> str | None:
        given = request[_GIVEN] = await self._read(request)
        return given.patient_id

    async def _owner(self, request: web.Request) -> str | None:
        wanted = request.match_info["id"]
        return await self._consents.patient_of(wanted if _CONSENT_ID.fullmatch(wanted) else "-")


def _fits(asked: Search, consent: Consent) -> bool:
    status = "active" if consent.active else "inactive"
    for name, values in asked.criteria:
        if name == "_id" and consent.consent_id not in values:
            return False
        if name == "status" and not any(is_token(value, _STATUSES, status) for value in values):
            return False
    return True
