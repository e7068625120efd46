"""Addresses of emergency access: a clinician opens one, administrators review all, a patient sees their own.

It deliberately shows the reason in words to administrators only (``fields_seen``).
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from einthoven_protocol.checks import text_octets
from einthoven_protocol.errors import ProtocolError
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed
from einthoven_server.identity.access import BREAK_GLASS_PURPOSE, PATIENT_IN_PATH, access_of
from einthoven_server.identity.break_glass import BreakGlass, Place
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.requests import json_response, read_json

ACCESSES: Final = web.AppKey("break_glass", BreakGlass)
CLOCK: Final = web.AppKey("break_glass_clock", Clock)
_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,15})-([0-9a-f-]{36})", re.ASCII)


class BreakGlassRequest(msgspec.Struct, forbid_unknown_fields=True):
    """JSON body of POST /v1/patients/{patient_id}/break-glass."""

    reason: Literal["emergency", "care_team_unavailable", "patient_request"]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.BREAK_GLASS_TEXT_MAX_CHARS)]


async def open_access(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/patients/{patient_id}/break-glass."""
    app, access = request.app, access_of(request)
    asked = await read_json(request, BreakGlassRequest)
    try:
        text_octets("text", asked.text, limits.BREAK_GLASS_TEXT_MAX_CHARS)
    except ProtocolError as error:
        raise Malformed(str(error), "remove what can't be kept") from error
    trail.purpose = BREAK_GLASS_PURPOSE
    opened = await app[ACCESSES].open(
        access.patient_id, principal.principal_id, asked.reason, asked.text, app[CLOCK].now_ms(), trail.event()
    )
    trail.written = True
    return json_response(access.shown(Resource.BREAK_GLASS, opened._asdict()), 201)


async def list_accesses(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/break-glass?before=PLACE, or /v1/patients/{patient_id}/break-glass?before=PLACE."""
    del principal, trail
    access, before, limit = access_of(request), request.query.get("before"), limits.BREAK_GLASS_PAGE_ROWS
    place = None if before is None else _PLACE.fullmatch(before)
    if before is not None and place is None:
        raise Malformed("'before' is not from an answer of this server", "give the answer's 'next'")
    start = None if place is None else Place(int(place[1]), place[2])
    found = await request.app[ACCESSES].newest(access.patient_id, start, limit)
    following = f"{found[-1].opened_at_ms}-{found[-1].access_id}" if len(found) == limit else None
    shown = [access.shown(Resource.BREAK_GLASS, one._asdict()) for one in found]
    return json_response({"accesses": shown, "next": following})


def add_break_glass(app: web.Application, accesses: BreakGlass, guard: Guard, clock: Clock) -> None:
    """Give an application these addresses."""
    app[ACCESSES], app[CLOCK] = accesses, clock
    path, principal = "/patients/{patient_id}/break-glass", guard.principal
    of_one = principal(Operation.LIST_PATIENT_BREAK_GLASS, list_accesses, about=PATIENT_IN_PATH)
    app.add_routes(
        [
            web.post(path, principal(Operation.BREAK_GLASS, open_access, about=PATIENT_IN_PATH)),
            web.get(path, of_one, allow_head=False),
            web.get("/break-glass", principal(Operation.LIST_BREAK_GLASS, list_accesses), allow_head=False),
        ]
    )
