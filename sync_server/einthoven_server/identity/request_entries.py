"""The one audit entry of each guarded request, and with it what the request may use once.

It deliberately judges nobody; ``signed_requests`` and ``token_requests`` do.

Invariants:
    1. Every guarded request leaves exactly one entry: with its write, or here. If that can't be written, the answer is
       503 and carries nothing (fail closed).
    2. What a request may use once is claimed with its entry at the latest, before the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler

from einthoven_server.audit.chain import ALLOWED
from einthoven_server.audit.recorder import EventRecorder
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.refusals import replayed
from einthoven_server.requests import as_refusal
from einthoven_server.single_use import Claim

Act: TypeAlias = Callable[[web.Request, Trail], Awaitable[web.StreamResponse]]


class Claims(Protocol):
    """What remembers what was used."""

    async def claim(self, claim: Claim) -> bool:
        """Claim what may count once; return whether it was fresh."""
        ...


class RequestEntries:
    """Writes entries of requests.

    Args:
        audit: Where they go.
        claims: Claims what is claimed without an entry; nothing is fresh without.
        clock: Wall time.
    """

    def __init__(self, audit: EventRecorder, claims: Claims | None, clock: Clock) -> None:
        self._audit = audit
        self._claims = claims
        self._clock = clock

    def audited(self, operation: Operation, act: Act) -> Handler:
        """A handler that leaves an entry, allowed or refused."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            trail = Trail(operation.value, self._clock)
            try:
                response = await act(request, trail)
            except Exception as error:
                if not trail.written:
                    await self.record(trail, as_refusal(error).code)
                raise
            if trail.written:
                await self.claim(trail)
            else:
                await self.record(trail)
            return response

        return guarded

    async def record(self, trail: Trail, outcome: str = ALLOWED) -> None:
        """Write a request's entry, and claim with it what was not claimed yet.

        Raises:
            Busy: It can't be written.
            Unauthorized: What it claims was used before.
        """
        fresh = await self._audit.record(trail.event(outcome), trail.claim)
        trail.written, trail.claim = True, None
        if not fresh:
            raise replayed()

    async def claim(self, trail: Trail) -> None:
        """Claim what was not claimed yet.

        Raises:
            Busy: The database can't be reached.
            Unauthorized: It was used before.
        """
        claim, trail.claim = trail.claim, None
        if claim is not None and not (self._claims is not None and await self._claims.claim(claim)):
            raise replayed()
