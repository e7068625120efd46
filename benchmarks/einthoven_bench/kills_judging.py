"""After kills: is everything that was durable there, once, and the same everywhere?

A fresh device of each patient, the witness, hears all that the server holds; every device's own store must show the
same, and the journals say what there must be. It deliberately asks the server nothing but what a device asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven import sync
from einthoven.ports import Store
from einthoven.result_rows import to_row
from einthoven_bench.kills_device import open_store
from einthoven_bench.simulation.content import note_serial, serial_of
from einthoven_protocol.messages import AnnotationRow, NoteRow, ResultRow, Superseded

ROUNDS: Final = 3
"""Times that everyone syncs before they are compared."""
_LAST_MS: Final = 2**60
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Toll:
    """What the kills did.

    Attributes:
        acknowledged_lost: Results that the server acknowledged and does not hold.
        lost: Results and notes that a store had and the server does not.
        doubled: Those that the server holds more than once.
        divergences: Devices that do not show what the server holds, or whose digests differ.
        results: Results that were compared.
    """

    acknowledged_lost: int = 0
    lost: int = 0
    doubled: int = 0
    divergences: int = 0
    results: int = 0

    @property
    def none(self) -> bool:
        """Whether nothing was lost, doubled, or different."""
        return not (self.acknowledged_lost or self.lost or self.doubled or self.divergences)


@dataclass(frozen=True, slots=True)
class Shown:
    """What one store shows of its patient."""

    results: dict[tuple[int, int, int], ResultRow]
    annotations: tuple[AnnotationRow, ...]
    notes: tuple[NoteRow, ...]
    superseded: tuple[Superseded, ...]


def judge(homes: Sequence[Path], journals: Sequence[Path], witness: Path) -> Toll:
    """Sync all devices of one patient and compare them; nothing else may be running on them.

    Args:
        homes: Of the devices.
        journals: One a device.
        witness: Home of a device of the same patient that writes nothing.
    """
    stores = [open_store(home) for home in (*homes, witness)]
    try:
        asyncio.run(_settle(stores))
        shown = [_shown(store) for store in stores]
        equal = [store.sync_state().last_digest_equal is True for store in stores]
    finally:
        for store in stores:
            store.close()
    truth = shown[-1]
    lines = [line.split() for journal in journals for line in _lines(journal)]
    there = Counter(serial_of(row) for row in truth.results.values())
    there_notes = Counter(note_serial(note) for note in truth.notes)
    kept = {int(serial) for kind, serial in lines if kind == "a"}
    acknowledged = {int(serial) for kind, serial in lines if kind == "k"}
    noted = {int(serial) for kind, serial in lines if kind == "n"}
    return Toll(
        acknowledged_lost=len(acknowledged - there.keys()),
        lost=len(kept - there.keys()) + len(noted - there_notes.keys()),
        doubled=sum(count > 1 for count in (*there.values(), *there_notes.values())),
        divergences=sum(one != truth for one in shown) + equal.count(False),
        results=len(truth.results),
    )


async def _settle(stores: Sequence[Store]) -> None:
    for _ in range(ROUNDS):
        for store in stores:
            await sync(store)


def _shown(store: Store) -> Shown:
    from einthoven.identity import load_identity  # noqa: PLC0415

    alias = load_identity(store).device_alias
    results = {
        (alias, stored.epoch, stored.result.counter): to_row(stored.result)
        for stored in store.results_between(0, _LAST_MS, limit=_MOST)
    }
    for found in store.replicas(0, _LAST_MS, limit=_MOST):
        results[found.device_alias, found.epoch, found.row.counter] = found.row
    return Shown(
        results,
        tuple(store.annotations()),
        tuple(
            sorted(
                store.notes(0, _LAST_MS, limit=_MOST), key=lambda note: (note.device_alias, note.epoch, note.counter)
            )
        ),
        tuple(store.superseded()),
    )


def _place(note: NoteRow) -> tuple[int, int, int]:
    return note.device_alias, note.epoch, note.counter


def _lines(journal: Path) -> list[str]:
    """Whole lines; a process killed while it wrote leaves at most one that is not."""
    if not journal.exists():
        return []
    return [line for line in journal.read_text(encoding="ascii").splitlines(keepends=True) if line.endswith("\n")]
