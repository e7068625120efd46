"""Ballast beside the store: room that is given up when the disk is full, so that there is enough to make more.

A full disk can't take the log of what is dropped, nor the file the log that waits to be moved. So while the disk still
has room, but little, a part of it is set aside. It deliberately knows no database; that the ballast can't be made is no
error, for the store works without it.

Invariants:
    1. The file is ``RESERVE_BYTES`` long and its blocks are allotted, or it is not there; a crash may leave it shorter.
    2. On a disk with more room than ``SCARCE_BYTES`` none is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from einthoven.private_files import PRIVATE_FILE_MODE

RESERVE_SUFFIX: Final = ".reserve"
"""Ending of the file's name, after the store's."""
RESERVE_BYTES: Final = 2 * 2**20
"""What is in the log at most before it is moved (``CHECKPOINT_BYTES``), and the log of what is dropped."""
SCARCE_BYTES: Final = 64 * 2**20
"""Room on the disk below which ballast is worth having."""


def reserve_path(path: Path) -> Path:
    """Where the ballast of the store at ``path`` lies."""
    return path.with_name(path.name + RESERVE_SUFFIX)


def free_bytes(folder: Path) -> int:
    """Room that a disk has for who is not its administrator.

    Raises:
        OSError: It can't be looked at.
    """
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class Reserve:
    """The ballast of one store.

    Args:
        path: The store's file.
        free: Asked how much room the disk has.
    """

    def __init__(self, path: Path, free: Callable[[Path], int] = free_bytes) -> None:
        self._path = reserve_path(path)
        self._free_bytes = free

    def make(self) -> bool:
        """Set room aside where it is scarce; return whether there is ballast now, or no need of it."""
        try:
            if self._path.stat().st_size == RESERVE_BYTES:
                return True
        except OSError:
            pass
        try:
            free = self._free_bytes(self._path.parent)
            if free >= SCARCE_BYTES:
                return True
            # What is asked for beyond the room there is would take the last of it before it is refused.
            return free >= RESERVE_BYTES and self._made()
        except OSError:
            return False

    def free(self) -> bool:
        """Give the ballast's room up; return whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def room_bytes(self) -> int:
        """Room that the disk has beside the ballast; 0 if it can't be looked at."""
        try:
            return self._free_bytes(self._path.parent)
        except OSError:
            return 0

    def _made(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        try:
            _allot(descriptor, RESERVE_BYTES)
        except OSError:
            self.free()
            return False
        finally:
            os.close(descriptor)
        return True


def _allot(descriptor: int, n_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    else:  # pragma: no cover (Apple systems): a hole is no ballast, so it is filled
        os.pwrite(descriptor, b"\xff" * n_bytes, 0)
