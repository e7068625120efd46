"""What each device is doing at this moment, so that a kill can be aimed, and what it hit is known afterwards.

A board is a file of one byte a device, mapped into memory by all: a process that dies by kill -9 leaves in it what it
was doing when it died. It deliberately has no lock: one process writes a byte, and others read it.

Invariants:
    1. A byte is written before what it names begins, and again after it ended.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final


class Phase(IntEnum):
    """What a device is doing."""

    STARTS = 0
    """Nothing yet: its store is not open."""
    KEEPS = 1
    """Writes results, signals and words to its store."""
    SETTLES = 2
    """Reads what waits, or takes over an answer."""
    EXCHANGE = 3
    """An exchange is on its way, or being answered."""
    REPAIR = 4
    """A request of a repair is."""
    UPLOAD = 5
    """A request of an upload is: bytes of signals are sent, verified or stored."""


IN_FLIGHT: Final = frozenset({Phase.EXCHANGE, Phase.REPAIR, Phase.UPLOAD})
"""A request is at the server, or on the way there or back."""


class Board:
    """The phases of all devices.

    Args:
        path: The file; made, if it is not there, with room for ``devices``.
        devices: How many there are.
    """

    def __init__(self, path: Path, devices: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(devices))
        with path.open("r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), devices)

    def __getitem__(self, device: int) -> Phase:
        """What a device is doing, or was when it died."""
        return Phase(self._bytes[device])

    def set(self, device: int, phase: Phase) -> None:
        """Say what a device does from now on."""
        self._bytes[device] = phase

    @contextmanager
    def during(self, device: int, phase: Phase) -> Iterator[None]:
        """Say what a device does in a block; then it does again what it did before."""
        before = self[device]
        self.set(device, phase)
        try:
            yield
        finally:
            self.set(device, before)

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._bytes.close()
