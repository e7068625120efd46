"""A folder that is there whole or not at all: prepared under another name, and renamed when everything is on the disk.

It deliberately knows nothing of what it holds, and overwrites and removes nothing that it did not make itself.

Invariants:
    1. The folder has mode 0700, its files 0600, from their first moment.
    2. What fails leaves nothing behind; what is killed leaves ``NAME.partial``, which the next attempt names.
    3. ``SHA256SUMS`` lists every other file, as sha256sum(1) reads it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from einthoven.errors import InputError, StoreIOError
from einthoven.private_files import PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE, sync_folder

PARTIAL_SUFFIX: Final = ".partial"
SUMS_NAME: Final = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """A file as it was written.

    Attributes:
        name: Its name.
        n_bytes: Its size.
        sha1: Its SHA-1, 20 bytes.
        sha256: Its SHA-256, 32 bytes.
    """

    name: str
    n_bytes: int
    sha1: bytes
    sha256: bytes


class HashingFile:
    """An open file that knows the digests of what was written to it."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self._name = name
        self._file = file
        self._n_bytes = 0
        # FHIR R4 asks for a SHA-1, which proves nothing here; what does is the SHA-256.
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def write(self, content: bytes) -> int:
        """Append bytes; return how many."""
        self._file.write(content)
        self._sha1.update(content)
        self._sha256.update(content)
        self._n_bytes += len(content)
        return len(content)

    @property
    def finished(self) -> FinishedFile:
        """What was written so far."""
        return FinishedFile(self._name, self._n_bytes, self._sha1.digest(), self._sha256.digest())


class ExportFolder:
    """A folder under preparation; a context manager. Without ``finish`` nothing of it stays."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is made yet."""
        self._path = path.absolute()
        self._partial = self._path.with_name(self._path.name + PARTIAL_SUFFIX)
        self._files: list[FinishedFile] = []
        self._finished = False

    @property
    def files(self) -> tuple[FinishedFile, ...]:
        """What was written so far, in order."""
        return tuple(self._files)

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            InputError: The folder, or one that was cut off, is there.
            StoreIOError: It can't be made.
        """
        self._refuse_existing()
        try:
            with _translated():
                self._partial.mkdir(mode=PRIVATE_FOLDER_MODE)
        except StoreIOError as problem:
            if isinstance(problem.__cause__, FileExistsError):
                raise InputError(
                    f"an export to {self._path.name} is under way, or was cut off",
                    f"remove {self._partial.name}, then export again",
                ) from problem
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            shutil.rmtree(self._partial, ignore_errors=True)

    @contextmanager
    def file(self, name: str) -> Iterator[HashingFile]:
        """Make a file; on leaving it is on the disk.

        Raises:
            StoreIOError: It can't be written.
        """
        with _translated():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self._partial / name, flags, PRIVATE_FILE_MODE), "wb") as file:
                hashing = HashingFile(name, file)
                yield hashing
                file.flush()
                os.fsync(file.fileno())
        self._files.append(hashing.finished)

    def write_sums(self) -> bytes:
        """Write the list of digests; return its own SHA-256, which stands for the whole folder."""
        lines = "".join(f"{file.sha256.hex()}  {file.name}\n" for file in self._files)
        with self.file(SUMS_NAME) as sums:
            sums.write(lines.encode("utf-8"))
        return self._files[-1].sha256

    def finish(self) -> None:
        """Give the folder its name, durably.

        Raises:
            InputError: Somebody else made it meanwhile.
            StoreIOError: The disk says no.
        """
        self._refuse_existing()
        with _translated():
            sync_folder(self._partial)
            self._partial.rename(self._path)
            self._finished = True
            sync_folder(self._path.parent)

    def _refuse_existing(self) -> None:
        if os.path.lexists(self._path):
            raise InputError(f"{self._path.name} exists already", "name a folder that does not")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise StoreIOError(
            f"the export can't be written ({problem.strerror})", "free some space, or name a folder you may write to"
        ) from problem
