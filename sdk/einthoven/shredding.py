"""Removing a small secret file so that as little as possible of it can be found again.

It deliberately promises no more than the disk does: flash and copy-on-write file systems write elsewhere, so the old
bytes may outlive their overwriting. That is why a data key is wrapped, and why the wrapping key is destroyed as well.

Invariants:
    1. The file itself is overwritten and synced before its name goes, so a power cut leaves a name that can be shredded
       again, or nothing.
    2. On return the name is gone from the disk (the folder was synced), also where an earlier call was cut short.
    3. A symbolic link is removed, what it points to is left alone; nothing but a regular file is overwritten.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from einthoven.private_files import sync_folder

MAX_SHREDDED_BYTES: Final = 64 * 1024
"""Longest stretch that is overwritten; secrets here are far shorter, so more is somebody else's file."""


def shred(path: Path) -> None:
    """Overwrite a file, remove it and sync its folder; one that is not there is no error.

    Raises:
        OSError: It can't be opened, written or removed, or it is no file.
    """
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            # O_NONBLOCK: a named pipe that took its place in the meantime must not be waited for.
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                overwrite(descriptor)
            finally:
                os.close(descriptor)
        path.unlink()
    except FileNotFoundError:
        pass
    if path.parent.is_dir():
        sync_folder(path.parent)


def overwrite(descriptor: int) -> None:
    """Put random bytes over an open file's content, ``MAX_SHREDDED_BYTES`` at most, and sync it.

    Raises:
        OSError: It can't be written.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return
    noise = memoryview(secrets.token_bytes(min(status.st_size, MAX_SHREDDED_BYTES)))
    written = 0
    while written < len(noise):
        written += os.pwrite(descriptor, noise[written:], written)
    os.fsync(descriptor)
