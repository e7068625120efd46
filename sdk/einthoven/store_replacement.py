"""Puts a new file in a store's place so that a crash at any point leaves one whole store and one key that opens it.

A new file is made whole under ``NAME.new`` first, closed and synced. Then the key slots are written with the new file's
slot last: that one atomic write is the decision. What follows (the old log goes, the new file takes the name, the old
slot goes) can be cut off anywhere and is carried on when the store is opened next. Making, adopting, rekeying and
repairing a store all end here.

It deliberately knows no row and unwraps no key. The caller holds the store's lock, and nobody has either file open.

Invariants:
    1. Before the decision, the store is the old file under the old slot, and ``NAME.new`` is rubbish.
    2. After it, the store is the new file under the last slot, whether it has its name yet or not.
    3. The old file's log is gone from the disk before the new file takes the name, or SQLite would play it into that.
    4. The new file and its name are on the disk before the decision is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from einthoven.errors import StoreDamaged, StoreIOError
from einthoven.key_slots import KeySlots, read_slots, slots_path, write_slots
from einthoven.private_files import put_in_place, sync_folder
from einthoven.sqlcipher_connection import SALT_BYTES, side_files

PREPARED_SUFFIX: Final = ".new"
"""Ending of the name of a file that is being prepared, after the store's."""


def prepared_path(path: Path) -> Path:
    """Where the file is prepared that is to take the place of the one at ``path``."""
    return path.with_name(path.name + PREPARED_SUFFIX)


def discard_prepared(path: Path) -> None:
    """Remove what an interrupted preparation left: file, log, and key slots that were not put in place.

    Raises:
        OSError: It can't be removed.
    """
    prepared = prepared_path(path)
    slots = slots_path(path)
    for file in (prepared, *side_files(prepared), slots.with_name(slots.name + PREPARED_SUFFIX)):
        file.unlink(missing_ok=True)


def discard_undecided(path: Path) -> None:
    """Remove what a failed preparation left, unless the key slots on the disk say that it is the store's file by now.

    Raises:
        StoreError: The slots can't be read, so nothing was removed.
        OSError: It can't be removed.
    """
    slots = read_slots(path)
    if slots is None or not is_decided(path, slots):
        discard_prepared(path)


def is_decided(path: Path, slots: KeySlots) -> bool:
    """Whether ``NAME.new`` is the store's file by now, and only lacks the name.

    Raises:
        OSError: It can't be read.
    """
    try:
        with prepared_path(path).open("rb") as file:
            return file.read(SALT_BYTES) == slots.slots[-1].salt
    except FileNotFoundError:
        return False


def replace_store_file(path: Path, slots: KeySlots) -> None:
    """Put ``NAME.new`` in the place of the store's file, if there is one.

    Args:
        path: The store's file.
        slots: One or two; the last is that of ``NAME.new``, one before it that of the present file.

    Raises:
        StoreIOError: The disk says no. Where that was after the decision, the next opening carries on.
        OSError: Likewise.
    """
    prepared = prepared_path(path)
    for file in side_files(prepared):
        if file.exists():
            if file.stat().st_size and not file.name.endswith("-shm"):
                raise StoreIOError(f"{prepared.name} is not complete", "close what else has it open, then try again")
            file.unlink()
    _sync_file(prepared)
    sync_folder(path.parent)
    write_slots(path, slots)
    carry_on(path, slots)


def carry_on(path: Path, slots: KeySlots) -> KeySlots:
    """Do what follows the decision, from wherever it was cut off; return the slots that are left.

    Args:
        path: The store's file.
        slots: As they are on the disk.

    Raises:
        StoreIOError: The disk says no.
        OSError: Likewise.
    """
    prepared = prepared_path(path)
    if prepared.exists():
        for file in side_files(path):
            file.unlink(missing_ok=True)
        sync_folder(path.parent)
        put_in_place(prepared, path)
    return keep_slot(path, slots, len(slots.slots) - 1)


def settle_replacement(path: Path) -> KeySlots:
    """Carry on a replacement that the disk cut off, if it was decided, or clear it away; return the slot that is left.

    Args:
        path: The store's file.

    Raises:
        StoreDamaged: The key slots are gone, or are not what was written.
        StoreIOError: The disk says no.
        OSError: Likewise.
    """
    slots = read_slots(path)
    if slots is None:
        raise StoreDamaged(f"the keys of {path.name} are gone", "put them back from a backup of the store")
    if len(slots.slots) > 1 or is_decided(path, slots):
        return carry_on(path, slots)
    discard_prepared(path)
    return slots


def keep_slot(path: Path, slots: KeySlots, index: int) -> KeySlots:
    """Drop all slots but one, if there are others; return what is left.

    Raises:
        StoreIOError: The disk says no.
    """
    if len(slots.slots) == 1:
        return slots
    kept = KeySlots(slots.store_id, (slots.slots[index],))
    write_slots(path, kept)
    return kept


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
