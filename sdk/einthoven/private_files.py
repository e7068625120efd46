"""Files and folders that only their owner can read, made so that a power cut leaves all or nothing.

It deliberately knows neither keys nor databases.

Invariants:
    1. A file made here has mode 0600 from its first moment, whatever the umask.
    2. On return, content and name are on the disk: file and folder were synced.
"""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE_FILE_MODE = 0o600
"""Owner reads and writes."""
PRIVATE_FOLDER_MODE = 0o700
"""Owner lists, enters and writes."""
OTHERS_MODE_MASK = 0o077
"""Mode bits that let anybody but the owner in."""


def make_private_folder(folder: Path) -> None:
    """Make a folder 0700 if there is none; one that exists is left as it is.

    Raises:
        OSError: It can't be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=PRIVATE_FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    sync_folder(folder.parent)


def create_private_file(path: Path, content: bytes) -> None:
    """Make a new file 0600 with this content and sync it, but not its folder.

    Raises:
        OSError: It exists, or can't be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def put_in_place(prepared: Path, path: Path) -> None:
    """Give a finished file its name, durably; the caller holds the lock that keeps others from doing the same.

    Raises:
        OSError: It can't be renamed.
    """
    prepared.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's list of names on the disk.

    Raises:
        OSError: The disk says no.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
