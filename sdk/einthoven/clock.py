"""The system's clock, and one that stands still for tests and replays."""

from __future__ import annotations

import time


class SystemClock:
    """Wall time of the machine."""

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970."""
        return time.time_ns() // 1_000_000


class FixedClock:
    """A clock that moves only when told to.

    Args:
        now_ms: UTC in milliseconds since 1970.
    """

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970."""
        return self._now_ms

    def advance(self, by_ms: int) -> None:
        """Move on (or back, if negative) by so many milliseconds."""
        self._now_ms += by_ms
