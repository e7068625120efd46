"""Which of a store's key slots opens its file.

The file's first bytes name the slot, but may be damaged; so each slot is tried, the likely one first. It deliberately
writes nothing, and knows nothing of anchors.

Invariants:
    1. The provider is asked once for each slot at most, and for the one that the file names first.
    2. ``WrongKey`` means that no page of the file was written under any key that the slots gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from einthoven.errors import StoreDamaged, WrongKey
from einthoven.key_slots import KeySlots
from einthoven.ports import KeyProvider
from einthoven.sqlcipher_connection import FileKey
from einthoven.store_proving import OtherDatabase, Proof, pages_prove, prove


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A file and the slot that opens it.

    Attributes:
        key: What opens it.
        index: Of its slot.
        proof: What the file says; ``None`` if it is damaged, so that only some of its pages open.
    """

    key: FileKey
    index: int
    proof: Proof | None


def unlock(path: Path, slots: KeySlots, salt: bytes, provider: KeyProvider) -> Unlocked:
    """Find the slot that opens a file.

    Args:
        path: The file; nobody has it open.
        slots: Its slots.
        salt: The file's first bytes.
        provider: Unwraps.

    Raises:
        KeyUnavailable: There is no wrapping key.
        WrongKey: The key does not open the file, or it is no store.
        StoreTooNew: A newer version wrote it.
        StoreIOError: It can't be read.
        OSError: Likewise.
    """
    refused: WrongKey | None = None
    tried: list[tuple[int, FileKey]] = []
    for index in sorted(range(len(slots.slots)), key=lambda index: slots.slots[index].salt != salt):
        slot = slots.slots[index]
        try:
            data_key = provider.unwrap(slot.wrapped, slots.store_id)
        except WrongKey as error:
            refused = refused or error
            continue
        # A file that had been moved away while another was made in its place has the key, and its own salt.
        for each in dict.fromkeys((slot.salt, salt)):
            key = FileKey(data_key, each)
            try:
                return Unlocked(key, index, prove(path, key))
            except OtherDatabase:
                raise
            except WrongKey:
                tried.append((index, key))
            except StoreDamaged:
                return Unlocked(key, index, None)
    for index, key in tried:
        if pages_prove(path, key):
            return Unlocked(key, index, None)
    raise refused or WrongKey(
        f"the key does not open {path.name}, or the file is no store", "give the key that it was made with"
    )
