"""KeyProvider on a file: for headless boards and the demo, where there is no Keychain to ask.

Whoever can read the file can read the store, so it deliberately refuses one that others can read, rather than mending
its mode in silence: the key must be taken as known by then. It does not wrap the key or ask for a passphrase.

Invariants:
    1. A key file has mode 0600, is a regular file of this user, and holds exactly 32 bytes; anything else is refused.
    2. A key file is whole or absent, also after a power cut; one that exists is never written again.
    3. Two processes that create at once end with one key.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from pathlib import Path

from einthoven.errors import KeyUnavailable, StoreIOError
from einthoven.file_lock import FileLock
from einthoven.keys import KEY_BYTES, checked_key
from einthoven.private_files import (
    OTHERS_MODE_MASK,
    create_private_file,
    make_private_folder,
    put_in_place,
)

CREATE_WAIT_S = 2.0
"""Seconds to wait for another process that is making the same file."""
CREATE_RETRY_S = 0.01
"""Seconds between two looks."""


class FileKeyProvider:
    """Loads the data key from a file, and makes it on first use if asked to."""

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        """Name the file; nothing is read or made yet.

        Args:
            path: The key file. Keep it apart from the store, or a copy of the folder is a copy of both.
            create: Make it, and its folder, on the first ``load`` if there is none. Leave it off for a store that
                exists: its key can't be made anew.
        """
        self._path = Path(path)
        self._create = create

    def load(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: There is none, it is not a key file, or others can read it.
        """
        try:
            return self._read()
        except FileNotFoundError as error:
            if not self._create:
                raise KeyUnavailable(
                    f"there is no key file {self._path}", "put it back from your own backup, or name another"
                ) from error
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise self._refused(f"{why}") from error
        try:
            return self._make()
        except OSError as error:
            raise KeyUnavailable(
                f"the key file {self._path} can't be made ({error.strerror})", "name a folder that you may write to"
            ) from error

    def _read(self) -> bytes:
        # Checked on the open descriptor, so that nobody can swap the file between the check and the read.
        # O_NONBLOCK: a named pipe must be refused, not waited for.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._refused("it is not a regular file")
            if status.st_uid != os.geteuid():
                raise self._refused("it belongs to another user")
            if status.st_mode & OTHERS_MODE_MASK:
                raise KeyUnavailable(
                    f"others can read the key file {self._path}",
                    "run chmod 600 on it, and change the key if they may have read it",
                )
            if status.st_size != KEY_BYTES:
                raise self._refused(f"it has {status.st_size} bytes, not {KEY_BYTES}")
            return checked_key(os.read(descriptor, KEY_BYTES))
        finally:
            os.close(descriptor)

    def _make(self) -> bytes:
        make_private_folder(self._path.parent)
        lock = self._patient_lock()
        try:
            if self._path.exists():
                return self._read()
            prepared = self._path.with_name(self._path.name + ".new")
            prepared.unlink(missing_ok=True)
            key = secrets.token_bytes(KEY_BYTES)
            create_private_file(prepared, key)
            put_in_place(prepared, self._path)
            return key
        finally:
            lock.release()

    def _patient_lock(self) -> FileLock:
        """Wait for another creator, who needs milliseconds, rather than fail beside it."""
        give_up_at_s = time.monotonic() + CREATE_WAIT_S
        while True:
            try:
                return FileLock(self._path)
            except StoreIOError as error:
                if time.monotonic() >= give_up_at_s:
                    raise KeyUnavailable(f"the key file {self._path} can't be made", error.remedy) from error
                time.sleep(CREATE_RETRY_S)

    def _refused(self, why: str) -> KeyUnavailable:
        return KeyUnavailable(f"the key file {self._path} is refused: {why}", "name a file made by this software")

    def __repr__(self) -> str:
        return f"FileKeyProvider({str(self._path)!r}, create={self._create})"
