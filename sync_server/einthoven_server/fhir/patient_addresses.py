"""Patient: read, search, create, change, and transaction bundles.

It deliberately deletes nothing (erasing is a privacy operation of its own).

Invariants:
    1. A search for patients names at least one thing that an index finds; who is not seen is not counted, also not
       among those that a criterion fits too many of.
    2. A bundle is done wholly or not at all, and only for patients that the caller may change.
    3. Whom a condition finds is shown to who may read them; others learn the opaque id alone.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import numpy as np
from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Forbidden, Malformed, NotFound, ParameterRefused
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import FHIR_TYPE, encoded, entry
from einthoven_server.fhir.patient_store import PatientStore
from einthoven_server.fhir.patients import KnownPatient, Wanted, Written, folded, reaches, read_patient
from einthoven_server.fhir.result_columns import fits
from einthoven_server.fhir.result_search import is_token
from einthoven_server.fhir.scopes import CREATE, READ, UPDATE, covers, require
from einthoven_server.fhir.search_parameters import Search, Value, parse_search
from einthoven_server.fhir.search_values import DateRange, Token, parse_date, parse_token
from einthoven_server.fhir.transactions import Entry, read_transaction, transaction_response
from einthoven_server.identity.access import Access, Locator, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.requests import read_body
from einthoven_server.strict_json import check_json

_PATIENT_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_IF_MATCH: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"', re.ASCII)
_GENDERS: Final = "http://hl7.org/fhir/administrative-gender"
_KIND: Final = "Patient"
_DAY_MS: Final = 86_400_000


async def _named(request: web.Request) -> str | None:
    wanted = request.match_info["id"]
    return wanted if _PATIENT_ID.fullmatch(wanted) else None


PATIENT_BY_ID: Final = Locator(_named, "no such Patient")


class PatientAddresses:
    """Handlers of patients.

    Args:
        base_url: Of this service.
        patients: Patients.
        clock: Wall time.
    """

    def __init__(self, *, base_url: str, patients: PatientStore, clock: Clock) -> None:
        self._base_url = base_url
        self._patients = patients
        self._clock = clock

    async def read(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Patient/{id}."""
        del principal
        answers.check_acceptable(request)
        answers.check_plain_read(request)
        access = access_of(request)
        found = await self._patients.by_ids([access.patient_id])
        if not found:
            raise PATIENT_BY_ID.refused()
        trail.about(_KIND, access.patient_id)
        body = encoded(access.shown(Resource.PATIENT, found[0].shown()))
        return answers.resource_answer(request, body, tag=str(found[0].version))

    async def search(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Patient?..., POST /Patient/_search."""
        del principal
        answers.check_acceptable(request)
        asked = parse_search("Patient", await answers.query_of(request), self._base_url)
        conditions = [
            [("identifier", f"{system}|{code}") if system else ("identifier", code) for system, code in tokens]
            for tokens in (_identifiers(values) for values in asked.values("identifier"))
        ]
        for name, indexes in (("family", ("family",)), ("given", ("given",)), ("name", ("family", "given"))):
            for values in asked.values(name):
                conditions += [[(index, folded(str(value))) for value in values for index in indexes]]
        for dates in asked.values("birthdate"):
            texts = [text for value in dates if (text := _birthdate(value)) is not None]
            if len(texts) == len(dates):
                conditions.append([("birthdate", text) for text in texts])
        named = [{str(value) for value in values} for values in asked.values("_id")]
        if not conditions and not named:
            raise ParameterRefused(
                "identifier", "is missing", "give _id, identifier, family, given, name, or a birthdate without a prefix"
            )
        trail.about(_KIND)
        access = access_of(request)
        among = await _visible(access, named)
        ids = await self._patients.found(conditions, among) if conditions else sorted(among or ())
        some = [one for one in await self._patients.by_ids(ids) if _fits(asked, one)]
        seen = await access.seen([one.patient_id for one in some])
        found = [one for one in some if one.patient_id in seen]
        entries = [
            entry(self._base_url, _KIND, one.patient_id, encoded(access.shown(Resource.PATIENT, one.shown())))
            for one in found
        ]
        body = answers.page(self._base_url, asked, entries[: asked.count], total=len(found), following=None)
        return answers.bundle_answer(body)

    async def create(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """POST /Patient, also only if none exists (If-None-Exist: identifier=system|value)."""
        answers.check_acceptable(request)
        demographics = read_patient(await _body(request, limits.JSON_BODY_MAX_BYTES), patient_id=None)
        condition = request.headers.get("If-None-Exist")
        unless = None if condition is None else identifier_of(condition, "If-None-Exist")
        trail.about(_KIND)
        (written,) = await self._write([Wanted(demographics, unless)], trail)
        return self._written(request, written, await _readable(access_of(request), principal, [written]))

    async def change(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """PUT /Patient/{id}, also only a version (If-Match)."""
        answers.check_acceptable(request)
        access = access_of(request)
        wanted = access.patient_id
        trail.about(_KIND, wanted)
        demographics = read_patient(await _body(request, limits.JSON_BODY_MAX_BYTES), patient_id=wanted)
        version = version_of(request.headers.get("If-Match"))
        changed = Wanted(demographics, patient_id=wanted, if_version=version)
        (written,) = await self._write([changed], trail)
        return self._written(request, written, await _readable(access, principal, [written]))

    async def transact(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """POST /: a transaction of patients to be made or changed."""
        answers.check_acceptable(request)
        entries = read_transaction(check_json(await _body(request, limits.FHIR_BUNDLE_MAX_BYTES)))
        wanted = [self._wanted(one) for one in entries]
        ids = sorted({one.patient_id for one in wanted if one.patient_id is not None})
        used = {CREATE if one.patient_id is None else UPDATE for one in wanted}
        require(principal.scopes, _KIND, "".join(sorted(used)))
        access = access_of(request)
        trail.about(_KIND)
        if any(one.patient_id is None for one in wanted) and not access.may(Operation.BRING_PATIENT):
            raise Forbidden("this role makes no patients", "have them made by somebody else; nothing was done")
        if not (await access.seen(ids, Operation.CHANGE_PATIENT)).issuperset(ids):
            raise NotFound("a patient of the bundle is not there", "check the ids; nothing was done")
        written = await self._write(wanted, trail)
        full = answers.prefers(request, "return") == "representation"
        readable = await _readable(access, principal, written) if full else {}
        return answers.bundle_answer(encoded(transaction_response(written, readable)))

    async def _write(self, wanted: Sequence[Wanted], trail: Trail) -> list[Written]:
        written = await self._patients.write(wanted, self._clock.now_ms(), trail.event())
        trail.written = True
        return written

    def _wanted(self, one: Entry) -> Wanted:
        unless = None if one.if_none_exist is None else identifier_of(one.if_none_exist, "ifNoneExist")
        return Wanted(one.demographics, unless, one.patient_id, version_of(one.if_match))

    def _written(self, request: web.Request, written: Written, readable: Mapping[str, dict[str, Any]]) -> web.Response:
        patient = written.patient
        location = f"{self._base_url}/Patient/{patient.patient_id}"
        resource = None if answers.prefers(request, "return") == "minimal" else readable.get(patient.patient_id)
        body = b"" if resource is None else encoded(resource)
        return answers.resource_answer(
            request, body, tag=str(patient.version), status=written.status, Location=location
        )


async def _visible(access: Access, named: Sequence[set[str]]) -> list[str] | None:
    """Among whom is searched: who is named, or all whom the caller may see; ``None`` for everybody of the tenant."""
    if named:
        return sorted(await access.seen(sorted(set.intersection(*named))))
    return None if access.sees_everybody() else await access.patients()


async def _readable(access: Access, principal: Principal, written: Sequence[Written]) -> dict[str, dict[str, Any]]:
    """The resources of those whom the caller may read, and of those whom it made or changed itself, by id."""
    found = [one.patient.patient_id for one in written if one.found]
    may_read = covers(principal.scopes, _KIND, READ)
    seen = await access.seen(found, Operation.READ_PATIENT) if found and may_read else frozenset()
    return {
        one.patient.patient_id: access.shown(Resource.PATIENT, one.patient.shown())
        for one in written
        if not one.found or one.patient.patient_id in seen
    }


def identifier_of(condition: str, where: str) -> str:
    """The index entry of a condition ``identifier=system|value``.

    Raises:
        Malformed: It is another condition.
    """
    try:
        ((name, text),) = parse_qsl(condition, strict_parsing=True, errors="strict", max_num_fields=1)
        token = parse_token(name, text)
    except ValueError as error:
        raise _bad_condition(where) from error
    if name != "identifier" or token.code is None:
        raise _bad_condition(where)
    return token.code if token.system is None else f"{token.system}|{token.code}"


def _bad_condition(where: str) -> Malformed:
    return Malformed(f"'{where}' is no condition that is taken here", "give identifier=system|value")


def version_of(text: str | None) -> int | None:
    """The version that an If-Match names.

    Raises:
        Malformed: It names none.
    """
    if text is None:
        return None
    found = _IF_MATCH.fullmatch(text)
    if found is None:
        raise Malformed("'If-Match' is no version", 'give W/"version" as ETag had it')
    return int(found[1])


async def _body(request: web.Request, max_bytes: int) -> bytes:
    kind = request.content_type if request.content_type in {FHIR_TYPE, "application/json"} else FHIR_TYPE
    return await read_body(request, max_bytes, kind)


def _identifiers(values: Sequence[Value]) -> list[tuple[str, str]]:
    found = []
    for value in values:
        if not isinstance(value, Token) or value.code is None:
            raise ParameterRefused("identifier", "has no value", "give system|value")
        # `|value` asks for one without a system, whose entry begins with the bar.
        found.append(
            ("" if value.system is None else value.system, value.code if value.system != "" else f"|{value.code}")
        )
    return found


def _birthdate(value: Value) -> str | None:
    """The index entry of a whole date without a prefix."""
    if not isinstance(value, DateRange) or value.prefix != "eq":
        return None
    day = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=value.begin_ms)
    days = (value.end_ms - value.begin_ms) / _DAY_MS
    length = {1.0: 10}.get(days, 7 if 28 <= days <= 31 else 4 if days >= 365 else 0)
    return day.date().isoformat()[:length] if length else None


def _fits(asked: Search, patient: KnownPatient) -> bool:
    return all(any(_one_fits(name, value, patient) for value in values) for name, values in asked.criteria)


def _one_fits(name: str, value: Value, patient: KnownPatient) -> bool:
    known = patient.demographics
    if isinstance(value, DateRange):
        if name == "_lastUpdated":
            begin, end = patient.updated_at_ms, patient.updated_at_ms + 1
        elif known.birthDate is None:
            return False
        else:
            begin, end = _born(known.birthDate)
        return bool(fits(value, np.array([begin]), np.array([end]))[0])
    if name == "gender":
        return known.gender is not None and is_token(value, _GENDERS, known.gender)
    if name in {"phone", "email"} and isinstance(value, Token):
        return value.code is not None and reaches(known, name, value.code)
    return True


def _born(text: str) -> tuple[int, int]:
    born = parse_date("birthdate", text)
    return born.begin_ms, born.end_ms
