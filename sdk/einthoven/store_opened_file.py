"""A store's file while it is open: the writer, what more connections need, the anchor and the lock.

It deliberately opens nothing by itself but connections beside the writer (``store_opening``), and knows no row.

Invariants:
    1. The lock is held until ``close``, whatever happens to the connections.
    2. Where the disk failed while the file was being replaced, nothing connects to it before it is settled which file
       and which key it is by now.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlcipher3 import dbapi2

from einthoven.errors import StoreIOError
from einthoven.file_lock import FileLock
from einthoven.key_slots import KeySlots
from einthoven.ports import Clock
from einthoven.sqlcipher_connection import FileKey, open_checkpointer, open_reader, open_writer, translated
from einthoven.store_anchoring import Continuity
from einthoven.store_rules import Draw


@dataclass(slots=True)
class OpenedFile:
    """A store's file, open for writing.

    Attributes:
        path: The file; no symbolic link.
        connection: The writer, in autocommit mode.
        key: What opens the file: for more connections.
        slots: The file's key slots; one.
        continuity: To be told of every commit.
        lock: Held until ``close``.
        clock: For the audit trail.
        draw: Where a new epoch's number comes from (``store_rules.next_epoch``).
        unsettled: What brings ``key``, ``slots`` and ``continuity`` up to the file that is in place, once the disk lets
            it; ``None`` if they are.
    """

    path: Path
    connection: dbapi2.Connection
    key: FileKey
    slots: KeySlots
    continuity: Continuity
    lock: FileLock
    clock: Clock
    draw: Draw = secrets.randbelow
    unsettled: Callable[[], None] | None = None
    _settling: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def store_id(self) -> bytes:
        """16 bytes, public."""
        return self.slots.store_id

    def settle(self) -> None:
        """See that key, slots and anchor are those of the file that is in place; nobody has the file open if not.

        Raises:
            StoreError: As whoever replaced the file says.
            StoreIOError: The disk says no; to be tried again.
        """
        with self._settling:
            if self.unsettled is None:
                return
            try:
                self.unsettled()
            except OSError as error:
                raise StoreIOError(
                    f"{self.path.name} can't be opened ({error.strerror})", "see to disk and folder, then try again"
                ) from error
            self.unsettled = None

    def connect_writer(self) -> dbapi2.Connection:
        """Another writer, in the place of ``connection``, which the caller sets.

        Raises:
            StoreIOError: In one of its kinds.
        """
        self.settle()
        return open_writer(self.path, self.key)

    def connect_reader(self) -> dbapi2.Connection:
        """A connection that can't write; close it before ``close``.

        Raises:
            StoreIOError: In one of its kinds.
        """
        self.settle()
        return open_reader(self.path, self.key)

    def connect_checkpointer(self) -> dbapi2.Connection:
        """A connection to move the log with; close it before ``close``.

        Raises:
            StoreIOError: In one of its kinds.
        """
        self.settle()
        return open_checkpointer(self.path, self.key)

    def close(self) -> None:
        """Close the writer, make the anchor durable, give the lock back; twice is allowed.

        Raises:
            StoreIOError: The file can't be closed as it should; the lock is given back all the same.
        """
        try:
            with translated(self.path.name):
                self.connection.close()
            self.continuity.close()
        finally:
            self.lock.release()
