"""Checks a store that nobody has open, and repairs it if asked to.

It deliberately reads and mends nothing itself (``SqlCipherStore.check``, ``.repair``): it decides when which is done.

Invariants:
    1. Without ``repair`` nothing is mended, not even a file that can't be opened: that is an error.
    2. What is sound is not rebuilt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from einthoven.clock import SystemClock
from einthoven.ports import Anchor, Clock, KeyProvider
from einthoven.store_events import ForkReason, StoreEvent, StoreForked
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction, CheckReport, Quarantined


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found, and what a repair left.

    Attributes:
        report: Of the store as it is now.
        quarantined: What it has lost to damage, ever.
        events: What opening, and repairing, said.
        repaired: Whether it was repaired just now.
    """

    report: CheckReport
    quarantined: tuple[Quarantined, ...]
    events: tuple[StoreEvent, ...]
    repaired: bool


def check_file(
    path: Path,
    key_provider: KeyProvider,
    *,
    repair: bool = False,
    anchor: Anchor | None = None,
    clock: Clock | None = None,
) -> Checked:
    """Read everything of a store, and say what is not as it was written.

    Args:
        path: The store's file; nobody has it open.
        key_provider: Unwraps its key.
        repair: Rebuild it from what is whole, if anything is not.
        anchor: As for opening.
        clock: For the audit trail.

    Raises:
        StoreDamaged: It can't be opened, and is not to be repaired or can't be.
        StoreError: It can't be opened, or the disk says no.
    """
    clock = clock or SystemClock()
    with SqlCipherStore.open(path, key_provider, create=False, repair=repair, anchor=anchor, clock=clock) as store:
        report = store.check()
        if repair and not report.sound:
            store.repair()
            report = store.check()
        if report.sound:  # nothing is written into a file that is damaged
            store.record(AuditAction.CHECKED, f"{report.rows} rows", at_ms=clock.now_ms())
        events = tuple(store.take_events())
        return Checked(report, tuple(store.quarantined()), events, repaired=any(map(_is_repair, events)))


def _is_repair(event: StoreEvent) -> bool:
    return isinstance(event, StoreForked) and event.reason is ForkReason.REPAIRED
