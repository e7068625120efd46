"""A file that holds one 32-byte key: read, made once, destroyed.

Whoever can read the file has the key, so it deliberately refuses one that others can read, rather than mending its
mode in silence: the key must be taken as known by then. It does not know what the key is for, and asks for no
passphrase.

Invariants:
    1. A key file has mode 0600, is a regular file of this user, and holds exactly 32 bytes; anything else is refused.
    2. A key file is whole or absent, also after a power cut; one that exists is never written again, but to destroy it.
    3. Two processes that create at once end with one key.
    4. Nothing but a key file is destroyed: another file of the name stays as it is. On return the name and what a crash
       left of it (``.new``) are gone from the disk, overwritten first.
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
from einthoven.shredding import shred

CREATE_WAIT_S = 2.0
"""Seconds to wait for another process that is making the same file."""
CREATE_RETRY_S = 0.01
"""Seconds between two looks."""


class KeyFile:
    """One key in one file."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read or made yet."""
        self._path = path

    def read(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: There is none, it is not a key file, or others can read it.
        """
        try:
            return self._read()
        except FileNotFoundError as error:
            raise KeyUnavailable(
                f"there is no key file {self._path}", "put it back from your own backup, or name another"
            ) from error
        except OSError as error:
            raise _refused(self._path, _why(error)) from error

    def read_or_make(self) -> bytes:
        """Return the 32-byte key, and make file and folder if there is none.

        Raises:
            KeyUnavailable: It is not a key file, others can read it, or it can't be made.
        """
        try:
            return self._read()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _refused(self._path, _why(error)) from error
        try:
            return self._make()
        except OSError as error:
            raise KeyUnavailable(
                f"the key file {self._path} can't be made ({error.strerror})", "name a folder that you may write to"
            ) from error

    def destroy(self) -> None:
        """Overwrite and remove the file and what a crash left of it; one that is not there is no error.

        Others may have read it: that is no reason to keep it.

        Raises:
            KeyUnavailable: It is not a key file, or can't be overwritten or removed.
        """
        if not self._path.parent.is_dir():
            return
        try:
            lock = self._patient_lock("destroyed")
            try:
                for path in (self._path, self._prepared()):
                    self._check_may_be_shredded(path)
                    shred(path)
            finally:
                lock.release()
        except OSError as error:
            raise KeyUnavailable(
                f"the key file {self._path} can't be destroyed ({error.strerror})",
                "make file and folder writable, then try again",
            ) from error

    def _read(self) -> bytes:
        # Checked on the open descriptor, so that nobody can swap the file between the check and the read.
        # O_NONBLOCK: a named pipe must be refused, not waited for.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _refused(self._path, "it is not a regular file")
            if status.st_uid != os.geteuid():
                raise _refused(self._path, "it belongs to another user")
            if status.st_mode & OTHERS_MODE_MASK:
                raise KeyUnavailable(
                    f"others can read the key file {self._path}",
                    "run chmod 600 on it, and change the key if they may have read it",
                )
            if status.st_size != KEY_BYTES:
                raise _refused(self._path, f"it has {status.st_size} bytes, not {KEY_BYTES}")
            return checked_key(os.read(descriptor, KEY_BYTES))
        finally:
            os.close(descriptor)

    def _make(self) -> bytes:
        make_private_folder(self._path.parent)
        lock = self._patient_lock("made")
        try:
            if self._path.exists():
                return self._read()
            prepared = self._prepared()
            prepared.unlink(missing_ok=True)
            key = secrets.token_bytes(KEY_BYTES)
            create_private_file(prepared, key)
            put_in_place(prepared, self._path)
            return key
        finally:
            lock.release()

    def _check_may_be_shredded(self, path: Path) -> None:
        """A slip in the name of the file must not cost the user another file."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISLNK(status.st_mode):
            raise _refused(path, "it is a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "it is not a regular file")
        half_made = path != self._path and status.st_size < KEY_BYTES
        if status.st_size != KEY_BYTES and not half_made:
            raise _refused(path, f"it has {status.st_size} bytes, not {KEY_BYTES}")

    def _patient_lock(self, verb: str) -> FileLock:
        """Wait for another process, who needs milliseconds, rather than fail beside it."""
        give_up_at_s = time.monotonic() + CREATE_WAIT_S
        while True:
            try:
                return FileLock(self._path)
            except StoreIOError as error:
                if time.monotonic() >= give_up_at_s:
                    raise KeyUnavailable(f"the key file {self._path} can't be {verb}", error.remedy) from error
                time.sleep(CREATE_RETRY_S)

    def _prepared(self) -> Path:
        return self._path.with_name(self._path.name + ".new")


def _refused(path: Path, why: str) -> KeyUnavailable:
    return KeyUnavailable(f"the key file {path} is refused: {why}", "name a file made by this software")


def _why(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == errno.ELOOP else f"{error.strerror}"
