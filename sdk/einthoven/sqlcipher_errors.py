"""SQLite's errors in the SDK's words, and which builds of SQLCipher are to be trusted with data.

It deliberately opens nothing (``sqlcipher_connection``).

Invariants:
    1. A message names the file and what to do, never what was being read or written.
    2. What a file that was open gives back and SQLite can't read is ``StoreDamaged``: its key was right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged, StoreIOError, StoreUnsafe

MIN_SQLITE_VERSION: Final = (3, 51, 3)
"""First with the WAL-reset corruption fixed."""
MIN_SQLCIPHER_MAJOR: Final = 4
"""First with per-page HMAC-SHA512."""
SQLITE_NOTADB: Final = 26
"""What SQLite says of a file that does not open under its key."""
_SQLITE_READONLY, _SQLITE_IOERR, _SQLITE_CORRUPT, _SQLITE_FULL = 8, 10, 11, 13
DAMAGED_REMEDY: Final = "repair it with 'einthoven store check --repair', or restore it from a backup"
_REMEDIES: Final = {
    5: ("is in use", "close what else has it open, then try again"),  # SQLITE_BUSY
    6: ("is in use", "close what else has it open, then try again"),  # SQLITE_LOCKED
    _SQLITE_READONLY: ("can't be written to", "make file and folder writable"),
    _SQLITE_IOERR: ("can't be read or written", "see to the disk, then try again"),
    14: ("can't be opened", "make file and folder readable"),  # SQLITE_CANTOPEN
}


class DiskFull(StoreIOError):
    """What was to be written does not fit; whoever can make room may try again. Outside it is a ``StoreIOError``."""


@contextmanager
def translated(file_name: str) -> Iterator[None]:
    """Turn SQLite's errors into ``StoreIOError``: the file was open, so its key is right.

    Raises:
        DiskFull: It does not fit.
        StoreDamaged: What was read is not what was written.
        StoreIOError: One line that names the file, not what was being written.
    """
    try:
        yield
    except dbapi2.Error as error:
        raise in_our_words(error, file_name) from error


def in_our_words(error: dbapi2.Error, file_name: str) -> StoreIOError:
    """The error to raise for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == _SQLITE_FULL:
        return DiskFull(f"{file_name} does not fit: the disk is full", "free some space, then try again")
    if code in (_SQLITE_CORRUPT, SQLITE_NOTADB):
        return StoreDamaged(f"{file_name} is damaged", DAMAGED_REMEDY)
    problem, remedy = _REMEDIES.get(code, (f"failed with SQLite error {code}", "see to the disk, then try again"))
    return StoreIOError(f"{file_name} {problem}", remedy)


def says_read_only(error: StoreIOError) -> bool:
    """Whether SQLite can't write through any connection that this process has to the file.

    It opens a log's index for reading where it can't open it for writing, also if that fails only once, and every
    connection shares it, until the last one is closed.
    """
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF == _SQLITE_READONLY


def check_build(sqlite_version: tuple[int, ...], cipher_version: str | None) -> None:
    """Refuse a build that is not to be trusted with data.

    Args:
        sqlite_version: Of the library that is loaded.
        cipher_version: What ``PRAGMA cipher_version`` says; ``None`` if it says nothing.

    Raises:
        StoreUnsafe: It is not SQLCipher, or too old.
    """
    if not cipher_version:
        raise StoreUnsafe(
            "this SQLite can't encrypt and would write plaintext", "install sqlcipher3 0.6.4 or newer as a wheel"
        )
    major = cipher_version.split(".", 1)[0]
    if not major.isdigit() or int(major) < MIN_SQLCIPHER_MAJOR:
        raise StoreUnsafe("this SQLCipher is older than 4", "install sqlcipher3 0.6.4 or newer")
    if sqlite_version < MIN_SQLITE_VERSION:
        wanted, found = (".".join(map(str, version)) for version in (MIN_SQLITE_VERSION, sqlite_version))
        raise StoreUnsafe(
            f"SQLite {found} can corrupt a write-ahead log, {wanted} is the first that does not",
            "install sqlcipher3 0.6.4 or newer",
        )
