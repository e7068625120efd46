"""Time that passes only when nothing is left to do, and an event loop that runs on it.

It deliberately opens no socket, starts no thread and never sleeps: what is to be run on another thread runs at once, on
this one.

Invariants:
    1. Callbacks run in the order of their time; those of one time in the order in which they were scheduled. So one
       program gives one run.
    2. Time stands still while anything can run, and then jumps to the next moment at which something can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

START_MS: Final = 1_800_000_000_000
"""Where every history begins, UTC ms since 1970 (January 2027)."""
YEAR_MS: Final = 366 * 86_400_000

_Value = TypeVar("_Value")


class Stuck(Exception):
    """Something is awaited that can't happen any more."""


class _NoSelector:
    """Stands where a loop keeps its sockets: waiting is what makes time pass."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout_s: float | None) -> list[Any]:
        if timeout_s is None:
            raise Stuck("everything waits, and nothing is scheduled")
        self.now_s += max(0.0, timeout_s)
        return []

    def close(self) -> None:
        """Nothing is open."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        # Two moments closer than this are one, else a rounded wait would be waited for again.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._selector.now_s

    def now_ms(self) -> int:
        """UTC, ms since 1970: the true time of the simulated world."""
        return START_MS + int(self._selector.now_s * 1000)

    def run_in_executor(  # type: ignore[override]  # returns what can be awaited, as the base does
        self, executor: Executor | None, func: Callable[..., _Value], *args: Any
    ) -> asyncio.Future[_Value]:
        """Run it here and now."""
        del executor
        done: asyncio.Future[_Value] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # handed to whoever awaits it
            done.set_exception(error)
        return done

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken."""


class DeviceClock:
    """What a device takes for the time: the true one, and how far it is off.

    Args:
        loop: Has the true time.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset_ms = 0

    def now_ms(self) -> int:
        """See ``Clock``."""
        return self._loop.now_ms() + self.offset_ms
