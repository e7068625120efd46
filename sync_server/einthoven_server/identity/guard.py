"""Around every operation of every application: who asks, may they, not too often, and the audit entry.

It deliberately holds none of it itself: ``signed_requests`` judges devices, ``token_requests`` who shows an access
token, ``request_entries`` writes what happened.

Invariants:
    1. There is no handler but those made here that learns who asks, and each is known with its operation: tests ask
       every route of a server for its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.typedefs import Handler

from einthoven_server.audit.recorder import EventRecorder
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.identity.access import Locator
from einthoven_server.identity.caller_rates import CallerRates
from einthoven_server.identity.permissions import Operation, Relation, Role
from einthoven_server.identity.rates import REQUESTS, Cost, Rates
from einthoven_server.identity.refusals import require
from einthoven_server.identity.relations import Relations
from einthoven_server.identity.request_entries import Act, RequestEntries
from einthoven_server.identity.signed_requests import SYNC_BODY, Body, DeviceHandler, SignedRequests, StreamHandler
from einthoven_server.identity.store import IdentityStore
from einthoven_server.identity.token_requests import Callers, PrincipalHandler, TokenRequests

AnyoneHandler: TypeAlias = Callable[[web.Request, Trail], Awaitable[web.StreamResponse]]


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
        tokens: Callers | None = None,
    ) -> None:
        self.operations: WeakKeyDictionary[Handler, Operation] = WeakKeyDictionary()
        """Which operation a guarded handler is."""
        self._rates = CallerRates(Rates() if rates is None else rates, store.tenant, clock)
        self._entries = RequestEntries(audit, tokens, clock)
        self._signed = SignedRequests(store, self._rates, clock)
        self._with_token = TokenRequests(tokens, relations, self._entries, clock)

    def anyone(self, operation: Operation, handler: AnyoneHandler) -> Handler:
        """For operations that need no identity."""

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            require(Role.NOBODY, operation, Relation.NONE)
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
        return self._audited(operation, self._with_token.of(operation, handler, about))

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
        act = self._signed.whole(operation, handler, body=body, costs=costs, writes_nonce=writes_nonce)
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
        return self._audited(operation, self._signed.stream(operation, handler, max_bytes=max_bytes))

    async def enter(self, trail: Trail) -> None:
        """Write the entry of a request that is about to be answered for hours.

        Raises:
            Busy: It can't be written.
        """
        await self._entries.record(trail)

    def take(self, client_id: str) -> None:
        """Hold a client, known by now, to its rate of requests.

        Raises:
            TooMany: It asks too often.
        """
        self._rates.take(client_id, (Cost(REQUESTS, 1),))

    def _audited(self, operation: Operation, act: Act) -> Handler:
        guarded = self._entries.audited(operation, act)
        self.operations[guarded] = operation
        return guarded
