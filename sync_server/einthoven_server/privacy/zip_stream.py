"""A zip archive that is written while it is sent: what was made is taken at once, and nothing is kept but names.

Invariants:
    1. Entry names are of a fixed alphabet, relative, and without ``..``; no name is there twice.
    2. The list of entries comes last: a transfer that broke off is no archive, and every reader says so.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import zipfile
from types import TracebackType
from typing import IO, Final, NamedTuple, Self, cast

_NAME: Final = re.compile(r"(?:signals/)?[a-z0-9][a-z0-9-]{0,63}\.[a-z]{2,6}", re.ASCII)
_LEVEL: Final = 1
"""Of compression: samples of 16 bits gain little by more."""
_PRIVATE: Final = 0o100600 << 16
"""A file that its owner alone may read, once it is unpacked."""


class FinishedEntry(NamedTuple):
    """An entry that was written whole.

    Attributes:
        name: Its name.
        n_bytes: Its size, unpacked.
        sha256: Hexadecimal.
    """

    name: str
    n_bytes: int
    sha256: str


class _Sink:
    """What is written to, and taken from; it can't go back, and so an archive needs no going back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, octets: bytes) -> int:
        self._parts.append(bytes(octets))
        return len(octets)

    def flush(self) -> None:
        """Nothing: it is in memory until it is taken."""

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class ZipStream:
    """One archive.

    Args:
        now_ms: Time of its entries, ms since 1970.
    """

    def __init__(self, now_ms: int) -> None:
        at = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
        self._at = (at.year, at.month, at.day, at.hour, at.minute, at.second)
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(cast("IO[bytes]", self._sink), "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        self._names: set[str] = set()

    def entry(self, name: str) -> ZipEntry:
        """Begin an entry; the one before it has to be closed.

        Raises:
            ValueError: No such name may be in an archive, or it is in it.
        """
        if not _NAME.fullmatch(name) or name in self._names:
            raise ValueError("that is no name of an entry, or one that is there already")
        self._names.add(name)
        info = zipfile.ZipInfo(name, self._at)
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, _PRIVATE
        return ZipEntry(self._zip, info)

    def take(self) -> bytes:
        """What was made since the last time."""
        return self._sink.take()

    def finish(self) -> bytes:
        """The end: the list of entries."""
        self._zip.close()
        return self._sink.take()


class ZipEntry:
    """An entry that is being written, as a context manager; made by ``ZipStream``."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._name = info.filename
        self._file = archive.open(info, "w", force_zip64=True)
        self._digest = hashlib.sha256()
        self._n_bytes = 0

    def write(self, octets: bytes) -> None:
        """Add to it."""
        self._file.write(octets)
        self._digest.update(octets)
        self._n_bytes += len(octets)

    def finished(self) -> FinishedEntry:
        """What was written."""
        return FinishedEntry(self._name, self._n_bytes, self._digest.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
