"""One key file takes the place of another: for a store whose wrapping key may have been seen.

A store is rekeyed under the successor, a second file beside the first (``NAME.next``), and only then does that become
the key file. A crash may leave both; exactly one opens the store, so the next opening tries both and settles which.

It deliberately rekeys nothing itself (``store_rekey``) and keeps no old key: its file is overwritten and removed.

Invariants:
    1. A key file is destroyed only after the other one was seen to open the store.
    2. At every moment one of the two files opens the store, and ``key_provider`` finds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from einthoven.errors import KeyUnavailable, WrongKey
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_slots import read_slots
from einthoven.ports import KeyProvider
from einthoven.private_files import put_in_place

NEXT_SUFFIX: Final = ".next"
"""Ending of the successor's name, after the key file's."""


class SucceedingKeyProvider:
    """The key in use, and one that may have succeeded it already."""

    destroy_is_final: Final = True

    def __init__(self, present: FileKeyProvider, successor: FileKeyProvider) -> None:
        self._present = present
        self._successor = successor

    def load(self) -> bytes:
        """See ``HoldsRawKey``; a store of version 1 never had a successor's."""
        return self._present.load()

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        return self._present.wrap(data_key, store_id)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        try:
            return self._present.unwrap(wrapped, store_id)
        except WrongKey:
            return self._successor.unwrap(wrapped, store_id)

    def destroy(self) -> None:
        """See ``KeyProvider``; both go."""
        self._successor.destroy()
        self._present.destroy()

    def __repr__(self) -> str:
        return f"SucceedingKeyProvider({self._present!r}, {self._successor!r})"


def successor_path(key_path: Path) -> Path:
    """Where a key file's successor lies."""
    return key_path.with_name(key_path.name + NEXT_SUFFIX)


def key_provider(key_path: Path, *, create: bool = False) -> KeyProvider:
    """What opens the store of a key file, also when a succession was cut off.

    Args:
        key_path: The key file.
        create: Make it if there is none.

    Raises:
        KeyUnavailable: A successor can't take its place.
    """
    successor = successor_path(key_path)
    if not successor.exists():
        return FileKeyProvider(key_path, create=create)
    if not key_path.exists():  # cut off between the end of the old one and the new one's taking its name
        _take_place(key_path)
        return FileKeyProvider(key_path)
    return SucceedingKeyProvider(FileKeyProvider(key_path), FileKeyProvider(successor))


def settle_succession(store_path: Path, key_path: Path) -> None:
    """Leave only the key file that opens a store; the store was opened, so it has one key slot.

    Raises:
        KeyUnavailable: A key file can't be read, destroyed or renamed.
        StoreIOError: The key slots can't be read.
    """
    successor = successor_path(key_path)
    slots = read_slots(store_path)
    if slots is None or not successor.exists():
        return
    try:
        FileKeyProvider(successor).unwrap(slots.slots[-1].wrapped, slots.store_id)
    except WrongKey:
        FileKeyProvider(successor).destroy()
        return
    FileKeyProvider(key_path).destroy()
    _take_place(key_path)


def _take_place(key_path: Path) -> None:
    try:
        put_in_place(successor_path(key_path), key_path)
    except OSError as error:
        raise KeyUnavailable(
            f"{successor_path(key_path).name} can't take the place of {key_path.name} ({error.strerror})",
            "see to the folder, then try again",
        ) from error
