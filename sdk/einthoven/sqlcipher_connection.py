"""Opening a SQLCipher file so that nothing can go wrong quietly, and SQLite's errors in the SDK's words.

SQLCipher forgives too much: without a key it makes a plaintext file, on a wrong key it writes to standard error, on
closing it moves a write-ahead log into a file that it could not read. So a file is looked at before it is opened for
writing, and what could not be opened is left byte for byte as it was. It deliberately knows no table.

Invariants:
    1. No connection leaves this module without a key, or on a build that is not SQLCipher >= 4 on SQLite >= 3.51.3.
    2. A file that is refused keeps its bytes, and so does its write-ahead log; nothing is left beside it.
    3. A file gets its name only once it is complete, encrypted (its first bytes were looked at) and synced.
    4. A commit that returned survives a power cut (``synchronous = FULL``; ``NORMAL`` in WAL mode does not sync the
       log at a commit).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlcipher3 import dbapi2

from einthoven.errors import StoreIOError, StoreUnsafe, WrongKey
from einthoven.keys import raw_key_literal
from einthoven.private_files import create_private_file, put_in_place
from einthoven.store_schema import APPLICATION_ID, check_version, migrate

MIN_SQLITE_VERSION: Final = (3, 51, 3)
"""First with the WAL-reset corruption fixed."""
MIN_SQLCIPHER_MAJOR: Final = 4
"""First with per-page HMAC-SHA512."""
PLAINTEXT_HEADER: Final = b"SQLite format 3\x00"
"""How an unencrypted database begins."""
PAGE_BYTES: Final = 4_096
"""One page of SQLCipher 4; the smallest store is one."""
BUSY_TIMEOUT_S: Final = 2.0
"""Seconds to wait for somebody else's reader."""
JOURNAL_SIZE_LIMIT_BYTES: Final = 8 * 2**20
"""The write-ahead log is cut back to this once it was moved into the file."""

_SQLITE_CORRUPT, _SQLITE_NOTADB = 11, 26
_REMEDIES: Final = {
    5: ("is in use", "close what else has it open, then try again"),  # SQLITE_BUSY
    6: ("is in use", "close what else has it open, then try again"),  # SQLITE_LOCKED
    8: ("can't be written to", "make file and folder writable"),  # SQLITE_READONLY
    10: ("can't be read or written", "see to the disk, then try again"),  # SQLITE_IOERR
    _SQLITE_CORRUPT: ("is damaged", "restore it from a backup"),
    13: ("does not fit: the disk is full", "free some space, then try again"),  # SQLITE_FULL
    14: ("can't be opened", "make file and folder readable"),  # SQLITE_CANTOPEN
    _SQLITE_NOTADB: ("is damaged", "restore it from a backup"),
}


@contextmanager
def translated(file_name: str) -> Iterator[None]:
    """Turn SQLite's errors into ``StoreIOError``.

    Raises:
        StoreIOError: One line that names the file, not what was being written.
    """
    try:
        yield
    except dbapi2.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        problem, remedy = _REMEDIES.get(code, (f"failed with SQLite error {code}", "see to the disk, then try again"))
        raise StoreIOError(f"{file_name} {problem}", remedy) from error


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


def create_file(path: Path, key: bytes) -> None:
    """Make an empty store under this name; the caller holds its lock.

    Raises:
        StoreError: It can't be made; nothing is left under the name.
        OSError: The disk says no.
    """
    for suffix in ("-wal", "-journal"):
        if path.with_name(path.name + suffix).exists():
            # SQLite would play a left-over log into the new file.
            raise StoreIOError(
                f"{path.name}{suffix} is left over from another file", "put its file back, or move it away"
            )
    prepared = path.with_name(path.name + ".new")
    _remove(prepared)
    try:
        create_private_file(prepared, b"")
        with translated(path.name), closing(_connect(prepared, "rw", key)) as connection:
            _use_write_ahead_log(connection, path.name)
            migrate(connection, path.name)
        with prepared.open("rb") as file:
            if file.read(len(PLAINTEXT_HEADER)) == PLAINTEXT_HEADER:
                raise StoreUnsafe("this SQLCipher wrote plaintext", "install sqlcipher3 0.6.4 or newer as a wheel")
        put_in_place(prepared, path)
    finally:
        _remove(prepared)


