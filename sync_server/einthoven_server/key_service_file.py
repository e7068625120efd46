"""Key-encryption keys (AES-256) in a file of mode 0600: one that wraps, and former versions that still open.

It deliberately tells no other machine: several servers with a file each need the same file. It is what to back up apart
from the database.

Invariants:
    1. A file of one line of 64 hexadecimal digits is version 1; with more, each line is ``version digits``, ascending.
       The last one wraps.
    2. What version 1 wrapped begins with byte 1, what a later one did with byte 2 and the version (uint32).
    3. The file is replaced whole; a server that runs on it sees a new version at its next wrapping, and looks again
       before it refuses a version that it does not know.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from einthoven_server import envelope, limits
from einthoven_server.errors import DataFolderBusy, EnvelopeRefused, KeyUnavailable
from einthoven_server.private_files import read_or_make, read_private, write_atomically

_FIRST: Final = 1
_LABELLED: Final = b"\x02"
_DIGITS: Final = 2 * envelope.KEY_BYTES


class FileKeyService:
    """``KeyService`` over a file; makes the file on first use.

    Args:
        path: Where the keys are.

    Raises:
        KeyUnavailable: Missing afterwards, damaged, or open to others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._keys: dict[int, envelope.Key] = {}
        read_or_make(path, lambda: secrets.token_bytes(envelope.KEY_BYTES).hex().encode() + b"\n")
        self._look()

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to ``context``.

        Raises:
            KeyUnavailable: The file is gone, or not what it was.
        """
        self._look()
        version = max(self._keys)
        sealed = self._keys[version].seal(key, context)
        return sealed if version == _FIRST else _LABELLED + version.to_bytes(4, "big") + sealed[1:]

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key.

        Raises:
            EnvelopeRefused: Another key-encryption key, another context, or damage.
        """
        version = file_version(wrapped)
        if version not in self._keys:
            self._look()
        key = self._keys.get(version)
        if key is None:
            raise EnvelopeRefused(
                "a wrapped key is of a version that the key file has not", "restore the key file that belongs to it"
            )
        return key.open(wrapped if version == _FIRST else b"\x01" + wrapped[5:], context)

    async def make_version(self) -> int:
        """Add a version to the file; return its number.

        Raises:
            DataFolderBusy: Somebody else is at it.
        """
        return await asyncio.to_thread(self._change, lambda keys: keys | {max(keys) + 1: secrets.token_hex(32)})

    async def forget_former(self, in_use: set[int]) -> int:
        """Leave only the version that wraps; return its number.

        Args:
            in_use: Versions that wrapped keys name.

        Raises:
            KeyUnavailable: A former version is, or may be, in use.
        """

        def latest(keys: dict[int, str]) -> dict[int, str]:
            last = max(keys)
            if in_use - {last}:
                raise KeyUnavailable("keys are still wrapped with a former version", "run keys rotate first")
            if len(keys) > 1 and time.time() - self._path.stat().st_mtime < limits.KEY_FILE_FORGET_AFTER_S:
                raise KeyUnavailable(
                    "a version was made just now, and a former one may be in use", "come back in ten minutes"
                )
            return {last: keys[last]}

        return await asyncio.to_thread(self._change, latest)

    def _change(self, change: Callable[[dict[int, str]], dict[int, str]]) -> int:
        with _alone(self._path):
            before = _parsed(self._path, read_private(self._path))
            after = change(before)
            if after != before:
                lines = [f"{version} {digits}\n" for version, digits in sorted(after.items())]
                write_atomically(self._path, "".join(lines).encode("ascii"))
        self._look()
        return max(after)

    def _look(self) -> None:
        try:
            status = self._path.stat()
        except OSError as error:
            raise KeyUnavailable(
                f"can't read {self._path.name}: {error.strerror}", "restore it from a backup"
            ) from error
        seen = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
        if seen != self._seen:
            keys = _parsed(self._path, read_private(self._path))
            self._keys = {version: envelope.Key(bytes.fromhex(digits)) for version, digits in keys.items()}
            self._seen = seen


def file_version(wrapped: bytes) -> int:
    """Which version of a key file wrapped this.

    Raises:
        EnvelopeRefused: It has not the form of one.
    """
    if wrapped[:1] != _LABELLED:
        return _FIRST
    version = int.from_bytes(wrapped[1:5], "big")
    if version <= _FIRST:
        raise EnvelopeRefused("a wrapped key is not in a known form", "restore the database from a backup")
    return version


def _parsed(path: Path, content: bytes) -> dict[int, str]:
    found: dict[int, str] = {}
    try:
        lines = content.decode("ascii").split("\n")
        for line in filter(None, (line.strip() for line in lines)):
            version, _, digits = line.rpartition(" ")
            number = int(version) if version else _FIRST
            # What stands twice, or is of another length, is found below.
            found[number] = "" if number in found or len(bytes.fromhex(digits)) != envelope.KEY_BYTES else digits
    except ValueError as error:
        raise KeyUnavailable(f"{path.name} is damaged", "restore it from a backup") from error
    if not found or min(found) < _FIRST or {len(digits) for digits in found.values()} != {_DIGITS}:
        raise KeyUnavailable(
            f"{path.name} is damaged, or does not hold {envelope.KEY_BYTES} bytes", "restore it from a backup"
        )
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep two commands from making a version each, of which one would be lost."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFolderBusy("somebody else changes the key file", "try again later") from error
        yield
    finally:
        os.close(descriptor)
