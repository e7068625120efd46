"""Patient: read, search, create, change, and transaction bundles.

It deliberately deletes nothing (erasing is a privacy operation of its own).

Invariants:
    1. A search for patients names at least one thing that an index finds; who is not seen is not counted.
    2. A bundle is done wholly or not at all, and only for patients that the caller sees.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

import numpy as np
from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, NotFound, ParameterRefused
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import FHIR_TYPE, encoded, entry
from einthoven_server.fhir.patient_store import PatientStore
from einthoven_server.fhir.patients import KnownPatient, Wanted, Written, folded, reaches, read_patient
from einthoven_server.fhir.result_columns import fits
from einthoven_server.fhir.result_search import is_token
from einthoven_server.fhir.search_parameters import Search, Value, parse_search
from einthoven_server.fhir.search_values import DateRange, Token, parse_date, parse_token
from einthoven_server.fhir.sight import Sight
from einthoven_server.fhir.transactions import Entry, read_transaction, transaction_response
from einthoven_server.identity.callers import Principal
from einthoven_server.requests import read_body
from einthoven_server.strict_json import check_json

_PATIENT_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_IF_MATCH: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"', re.ASCII)
_GENDERS: Final = "http://hl7.org/fhir/administrative-gender"
_DAY_MS: Final = 86_400_000


class PatientAddresses:
    """Handlers of patients and devices.

    Args:
        base_url: Of this service.
        patients: Patients.
        sight: Whom a caller may see.
        clock: Wall time.
    """

    def __init__(self, *, base_url: str, patients: PatientStore, sight: Sight, clock: Clock) -> None:
        self._base_url = base_url
        self._patients = patients
        self._sight = sight
        self._clock = clock

    async def read(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Patient/{id}."""
        answers.check_acceptable(request)
        answers.check_plain_read(request)
        wanted = request.match_info["id"]
        ids = [wanted] if _PATIENT_ID.fullmatch(wanted) else []
        seen = await self._sight.seen(principal, ids)
        found = await self._patients.by_ids(sorted(seen))
        if not found:
            raise NotFound("no such Patient", "check the id")
        trail.patient = wanted
        return answers.resource_answer(request, encoded(found[0].shown()), tag=str(found[0].version))

    async def search(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Patient?..., POST /Patient/_search."""
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
        ids = set(await self._patients.found(conditions)) if conditions else set.intersection(*named)
        for some in named:
            ids &= some
        seen = await self._sight.seen(principal, sorted(ids))
        found = [one for one in await self._patients.by_ids(sorted(seen)) if _fits(asked, one)]
        if len(found) == 1:
            trail.patient = found[0].patient_id
        entries = [entry(self._base_url, "Patient", one.patient_id, encoded(one.shown())) for one in found]
        body = answers.page(self._base_url, asked, entries[: asked.count], total=len(found), following=None)
        return answers.bundle_answer(body)

    async def create(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """POST /Patient, also only if none exists (If-None-Exist: identifier=system|value)."""
        del principal
        answers.check_acceptable(request)
        demographics = read_patient(await _body(request, limits.JSON_BODY_MAX_BYTES), patient_id=None)
        condition = request.headers.get("If-None-Exist")
        unless = None if condition is None else identifier_of(condition, "If-None-Exist")
        written = await self._patients.write([Wanted(demographics, unless)], self._clock.now_ms(), trail.event())
        trail.written = True
        return self._written(request, written[0])

    async def change(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """PUT /Patient/{id}, also only a version (If-Match)."""
        answers.check_acceptable(request)
        wanted = request.match_info["id"]
        octets = await _body(request, limits.JSON_BODY_MAX_BYTES)
        seen = await self._sight.seen(principal, [wanted] if _PATIENT_ID.fullmatch(wanted) else [])
        if wanted not in seen:
            raise NotFound("no such Patient", "check the id")
        trail.patient = wanted
        demographics = read_patient(octets, patient_id=wanted)
        version = version_of(request.headers.get("If-Match"))
        changed = Wanted(demographics, patient_id=wanted, if_version=version)
        written = await self._patients.write([changed], self._clock.now_ms(), trail.event())
        trail.written = True
        return self._written(request, written[0])

    async def transact(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """POST /: a transaction of patients to be made or changed."""
        answers.check_acceptable(request)
        entries = read_transaction(check_json(await _body(request, limits.FHIR_BUNDLE_MAX_BYTES)))
        wanted = [self._wanted(one) for one in entries]
        ids = sorted({one.patient_id for one in wanted if one.patient_id is not None})
        if not (await self._sight.seen(principal, ids)).issuperset(ids):
            raise NotFound("a patient of the bundle is not there", "check the ids; nothing was done")
        written = await self._patients.write(wanted, self._clock.now_ms(), trail.event())
        trail.written = True
        full = answers.prefers(request, "return") == "representation"
        return answers.bundle_answer(encoded(transaction_response(written, full=full)))

    def _wanted(self, one: Entry) -> Wanted:
        unless = None if one.if_none_exist is None else identifier_of(one.if_none_exist, "ifNoneExist")
        return Wanted(one.demographics, unless, one.patient_id, version_of(one.if_match))

    def _written(self, request: web.Request, written: Written) -> web.Response:
        patient = written.patient
        location = f"{self._base_url}/Patient/{patient.patient_id}"
        body = b"" if answers.prefers(request, "return") == "minimal" else encoded(patient.shown())
        return answers.resource_answer(
            request, body, tag=str(patient.version), status=written.status, Location=location
        )


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
