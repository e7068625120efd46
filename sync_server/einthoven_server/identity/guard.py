"""Around every operation of every application: who asks, may they, not too often, and the audit entry.

It deliberately reads no stored patient data itself.

Invariants:
    1. Every guarded request leaves exactly one audit entry: with its write, or here. If that can't be written, the
       answer is 503 and carries nothing (fail closed).
    2. A handler runs only if ``permissions.decide`` says so, for the patient whom the request names: an operation that
       concerns one can't be registered without the way to find them. Who has no relation that allows it gets the answer
       to an id that does not exist.
    3. A device's signature counts once, on whatever address: its nonce is remembered before the handler runs, or by
       the handler's own write where it says so.
    4. A device, and a tenant's devices together, are held to their rates once it is sure who sends.
    5. A proof beside an access token counts once: it is claimed before the handler runs, or, where the request only
       reads, with the audit entry, before the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.typedefs import Handler

from einthoven_protocol.http_signature import SignedParts
from einthoven_protocol.limits import MAX_REQUEST_BYTES
from einthoven_protocol.oauth import PROOF_HEADER
from einthoven_server import limits
from einthoven_server.audit.chain import ALLOWED
from einthoven_server.audit.recorder import EventRecorder
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Forbidden, Malformed, RequestRefused, TooLarge, TooMany, Unauthorized
from einthoven_server.identity import signatures
from einthoven_server.identity.access import BREAK_GLASS_PURPOSE, Access, Locator, grant
from einthoven_server.identity.callers import Device, Principal
from einthoven_server.identity.consent import categories_of
from einthoven_server.identity.permissions import Concern, Operation, Relation, Role, concern_of, decide, may_ever
from einthoven_server.identity.presented_tokens import PresentedTokens, no_token
from einthoven_server.identity.rates import BODY_BYTES, REQUESTS, Cost, Rates
from einthoven_server.identity.relations import Relations
from einthoven_server.identity.store import IdentityStore
from einthoven_server.requests import as_refusal, read_body

_READING: Final = frozenset({"GET", "HEAD"})
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


AnyoneHandler: TypeAlias = Callable[[web.Request, Trail], Awaitable[web.StreamResponse]]
PrincipalHandler: TypeAlias = Callable[[web.Request, Principal, Trail], Awaitable[web.StreamResponse]]
DeviceHandler: TypeAlias = Callable[[web.Request, SignedRequest, Trail], Awaitable[web.StreamResponse]]
StreamHandler: TypeAlias = Callable[[web.Request, SignedHead, Trail], Awaitable[web.StreamResponse]]


class Guard:
    """Makes guarded handlers.

    Args:
        store: Identities.
        audit: Where entries of requests go that write none themselves.
        clock: Wall time.
        rates: What devices may ask for in a time.
        relations: How callers stand to patients.
        tokens: Judges access tokens; without, none is good.
    """

    def __init__(
        self,
        store: IdentityStore,
        audit: EventRecorder,
        clock: Clock,
        rates: Rates | None = None,
        *,
        relations: Relations,
        tokens: PresentedTokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._store = store
        self._relations = relations
        self.operations: WeakKeyDictionary[Handler, Operation] = WeakKeyDictionary()
        """Which operation a guarded handler is: tests ask every route of a server for its own."""
        self._audit = audit
        self._clock = clock
        self._rates = Rates() if rates is None else rates

    def anyone(self, operation: Operation, handler: AnyoneHandler) -> Handler:
        """For operations that need no identity."""

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            _require(Role.NOBODY, operation, Relation.NONE)
            return await handler(request, trail)

        return self._audited(operation, act)

    def principal(self, operation: Operation, handler: PrincipalHandler, *, about: Locator | None = None) -> Handler:
        """For operations of people, services and devices with an access token.

        Args:
            operation: Which.
            handler: What does it; it finds what it may show in ``access_of``.
            about: How the patient is found, where the operation concerns one.

        Raises:
            RuntimeError: It concerns one and there is no way to find them, or the other way round.
        """
        concern = concern_of(operation)
        if (concern is Concern.PATIENT) is (about is None):
            raise RuntimeError(f"{operation} concerns {concern}; say whom it is about accordingly")

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            principal = await self._principal(request, trail)
            if not may_ever(principal.role, operation):
                raise _forbidden()
            access = await self._access(request, principal, operation, about, trail)
            grant(request, access)
            if request.method not in _READING:
                await self._claim(trail)
            response = await handler(request, principal, trail)
            if concern is Concern.PATIENTS and not access.asked:
                raise RuntimeError(f"{operation} asked about no patient")
            return response

        return self._audited(operation, act)

    async def _access(
        self, request: web.Request, principal: Principal, operation: Operation, about: Locator | None, trail: Trail
    ) -> Access:
        relation, patient_id = Relation.TENANT, ""
        if about is not None:
            named = await about.find(request)
            found = await self._relations.of(principal, named, self._clock.now_ms(), categories_of(operation))
            if named is None or found is None:
                raise about.refused()
            relation, trail.patient, patient_id = found, named, named
            if not decide(principal.role, operation, relation).allowed:
                raise about.refused()
            if relation is Relation.BREAK_GLASS:
                trail.purpose = BREAK_GLASS_PURPOSE
        elif concern_of(operation) is Concern.NO_PATIENT:
            _require(principal.role, operation, relation)
        return Access(self._relations, principal, operation, relation, patient_id, trail, self._clock)

    def device(
        self,
        operation: Operation,
        handler: DeviceHandler,
        *,
        body: Body = SYNC_BODY,
        costs: Sequence[Cost] = (),
        writes_nonce: bool = False,
    ) -> Handler:
        """For operations of devices, signed.

        Args:
            operation: Which.
            handler: What does it.
            body: What the request may carry.
            costs: What it takes of the sender's rates, beside one request and its bytes.
            writes_nonce: The handler's own write remembers the nonce, and refuses one that it knows.
        """

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            signed = await self._signed(request, body, trail)
            _require(Role.DEVICE, operation, Relation.SELF)
            self._take(signed, costs)
            if not writes_nonce and not await self._store.remember_nonce(
                signed.device.alias, signed.nonce, signed.nonce_expires_at_ms
            ):
                raise replayed()
            return await handler(request, signed, trail)

        return self._audited(operation, act)

    def device_stream(self, operation: Operation, handler: StreamHandler, *, max_bytes: int) -> Handler:
        """For signed operations that keep what arrives of a body also when the rest of it does not.

        The signature covers the body's digest, so it is verified before a byte of the body is read; that the body has
        that digest is for the handler to check.

        Args:
            operation: Which.
            handler: What does it.
            max_bytes: Length of the body; it must be declared.
        """

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            length = request.content_length or 0
            if length > max_bytes:
                raise TooLarge(f"the body is longer than {max_bytes} bytes", "send less at a time")
            if request.body_exists and request.content_length is None:
                raise Malformed("the length of the body is not declared", "send Content-Length")
            parts = signatures.head_of(request.headers)
            device = await self._signer(request, parts, trail)
            _require(Role.DEVICE, operation, Relation.SELF)
            expires_at_ms = parts.created_s * 1000 + limits.SIGNATURE_AGE_MAX_MS
            self._take(SignedRequest(device, b"", parts.nonce, expires_at_ms), (Cost(BODY_BYTES, length),))
            if not await self._store.remember_nonce(device.alias, parts.nonce, expires_at_ms):
                raise replayed()
            return await handler(request, SignedHead(device, parts.content_digest), trail)

        return self._audited(operation, act)

    async def enter(self, trail: Trail) -> None:
        """Write the entry of a request that is about to be answered for hours.

        Raises:
            Busy: It can't be written.
        """
        await self._record(trail)

    def take(self, client_id: str) -> None:
        """Hold a client, known by now, to its rate of requests.

        Raises:
            TooMany: It asks too often.
        """
        self._take_of(client_id, (Cost(REQUESTS, 1),))

    def _take(self, signed: SignedRequest, costs: Sequence[Cost]) -> None:
        self._take_of(signed.device.device_id, (Cost(REQUESTS, 1), Cost(BODY_BYTES, len(signed.body)), *costs))

    def _take_of(self, caller_id: str, costs: Sequence[Cost]) -> None:
        wait_s = self._rates.take(self._store.tenant, caller_id, costs, self._clock.now_ms())
        if wait_s:
            raise TooMany(
                "this device or its clinic asks too often", f"try again in {wait_s} s", wait_s, "too_many_requests"
            )

    def _audited(
        self, operation: Operation, act: Callable[[web.Request, Trail], Awaitable[web.StreamResponse]]
    ) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            trail = Trail(operation.value, self._clock)
            try:
                response = await act(request, trail)
            except Exception as error:
                if not trail.written:
                    await self._record(trail, as_refusal(error).code)
                raise
            if trail.written:
                await self._claim(trail)
            else:
                await self._record(trail)
            return response

        self.operations[guarded] = operation
        return guarded

    async def _record(self, trail: Trail, outcome: str = ALLOWED) -> None:
        """Write a request's entry, and claim with it what was not claimed yet."""
        fresh = await self._audit.record(trail.event(outcome), trail.claim)
        trail.written, trail.claim = True, None
        if not fresh:
            raise replayed()

    async def _claim(self, trail: Trail) -> None:
        claim, trail.claim = trail.claim, None
        if claim is not None and not (self._tokens is not None and await self._tokens.claim(claim)):
            raise replayed()

    async def _principal(self, request: web.Request, trail: Trail) -> Principal:
        if self._tokens is None:
            raise no_token()
        return await self._tokens.caller(
            request.method,
            request.raw_path,
            request.headers.getall("Authorization", []),
            request.headers.getall(PROOF_HEADER, []),
            trail,
        )

    async def _signed(self, request: web.Request, form: Body, trail: Trail) -> SignedRequest:
        body = await _read(request, form)
        parts = signatures.parts_of(request.headers, body)
        device = await self._signer(request, parts, trail)
        return SignedRequest(device, body, parts.nonce, parts.created_s * 1000 + limits.SIGNATURE_AGE_MAX_MS)

    async def _signer(self, request: web.Request, parts: SignedParts, trail: Trail) -> Device:
        """Who signed the head of a request."""
        device = await self._store.device(parts.key_id)
        if device is None:
            raise signatures.refused_device()
        # `raw_path` keeps a query, which the signature does not cover and so refuses.
        signatures.check_signature(parts, request.method, request.raw_path, device.public_key)
        trail.by(device.device_id, Role.DEVICE.value)
        trail.patient = device.patient_id
        if device.revoked:
            raise revoked()
        signatures.check_fresh(parts, self._clock.now_ms())
        return device


def revoked() -> RequestRefused:
    """The answer to a revoked device."""
    return Unauthorized("this device was revoked", "ask the clinic for a new enrolment code", code="device_revoked")


def replayed() -> RequestRefused:
    """The answer to a nonce that was seen before."""
    return Unauthorized("this request was seen before", "sign anew", code="replayed")


async def _read(request: web.Request, form: Body) -> bytes:
    if form.content_type is not None:
        return await read_body(request, form.max_bytes, form.content_type)
    if request.body_exists:
        raise Malformed("this address takes no body", "send none")
    return b""


def _require(role: Role, operation: Operation, relation: Relation) -> None:
    if not decide(role, operation, relation).allowed:
        raise _forbidden()


def _forbidden() -> Forbidden:
    return Forbidden("this role may not do that", "use a token of the right role")
