"""Requests of people, services and devices that show an access token: who sent one, and may they, for that patient.

It deliberately knows no signature of a request and reads no patient data.

Invariants:
    1. A handler runs only if ``permissions.decide`` says so, for the patient whom the request names: an operation that
       concerns one can't be registered without the way to find them. Who has no relation that allows it gets the answer
       to an id that does not exist.
    2. A proof beside an access token counts once: it is claimed before the handler runs, or, where the request only
       reads, with the audit entry, before the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeAlias

from aiohttp import web

from einthoven_protocol.oauth import PROOF_HEADER
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.identity.access import BREAK_GLASS_PURPOSE, Access, Locator, grant
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.consent import categories_of
from einthoven_server.identity.permissions import Concern, Operation, Relation, concern_of, decide, may_ever
from einthoven_server.identity.presented_tokens import no_token
from einthoven_server.identity.refusals import forbidden, require
from einthoven_server.identity.relations import Relations
from einthoven_server.identity.request_entries import Act, Claims, RequestEntries

_READING: Final = frozenset({"GET", "HEAD"})

PrincipalHandler: TypeAlias = Callable[[web.Request, Principal, Trail], Awaitable[web.StreamResponse]]


class Callers(Claims, Protocol):
    """Who shows an access token; ``presented_tokens.PresentedTokens``."""

    async def caller(
        self, method: str, raw_path: str, authorizations: Sequence[str], proofs: Sequence[str], trail: Trail
    ) -> Principal:
        """Who sends a request; raises ``Unauthorized`` for nobody the server knows, ``Busy`` if it can't tell."""
        ...


class TokenRequests:
    """Judges requests with access tokens.

    Args:
        callers: Judges access tokens; without, none is good.
        relations: How callers stand to patients.
        entries: Claims what counts once.
        clock: Wall time.
    """

    def __init__(self, callers: Callers | None, relations: Relations, entries: RequestEntries, clock: Clock) -> None:
        self._callers = callers
        self._relations = relations
        self._entries = entries
        self._clock = clock

    def of(self, operation: Operation, handler: PrincipalHandler, about: Locator | None) -> Act:
        """What does an operation for whom may do it; see ``Guard.principal``.

        Raises:
            RuntimeError: It concerns one patient and there is no way to find them, or the other way round.
        """
        concern = concern_of(operation)
        if (concern is Concern.PATIENT) is (about is None):
            raise RuntimeError(f"{operation} concerns {concern}; say whom it is about accordingly")

        async def act(request: web.Request, trail: Trail) -> web.StreamResponse:
            principal = await self._principal(request, trail)
            if not may_ever(principal.role, operation):
                raise forbidden()
            access = await self._access(request, principal, operation, about, trail)
            grant(request, access)
            if request.method not in _READING:
                await self._entries.claim(trail)
            response = await handler(request, principal, trail)
            if concern is Concern.PATIENTS and not access.asked:
                raise RuntimeError(f"{operation} asked about no patient")
            return response

        return act

    async def _principal(self, request: web.Request, trail: Trail) -> Principal:
        if self._callers is None:
            raise no_token()
        return await self._callers.caller(
            request.method,
            request.raw_path,
            request.headers.getall("Authorization", []),
            request.headers.getall(PROOF_HEADER, []),
            trail,
        )

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
            require(principal.role, operation, relation)
        return Access(self._relations, principal, operation, relation, patient_id, trail, self._clock)
