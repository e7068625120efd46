"""What one request carries until its audit entry is written: by the write it makes, or at its end.

It deliberately decides nothing; who writes it is told by the request's guard.
"""

from __future__ import annotations

from einthoven_server.audit.chain import ALLOWED, NOBODY, Event
from einthoven_server.clock import Clock


class Trail:
    """The audit entry of one request, being filled in.

    Args:
        operation: Name of the operation.
        clock: For the entry's time.
    """

    def __init__(self, operation: str, clock: Clock) -> None:
        self.operation = operation
        self.actor = NOBODY
        self.patient = ""
        self.purpose = ""
        self.written = False
        self._at_ms = clock.now_ms()

    def event(self, outcome: str = ALLOWED) -> Event:
        """The event as far as it is known."""
        return Event(self._at_ms, self.actor, self.operation, self.patient, outcome)
