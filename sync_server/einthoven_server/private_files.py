"""The data folder and its private files: made closed, refused when open.

It deliberately knows nothing of what a file means.

Invariants:
    1. A private file is created with mode 0600, whole or not at all, and never overwritten by accident.
    2. A private file that group or others may touch, or that is no regular file, is not read.
    3. One process at a time holds a data folder; the kernel drops its lock when the process dies.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from einthoven_server.errors import DataFolderBusy, DataFolderUnsafe, KeyUnavailable

LOCK_NAME = "lock"
RESTORING = "restoring"
"""A file that is there while a backup is restored into a data folder, and after that was cut short."""
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_data_folder(folder: Path) -> None:
    """Make ``folder`` with mode 0700, or check that an existing one is ours and closed.

    Raises:
        DataFolderUnsafe: It is no folder, is someone else's, or others can enter it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise DataFolderUnsafe(f"can't make the data folder: {error.strerror}", "give a writable path") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise DataFolderUnsafe("the data folder is not a folder of this user", "give --data a path of your own")
    if status.st_mode & _OPEN_TO_OTHERS:
        raise DataFolderUnsafe("other users can enter the data folder", "close it with chmod 700")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process.

    Raises:
        DataFolderBusy: Another process holds it.
        DataFolderUnsafe: It is not writable.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DataFolderUnsafe(f"can't lock the data folder: {error.strerror}", "make it writable") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFolderBusy("another server uses this data folder", "stop it, or give another --data") from error
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, mode 0600; a reader sees the old file or the new one, also after a crash.

    Raises:
        DataFolderUnsafe: It can't be written.
    """
    try:
        _write(path, content)
    except OSError as error:
        raise DataFolderUnsafe(
            f"can't write {path.name}: {error.strerror}", "check that its folder is there, yours and not full"
        ) from error


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path) -> bytes:
    """Read a private file.

    Raises:
        KeyUnavailable: It is missing, no regular file, or open to others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise KeyUnavailable(f"can't read {path.name}: {error.strerror}", "restore it from a backup") from error
    try:
        # The mode of what was opened, not of what the name means by now.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyUnavailable(f"{path.name} is no regular file", "restore it from a backup")
        if status.st_mode & _OPEN_TO_OTHERS:
            raise KeyUnavailable(
                f"{path.name} can be read by other users",
                "consider it disclosed; if it was not, close it with chmod 600",
            )
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            return stream.read()
    finally:
        os.close(descriptor)


def read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """Read a private file; on first use, make it.

    Raises:
        KeyUnavailable: It is there but can't be trusted.
    """
    if not path.is_symlink() and not path.exists():
        write_atomically(path, make())
    return read_private(path)