def open_file(path: Path, key: bytes) -> dbapi2.Connection:
    """Open a store for writing, after proving that this key opens it; the caller holds its lock.

    Raises:
        WrongKey: The key does not open it, or it is no store.
        StoreTooNew: A newer version wrote it.
        StoreError: In one of its other kinds.
        OSError: It can't be read.
    """
    _look_at(path)
    _prove(path, key)
    with translated(path.name):
        connection = _connect(path, "rw", key)
        try:
            _use_write_ahead_log(connection, path.name)
            migrate(connection, path.name)
        except BaseException:
            connection.close()
            raise
    return connection


def _use_write_ahead_log(connection: dbapi2.Connection, file_name: str) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreIOError(f"{file_name} can't have a write-ahead log", "keep it on a local disk")


def _look_at(path: Path) -> None:
    """Refuse by size and first bytes what is no store. SQLite must not have the file open here (see file_lock)."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(len(PLAINTEXT_HEADER))
    if size == 0:
        raise WrongKey(f"{path.name} is empty, so it is no store", "restore it from a backup, or name another file")
    if header == PLAINTEXT_HEADER:
        raise WrongKey(f"{path.name} is an unencrypted database, so it is no store of ours", "name another file")
    if size < PAGE_BYTES:
        raise WrongKey(f"{path.name} is too short to be a store", "restore it from a backup, or name another file")


def _prove(path: Path, key: bytes) -> None:
    """Read through a connection that can't write, so that a refused file stays as it is."""
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    # Page 1 may be whole only in the log (power cut while it was moved), so the log is read where there is one.
    has_log = log.exists() and log.stat().st_size > 0
    had_index = index.exists()
    try:
        with closing(_connect(path, "ro" if has_log else "ro&immutable=1", key)) as connection:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (user_version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except dbapi2.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == _SQLITE_NOTADB:
            raise WrongKey(
                f"the key does not open {path.name}, or the file is no store", "give the key that it was made with"
            ) from error
        with translated(path.name):
            raise
    finally:
        if not had_index:
            index.unlink(missing_ok=True)
    if application_id != APPLICATION_ID:
        raise WrongKey(f"{path.name} is a database of another application", "name another file")
    check_version(user_version, path.name)
    # SQLite sees missing pages by itself but rounds half a page up. With a log, half a page is one being moved.
    if not has_log and path.stat().st_size % PAGE_BYTES:
        raise StoreIOError(f"{path.name} was cut off", "restore it from a backup")


def _connect(path: Path, mode: str, key: bytes) -> dbapi2.Connection:
    """An open, keyed and hardened connection in autocommit mode."""
    uri = f"file:{quote(str(path))}?mode={mode}"
    connection = dbapi2.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        # First of all, or a wrong key is announced on the user's terminal.
        connection.execute("PRAGMA cipher_log_level = NONE")
        version = connection.execute("PRAGMA cipher_version").fetchone()
        check_build(dbapi2.sqlite_version_info, version and version[0])
        connection.enable_load_extension(False)
        connection.execute(f'PRAGMA key = "{raw_key_literal(key)}"')
        for pragma in (
            "cipher_compatibility = 4",  # the file's format does not follow the library's defaults
            "temp_store = MEMORY",  # FILE writes plaintext to the temporary folder
            "synchronous = FULL",
            "fullfsync = ON",  # on Apple systems fsync alone does not reach the disk
            "checkpoint_fullfsync = ON",
            "foreign_keys = ON",
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "secure_delete = ON",  # what was deleted is not kept for whoever gets the key later
            f"journal_size_limit = {JOURNAL_SIZE_LIMIT_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _remove(prepared: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        prepared.with_name(prepared.name + suffix).unlink(missing_ok=True)
