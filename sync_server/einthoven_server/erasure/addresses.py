"""The address that erases a patient.

It deliberately answers before all is gone: what is left can't be read any more.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from einthoven_server.audit.trail import Trail
from einthoven_server.erasure.erasing import Erasures
from einthoven_server.errors import Busy
from einthoven_server.identity.access import PATIENT_IN_PATH, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation
from einthoven_server.requests import answers_errors, json_response, render_json

ERASURES: Final = web.AppKey("erasures", Erasures)
_log = logging.getLogger("einthoven_server")


async def erase(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/patients/{patient_id}/erase."""
    del principal
    erasures, patient_id = request.app[ERASURES], access_of(request).patient_id
    erased_at_ms = await erasures.begin(patient_id, trail.event())
    trail.written = True
    destroyed = True
    try:
        await erasures.destroy(patient_id)
    except Busy:
        # Nobody gets at it any more; the next round destroys it.
        destroyed = False
        _log.warning("an erasure was begun, and the vault does not answer; it is tried again")
    erasures.wake()
    return json_response({"patient_id": patient_id, "erased_at_ms": erased_at_ms, "keys_destroyed": destroyed}, 202)


def make_application(*, erasures: Erasures, guard: Guard) -> web.Application:
    """The application, to be mounted at /v1; it carries erasures out while it runs.

    Args:
        erasures: What erases.
        guard: Authentication, permission, audit.
    """

    async def carry_out(app: web.Application) -> AsyncIterator[None]:
        async with app[ERASURES].running():
            yield

    app = web.Application(middlewares=[answers_errors(render_json)])
    app[ERASURES] = erasures
    app.cleanup_ctx.append(carry_out)
    handler = guard.principal(Operation.ERASE_PATIENT, erase, about=PATIENT_IN_PATH)
    app.add_routes([web.post("/patients/{patient_id}/erase", handler)])
    return app
