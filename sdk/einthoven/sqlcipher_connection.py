"""Opening a SQLCipher file so that nothing can go wrong quietly, and SQLite's errors in the SDK's words.

SQLCipher forgives too much: without a key it makes a plaintext file, on a wrong key it writes to standard error, on
closing it moves a write-ahead log into a file that it could not read. So a file is looked at before it is opened for
writing, and what could not be opened is left byte for byte as it was. It deliberately knows no table, and decides
nothing about a file that does not open (``store_opening``).

Invariants:
    1. No connection leaves this module without a key, or on a build that is not SQLCipher >= 4 on SQLite >= 3.51.3.
    2. A file that is refused keeps its bytes, and so does its write-ahead log; nothing is left beside it.
    3. A commit of a writer that returned survives a power cut (``synchronous = FULL``; ``NORMAL`` in WAL mode does not
       sync the log at a commit).
    4. A reader can't write, and a writer does not checkpoint by itself, but for the last connection that is closed.
    5. The salt is given with the key, so a file whose first bytes are damaged still opens, and no key opens a file that
       took another's place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from sqlcipher3 import dbapi2

from einthoven.errors import StoreIOError, StoreUnsafe, WrongKey
from einthoven.keys import checked_key
from einthoven.private_files import create_private_file
from einthoven.sqlcipher_errors import DAMAGED_REMEDY, SQLITE_NOTADB, DiskFull, check_build, in_our_words, translated

__all__ = [
    "DAMAGED_REMEDY",
    "DiskFull",
    "FileKey",
    "attach_empty",
    "check_build",
    "check_encrypted",
    "look_at",
    "make_file",
    "move_log",
    "open_checkpointer",
    "open_reader",
    "open_writer",
    "read_unchanged",
    "side_files",
    "translated",
]

PLAINTEXT_HEADER: Final = b"SQLite format 3\x00"
"""How an unencrypted database begins."""
PAGE_BYTES: Final = 4_096
"""One page of SQLCipher 4; the smallest store is one."""
SALT_BYTES: Final = 16
"""First bytes of a file, where SQLite has its magic."""
BUSY_TIMEOUT_S: Final = 2.0
"""Seconds to wait for somebody else's reader."""
CACHE_KIB: Final = 256
"""Pages that a connection keeps decrypted, in KiB; this build's own choice is 8 MB each."""
JOURNAL_SIZE_LIMIT_BYTES: Final = 8 * 2**20
"""The write-ahead log is cut back to this once it was moved into the file."""
SIDE_SUFFIXES: Final = ("-wal", "-shm", "-journal")
"""Endings of what SQLite keeps beside a file."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class FileKey:
    """What opens one file.

    Attributes:
        data_key: 32 random bytes, used raw.
        salt: 16 random bytes; public, they are the file's first.
    """

    data_key: bytes = field(repr=False)
    salt: bytes

    def literal(self) -> str:
        """As SQLCipher's raw key literal, to be put between double quotes; hexadecimal digits can't end it early.

        Raises:
            KeyUnavailable: The key is none that can be used.
            ValueError: The salt's length is wrong.
        """
        if len(self.salt) != SALT_BYTES:
            raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(self.salt)}")
        return f"x'{checked_key(self.data_key).hex()}{self.salt.hex()}'"


def side_files(path: Path) -> list[Path]:
    """Where SQLite keeps a file's log, the log's index and a journal."""
    return [path.with_name(path.name + suffix) for suffix in SIDE_SUFFIXES]


def look_at(path: Path) -> bytes:
    """Refuse by size and first bytes what is no store. SQLite must not have the file open here (see file_lock).

    Returns:
        The file's salt.

    Raises:
        WrongKey: It is no store.
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        header = file.read(SALT_BYTES)
    if size == 0:
        raise WrongKey(f"{path.name} is empty, so it is no store", "restore it from a backup, or name another file")
    if header == PLAINTEXT_HEADER:
        raise WrongKey(f"{path.name} is an unencrypted database, so it is no store of ours", "name another file")
    if size < PAGE_BYTES:
        raise WrongKey(f"{path.name} is too short to be a store", "restore it from a backup, or name another file")
    return header


