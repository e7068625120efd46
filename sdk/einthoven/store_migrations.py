"""From an older version of the store's tables to the newest, and the tables of a new store.

Version 1 kept rows without tags. Version 2 tags and sums them, numbers signals, and looks results up by time; every row
is read, rewritten and tagged one by one, so that a large store needs little memory. Version 3 adds tables for what
comes down, for notes and for what is deleted, and leaves the others as they are: it is one commit more.

Forward only. It deliberately opens no file and proves no key; the caller has done both.

Invariants:
    1. Each migration is one transaction, together with the number it leads to: a file is at one version or the next.
    2. A file with a higher version than ``SCHEMA_VERSION`` is refused before anything is written.
    3. A store that was made new and one that was brought to the newest version have the same tables.
    4. Every row of the older version is there afterwards, and its bytes are what they were; a result that can't be read
       is in the quarantine instead.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.local_audit import FIRST_PREVIOUS_HASH
from einthoven.sqlcipher_books import FRESH_LINK
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_rules import FIRST_EPOCH
from einthoven.store_schema import (
    INTEGRITY_KEY_BYTES,
    N_TABLES_OF_VERSION_2,
    NEWEST_VERSION,
    VERSION_2,
    VERSION_3,
    check_version,
    position_of,
)
from einthoven.store_tags import TableSums
from einthoven.store_values import AuditAction, ContentKind, DamageReason
from einthoven_protocol.canonical import decode_result_row
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import SUM_BYTES

Migration = Callable[[dbapi2.Connection, bytes, int], None]
"""Brings a file to the next version, in the caller's transaction; given the store's identity and the time in ms."""

# Children before parents: version 1 had foreign keys.
_TABLES_OF_VERSION_1: Final = ("refusal", "result", "sync", "epoch", "segment", "annotation", "setting")


def create_tables(connection: dbapi2.Connection, *, store_id: bytes, at_ms: int) -> None:
    """Make the tables of a new store and the lines that every store has.

    Args:
        connection: In autocommit mode, to an empty database.
        store_id: 16 random bytes, public.
        at_ms: UTC for the audit trail, ms since 1970.

    Raises:
        dbapi2.Error: A statement failed; the database is as empty as it was.
    """
    with _transaction(connection):
        rows = _make_tables(connection, store_id, NEWEST_VERSION, TableSums())
        rows.insert("epoch", (FIRST_EPOCH, 0, 0, 1))
        rows.insert("sync", (1, FIRST_EPOCH, 0, 0, 0, bytes(SUM_BYTES), None, None, None, None))
        rows.insert("link", FRESH_LINK)
        rows.append_audit(AuditAction.CREATED, "", at_ms=at_ms)
        rows.write_sums()


def to_version_2(connection: dbapi2.Connection, store_id: bytes, at_ms: int) -> None:
    """Rebuild the tables of version 1 with tags and sums."""
    connection.execute("DROP INDEX annotation_waiting")
    for name in _TABLES_OF_VERSION_1:
        connection.execute(f"ALTER TABLE {name} RENAME TO {name}_1")
    rows = _make_tables(connection, store_id, VERSION_2, TableSums(N_TABLES_OF_VERSION_2))
    rows.append_audit(AuditAction.CREATED, "", at_ms=at_ms)
    rows.append_audit(AuditAction.MIGRATED, "1 2", at_ms=at_ms)
    for line in connection.execute("SELECT epoch, last_counter, acknowledged, 1 FROM epoch_1"):
        rows.insert("epoch", line)
    _move_results(connection, rows, at_ms)
    _move_segments_without_result(connection, rows)
    for name, columns in (
        ("annotation", "device_alias, epoch, counter, author, local_body, known_body, own"),
        ("setting", "name, value"),
        ("refusal", "epoch, counter, code, reason"),
        ("sync", "*"),
    ):
        for line in connection.execute(f"SELECT {columns} FROM {name}_1"):  # noqa: S608 - names of our own
            rows.insert(name, line)
    rows.write_sums()
    for name in _TABLES_OF_VERSION_1:
        connection.execute(f"DROP TABLE {name}_1")


def to_version_3(connection: dbapi2.Connection, store_id: bytes, at_ms: int) -> None:
    """Add the tables of version 3."""
    for statement in VERSION_3:
        connection.execute(statement)
    rows = SqlCipherRows(connection)
    rows.widen_sums()
    rows.insert("link", FRESH_LINK)
    rows.append_audit(AuditAction.MIGRATED, "2 3", at_ms=at_ms)
    rows.commit_seq += 1
    rows.write_sums()


MIGRATIONS: Final[dict[int, Migration]] = {2: to_version_2, 3: to_version_3}
"""What leads to each version from the one before."""


def migrate(
    connection: dbapi2.Connection,
    file_name: str,
    *,
    store_id: bytes,
    at_ms: int,
    migrations: dict[int, Migration] = MIGRATIONS,
) -> int:
    """Bring an opened store to the newest version.

    Args:
        connection: In autocommit mode; its key is proved.
        file_name: For messages.
        store_id: 16 bytes: the identity of a store that has none yet.
        at_ms: UTC for the audit trail, ms since 1970.
        migrations: Other than the real ones in tests only.

    Returns:
        The version that it had; ``SCHEMA_VERSION`` if there was nothing to do.

    Raises:
        StoreTooNew: It is newer than this software; nothing was written.
        dbapi2.Error: A statement failed; the file is at the last version that succeeded.
    """
    (at,) = connection.execute("PRAGMA user_version").fetchone()
    check_version(at, file_name)
    newest = max(migrations)
    if at >= newest:
        return int(at)
    # Tables are renamed and dropped whole; SQLite would follow every reference. Not to be changed in a transaction.
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        for version in range(at + 1, newest + 1):
            with _transaction(connection):
                migrations[version](connection, store_id, at_ms)
                connection.execute(f"PRAGMA user_version = {version:d}")
    finally:
        connection.execute("PRAGMA foreign_keys = ON")
    return int(at)


def _make_tables(
    connection: dbapi2.Connection, store_id: bytes, statements: Sequence[str], sums: TableSums
) -> SqlCipherRows:
    """Make the tables, in the caller's transaction, which ends with ``write_sums`` of what this returns."""
    for statement in statements:
        connection.execute(statement)
    connection.execute(
        """INSERT INTO store (only_line, store_id, integrity_key, commit_seq, sums, audit_head)
            VALUES (1, ?, ?, 0, ?, ?)""",
        (store_id, secrets.token_bytes(INTEGRITY_KEY_BYTES), sums.encode(), FIRST_PREVIOUS_HASH),
    )
    return SqlCipherRows(connection)


