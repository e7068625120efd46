"""What one request carries until its audit entry is written: by the write it makes, or at its end.

It deliberately decides nothing; who writes it is told by the request's guard.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from einthoven_server.audit.chain import ALLOWED, NOBODY, Event
from einthoven_server.clock import Clock
from einthoven_server.single_use import Claim

PURPOSES: Final = MappingProxyType(
    {
        "clinician": "TREAT",
        "device": "TREAT",
        "patient": "PATRQT",
        "admin": "HSYSADMIN",
        "service": "HOPERAT",
        "server": "HSYSADMIN",
        "operator": "HSYSADMIN",
    }
)
"""For what a role acts unless something else is said (HL7 v3-ActReason, http://terminology.hl7.org)."""


class Trail:
    """The audit entry of one request, being filled in.

    Args:
        operation: Name of the operation.
        clock: For the entry's time.

    ``claim`` is what the request may use once and nobody claimed yet.
    """

    def __init__(self, operation: str, clock: Clock) -> None:
        self.operation = operation
        self.actor = NOBODY
        self.role = ""
        self.patient = ""
        self.purpose = ""
        self.others: tuple[str, ...] = ()
        self._resource = self._resource_id = ""
        self.written = False
        self.claim: Claim | None = None
        self._at_ms = clock.now_ms()

    def by(self, actor: str, role: str) -> None:
        """Say who acts, and so for what."""
        self.actor, self.role = actor, role
        self.purpose = self.purpose or PURPOSES.get(role, "")

    def about(self, resource: str, resource_id: str = "") -> None:
        """Say what it is about: a kind (a FHIR type where there is one) and an opaque id."""
        self._resource, self._resource_id = resource, resource_id

    def concern(self, patient_ids: Iterable[str]) -> None:
        """Say which patients it concerns, beside those that were said already."""
        all_of_them = dict.fromkeys((self.patient, *self.others, *patient_ids))
        all_of_them.pop("", None)
        self.patient, *others = all_of_them or ("",)
        self.others = tuple(others)

    def event(self, outcome: str = ALLOWED) -> Event:
        """The event as far as it is known."""
        return Event(
            self._at_ms,
            self.actor,
            self.operation,
            self.patient,
            outcome,
            self.role,
            self._resource,
            self._resource_id,
            self.purpose,
            self.others,
        )
