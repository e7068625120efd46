"""A device under load, to be killed: a process that keeps results, words and notes, and syncs, until it is told to end.

``python -m einthoven_bench.kills_device HOME JOURNAL DEVICE LIFE``. It deliberately catches nothing but what a device
meets in life (no server, a busy one): anything else ends it with a trace, which the harness reports.

Invariants:
    1. What the journal holds was durable before it was written there: ``a N`` result N is in the store, ``n N`` note N
       is, ``k N`` the server acknowledged result N.
    2. No serial is used twice: each life of the process has its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from random import Random
from typing import Final

from einthoven import FileKeyProvider, SqlCipherStore, annotate, sync
from einthoven.clock import SystemClock
from einthoven.errors import InputError, TransportError
from einthoven.noting import add_note
from einthoven_bench.simulation.content import comment_text, make_result, note_text

DEVICE_SERIALS: Final = 100_000_000
LIFE_SERIALS: Final = 20_000
"""Serials of one life of one device's process."""
_URGENT_EVERY: Final = 5


def open_store(home: Path) -> SqlCipherStore:
    """The device's store; made if there is none."""
    return SqlCipherStore.open(home / "store.db", FileKeyProvider(home / "store.key", create=True))


class Life:
    """One life of a device's process.

    Args:
        home: Where its store lies.
        journal: Where it notes what was durable.
        first_serial: From here on.
    """

    def __init__(self, home: Path, journal: Path, first_serial: int) -> None:
        self._store = open_store(home)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._serial = first_serial
        self._last = first_serial + LIFE_SERIALS
        self._rng = Random(first_serial)  # noqa: S311  # load, not secrets
        self._unacknowledged: list[int] = []
        self.ended = False

    async def run(self) -> None:
        """Work until ended, then sync once more if that goes."""
        while not self.ended and self._serial + 16 < self._last:
            self._keep_results()
            self._write_words()
            await self._sync()
        self._store.close()

    def _keep_results(self) -> None:
        serials = [self._next() for _ in range(self._rng.randint(1, 8))]
        now_ms = SystemClock().now_ms()
        self._store.append_results(
            [make_result(serial, now_ms, urgent=serial % _URGENT_EVERY == 0) for serial in serials]
        )
        self._note("a", serials)
        self._unacknowledged += serials

    def _write_words(self) -> None:
        if self._rng.random() < 0.5:
            serial = self._next()
            add_note(self._store, note_text(serial))
            self._note("n", [serial])
        replicas = self._store.replicas(0, 2**60, limit=50)
        if replicas and self._rng.random() < 0.5:
            found = self._rng.choice(replicas)
            annotate(
                self._store,
                found.row.counter,
                epoch=found.epoch,
                device_alias=found.device_alias,
                comment=comment_text(self._next()),
            )
            return
        state = self._store.sync_state()
        if state.last_counter:
            try:
                annotate(self._store, self._rng.randint(1, state.last_counter), comment=comment_text(self._next()))
            except InputError:
                return

    async def _sync(self) -> None:
        pushed = list(self._unacknowledged)
        try:
            await sync(self._store)
        except TransportError:
            await asyncio.sleep(0.05)
            return
        self._note("k", pushed)
        self._unacknowledged = self._unacknowledged[len(pushed) :]

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _note(self, kind: str, serials: list[int]) -> None:
        os.write(self._journal, "".join(f"{kind} {serial}\n" for serial in serials).encode("ascii"))


def main() -> None:
    """Run one life."""
    home, journal, device, life = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    worker = Life(home, journal, device * DEVICE_SERIALS + life * LIFE_SERIALS)

    def end(number: int, frame: object) -> None:
        del number, frame
        worker.ended = True

    signal.signal(signal.SIGTERM, end)
    asyncio.run(worker.run())


if __name__ == "__main__":
    main()