def _move_results(connection: dbapi2.Connection, rows: SqlCipherRows, at_ms: int) -> None:
    """Move results in order, and with each the signal that came with it: signals are kept in the order of their age."""
    quarantine_id = 0
    results = connection.execute("SELECT epoch, counter, body, segment_digest FROM result_1 ORDER BY epoch, counter")
    for epoch, counter, body, digest in results:
        try:
            row = decode_result_row(body)
        except ProtocolError:
            quarantine_id += 1
            name, reason = f"{epoch}:{counter}", DamageReason.ROW_UNREADABLE
            rows.insert("quarantine", (quarantine_id, int(ContentKind.RESULT), name, int(reason), at_ms))
            continue
        rows.insert("result", (position_of(epoch, counter), row.started_at_ms, body, digest))
        segment = connection.execute("SELECT body FROM segment_1 WHERE digest = ?", (digest,)).fetchone()
        if segment is not None:
            rows.insert_segment(digest, row.started_at_ms, segment[0])


def _move_segments_without_result(connection: dbapi2.Connection, rows: SqlCipherRows) -> None:
    """Move the signals whose result could not be read; nobody knows how old they are."""
    digests = connection.execute(
        "SELECT digest FROM segment_1 WHERE NOT EXISTS (SELECT 1 FROM segment WHERE digest = segment_1.digest)"
    ).fetchall()
    for (digest,) in digests:
        (body,) = connection.execute("SELECT body FROM segment_1 WHERE digest = ?", (digest,)).fetchone()
        rows.insert_segment(digest, 0, body)


@contextmanager
def _transaction(connection: dbapi2.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself after some errors, and refuses to do so twice.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
