"""Anchor in a small file beside the store, or better elsewhere: where what turns the store back does not reach.

Two slots lie in blocks of their own and are written in turn, in place: what a power cut tears is the slot that was
being written, and then the other one counts. Nothing is kept open or remembered between calls, so whoever else writes
(one after the other, under the store's lock) is seen.

It deliberately knows nothing of what it keeps, and takes no lock.

Slot: sequence number u64 | length u16 | record | BLAKE2b-128 of all before. The higher number counts.

Invariants:
    1. ``read`` gives a record that was written whole: the last one, or after a crash the one before.
    2. A write touches only the slot that does not count, and never changes the file's length.
    3. The file has mode 0600 from its first moment, and its name only once it holds a record and is on the disk.
    4. A symbolic link is not followed.

Stated limit: whoever can restore the store can restore this file with it, where both lie in one backup. Keep it out of
the backup, or use the platform's vault.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from einthoven.errors import StoreIOError
from einthoven.ports import MAX_ANCHOR_RECORD_BYTES
from einthoven.private_files import create_private_file, put_in_place
from einthoven.shredding import shred

ANCHOR_SUFFIX: Final = ".anchor"
"""Ending of the file's name, after the store's."""
SLOT_STRIDE_BYTES: Final = 4_096
"""From one slot to the next: no block of the disk holds two."""

_HEAD: Final = struct.Struct(">QH")
_SUM_BYTES: Final = 16
_N_SLOTS: Final = 2
_MAX_SLOT_BYTES: Final = _HEAD.size + MAX_ANCHOR_RECORD_BYTES + _SUM_BYTES
_MAX_SEQUENCE: Final = 2**63
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""On Apple systems fsync alone does not reach the disk (fcntl(2))."""


def anchor_path(path: Path) -> Path:
    """Where the anchor of the store at ``path`` lies if it is not told to lie elsewhere."""
    return path.with_name(path.name + ANCHOR_SUFFIX)


class FileAnchor:
    """The ``Anchor`` in a file."""

    def __init__(self, path: Path | str) -> None:
        """Name the file; nothing is read or made yet.

        Args:
            path: The file. Its folder must exist when a record is written.
        """
        self._path = Path(path)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def read(self) -> bytes | None:
        """See ``Anchor``.

        Raises:
            StoreIOError: The file is there and can't be read, or is no file.
        """
        with self._translated("read"):
            try:
                descriptor = self._open(os.O_RDONLY)
            except FileNotFoundError:
                return None
            try:
                return _newest(descriptor)[1]
            finally:
                os.close(descriptor)

    def write(self, record: bytes, *, durable: bool) -> None:
        """See ``Anchor``.

        Raises:
            ValueError: The record is empty or too long.
            StoreIOError: It can't be written.
        """
        if not 1 <= len(record) <= MAX_ANCHOR_RECORD_BYTES:
            raise ValueError(f"an anchor's record has 1-{MAX_ANCHOR_RECORD_BYTES} bytes, not {len(record)}")
        with self._translated("written"):
            try:
                descriptor = self._open(os.O_RDWR)
            except FileNotFoundError:
                self._make(record)
                return
            try:
                sequence, _ = _newest(descriptor)
                _put(descriptor, sequence + 1, record)
                if durable:
                    _sync(descriptor)
            finally:
                os.close(descriptor)

    def destroy(self) -> None:
        """See ``Anchor``; what a crash left half made goes as well.

        Raises:
            StoreIOError: It can't be removed.
        """
        with self._translated("destroyed"):
            for path in (self._path, self._prepared()):
                shred(path)

    def _open(self, flags: int) -> int:
        # O_NONBLOCK: a named pipe must be refused, not waited for.
        descriptor = os.open(self._path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreIOError(f"{self._path.name} is not a regular file", "move it away, or name another")
        return descriptor

    def _make(self, record: bytes) -> None:
        prepared = self._prepared()
        prepared.unlink(missing_ok=True)
        slot = _slot(1, record)
        # Both blocks are written now, so that later writes allocate nothing: a full disk does not stop them.
        create_private_file(prepared, bytes(SLOT_STRIDE_BYTES) + slot.ljust(SLOT_STRIDE_BYTES, b"\0"))
        put_in_place(prepared, self._path)

    def _prepared(self) -> Path:
        return self._path.with_name(self._path.name + ".new")

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreIOError(
                f"the anchor {self._path.name} can't be {verb} ({error.strerror})", "see to disk and folder"
            ) from error

    def __repr__(self) -> str:
        return f"FileAnchor({str(self._path)!r})"


def _slot(sequence: int, record: bytes) -> bytes:
    content = _HEAD.pack(sequence, len(record)) + record
    return content + _sum(content)


def _sum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SUM_BYTES).digest()


def _newest(descriptor: int) -> tuple[int, bytes | None]:
    """Sequence number and record of the slot that counts; (0, ``None``) if none does."""
    newest: tuple[int, bytes | None] = (0, None)
    octets = os.pread(descriptor, SLOT_STRIDE_BYTES + _MAX_SLOT_BYTES, 0)
    for index in range(_N_SLOTS):
        found = _parsed(octets[index * SLOT_STRIDE_BYTES :])
        # A number stands in the slot that it belongs to, or a slot was moved.
        if found is not None and found[0] % _N_SLOTS == index and found[0] > newest[0]:
            newest = found
    return newest


def _parsed(octets: bytes) -> tuple[int, bytes] | None:
    if len(octets) < _HEAD.size:
        return None
    sequence, length = _HEAD.unpack_from(octets)
    end = _HEAD.size + length
    if (
        sequence > _MAX_SEQUENCE
        or length > MAX_ANCHOR_RECORD_BYTES
        or octets[end : end + _SUM_BYTES] != _sum(octets[:end])
    ):
        return None
    return sequence, octets[_HEAD.size : end]


def _put(descriptor: int, sequence: int, record: bytes) -> None:
    slot = _slot(sequence, record)
    at = sequence % _N_SLOTS * SLOT_STRIDE_BYTES
    written = 0
    while written < len(slot):
        written += os.pwrite(descriptor, slot[written:], at + written)


def _sync(descriptor: int) -> None:
    if _FULL_SYNC is not None:  # pragma: no cover (Apple systems)
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fdatasync(descriptor)
