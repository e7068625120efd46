"""Copies a whole store into a new file under another key, and proves the copy before anybody relies on it.

SQLCipher's own export copies tables row by row, so a page that can't be read stops it and free space stays behind: the
copy is as small as its content. It deliberately puts nothing in place (``store_replacement``).

Invariants:
    1. The file that is copied is opened for reading only.
    2. A copy that is left has as many rows in every table, passes SQLite's and SQLCipher's own checks, and is closed.
    3. A copy that failed leaves nothing behind.

Stated limit: it needs room for a second copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged, StoreIOError
from einthoven.sqlcipher_connection import (
    DAMAGED_REMEDY,
    FileKey,
    attach_empty,
    check_encrypted,
    read_unchanged,
    side_files,
)
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_replacement import discard_prepared, prepared_path
from einthoven.store_schema import TABLES
from einthoven.store_tags import TableSums

SPARE_BYTES: Final = 2**20
"""Room wanted beyond the copy itself: log and key slots."""
_COPY: Final = "copied"
_TAGS_AT_ONCE: Final = 10_000

FreeBytes = Callable[[Path], int]
"""Bytes that may be written to a folder's disk."""


def free_bytes(folder: Path) -> int:
    """What the disk has left for this user.

    Raises:
        OSError: It can't be asked.
    """
    return shutil.disk_usage(folder).free


def copy_store(path: Path, key: FileKey, new_key: FileKey, *, free: FreeBytes = free_bytes) -> None:
    """Write what is in the file at ``path`` to ``NAME.new``, under another key.

    Args:
        path: The store's file; nobody has it open, and the caller holds its lock.
        key: What opens it.
        new_key: What shall open the copy.
        free: Asked how much room there is.

    Raises:
        StoreIOError: There is no room for a second copy, or the disk says no; nothing was changed.
        StoreDamaged: The file can't be read throughout, or the copy is not equal to it.
        OSError: The disk says no.
    """
    wanted = sum(file.stat().st_size for file in (path, side_files(path)[0]) if file.exists()) + SPARE_BYTES
    if free(path.parent) < wanted:
        raise StoreIOError(
            f"there is no room for a second copy of {path.name} ({wanted // 2**20 + 1} MB)",
            "free some space, then try again; nothing was changed",
        )
    discard_prepared(path)
    prepared = prepared_path(path)
    try:
        counted = read_unchanged(path, key, lambda connection: _copied(connection, prepared, new_key))
        check_encrypted(prepared, new_key)
        _check_counts(read_unchanged(prepared, new_key, _checked_counts), counted)
    except BaseException:
        discard_prepared(path)
        raise


def _copied(connection: dbapi2.Connection, prepared: Path, new_key: FileKey) -> dict[str, int]:
    """Copy everything; return how many rows each table has."""
    attach_empty(connection, prepared, new_key, _COPY)
    connection.execute("BEGIN")
    connection.execute(f"SELECT sqlcipher_export('{_COPY}')").fetchone()
    counted = _counts(connection)
    connection.execute("COMMIT")
    for name in ("application_id", "user_version"):
        (value,) = connection.execute(f"PRAGMA main.{name}").fetchone()
        connection.execute(f"PRAGMA {_COPY}.{name} = {value:d}")
    connection.execute(f"DETACH DATABASE {_COPY}")
    return counted


def _checked_counts(connection: dbapi2.Connection) -> dict[str, int]:
    problems = connection.execute("PRAGMA cipher_integrity_check").fetchall()
    problems += connection.execute("PRAGMA integrity_check").fetchall()
    if problems != [("ok",)]:
        raise StoreDamaged("the copy of the store does not hold together", "see to the disk, then try again")
    return _counts(connection)


def _check_counts(copied: dict[str, int], counted: dict[str, int]) -> None:
    if copied != counted:
        raise StoreDamaged("the copy of the store is not equal to it", DAMAGED_REMEDY)


def _counts(connection: dbapi2.Connection) -> dict[str, int]:
    names = connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return {
        name: connection.execute(f'SELECT count(*) FROM main."{name}"').fetchone()[0]  # noqa: S608 - names of our own
        for (name,) in names
    }


def check_sums(rows: SqlCipherRows) -> None:
    """Hold the tags of all rows against the sums that the store keeps of them.

    Raises:
        StoreDamaged: Rows are missing, or are not those that were counted.
    """
    found = TableSums()
    for table in TABLES:
        cursor = rows.connection.execute(f"SELECT tag FROM {table.name}")  # noqa: S608 - names of our own
        while lines := cursor.fetchmany(_TAGS_AT_ONCE):
            found.add_many(table.name, b"".join(tag for (tag,) in lines))
    if found != rows.sums:
        raise StoreDamaged("the store has lost rows, so it can't be copied as a whole", DAMAGED_REMEDY)
