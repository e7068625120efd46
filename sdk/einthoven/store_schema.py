"""The tables of the encrypted store, as numbered migrations that only go forward.

A migration that was ever released is never changed: a later one is added. Each runs in one transaction together with
the number it leads to, so a file is at one version or the next, never between. It deliberately holds no query and
knows nothing of keys; the file was opened and its key proved before this is called.

Invariants:
    1. ``PRAGMA user_version`` is the number of the last migration; ``PRAGMA application_id`` says the file is ours.
    2. A file with a higher number than ``SCHEMA_VERSION`` is refused before anything is written.

Tables (version 1):
    epoch       Highest counter given and highest acknowledged, for each epoch. Results above the mark are the outbox.
    segment     Signal by the SHA-256 of its canonical bytes; a result may outlive its signal.
    result      Canonical row bytes by (epoch, counter); what is stored is what is hashed and sealed.
    refusal     Verdicts of the server that are neither accepted nor duplicate.
    annotation  The local row, and the row that the server is known to hold; one's own waits while they differ.
    sync        One line: current epoch, cursor, running digest and what it was keyed with, last exchange.
    setting     Small values by name.
"""

from __future__ import annotations

from typing import Final

from sqlcipher3 import dbapi2

from einthoven.errors import StoreTooNew

APPLICATION_ID: Final = 0x45494E31
"""``EIN1`` in the database's header."""

_VERSION_1: Final = (
    """CREATE TABLE epoch (
        epoch INTEGER PRIMARY KEY CHECK (epoch >= 1),
        last_counter INTEGER NOT NULL DEFAULT 0,
        acknowledged INTEGER NOT NULL DEFAULT 0 CHECK (acknowledged BETWEEN 0 AND last_counter)
    ) STRICT""",
    """CREATE TABLE segment (
        digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
        body BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE result (
        epoch INTEGER NOT NULL REFERENCES epoch,
        counter INTEGER NOT NULL CHECK (counter >= 1),
        body BLOB NOT NULL,
        segment_digest BLOB NOT NULL CHECK (length(segment_digest) = 32),
        PRIMARY KEY (epoch, counter)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE refusal (
        epoch INTEGER NOT NULL,
        counter INTEGER NOT NULL,
        code INTEGER NOT NULL,
        reason INTEGER NOT NULL,
        PRIMARY KEY (epoch, counter),
        FOREIGN KEY (epoch, counter) REFERENCES result
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE annotation (
        device_alias INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        counter INTEGER NOT NULL,
        author TEXT NOT NULL,
        local_body BLOB NOT NULL,
        known_body BLOB,
        own INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (device_alias, epoch, counter, author)
    ) STRICT, WITHOUT ROWID""",
    """CREATE INDEX annotation_waiting ON annotation (device_alias, epoch, counter, author)
        WHERE own AND local_body IS NOT known_body""",
    """CREATE TABLE sync (
        only_line INTEGER PRIMARY KEY CHECK (only_line = 1),
        epoch INTEGER NOT NULL REFERENCES epoch,
        cursor_shard_epoch INTEGER NOT NULL DEFAULT 0,
        cursor_commit_seq INTEGER NOT NULL DEFAULT 0,
        digest_count INTEGER NOT NULL DEFAULT 0,
        digest_total BLOB NOT NULL DEFAULT (zeroblob(16)) CHECK (length(digest_total) = 16),
        digest_key BLOB,
        digest_device_alias INTEGER,
        last_exchange_ms INTEGER,
        last_digest_equal INTEGER
    ) STRICT""",
    """CREATE TABLE setting (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "INSERT INTO epoch (epoch) VALUES (1)",
    "INSERT INTO sync (only_line, epoch) VALUES (1, 1)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_VERSION_1,)
"""Statements that lead to version 1, 2, 3 ..."""
SCHEMA_VERSION: Final = len(MIGRATIONS)
"""What this version of the SDK reads and writes."""


def check_version(user_version: int, file_name: str) -> None:
    """Refuse a file from the future.

    Raises:
        StoreTooNew: It was written by a newer version.
    """
    if user_version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{file_name} has format {user_version}, this version reads up to {SCHEMA_VERSION}", "update this software"
        )


def migrate(
    connection: dbapi2.Connection,
    file_name: str,
    migrations: tuple[tuple[str, ...], ...] = MIGRATIONS,
) -> None:
    """Bring an opened file to the newest version.

    Raises:
        StoreTooNew: It is newer than that; nothing was written.
        dbapi2.Error: A statement failed; the file is at the last version that succeeded.
    """
    (at,) = connection.execute("PRAGMA user_version").fetchone()
    check_version(at, file_name)
    for number, statements in enumerate(migrations[at:], at + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number:d}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
