"""Who saw whom, when: the entries of one patient, for a breach report or a patient who asks. Pure.

It deliberately leaves nothing out: refusals are in it, and what a device or the server itself did.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from einthoven_server.audit.chain import ALLOWED, Entry


class Tally(NamedTuple):
    """What one actor did.

    Attributes:
        actor: Principal or device id.
        role: Its role.
        allowed: Requests that were answered.
        refused: Requests that were not.
        first_ms: The first of them, ms since 1970.
        last_ms: The last.
    """

    actor: str
    role: str
    allowed: int
    refused: int
    first_ms: int
    last_ms: int


class PatientReport:
    """Collects entries in the order of the log.

    Args:
        patient: Opaque id.
        from_ms: The first moment, ms since 1970.
        until_ms: The first moment that no longer counts.
    """

    def __init__(self, patient: str, from_ms: int, until_ms: int) -> None:
        self.patient = patient
        self._from_ms = from_ms
        self._until_ms = until_ms
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Take an entry in, if it is the patient's and of the time asked for."""
        event = entry.event
        if (
            event.patient == self.patient or self.patient in event.others
        ) and self._from_ms <= event.at_ms < self._until_ms:
            self.entries.append(entry)

    def tallies(self) -> list[Tally]:
        """What each actor did, the one with most requests first."""
        found: dict[tuple[str, str], Tally] = {}
        for entry in self.entries:
            event = entry.event
            whose = (event.actor, event.role)
            held = found.get(whose) or Tally(*whose, 0, 0, event.at_ms, event.at_ms)
            ok = event.outcome == ALLOWED
            found[whose] = held._replace(
                allowed=held.allowed + ok,
                refused=held.refused + (not ok),
                first_ms=min(held.first_ms, event.at_ms),
                last_ms=max(held.last_ms, event.at_ms),
            )
        return sorted(found.values(), key=lambda one: (-one.allowed - one.refused, one.actor))

    def document(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "patient": self.patient,
            "actors": [
                {
                    "actor": one.actor,
                    "role": one.role,
                    "allowed": one.allowed,
                    "refused": one.refused,
                    "first": instant(one.first_ms),
                    "last": instant(one.last_ms),
                }
                for one in self.tallies()
            ],
            "accesses": [
                {
                    "entry": entry.seq,
                    "at": instant(entry.event.at_ms),
                    "actor": entry.event.actor,
                    "role": entry.event.role,
                    "operation": entry.event.operation,
                    "resource": entry.event.resource,
                    "resource_id": entry.event.resource_id,
                    "purpose": entry.event.purpose,
                    "outcome": entry.event.outcome,
                }
                for entry in self.entries
            ],
        }


def instant(at_ms: int) -> str:
    """A moment as ISO 8601 has it, UTC, to the millisecond."""
    at = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
