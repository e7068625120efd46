"""Moves the write-ahead log into the store's file, on a thread and a connection of its own.

SQLite would do so inside the commit that fills the log, which then takes as long as the disk. Here the writer says how
much it wrote, a thread moves the log when there is enough, and only where that can't keep up does the writer wait for
it. It deliberately decides nothing about what is in the file, and never waits for a reader: what a reader still needs
stays in the log until the next time.

Invariants:
    1. An error on the thread is kept for ``take_problem`` and ends nothing: the log only grows until the next attempt.
    2. After ``close`` the thread has ended and its connection is closed.
    3. Between ``pause`` and ``resume`` there is no such connection, and nothing is moved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.sqlcipher_errors import translated

CHECKPOINT_BYTES: Final = 2**20
"""Bytes written since the log was moved last, after which it is moved again."""
CEILING_BYTES: Final = 16 * 2**20
"""Bytes written without the thread catching up, after which the writer moves the log itself."""
MOVE_LOG: Final = "PRAGMA wal_checkpoint(PASSIVE)"
"""Moves what no reader needs, and waits for nobody."""
_JOIN_S: Final = 30.0


class Checkpointer:
    """A thread that moves the log; it is started by the first call that finds enough to move.

    Args:
        connect: Opens a connection to the file, in autocommit mode.
    """

    def __init__(self, connect: Callable[[], dbapi2.Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: dbapi2.Connection | None = None
        self._written_bytes = 0
        self._problem: Exception | None = None
        self._paused = self._closed = False

    def note_written(self, n_bytes: int) -> bool:
        """Tell of a commit; return whether the caller should move the log itself, with ``MOVE_LOG``, and say so.

        Args:
            n_bytes: Bytes that it put into the log, about.
        """
        self._written_bytes += n_bytes
        if self._written_bytes < CHECKPOINT_BYTES:
            return False
        if self._thread is None:
            self._start()
        self._wake.set()
        return self._written_bytes >= CEILING_BYTES

    def note_moved(self) -> None:
        """Tell that the caller moved the log."""
        self._written_bytes = 0

    def take_problem(self) -> Exception | None:
        """What went wrong last, once."""
        with self._lock:
            problem, self._problem = self._problem, None
            return problem

    def pause(self) -> None:
        """Close the connection and move nothing until ``resume``."""
        self._paused = True
        with self._busy:
            self._drop_connection()

    def resume(self) -> None:
        """Go on after ``pause``."""
        self._paused = False

    def close(self) -> None:
        """End the thread. Twice is allowed."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            self._thread = None
        with self._busy:
            self._drop_connection()

    def _start(self) -> None:
        # A daemon: a store that nobody closed must not keep the interpreter from ending; the log holds what it had.
        self._thread = threading.Thread(target=self._run, name="einthoven-checkpoints", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._busy:
                if self._closed:
                    return
                if not self._paused:
                    self._move()

    def _move(self) -> None:
        self._written_bytes = 0
        try:
            if self._connection is None:
                self._connection = self._connect()
            with translated("the log"):
                self._connection.execute(MOVE_LOG).fetchone()
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; kept for take_problem
            self._drop_connection()
            with self._lock:
                self._problem = error

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except dbapi2.Error as error:
                with self._lock:
                    self._problem = error
