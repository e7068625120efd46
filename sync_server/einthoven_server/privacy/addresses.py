"""Addresses of restriction (GDPR article 18), of the tenant's privacy policy, and of the export of a patient.

They deliberately decide nothing about who sees whom: ``identity.relations`` asks, with each request, what is kept here.

Invariants:
    1. A purpose that a restriction or a policy names is one that requests here have.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.identity.access import PATIENT_IN_PATH, Access, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.consent import Policy, Purpose
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.identity.privacy_state import PrivacyState
from einthoven_server.privacy.patient_export import PatientExport
from einthoven_server.records.consent_publisher import ConsentPublisher
from einthoven_server.requests import answers_errors, json_response, read_json, render_json

STATE: Final = web.AppKey("privacy_state", PrivacyState)
PUBLISHER: Final = web.AppKey("privacy_publisher", ConsentPublisher)
CLOCK: Final = web.AppKey("privacy_clock", Clock)


class RestrictionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """JSON body of PUT /v1/patients/{patient_id}/restriction.

    Attributes:
        ground: Which of article 18(1): (a), (b), (c), (d).
        purposes: For what the data may be seen all the same (article 18(2)); for nothing where empty.
    """

    ground: Literal["accuracy_contested", "unlawful_processing", "legal_claims", "objection_pending"]
    purposes: Annotated[list[Purpose], msgspec.Meta(max_length=len(Purpose))] = []


async def restrict(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """PUT /v1/patients/{patient_id}/restriction."""
    del principal
    app, access = request.app, access_of(request)
    asked = await read_json(request, RestrictionRequest)
    now_ms = app[CLOCK].now_ms()
    await app[STATE].restrict(access.patient_id, asked.ground, asked.purposes, now_ms, trail.event())
    trail.written = True
    await app[PUBLISHER].tell(access.patient_id, now_ms)
    return await _shown(request, access)


async def lift(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """DELETE /v1/patients/{patient_id}/restriction."""
    del principal
    app, access = request.app, access_of(request)
    await app[STATE].lift(access.patient_id, trail.event())
    trail.written = True
    await app[PUBLISHER].tell(access.patient_id, app[CLOCK].now_ms())
    return await _shown(request, access)


async def read_restriction(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/patients/{patient_id}/restriction."""
    del principal, trail
    return await _shown(request, access_of(request))


async def _shown(request: web.Request, access: Access) -> web.Response:
    restriction, _ = await request.app[STATE].restriction_of(access.patient_id)
    return json_response(access.shown(Resource.RESTRICTION, restriction._asdict()))


async def put_policy(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """PUT /v1/privacy/policy."""
    del principal
    app = request.app
    policy = await read_json(request, Policy)
    kept = await app[STATE].put_policy(policy, app[CLOCK].now_ms(), trail.event())
    trail.written = True
    return json_response(access_of(request).shown(Resource.PRIVACY_POLICY, kept.document()))


async def read_policy(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/privacy/policy."""
    del principal, trail
    kept = await request.app[STATE].policy()
    return json_response(access_of(request).shown(Resource.PRIVACY_POLICY, kept.document()))


def make_application(
    *, state: PrivacyState, publisher: ConsentPublisher, export: PatientExport, guard: Guard, clock: Clock
) -> web.Application:
    """The application, to be mounted at /v1.

    Args:
        state: Restrictions and the policy.
        publisher: Tells devices.
        export: All of a patient.
        guard: Authentication, permission, audit.
        clock: Wall time.
    """
    app = web.Application(middlewares=[answers_errors(render_json)])
    app[STATE], app[PUBLISHER], app[CLOCK] = state, publisher, clock
    one, policy, principal = "/patients/{patient_id}/restriction", "/privacy/policy", guard.principal
    reads = principal(Operation.READ_RESTRICTION, read_restriction, about=PATIENT_IN_PATH)
    app.add_routes(
        [
            web.get(one, reads, allow_head=False),
            web.put(one, principal(Operation.RESTRICT, restrict, about=PATIENT_IN_PATH)),
            web.delete(one, principal(Operation.LIFT_RESTRICTION, lift, about=PATIENT_IN_PATH)),
            web.get(
                "/patients/{patient_id}/export",
                principal(Operation.EXPORT_PATIENT, export.export, about=PATIENT_IN_PATH),
                allow_head=False,
            ),
            web.get(policy, principal(Operation.READ_PRIVACY_POLICY, read_policy), allow_head=False),
            web.put(policy, principal(Operation.PUT_PRIVACY_POLICY, put_policy)),
        ]
    )
    return app
