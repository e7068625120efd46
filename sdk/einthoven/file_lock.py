"""One holder at a time for a path, across processes and threads, and no trace left behind.

The lock is an advisory ``flock`` on an empty file beside the path (``NAME.lock``). The kernel drops it when its holder
dies, so a crash leaves nothing that has to be cleared by hand. It deliberately does not lock the file itself: SQLite
keeps POSIX locks on a database, and closing any other descriptor of that file would drop them.

Invariants:
    1. Of all ``FileLock`` objects for one path, in any process, at most one is held.
    2. The lock file is removed only while its lock is held, and one that was removed while somebody waited for it is
       not taken for the real one.
    3. It never waits: taken or ``StoreIOError``.

Stated limit: a process that forks while it holds a lock shares it with its child.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from einthoven.errors import StoreIOError

LOCK_SUFFIX = ".lock"
"""Ending of the lock file's name."""
MAX_ATTEMPTS = 100
"""Times that the lock file may vanish between being opened and being locked."""


class FileLock:
    """An exclusive lock for a path, held from construction to ``release``."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Args:
            path: What to lock; need not exist, its folder must.

        Raises:
            StoreIOError: Somebody else holds it, or the lock file can't be made.
        """
        self._path = path.with_name(path.name + LOCK_SUFFIX)
        self._descriptor = _lock(self._path)

    def release(self) -> None:
        """Give the lock back, whatever the disk says; twice is allowed."""
        if self._descriptor < 0:
            return
        try:
            # A lock file that can't be removed is empty, and locked by nobody once its descriptor is closed.
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def _lock(lock_path: Path) -> int:
    for _ in range(MAX_ATTEMPTS):
        try:
            descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreIOError(
                f"the lock file {lock_path} can't be made ({error.strerror})", "make its folder writable"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_at(descriptor, lock_path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            held = lock_path.name.removesuffix(LOCK_SUFFIX)
            raise StoreIOError(f"{held} is open elsewhere", "close it there first") from error
        except OSError as error:
            os.close(descriptor)
            raise StoreIOError(
                f"the lock file {lock_path} can't be locked ({error.strerror})", "use a file system that has locks"
            ) from error
        os.close(descriptor)
    raise StoreIOError(f"the lock file {lock_path} keeps vanishing", "see what deletes it")


def _is_still_at(descriptor: int, lock_path: Path) -> bool:
    """Whether the locked file is the one that others would open now; its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock_path.lstat())
    except FileNotFoundError:
        return False
