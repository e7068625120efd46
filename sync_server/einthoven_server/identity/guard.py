"""Around every operation of every application: who asks, may they, and the audit entry.

It deliberately reads no stored patient data itself.

Invariants:
    1. Every guarded request leaves exactly one audit entry: with its write, or here. If that can't be written, the
       answer is 503 and carries nothing (fail closed).
    2. A handler runs only if ``permissions.allowed`` says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler

from einthoven_protocol.limits import MAX_REQUEST_BYTES
from einthoven_server import limits
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Forbidden, RequestRefused, Unauthorized
from einthoven_server.identity import signatures
from einthoven_server.identity.callers import Device, Principal
from einthoven_server.identity.permissions import Operation, Role, allowed
from einthoven_server.identity.store import IdentityStore
from einthoven_server.requests import as_refusal, read_body

SYNC_TYPE: Final = "application/vnd.einthoven.sync"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A device's verified request.

    Attributes:
        device: Who sent it.
        body: What it sent.
        nonce: To be remembered by whatever the request writes.
        nonce_expires_at_ms: Until when.
    """

    device: Device
    body: bytes
    nonce: str
    nonce_expires_at_ms: int


AnyoneHandler: TypeAlias = Callable[[web.Request, Trail], Awaitable[web.StreamResponse]]
PrincipalHandler: TypeAlias = Callable[[web.Request, Principal, Trail], Awaitable[web.StreamResponse]]
DeviceHandler: TypeAlias = Callable[[web.Request, SignedRequest, Trail], Awaitable[web.StreamResponse]]


class Guard:
    """Makes guarded handlers.

    Args:
        store: Identities.
        audit: Where entries go.
        clock: Wall time.
    """

    def __init__(self, store: IdentityStore, audit: AuditLog, clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock

    def anyone(self, operation: Operation, handler: AnyoneHandler) -> Handler:
        """For operations that need no identity."""

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            _require(Role.NOBODY, operation)
            return await handler(request, trail)

        return self._audited(operation, act)

    def principal(self, operation: Operation, handler: PrincipalHandler) -> Handler:
        """For operations of people and services with a bearer token."""

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            principal = await self._principal(request)
            trail.actor = principal.principal_id
            _require(principal.role, operation)
            return await handler(request, principal, trail)

        return self._audited(operation, act)

    def device(self, operation: Operation, handler: DeviceHandler) -> Handler:
        """For operations of devices, signed."""

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            signed = await self._signed(request, trail)
            _require(Role.DEVICE, operation)
            return await handler(request, signed, trail)

        return self._audited(operation, act)

    def _audited(
        self, operation: Operation, act: Callable[[web.Request, Trail], Awaitable[web.StreamResponse]]
    ) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            trail = Trail(operation.value, self._clock)
            try:
                response = await act(request, trail)
            except Exception as error:
                if not trail.written:
                    await self._audit.record(trail.event(as_refusal(error).code))
                raise
            if not trail.written:
                await self._audit.record(trail.event())
            return response

        return guarded

    async def _principal(self, request: web.Request) -> Principal:
        given = request.headers.getall("Authorization", [])
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        refused = Unauthorized("no valid access token", "send Authorization: Bearer with the token you were given")
        if scheme.lower() != "bearer" or not token:
            raise refused
        principal = await self._store.principal(token)
        if principal is None:
            raise refused
        return principal

    async def _signed(self, request: web.Request, trail: Trail) -> SignedRequest:
        body = await read_body(request, MAX_REQUEST_BYTES, SYNC_TYPE)
        parts = signatures.parts_of(request.headers, body)
        device = await self._store.device(parts.key_id)
        if device is None:
            raise signatures.refused_device()
        # `raw_path` keeps a query, which the signature does not cover and so refuses.
        signatures.check_signature(parts, request.method, request.raw_path, device.public_key)
        trail.actor, trail.patient = device.device_id, device.patient_id
        if device.revoked:
            raise revoked()
        signatures.check_fresh(parts, self._clock.now_ms())
        return SignedRequest(device, body, parts.nonce, parts.created_s * 1000 + limits.SIGNATURE_AGE_MAX_MS)


def revoked() -> RequestRefused:
    """The answer to a revoked device."""
    return Unauthorized("this device was revoked", "ask the clinic for a new enrolment code", code="device_revoked")


def _require(role: Role, operation: Operation) -> None:
    if not allowed(role, operation):
        raise Forbidden("this role may not do that", "use a token of the right role")
