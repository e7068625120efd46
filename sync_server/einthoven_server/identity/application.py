"""The addresses of ``identity``: enrolment, patients' ids, principals, devices, and the authority to pin.

It deliberately answers with opaque ids only.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Final, Literal

import msgspec
from aiohttp import web

from einthoven_protocol.enrolment import EnrolmentCode, EnrolRequest, EnrolResponse, format_code, proof_message
from einthoven_protocol.limits import MAX_ENROL_BYTES
from einthoven_server.audit.trail import Trail
from einthoven_server.certificates import Certificates
from einthoven_server.clock import Clock
from einthoven_server.errors import CodeRefused, Malformed, NotFound, TooMany
from einthoven_server.identity import codes
from einthoven_server.identity.callers import NewDevice, Principal
from einthoven_server.identity.codes import Try, TryLimit
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Role
from einthoven_server.identity.signatures import verify
from einthoven_server.identity.store import IdentityStore
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.requests import SECURITY_HEADERS, answers_errors, json_response, path_id, read_json, render_json

TOKEN_BYTES: Final = 32

STORE: Final = web.AppKey("identity_store", IdentityStore)
KEYS: Final = web.AppKey("identity_patient_keys", PatientKeys)
CLOCK: Final = web.AppKey("identity_clock", Clock)
CERTIFICATES: Final = web.AppKey("identity_certificates", Certificates)
PUBLIC_URL: Final = web.AppKey("identity_public_url", str)
TRY_LIMIT: Final = web.AppKey("identity_try_limit", TryLimit)


class PrincipalRequest(msgspec.Struct, forbid_unknown_fields=True):
    """JSON body of POST /v1/principals."""

    role: Literal["admin", "clinician", "service"]


def new_token() -> str:
    """A bearer token with 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


async def ca(request: web.Request) -> web.Response:
    """The authority's certificate; who fetches it compares its fingerprint with the enrolment code's."""
    return web.Response(
        text=request.app[CERTIFICATES].ca_pem, content_type="application/x-pem-file", headers=SECURITY_HEADERS
    )


async def create_patient(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/patients."""
    del principal
    trail.patient = patient_id = str(uuid.uuid4())
    await request.app[STORE].create_patient(patient_id, request.app[CLOCK].now_ms(), trail.event())
    trail.written = True
    return json_response({"patient_id": patient_id}, 201)


async def create_code(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/patients/{patient_id}/enrolment-codes."""
    del principal
    app, patient_id = request.app, path_id(request, "patient_id", "patient")
    if not await app[STORE].has_patient(patient_id):
        raise NotFound("no such patient", "check the id")
    trail.patient = patient_id
    secret, expires_at_ms = await app[STORE].create_code(patient_id, app[CLOCK].now_ms(), trail.event())
    trail.written = True
    code = EnrolmentCode(app[PUBLIC_URL], secret.selector + secret.verifier, app[CERTIFICATES].ca_sha256)
    return json_response({"code": format_code(code), "expires_at_ms": expires_at_ms}, 201)


async def create_principal(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/principals; the token is shown this once."""
    del principal
    asked = await read_json(request, PrincipalRequest)
    token = new_token()
    now_ms = request.app[CLOCK].now_ms()
    principal_id = await request.app[STORE].create_principal(Role(asked.role), token, now_ms, trail.event())
    trail.written = True
    return json_response({"principal_id": principal_id, "token": token}, 201)


async def revoke_device(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/devices/{device_id}/revoke."""
    del principal
    store, device_id = request.app[STORE], path_id(request, "device_id", "device")
    patient_id = await store.device_patient(device_id)
    if patient_id is None:
        raise NotFound("no such device", "check the id")
    trail.patient = patient_id
    revoked_at_ms = await store.revoke_device(device_id, request.app[CLOCK].now_ms(), trail.event())
    trail.written = True
    return json_response({"device_id": device_id, "revoked_at_ms": revoked_at_ms})


async def enrol(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/enrol: a one-time code for a device."""
    app = request.app
    asked = await read_json(request, EnrolRequest, MAX_ENROL_BYTES)
    now_ms = app[CLOCK].now_ms()
    wait_s = app[TRY_LIMIT].wait_s(now_ms)
    if wait_s:
        raise TooMany("too many wrong enrolment codes", f"try again in {wait_s} s", wait_s)
    if not verify(asked.public_key, proof_message(asked.secret, asked.public_key, app[PUBLIC_URL]), asked.proof):
        raise Malformed("the proof is not by that key for this server", "sign the code's own address", code="bad_proof")
    new = NewDevice(codes.split(asked.secret), asked.public_key)
    outcome, device_id = await _try(app, new, now_ms, trail)
    if outcome is not Try.GOOD:
        raise _refused_code(app, outcome, now_ms)
    device = await app[STORE].device(device_id)
    if device is None:
        raise NotFound("no such device", "ask for a new code")
    response = EnrolResponse(
        device_id=device.device_id,
        device_alias=device.alias,
        sync_key=device.sync_key,
        tenant=app[STORE].tenant,
        patient_id=device.patient_id,
        server_time_ms=now_ms,
    )
    return json_response(response)


async def _try(app: web.Application, new: NewDevice, now_ms: int, trail: Trail) -> tuple[Try, str]:
    patient_id = await app[STORE].code_patient(new.secret.selector)
    if patient_id is None:
        return codes.judge(None, new.secret.verifier, now_ms), ""
    trail.patient = patient_id
    patient_key = await app[KEYS].get(patient_id)
    outcome, device_id = await app[STORE].enrol(new, patient_key, now_ms, trail.event())
    trail.written = outcome is Try.GOOD
    return outcome, device_id


def _refused_code(app: web.Application, outcome: Try, now_ms: int) -> CodeRefused:
    if outcome is Try.EXPIRED:
        return CodeRefused("the enrolment code has expired", "ask for a new one", code="code_expired")
    if outcome is Try.USED:
        return CodeRefused("the enrolment code was used", "ask for a new one", code="code_used")
    app[TRY_LIMIT].count_wrong(now_ms)
    return CodeRefused("no such enrolment code", "ask for a new one")


def make_application(
    *,
    store: IdentityStore,
    keys: PatientKeys,
    guard: Guard,
    clock: Clock,
    certificates: Certificates,
    public_url: str,
) -> web.Application:
    """The application, to be mounted at /v1.

    Args:
        store: Identities.
        keys: Patients' data keys.
        guard: Authentication, permission, audit.
        clock: Wall time.
        certificates: What clients pin.
        public_url: The address that goes into enrolment codes.
    """
    app = web.Application(middlewares=[answers_errors(render_json)])
    app[STORE] = store
    app[KEYS] = keys
    app[CLOCK] = clock
    app[CERTIFICATES] = certificates
    app[PUBLIC_URL] = public_url
    app[TRY_LIMIT] = TryLimit()
    principal = guard.principal
    app.add_routes(
        [
            web.get("/ca", ca),
            web.post("/enrol", guard.anyone(Operation.ENROL, enrol)),
            web.post("/patients", principal(Operation.CREATE_PATIENT, create_patient)),
            web.post("/patients/{patient_id}/enrolment-codes", principal(Operation.CREATE_ENROLMENT_CODE, create_code)),
            web.post("/principals", principal(Operation.CREATE_PRINCIPAL, create_principal)),
            web.post("/devices/{device_id}/revoke", principal(Operation.REVOKE_DEVICE, revoke_device)),
        ]
    )
    return app
