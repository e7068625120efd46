"""Says once of each damaged row that it is damaged, however often it is read. It deliberately sets nothing aside.

Invariants:
    1. Of one row there is one event while a store is open.
    2. It may be told from several threads at a time, and never raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from einthoven.store_events import DamageQuarantined, StoreEvent
from einthoven.store_schema import CONTENT_KINDS, place_of
from einthoven.store_tags import Value
from einthoven.store_values import DamageReason

MAX_REPORTED: Final = 10_000
"""Damaged rows that are remembered as said."""


class DamageReports:
    """Queues an event for each damaged row.

    Args:
        events: Where events go.
    """

    def __init__(self, events: deque[StoreEvent]) -> None:
        self._events = events
        self._said: set[tuple[str, str]] = set()

    def note(self, table: str, values: Sequence[Value], reason: DamageReason) -> None:
        """Take a row of ``table`` as damaged."""
        place = place_of(table, values)
        if (table, place) not in self._said and len(self._said) < MAX_REPORTED:
            self._said.add((table, place))
            self._events.append(DamageQuarantined(CONTENT_KINDS[table], place, reason))

    def forget(self) -> None:
        """Take nothing as said any more: the store was repaired."""
        self._said = set()
