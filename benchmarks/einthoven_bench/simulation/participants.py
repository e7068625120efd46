"""Who takes part in a history: devices with their apps, and what is known of them.

It deliberately plays no steps (``world``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from einthoven.identity import Identity
from einthoven.ports import Store
from einthoven_bench.simulation.devices import Disk
from einthoven_bench.simulation.processes import Process
from einthoven_bench.simulation.virtual_time import DeviceClock


@dataclass(slots=True)
class Participant:
    """A device and the app on it.

    Attributes:
        number: Its place in the history.
        patient: Whose.
        clock: What it takes for the time.
        disk: Where its store lies.
        rng: What is left to chance on it.
        old_app: Whether its app speaks as the first version did.
        identity: Who it is to the server.
        process: The app, while it runs.
        syncing: What syncs, if anything does.
        disk_full: Whether nothing can be written.
        life: Counts the times that its files were turned back, or its name changed.
        destroyed: Whether it is gone for good.
        restored: How often its files were turned back.
        former_aliases: Those that it had before it was enrolled anew.
        last_error: What its last sync ended with.
    """

    number: int
    patient: int
    clock: DeviceClock
    disk: Disk
    rng: Random
    old_app: bool
    identity: Identity
    process: Process
    syncing: asyncio.Task[Any] | None = None
    disk_full: bool = False
    life: int = 0
    destroyed: bool = False
    restored: int = 0
    former_aliases: set[int] = field(default_factory=set)
    last_error: BaseException | None = None

    @property
    def store(self) -> Store:
        """As the app has it."""
        return self.process.store

    @property
    def alias(self) -> int:
        """Its alias now."""
        return self.identity.device_alias

    @property
    def aliases(self) -> set[int]:
        """All that it ever had."""
        return self.former_aliases | {self.alias}

    @property
    def busy(self) -> bool:
        """Whether it syncs."""
        return self.syncing is not None and not self.syncing.done()
