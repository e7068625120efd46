"""What was sent and answered, counted; and what a server's memory did meanwhile. Values, and a file between processes.

Invariants:
    1. Every answer is counted once, by its operation and status; so is every request without one.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import msgspec


class Tally(msgspec.Struct):
    """Counts.

    Attributes:
        answers: By ``METHOD path`` and status.
        unanswered: Requests without an answer, by ``METHOD path``.
    """

    answers: dict[str, dict[int, int]] = {}
    unanswered: dict[str, int] = {}

    @property
    def requests(self) -> int:
        """All that were sent."""
        return sum(self.by_status.values()) + sum(self.unanswered.values())

    @property
    def by_status(self) -> Counter[int]:
        """Answers by status."""
        found: Counter[int] = Counter()
        for statuses in self.answers.values():
            found.update(statuses)
        return found

    @property
    def failures(self) -> dict[str, dict[int, int]]:
        """Operations that were answered with a 5xx other than 503, which says that there is too much to do."""
        found = {
            operation: {status: n for status, n in statuses.items() if status >= 500}
            for operation, statuses in self.answers.items()
        }
        return {operation: statuses for operation, statuses in found.items() if statuses}


class Counting:
    """Counts in one process, and writes now and then.

    Args:
        path: Where the tally is kept.
        every: Written after so many.
    """

    def __init__(self, path: Path, every: int = 200) -> None:
        self.tally = Tally()
        self._path, self._every = path, every
        self._turn = threading.Lock()

    def answered(self, operation: str, status: int) -> None:
        """Count an answer."""
        with self._turn:
            statuses = self.tally.answers.setdefault(operation, {})
            statuses[status] = statuses.get(status, 0) + 1
            if self.tally.requests % self._every == 0:
                self.write()

    def unanswered(self, operation: str) -> None:
        """Count a request without an answer."""
        with self._turn:
            self.tally.unanswered[operation] = self.tally.unanswered.get(operation, 0) + 1

    def write(self) -> None:
        """Keep it."""
        self._path.write_bytes(msgspec.json.encode(self.tally))


def read_tally(path: Path) -> Tally:
    """What was kept; nothing, if nothing was."""
    return msgspec.json.decode(path.read_bytes(), type=Tally) if path.exists() else Tally()
