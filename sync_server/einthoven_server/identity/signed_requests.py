"""Requests that devices sign (RFC 9421): who sent one, is it fresh, not too often, and once.

It deliberately knows no access token and reads no patient data.

Invariants:
    1. A device's signature counts once, on whatever address: its nonce is remembered before the handler runs, or by
       the handler's own write where it says so.
    2. A device, and a tenant's devices together, are held to their rates once it is sure who sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from aiohttp import web

from einthoven_protocol.http_signature import SignedParts
from einthoven_protocol.limits import MAX_REQUEST_BYTES
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, TooLarge
from einthoven_server.identity import signatures
from einthoven_server.identity.caller_rates import CallerRates
from einthoven_server.identity.callers import Device
from einthoven_server.identity.permissions import Operation, Relation, Role
from einthoven_server.identity.rates import BODY_BYTES, REQUESTS, Cost
from einthoven_server.identity.refusals import erased, replayed, require, revoked
from einthoven_server.identity.request_entries import Act
from einthoven_server.identity.store import IdentityStore
from einthoven_server.requests import read_body

SYNC_TYPE: Final = "application/vnd.einthoven.sync"


class Body(NamedTuple):
    """What a signed request may carry.

    Attributes:
        content_type: Its type; ``None`` for no body at all.
        max_bytes: Its length.
    """

    content_type: str | None
    max_bytes: int


SYNC_BODY: Final = Body(SYNC_TYPE, MAX_REQUEST_BYTES)
NO_BODY: Final = Body(None, 0)


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


class SignedHead(NamedTuple):
    """A device's verified request whose body was not read yet.

    Attributes:
        device: Who sent it.
        content_digest: The Content-Digest that the signature covers (``http_signature.content_digest``).
    """

    device: Device
    content_digest: str


DeviceHandler: TypeAlias = Callable[[web.Request, SignedRequest, Trail], Awaitable[web.StreamResponse]]
StreamHandler: TypeAlias = Callable[[web.Request, SignedHead, Trail], Awaitable[web.StreamResponse]]


class SignedRequests:
    """Judges signed requests of one tenant's devices.

    Args:
        store: Identities.
        rates: What devices may ask for in a time.
        clock: Wall time.
    """

    def __init__(self, store: IdentityStore, rates: CallerRates, clock: Clock) -> None:
        self._store = store
        self._rates = rates
        self._clock = clock

    def whole(
        self, operation: Operation, handler: DeviceHandler, *, body: Body, costs: Sequence[Cost], writes_nonce: bool
    ) -> Act:
        """What does an operation once its whole body is there; see ``Guard.device``."""

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            signed = await self._signed(request, body, trail)
            require(Role.DEVICE, operation, Relation.SELF)
            self._take(signed.device, len(signed.body), costs)
            if not writes_nonce and not await self._store.remember_nonce(
                signed.device.alias, signed.nonce, signed.nonce_expires_at_ms
            ):
                raise replayed()
            return await handler(request, signed, trail)

        return act

    def stream(self, operation: Operation, handler: StreamHandler, *, max_bytes: int) -> Act:
        """What does an operation while its body arrives; see ``Guard.device_stream``."""

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            length = request.content_length or 0
            if length > max_bytes:
                raise TooLarge(f"the body is longer than {max_bytes} bytes", "send less at a time")
            if request.body_exists and request.content_length is None:
                raise Malformed("the length of the body is not declared", "send Content-Length")
            parts = signatures.head_of(request.headers)
            device = await self._signer(request, parts, trail)
            require(Role.DEVICE, operation, Relation.SELF)
            self._take(device, 0, (Cost(BODY_BYTES, length),))
            if not await self._store.remember_nonce(device.alias, parts.nonce, _expires_at_ms(parts)):
                raise replayed()
            return await handler(request, SignedHead(device, parts.content_digest), trail)

        return act

    def _take(self, device: Device, body_bytes: int, costs: Sequence[Cost]) -> None:
        self._rates.take(device.device_id, (Cost(REQUESTS, 1), Cost(BODY_BYTES, body_bytes), *costs))

    async def _signed(self, request: web.Request, form: Body, trail: Trail) -> SignedRequest:
        body = await _read(request, form)
        parts = signatures.parts_of(request.headers, body)
        device = await self._signer(request, parts, trail)
        return SignedRequest(device, body, parts.nonce, _expires_at_ms(parts))

    async def _signer(self, request: web.Request, parts: SignedParts, trail: Trail) -> Device:
        """Who signed the head of a request."""
        device = await self._store.device(parts.key_id)
        if device is None:
            raise signatures.refused_device()
        # `raw_path` keeps a query, which the signature does not cover and so refuses.
        signatures.check_signature(parts, request.method, request.raw_path, device.public_key)
        trail.by(device.device_id, Role.DEVICE.value)
        trail.patient = device.patient_id
        if device.erased:
            raise erased()
        if device.revoked:
            raise revoked()
        signatures.check_fresh(parts, self._clock.now_ms())
        return device


def _expires_at_ms(parts: SignedParts) -> int:
    return parts.created_s * 1000 + limits.SIGNATURE_AGE_MAX_MS


async def _read(request: web.Request, form: Body) -> bytes:
    if form.content_type is not None:
        return await read_body(request, form.max_bytes, form.content_type)
    if request.body_exists:
        raise Malformed("this address takes no body", "send none")
    return b""
