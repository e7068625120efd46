"""Connections that only read: a few of them, each call on a snapshot of its own, none waiting for the writer.

A connection is made when it is first needed and kept for the next call. It deliberately opens no file itself and
knows no table.

Invariants:
    1. At most ``MAX_READERS`` connections are open; who comes beyond that waits for one to come back.
    2. What one call reads is one commit of the store, whatever is written meanwhile.
    3. A connection that met an error is closed and never used again: SQLCipher's stay broken after damage.
    4. After ``close`` no connection is open and none is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlcipher3 import dbapi2

MAX_READERS: Final = 4
"""Connections that read at the same time: each keeps a page cache of its own."""


class ReaderPool:
    """Lends read-only connections.

    Args:
        connect: Opens one, in autocommit mode; called without any lock held.
    """

    def __init__(self, connect: Callable[[], dbapi2.Connection]) -> None:
        self._connect = connect
        self._changed = threading.Condition()
        self._idle: list[dbapi2.Connection] = []
        self._lent = 0
        self._paused = self._closed = False

    @contextmanager
    def lend(self) -> Iterator[dbapi2.Connection]:
        """A connection in a read transaction, for one call.

        Raises:
            ValueError: The pool is closed.
            dbapi2.Error: As the database says; also what the caller met.
        """
        connection = self._take()
        try:
            connection = connection or self._connect()
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            # A caller's own error (an unknown enum value, say) leaves a connection that is as good as it was.
            kept = connection if connection is not None and _still_usable(connection, error) else None
            if connection is not None and kept is None:
                connection.close()
            self._give_back(kept)
            raise
        self._give_back(connection)

    def pause(self) -> None:
        """Lend nothing until ``resume``, and close all connections once those that are lent have come back."""
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: self._lent == 0)
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def resume(self) -> None:
        """Go on after ``pause``."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def close(self) -> None:
        """Close all connections, once those that are lent have come back. Twice is allowed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.pause()

    def _take(self) -> dbapi2.Connection | None:
        """An idle connection, or ``None`` for leave to make one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (not self._paused and self._lent < MAX_READERS))
            if self._closed:
                raise ValueError("the store is closed")
            self._lent += 1
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: dbapi2.Connection | None) -> None:
        with self._changed:
            if connection is not None:
                self._idle.append(connection)
            self._lent -= 1
            # All: one may wait for a connection, another for the last to come back.
            self._changed.notify_all()


def _still_usable(connection: dbapi2.Connection, error: BaseException) -> bool:
    if isinstance(error, dbapi2.Error):
        return False
    try:
        connection.execute("ROLLBACK")
    except dbapi2.Error:
        return False
    return True
