"""A simulated device: a real store, an identity, a clock of its own, and the process that runs on it.

It deliberately knows no server and no network.

Invariants:
    1. A restored device has what its files had, and its record outside the files if that was restored with them;
       otherwise it notices, as a device does when it opens its store.
    2. What chance decides inside a store in memory comes from the history's seed.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from random import Random
from typing import Protocol

from einthoven.keys import StaticKeyProvider
from einthoven.ports import Clock, Store
from einthoven.store_events import ForkReason
from einthoven.store_memory import MemoryStore
from einthoven.store_memory_books import Books
from einthoven.store_rules import next_epoch
from einthoven_protocol.messages import Cursor


class Disk(Protocol):
    """Where a device's store lies."""

    def open(self) -> Store:
        """The store as a process finds it; what another had open is closed."""
        ...

    def back_up(self) -> None:
        """Copy everything."""
        ...

    def restore(self, *, noticed: bool, at_ms: int) -> bool:
        """Put the copy back; whether there was one."""
        ...

    def lose_cursor(self) -> bool:
        """Forget how far the feed was read; whether this disk can."""
        ...

    def close(self) -> None:
        """Done with it."""
        ...


class MemoryDisk:
    """A store in memory.

    Args:
        clock: The device's.
        rng: Where epochs come from.
    """

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._draw = rng.randrange
        self._store = MemoryStore(clock=clock, draw=self._draw)
        self._copy: Books | None = None

    def open(self) -> Store:
        """See ``Disk``."""
        return self._store

    def back_up(self) -> None:
        """See ``Disk``."""
        self._copy = self._store._books.copy()  # its files

    def restore(self, *, noticed: bool, at_ms: int) -> bool:
        """See ``Disk``; the record outside knows the highest epoch, and so the next one lies above it."""
        if self._copy is None:
            return False
        highest = max(self._store._books.epochs)
        books = self._store._books = self._copy.copy()
        if noticed:
            above = next_epoch(max(highest, *books.epochs), self._draw)
            books.fork(ForkReason.TURNED_BACK, lambda room: min(room - 1, above - max(books.epochs) - 1), at_ms)
        return True

    def lose_cursor(self) -> bool:
        """See ``Disk``."""
        self._store._books.cursor = Cursor(0, 0)
        return True

    def close(self) -> None:
        """See ``Disk``."""
        self._store.close()


class CipherDisk:
    """The real store, in a folder.

    Args:
        folder: An empty one.
        clock: The device's.
        rng: Numbers of new epochs.
    """

    def __init__(self, folder: Path, clock: Clock, rng: Random) -> None:
        self._draw = rng.randrange
        self._now, self._backup = folder / "now", folder / "backup"
        self._clock = clock
        self._key = StaticKeyProvider(secrets.token_bytes(32))
        self._store: Store | None = None

    def open(self) -> Store:
        """See ``Disk``."""
        from einthoven.store_sqlcipher import SqlCipherStore  # noqa: PLC0415  # most histories need none

        self.close()
        self._store = SqlCipherStore.open(
            self._now / "store.db", self._key, clock=self._clock, core_dumps=True, draw=self._draw
        )
        return self._store

    def back_up(self) -> None:
        """See ``Disk``."""
        self.close()
        if self._now.exists():
            _put(self._now, self._backup, but="")

    def restore(self, *, noticed: bool, at_ms: int) -> bool:
        """See ``Disk``."""
        del at_ms
        if not self._backup.exists():
            return False
        self.close()
        _put(self._backup, self._now, but="store.db.anchor" if noticed else "")
        return True

    def lose_cursor(self) -> bool:
        """See ``Disk``; it can't: nothing but damage does that to a file."""
        return False

    def close(self) -> None:
        """See ``Disk``."""
        if self._store is not None:
            self._store.close()
            self._store = None


def _put(source: Path, target: Path, *, but: str) -> None:
    """Write files in place, so that each keeps its inode, as when a disk's image is restored."""
    target.mkdir(exist_ok=True, mode=0o700)
    names = {file.name for file in source.iterdir()}
    for file in target.iterdir():
        if file.name not in names and file.name != but:
            file.unlink()
    for name in sorted(names - {but}):
        place = target / name
        with (source / name).open("rb") as read, place.open("r+b" if place.exists() else "wb") as write:
            shutil.copyfileobj(read, write)
            write.truncate()
        place.chmod(0o600)
