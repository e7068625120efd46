"""What a request of a principal may do and show, as its handler has it: made by the guard, found with ``access_of``.

It deliberately has no way to show a field, or look at a patient, that the table does not allow.

Invariants:
    1. For an operation that concerns one patient, there is an access only once the table allowed it for that patient.
    2. For one that concerns any number, the table is asked for each; the guard lets no answer out of a handler that
       asked about nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiohttp import web

from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import NotFound
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.consent import Category, categories_of
from einthoven_server.identity.permissions import Operation, Relation, Resource, decide
from einthoven_server.identity.relations import Relations
from einthoven_server.requests import path_id

BREAK_GLASS_PURPOSE: Final = "BTG"
"""Purpose of use: HL7 v3 ActReason, "break the glass"."""


class Locator(NamedTuple):
    """How the patient is found whom a request is about.

    Attributes:
        find: Gives the patient's id, or ``None``.
        problem: What is said where there is none, or none for the caller.
        remedy: What to do about it.
    """

    find: Callable[[web.Request], Awaitable[str | None]]
    problem: str
    remedy: str = "check the id"

    def refused(self) -> NotFound:
        """The one answer to "not there" and "not yours"."""
        return NotFound(self.problem, self.remedy)


async def _in_path(request: web.Request) -> str | None:
    return path_id(request, "patient_id", "patient")


PATIENT_IN_PATH: Final = Locator(_in_path, "no such patient")


class Access:
    """What one request may do and show.

    Args:
        relations: For operations that concern any number of patients.
        principal: Who asks.
        operation: What for.
        relation: To the patient concerned; to the tenant where there is none.
        patient_id: The patient concerned, ``""`` for none.
        trail: Learns whom was asked about.
        clock: Wall time.
    """

    def __init__(
        self,
        relations: Relations,
        principal: Principal,
        operation: Operation,
        relation: Relation,
        patient_id: str,
        trail: Trail,
        clock: Clock,
    ) -> None:
        self._relations = relations
        self._principal = principal
        self._operation = operation
        self._trail = trail
        self._clock = clock
        self._fields = decide(principal.role, operation, relation).fields
        self.relation = relation
        self.patient_id = patient_id
        self.asked = False
        """Whether the handler asked about patients."""

    def fields(self, resource: Resource) -> frozenset[str]:
        """The fields of a resource that may be shown."""
        return self._fields.get(resource, frozenset())

    def shown(self, resource: Resource, document: Mapping[str, Any]) -> dict[str, Any]:
        """What may be shown of a document."""
        fields = self.fields(resource)
        return {name: value for name, value in document.items() if name in fields}

    async def sees(self, patient_id: str) -> bool:
        """Whether this operation may show that patient; the same for "not there" and "not yours".

        Raises:
            Busy: The database does not answer.
        """
        self.asked = True
        categories = categories_of(self._operation)
        relation = await self._relations.of(self._principal, patient_id, self._clock.now_ms(), categories)
        if relation is not None:
            self._trail.patient = patient_id
        if relation is None or not self._learn(relation):
            return False
        if relation is Relation.BREAK_GLASS:
            self._trail.purpose = BREAK_GLASS_PURPOSE
        return True

    async def seen(
        self, patient_ids: Sequence[str], operation: Operation | None = None, category: Category | None = None
    ) -> frozenset[str]:
        """Those of these patients whom this operation may show; asked also where there is none to ask about.

        Args:
            patient_ids: Whom, as far as they are there.
            operation: What else would be done with them, beside what was asked for.
            category: What of them would be shown, where that is not what the operation always shows.

        Raises:
            Busy: The database does not answer.
        """
        self.asked = True
        categories = categories_of(operation or self._operation) if category is None else frozenset({category})
        found = await self._relations.among(self._principal, patient_ids, self._clock.now_ms(), categories)
        self._trail.concern(found)
        allowed = {one: relation for one, relation in found.items() if self._learn(relation, operation)}
        if Relation.BREAK_GLASS in allowed.values():
            self._trail.purpose = BREAK_GLASS_PURPOSE
        return frozenset(allowed)

    def may(self, operation: Operation) -> bool:
        """Whether the caller may also do what takes no relation to a patient."""
        return self._learn(Relation.TENANT, operation)

    def sees_everybody(self) -> bool:
        """Whether this operation may show every patient of the tenant; then there is nobody to ask about."""
        everybody = self._learn(Relation.TENANT)
        self.asked = self.asked or everybody
        return everybody

    async def patients(self, operation: Operation | None = None) -> list[str]:
        """All patients whom this operation may show, in order of their ids.

        Args:
            operation: What is done with them, where that is less than what was asked for.

        Raises:
            Busy: The database does not answer.
        """
        self.asked = True
        now_ms = self._clock.now_ms()
        categories = categories_of(operation or self._operation)
        found = await self._relations.patients_of(self._principal, now_ms, categories)
        return [patient_id for patient_id, relation in found.items() if self._learn(relation, operation)]

    def _learn(self, relation: Relation, operation: Operation | None = None) -> bool:
        decision = decide(self._principal.role, operation or self._operation, relation)
        if decision.allowed:
            self._fields = decision.fields
        return decision.allowed


_ACCESS: Final = web.RequestKey("access", Access)


def grant(request: web.Request, access: Access) -> None:
    """Give a request its access; for the guard alone."""
    request[_ACCESS] = access


def access_of(request: web.Request) -> Access:
    """The access of a principal's request.

    Raises:
        KeyError: It did not come through the guard.
    """
    return request[_ACCESS]
