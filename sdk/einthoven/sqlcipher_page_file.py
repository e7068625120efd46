"""A store's file and its write-ahead log, opened to be read page by page beside SQLite, or in its stead.

It deliberately writes nothing and keeps no copy: pages are read when they are asked for.

Invariants:
    1. A place of the disk that can't be read, also not when tried again, is a damaged page, not an error: the rest is
       read. Whether such a place can be read after all is known at the end (``check_lasting``).
    2. Closing one drops the POSIX locks that this process has on the file (fcntl(2)), SQLite's among them. So where
       SQLite has the file open in this process, its ``PageFile`` is closed after the last connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from einthoven.errors import StoreIOError
from einthoven.sqlcipher_connection import FileKey
from einthoven.sqlcipher_log import LoggedPages
from einthoven.sqlcipher_pages import CipherPages, PageCipher

READ_TRIES: Final = 3
"""Times that a place is read before it counts as one that can't be."""


class FileBytes:
    """A ``ByteSource`` over an open file."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: It can't be opened.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._unread: dict[int, int] = {}

    @property
    def n_bytes(self) -> int:
        """See ``ByteSource``."""
        return os.fstat(self._descriptor).st_size

    @property
    def inode(self) -> int:
        """Number of the file in its file system."""
        return os.fstat(self._descriptor).st_ino

    def read_at(self, position: int, n_bytes: int) -> bytes:
        """See ``ByteSource``; what can't be read, also not when tried again, is not there."""
        for _ in range(READ_TRIES):
            with suppress(OSError):
                return os.pread(self._descriptor, n_bytes, position)
        self._unread[position] = n_bytes
        return b""

    def reads_after_all(self) -> bool:
        """Whether some place that could not be read now can be."""
        for position, n_bytes in self._unread.items():
            with suppress(OSError):
                os.pread(self._descriptor, n_bytes, position)
                return True
        return False

    def close(self) -> None:
        """Close it; twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PageFile:
    """A store's file, open for reading; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            StoreIOError: It can't be opened.
        """
        self._path = path
        self._log: FileBytes | None = None
        try:
            self._file = FileBytes(path)
        except OSError as error:
            raise _unreadable(path, error) from error

    @property
    def inode(self) -> int:
        """Number of the file in its file system."""
        return self._file.inode

    @contextmanager
    def pages(self, key: FileKey) -> Iterator[CipherPages]:
        """Its pages as they are now, those in the log included; nobody may write or checkpoint meanwhile.

        Args:
            key: What opens the file.

        Raises:
            StoreIOError: There is a log that can't be opened.
        """
        cipher = PageCipher(key.data_key, key.salt)
        log_path = self._path.with_name(self._path.name + "-wal")
        try:
            with suppress(FileNotFoundError):
                self._log = FileBytes(log_path)
        except OSError as error:
            raise _unreadable(log_path, error) from error
        try:
            yield CipherPages(self._file, cipher, None if self._log is None else LoggedPages(self._log, cipher.proves))
        finally:
            if self._log is not None:
                self._log.close()
                self._log = None

    def check_lasting(self) -> None:
        """See that what could not be read still can't be; for the log's part, ask while in ``pages``.

        Raises:
            StoreIOError: Some of it can: the disk fails now and then, and what it withheld is not lost.
        """
        if self._file.reads_after_all() or (self._log is not None and self._log.reads_after_all()):
            raise StoreIOError(f"{self._path.name} could not be read for a while", "see to the disk, then try again")

    def close(self) -> None:
        """Close the file; twice is allowed."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unreadable(path: Path, error: OSError) -> StoreIOError:
    return StoreIOError(f"{path.name} can't be read ({error.strerror})", "make it readable")
