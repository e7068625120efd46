"""Keeps the line open on which a server wakes this device, and opens it again when it breaks.

It deliberately does not exchange and knows no store: it says that it opened, that it was lost, and that it was used.

Invariants:
    1. It never ends by itself, and a line that breaks at once is not opened again in haste.
    2. That it was lost is said once, not again until it had opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from einthoven.errors import TransportError
from einthoven.ports import Wake
from einthoven.sync_policy import backoff_s

LINE_PAUSE_S: Final = 5.0
"""Shortest wait before the line is opened again."""
LINE_BACKOFF_CAP_S: Final = 60.0
"""Most that chance adds to it."""
LINE_PROVEN_S: Final = 60.0
"""A line that lived so long does not count as failed when it breaks."""


class Timer(Protocol):
    """Time that only goes on, in seconds; not the wall's."""

    def now_s(self) -> float:
        """Seconds since some moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...


class LoopTimer:
    """The event loop's own time."""

    def now_s(self) -> float:
        """See ``Timer.now_s``."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """See ``Timer.sleep``."""
        await asyncio.sleep(seconds)


async def keep_line(
    wake: Wake,
    timer: Timer,
    chance: Callable[[], float],
    *,
    opened: Callable[[], None],
    lost: Callable[[TransportError], None],
    woken: Callable[[], None],
) -> None:
    """Listen until cancelled.

    Args:
        wake: The line.
        timer: Time that only goes on.
        chance: Draws evenly from [0, 1).
        opened: Called each time it opened: who was not listening was not woken.
        lost: Called when it broke or could not be opened, once.
        woken: Called when the server says that there is something.
    """
    failures, silent = 0, False
    while True:
        began_s = timer.now_s()
        try:
            async with wake.listen() as wakes:
                silent = False
                opened()
                async for _ in wakes:
                    woken()
        except TransportError as error:
            if not silent:
                lost(error)
            silent = True
        failures = 1 if timer.now_s() - began_s >= LINE_PROVEN_S else failures + 1
        await timer.sleep(LINE_PAUSE_S + backoff_s(failures, chance(), cap_s=LINE_BACKOFF_CAP_S))
