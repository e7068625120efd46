"""What watching a store needs of the world (``watching``). No behaviour."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from einthoven.identity import Identity
from einthoven.ports import Clock, SignedTransport, Store, Transport, Wake
from einthoven.sync_policy import Surroundings
from einthoven.wake_line import Timer
from einthoven.watch_events import WatchEvent


class Channel(Transport, SignedTransport, Protocol):
    """What exchanges and uploads travel through."""


@dataclass(frozen=True, kw_only=True)
class WatchParts:
    """What watching needs of the world.

    Attributes:
        borrow: Gives the store for one exchange; one that others open too must be closed after it.
        connect: Makes the way to the server of an enrolment.
        line: Makes the line that wakes, of an enrolment; ``None`` to do without.
        clock: Wall time.
        timer: Time that only goes on.
        surroundings: Tells battery and network now; must not wait.
        chance: Draws evenly from [0, 1).
        take: Called in the event loop with what happens; must not wait.
    """

    borrow: Callable[[], AbstractContextManager[Store]]
    connect: Callable[[Identity], Channel]
    line: Callable[[Identity], Wake] | None
    clock: Clock
    timer: Timer
    surroundings: Callable[[], Surroundings]
    chance: Callable[[], float]
    take: Callable[[WatchEvent], None]
