"""Erases a store for good: first what opens it, then the files.

Once the wrapped data key is destroyed the file is noise, and once the wrapping key is, so is every copy of it in every
backup: that comes first, so that being cut off after it leaves nothing to be read. Removing the files only gives the
room back. It needs no key and opens nothing.

It deliberately overwrites no database: flash and copy-on-write disks keep what was overwritten, and it is encrypted.

Invariants:
    1. What comes first opens what comes later: wraps, wrapping key, anchor, then files.
    2. One step that fails keeps no other from being done; the first failure is raised at the end, and erasing again
       does what is left. A report means that everything is gone.
    3. Erasing what is gone already is no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.errors import StoreError, StoreIOError
from einthoven.file_lock import FileLock
from einthoven.key_slots import destroy_slots, slots_path
from einthoven.ports import Anchor, KeyProvider
from einthoven.private_files import sync_folder
from einthoven.sqlcipher_connection import SIDE_SUFFIXES
from einthoven.sqlcipher_reserve import reserve_path
from einthoven.store_repair import DAMAGED_SUFFIX
from einthoven.store_replacement import prepared_path


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What was destroyed.

    Attributes:
        destroyed: Key slots, wrapping key, anchor and files, in the order in which they went; what was not there is not
            in it.
        copies_unreadable: Whether copies of the files that were made before can't be opened any more, by what the key
            provider says of its ``destroy``.
    """

    destroyed: tuple[str, ...]
    copies_unreadable: bool


def erase_store(path: Path | str, key_provider: KeyProvider | None, anchor: Anchor | None = None) -> ErasureReport:
    """Destroy a store; it can't be undone.

    Args:
        path: The store's file; nobody has it open.
        key_provider: Its wrapping key is destroyed, also where other stores use it. ``None`` leaves it: then copies of
            the store that were made with their ``.keys`` file can still be opened with it.
        anchor: Where its last commit is remembered, if not in a file beside it.

    Raises:
        KeyUnavailable: The wrapping key could not be destroyed; all else was.
        StoreIOError: The store is open elsewhere, and nothing was done; or something could not be removed, and the rest
            was.
    """
    path = Path(path).resolve()
    lock = FileLock(path) if path.parent.is_dir() else None
    erasure = _Erasure()
    try:
        erasure.step("key slots", lambda: destroy_slots(path), slots_path(path).exists())
        if key_provider is not None:
            erasure.step("wrapping key", key_provider.destroy, there=True)
        if anchor is not None:
            erasure.step("anchor", anchor.destroy, there=True)
        beside = FileAnchor(anchor_path(path))
        erasure.step(beside.path.name, beside.destroy, beside.path.exists())
        for file in files_to_erase(path):
            erasure.step(file.name, file.unlink, there=True)
        if path.parent.is_dir():
            erasure.step("", lambda: sync_folder(path.parent), there=False)
    finally:
        if lock is not None:
            lock.release()
    if erasure.failure is not None:
        raise erasure.failure
    final = key_provider is not None and key_provider.destroy_is_final
    return ErasureReport(tuple(erasure.destroyed), final)


def files_to_erase(path: Path) -> list[Path]:
    """The files of a store that exist, but for key slots, anchor and lock.

    Args:
        path: The store's file.
    """
    mains = (path.name, prepared_path(path).name)
    names = {f"{name}{side}" for name in mains for side in ("", *SIDE_SUFFIXES)} | {reserve_path(path).name}
    if not path.parent.is_dir():
        return []
    found = [
        file for file in path.parent.iterdir() if file.name in names or file.name.startswith(path.name + DAMAGED_SUFFIX)
    ]
    return sorted(found, key=lambda file: (file.name != path.name, file.name))


class _Erasure:
    """Steps that were taken, and the first that failed."""

    def __init__(self) -> None:
        self.destroyed: list[str] = []
        self.failure: StoreError | None = None

    def step(self, name: str, destroy: Callable[[], None], there: bool) -> None:
        """Take one, whatever became of those before."""
        try:
            destroy()
        except StoreError as error:
            self.failure = self.failure or error
        except OSError as error:
            failed = StoreIOError(f"{name} can't be removed ({error.strerror})", "see to disk and folder, erase again")
            failed.__cause__ = error
            self.failure = self.failure or failed
        else:
            if there:
                self.destroyed.append(name)
