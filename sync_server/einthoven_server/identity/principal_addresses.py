"""The addresses by which an admin makes, changes and revokes principals, and replaces the key that signs tokens.

It deliberately sees no private key: a principal is registered by its public keys.

Invariants:
    1. Nothing of a request but what its shape names reaches a principal (mass assignment is refused).
    2. A write and its audit entry are one transaction.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web

from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, NotFound
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.client_store import ClientStore
from einthoven_server.identity.clients import algorithms_of, checked_scopes, keys_of
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Role
from einthoven_server.identity.public_keys import KeyMalformed
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.identity.store import IdentityStore
from einthoven_server.requests import json_response, path_id, read_json

CLIENTS: Final = web.AppKey("principal_clients", ClientStore)
KEYS: Final = web.AppKey("principal_signing_keys", SigningKeys)
STORE: Final = web.AppKey("principal_identity_store", IdentityStore)
CLOCK: Final = web.AppKey("principal_clock", Clock)


class PrincipalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/principals."""

    role: Literal["admin", "clinician", "patient", "service"]
    jwks: dict[str, Any]
    patient_id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")] | None = None
    bearer: bool = False
    scopes: list[str] = []


class KeysRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of PUT /v1/principals/{principal_id}/keys."""

    jwks: dict[str, Any]


class RotationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/signing-keys."""

    at_once: bool = False


async def create_principal(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/principals; its private key stays where it was made."""
    del principal
    asked, app = await read_json(request, PrincipalRequest), request.app
    role = Role(asked.role)
    if (role is Role.PATIENT) != (asked.patient_id is not None):
        raise Malformed("patient_id goes with the role patient, and with no other", "see docs/server.md")
    if role is not Role.SERVICE and (asked.bearer or asked.scopes):
        raise Malformed("bearer and scopes are for services", "leave them out")
    jwks, scopes = _jwks(asked.jwks, role), _checked_scopes(asked.scopes)
    if asked.patient_id is not None:
        if not await app[STORE].has_patient(asked.patient_id):
            raise NotFound("no such patient", "check the id")
        trail.patient = asked.patient_id
    principal_id = await app[CLIENTS].create(
        role,
        jwks,
        app[CLOCK].now_ms(),
        trail.event(),
        patient_id=asked.patient_id,
        bearer=asked.bearer,
        scopes=scopes,
    )
    trail.written = True
    return json_response({"principal_id": principal_id}, HTTPStatus.CREATED)


async def replace_keys(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """PUT /v1/principals/{principal_id}/keys."""
    del principal
    asked, app = await read_json(request, KeysRequest), request.app
    principal_id = path_id(request, "principal_id", "principal")
    client = await app[CLIENTS].find(principal_id)
    if client is None or client.role is Role.DEVICE:
        raise NotFound("no such principal", "check the id")
    await app[CLIENTS].replace_keys(principal_id, _jwks(asked.jwks, client.role), trail.event())
    trail.written = True
    return json_response({"principal_id": principal_id})


async def revoke(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/principals/{principal_id}/revoke."""
    del principal
    app, principal_id = request.app, path_id(request, "principal_id", "principal")
    revoked_at_ms = await app[CLIENTS].revoke(principal_id, app[CLOCK].now_ms(), trail.event())
    trail.written = True
    return json_response({"principal_id": principal_id, "revoked_at_ms": revoked_at_ms})


async def rotate(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/signing-keys."""
    del principal, trail
    asked = await read_json(request, RotationRequest)
    return json_response({"kid": await request.app[KEYS].rotate(at_once=asked.at_once)}, HTTPStatus.CREATED)


def _jwks(document: dict[str, Any], role: Role) -> dict[str, Any]:
    try:
        keys_of(document, algorithms_of(role))
    except KeyMalformed as error:
        raise Malformed(f"jwks is refused: {error}", "send public keys (RFC 7517)") from error
    return document


def _checked_scopes(scopes: list[str]) -> str:
    try:
        return checked_scopes(scopes)
    except KeyMalformed as error:
        raise Malformed(str(error), "see SMART App Launch 2, scopes") from error


def add_principal_addresses(
    app: web.Application, *, clients: ClientStore, keys: SigningKeys, store: IdentityStore, guard: Guard, clock: Clock
) -> None:
    """Add them to the application of tokens."""
    app[CLIENTS], app[KEYS], app[STORE], app[CLOCK] = clients, keys, store, clock
    principal = guard.principal
    app.add_routes(
        [
            web.post("/principals", principal(Operation.CREATE_PRINCIPAL, create_principal)),
            web.put("/principals/{principal_id}/keys", principal(Operation.REPLACE_KEYS, replace_keys)),
            web.post("/principals/{principal_id}/revoke", principal(Operation.REVOKE_PRINCIPAL, revoke)),
            web.post("/signing-keys", principal(Operation.ROTATE_SIGNING_KEY, rotate)),
        ]
    )
