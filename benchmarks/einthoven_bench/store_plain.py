"""The same store without its encryption: what SQLCipher is measured against, and the control of the canaries.

Everything but the connections is the store's own: tables, statements, tags, threads, anchor. It deliberately proves
nothing about a file that is there already: it only makes new ones, in a folder that is thrown away.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.clock import SystemClock
from einthoven.file_lock import FileLock
from einthoven.key_slots import KeySlot, KeySlots
from einthoven.rollback import record_of
from einthoven.sqlcipher_connection import BUSY_TIMEOUT_S, JOURNAL_SIZE_LIMIT_BYTES, SALT_BYTES, FileKey
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_anchoring import Continuity
from einthoven.store_events import MAX_WAITING_EVENTS, StoreEvent
from einthoven.store_migrations import create_tables
from einthoven.store_opening import OpenedFile
from einthoven.store_schema import STORE_ID_BYTES
from einthoven.store_sqlcipher import SqlCipherStore

_PRAGMAS: Final = (
    "journal_mode = WAL",
    "wal_autocheckpoint = 0",
    "temp_store = MEMORY",
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "secure_delete = ON",
    f"journal_size_limit = {JOURNAL_SIZE_LIMIT_BYTES}",
)
"""Those of ``sqlcipher_connection`` but the cipher's."""


class PlainFile(OpenedFile):
    """An opened file whose connections have no key."""

    def connect_reader(self) -> dbapi2.Connection:
        """A connection without a key."""
        return plain_connection(self.path)

    def connect_checkpointer(self) -> dbapi2.Connection:
        """A connection without a key."""
        return plain_connection(self.path)


def plain_connection(path: Path) -> dbapi2.Connection:
    """Plain SQLite of the same library, set up as the store's own connections are."""
    connection = dbapi2.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def plain_store(path: Path) -> SqlCipherStore:
    """Make a store in plain SQLite.

    Args:
        path: A new file.
    """
    events: deque[StoreEvent] = deque(maxlen=MAX_WAITING_EVENTS)
    clock, salt = SystemClock(), os.urandom(SALT_BYTES)
    slots = KeySlots(os.urandom(STORE_ID_BYTES), (KeySlot(os.urandom(64), salt),))
    connection = plain_connection(path)
    create_tables(connection, store_id=slots.store_id, at_ms=clock.now_ms())
    rows = SqlCipherRows(connection)
    record = record_of(rows.state(), path.stat().st_ino)
    anchor = FileAnchor(anchor_path(path))
    continuity = Continuity(anchor, record, rows.integrity_key, events.append)
    file = PlainFile(path, connection, FileKey(os.urandom(32), salt), slots, continuity, FileLock(path), clock)
    return SqlCipherStore(file, anchor, events, None)