def read_unchanged(path: Path, key: FileKey, read: Callable[[dbapi2.Connection], _Read]) -> _Read:
    """Read through a connection that can't write, so that the file and its log stay as they are.

    Args:
        path: The file; nobody else has it open.
        key: What should open it.
        read: Called with the connection.

    Raises:
        WrongKey: The key does not open it.
        StoreDamaged: Something that was read is not what was written.
        StoreIOError: In one of its other kinds.
    """
    log, index, _ = side_files(path)
    # Page 1 may be whole only in the log (power cut while it was moved), so the log is read where there is one.
    has_log = log.exists() and log.stat().st_size > 0
    had_index = index.exists()
    proved = False
    try:
        with closing(_connect(path, "ro" if has_log else "ro&immutable=1", key)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            proved = True
            return read(connection)
    except dbapi2.Error as error:
        if not proved and getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_NOTADB:
            raise WrongKey(
                f"the key does not open {path.name}, or the file is no store", "give the key that it was made with"
            ) from error
        raise in_our_words(error, path.name) from error
    finally:
        if not had_index:
            index.unlink(missing_ok=True)


def open_writer(path: Path, key: FileKey) -> dbapi2.Connection:
    """A connection that writes; the file was read with this key before. Nobody checkpoints for it.

    Raises:
        StoreIOError: In one of its kinds.
    """
    with translated(path.name):
        connection = _connect(path, "rw", key)
        try:
            _use_write_ahead_log(connection, path.name)
        except BaseException:
            connection.close()
            raise
    return connection


def open_checkpointer(path: Path, key: FileKey) -> dbapi2.Connection:
    """A connection to move the log into the file with, beside an open writer.

    Raises:
        StoreIOError: In one of its kinds.
    """
    return open_writer(path, key)


def open_reader(path: Path, key: FileKey) -> dbapi2.Connection:
    """A connection that can't write, beside an open writer; close it before the writer, which then takes the log along.

    Raises:
        StoreIOError: In one of its kinds.
    """
    with translated(path.name):
        connection = _connect(path, "ro", key)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    return connection


def make_file(path: Path, key: FileKey) -> dbapi2.Connection:
    """Make an empty encrypted database 0600 and return its writer.

    Raises:
        OSError: The file exists, or can't be made.
        StoreError: SQLCipher can't use it.
    """
    create_private_file(path, b"")
    return open_writer(path, key)


def attach_empty(connection: dbapi2.Connection, path: Path, key: FileKey, name: str) -> None:
    """Make an empty encrypted database 0600 beside an open one, to be filled in one go and thrown away on failure.

    It has no journal and is not synced: a crash leaves rubbish (``finish_file``).

    Args:
        connection: Any connection of this module.
        path: The new file.
        key: Its key.
        name: What to call it in SQL.

    Raises:
        OSError: The file exists, or can't be made.
        dbapi2.Error: SQLCipher can't use it.
    """
    create_private_file(path, b"")
    connection.execute(f'ATTACH DATABASE ? AS {name} KEY "{key.literal()}"', (f"{_uri(path)}?mode=rw",))
    for pragma in ("journal_mode = OFF", "synchronous = OFF"):
        connection.execute(f"PRAGMA {name}.{pragma}")


def move_log(connection: dbapi2.Connection, file_name: str) -> None:
    """Move the whole log into the file and cut it to nothing.

    Raises:
        StoreIOError: Somebody reads, or the disk says no.
    """
    with translated(file_name):
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreIOError(f"{file_name} is in use", "close what else has it open, then try again")


def check_encrypted(path: Path, key: FileKey) -> None:
    """Look at a new file's first bytes; nobody has it open.

    Raises:
        StoreUnsafe: It is not encrypted, or not with this salt.
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        if file.read(SALT_BYTES) != key.salt:
            raise StoreUnsafe("this SQLCipher wrote plaintext", "install sqlcipher3 0.6.4 or newer as a wheel")


def _use_write_ahead_log(connection: dbapi2.Connection, file_name: str) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreIOError(f"{file_name} can't have a write-ahead log", "keep it on a local disk")
    connection.execute("PRAGMA wal_autocheckpoint = 0")


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}"


def _connect(path: Path, mode: str, key: FileKey) -> dbapi2.Connection:
    """An open, keyed and hardened connection in autocommit mode."""
    connection = dbapi2.connect(
        f"{_uri(path)}?mode={mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        # First of all, or a wrong key is announced on the user's terminal.
        connection.execute("PRAGMA cipher_log_level = NONE")
        version = connection.execute("PRAGMA cipher_version").fetchone()
        check_build(dbapi2.sqlite_version_info, version and version[0])
        connection.enable_load_extension(False)
        connection.execute(f'PRAGMA key = "{key.literal()}"')
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
            f"cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection
