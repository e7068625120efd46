"""The one writer of an open store: turns, commits, the anchor after each, the log, and room on a full disk.

Every change goes through ``StoreWriter.write``. It deliberately knows no table's meaning: what is written is its
caller's, what may be dropped for room is ``sqlcipher_retention``'s.

Invariants:
    1. Of all threads one writes at a time; what ``write`` returned from survives a power cut.
    2. After each commit the anchor is told of it, and only then are its events queued.
    3. A write that does not fit is tried again once there is room, and fails only if nothing is left to drop.
    4. A connection that met damage or an I/O error is not written with again: the next write opens a new one first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged, StoreError, StoreIOError
from einthoven.sqlcipher_checkpoints import CHECKPOINT_BYTES, MOVE_LOG, Checkpointer
from einthoven.sqlcipher_connection import PAGE_BYTES, DiskFull, move_log, translated
from einthoven.sqlcipher_errors import says_read_only
from einthoven.sqlcipher_page_file import PageFile
from einthoven.sqlcipher_reserve import Reserve
from einthoven.sqlcipher_retention import ROOM_BYTES, free_bytes_inside, keep_below, make_room
from einthoven.sqlcipher_row_reading import Report
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_events import StoreEvent
from einthoven.store_opened_file import OpenedFile

PAGES_PER_COMMIT: Final = 6
"""Pages that a small commit writes besides its content."""
LOOK_STRIDE_BYTES: Final = 2**19
"""Bytes written between two looks at the disk's room and the file's ceiling."""
MAX_YIELD_S: Final = 0.01
"""Seconds that one reading call gives way to commits before it has done any work."""

_Value = TypeVar("_Value")


class StoreWriter:
    """Writes to one opened file.

    Args:
        file: The file; this closes it.
        events: Where events go.
        report: Told of damaged rows.
        store_max_bytes: Ceiling of the file; ``None`` for none.

    Attributes:
        rows: For reading what only the writer knows; write through ``write``.
    """

    def __init__(
        self,
        file: OpenedFile,
        events: deque[StoreEvent],
        report: Report,
        store_max_bytes: int | None = None,
    ) -> None:
        self._file = file
        self._events = events
        self._report = report
        self._lock = threading.Lock()
        self._hurry_lock = threading.Lock()
        self._hurrying = 0
        self._idle = threading.Event()
        self._idle.set()
        self._broken = self._closed = False
        self._since_look_bytes = 0
        self.store_max_bytes = store_max_bytes
        self.rows = SqlCipherRows(file.connection, report, file.draw)
        self._checkpointer = Checkpointer(file.connect_checkpointer)
        self._reserve = Reserve(file.path)
        self._reserve.make()
        self._page_file: PageFile | None = None

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """Have readers give way meanwhile: for a commit that is short, and what has to be packed for it."""
        with self._hurry_lock:
            self._hurrying += 1
            self._idle.clear()
        try:
            yield
        finally:
            with self._hurry_lock:
                self._hurrying -= 1
                if not self._hurrying:
                    self._idle.set()

    def write(self, work: Callable[[SqlCipherRows], _Value]) -> _Value:
        """Do some work in a transaction of its own; it is done again from the beginning if room had to be made.

        Args:
            work: Called with the rows; what it returns is returned.

        Raises:
            StoreIOError: In one of its kinds; nothing was written.
        """
        with self._turn():
            if isinstance(self._checkpointer.take_problem(), DiskFull):
                self._make_room()
            try:
                value = self._attempt(work)
            except DiskFull:
                self._make_room()
                value = self._attempt_again(work)
            self._look_around()
            return value

    def give_way(self) -> Callable[[], None]:
        """What a reading call should do from time to time, so that a commit need not wait for the interpreter.

        A reader is kept no longer than it has been at work, and ``MAX_YIELD_S``.
        """
        began_s = time.monotonic()
        yielded_s = 0.0

        def yield_to_commits() -> None:
            nonlocal yielded_s
            if self._idle.is_set():
                return
            now_s = time.monotonic()
            left_s = MAX_YIELD_S + (now_s - began_s - yielded_s) - yielded_s
            if left_s > 0:
                self._idle.wait(left_s)
                yielded_s += time.monotonic() - now_s

        return yield_to_commits

    @contextmanager
    def still(self) -> Iterator[tuple[OpenedFile, PageFile]]:
        """The file while nobody writes and nothing is moved; others may read."""
        with self._turn():
            self._checkpointer.pause()
            try:
                if self._page_file is None:
                    self._page_file = PageFile(self._file.path)
                yield self._file, self._page_file
            finally:
                self._checkpointer.resume()

    @contextmanager
    def alone(self) -> Iterator[OpenedFile]:
        """The file with nobody in it, readers included, for work that replaces it; it is opened again afterwards."""
        with self._turn():
            self._checkpointer.pause()
            self._broken = True
            try:
                with translated(self._file.path.name):
                    self.rows.connection.close()
                self._close_page_file()
                yield self._file
                self._renew()
            finally:
                self._checkpointer.resume()

    def anchor_durably(self) -> None:
        """Make the anchor of all that was committed durable, before rows leave the device.

        Raises:
            StoreIOError: It can't be made so; nothing must be handed out.
        """
        with self._turn():
            self._file.continuity.barrier()

    def check_open(self) -> None:
        """Refuse a caller's mistake.

        Raises:
            ValueError: The store is closed.
        """
        if self._closed:
            raise ValueError("the store is closed")

    def close(self) -> None:
        """Move the log, close the file, give its lock back. Twice is allowed.

        Raises:
            StoreIOError: The log could not be moved; it is moved when the store is opened next.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._checkpointer.close()
            try:
                self._file.close()
            finally:
                self._close_page_file()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            self.check_open()
            if self._broken:
                self._renew()
            yield

    def _attempt(self, work: Callable[[SqlCipherRows], _Value]) -> _Value:
        before = self.rows.commit_seq
        try:
            with translated(self._file.path.name), self.rows.transaction() as rows:
                value = work(rows)
        except DiskFull:
            raise
        except StoreIOError as error:
            # A row that fails its tag is damage, too, but the connection that read it is sound.
            self._broken = isinstance(error.__cause__, dbapi2.Error)
            if says_read_only(error):
                self.rows.connection.close()
            raise
        if self.rows.commit_seq != before:
            self._committed()
        self._events.extend(self.rows.events)
        return value

    def _committed(self) -> None:
        rows = self.rows
        self._file.continuity.committed(rows.current_epoch()[0], rows.commit_seq, rows.state_digest())
        n_bytes = rows.written_bytes + PAGES_PER_COMMIT * PAGE_BYTES
        self._since_look_bytes += n_bytes
        if self._checkpointer.note_written(n_bytes):
            try:
                rows.connection.execute(MOVE_LOG).fetchone()
            except dbapi2.Error:
                # What was committed is durable in the log; it is moved another time.
                self._broken = True
            self._checkpointer.note_moved()

    def _attempt_again(self, work: Callable[[SqlCipherRows], _Value]) -> _Value:
        try:
            return self._attempt(work)
        except DiskFull:
            # The disk has room, but not for this: only what is dropped from the file can make it.
            if not self._drop_signals():
                raise
            return self._attempt(work)

    def _make_room(self) -> None:
        """Give up the ballast and move the log; where that leaves too little, drop the oldest signals.

        Their room is the file's, not the disk's: the file need not grow, and what is left goes to the log.
        """
        self._reserve.free()
        self._try_to_move_log()
        scarce = not self._reserve.make() or self._reserve.room_bytes() < CHECKPOINT_BYTES
        if scarce and free_bytes_inside(self.rows) < ROOM_BYTES:
            self._drop_signals()
            self._reserve.make()

    def _drop_signals(self) -> bool:
        """Drop the oldest signals, as far as there is room for the log of that; return whether any went."""
        try:
            dropped = self._attempt(lambda rows: make_room(rows, at_ms=self._file.clock.now_ms()))
        except DiskFull:
            return False
        self._try_to_move_log()
        return dropped > 0

    def _try_to_move_log(self) -> None:
        try:
            move_log(self.rows.connection, self._file.path.name)
        except StoreDamaged:
            self._broken = True
        except StoreError:
            # A reader is in the way, or there is no room to move it to: it stays.
            return
        self._checkpointer.note_moved()

    def _look_around(self) -> None:
        """From time to time, see to the ballast and hold the file to its ceiling."""
        if self._since_look_bytes < LOOK_STRIDE_BYTES:
            return
        self._since_look_bytes = 0
        self._reserve.make()
        if (ceiling_bytes := self.store_max_bytes) is None:
            return
        try:
            self._attempt(lambda rows: keep_below(rows, ceiling_bytes, at_ms=self._file.clock.now_ms()))
        except DiskFull:
            # What the caller wrote is durable; the next write makes room.
            return

    def _close_page_file(self) -> None:
        """Last of all: closing it drops SQLite's locks on the file."""
        if self._page_file is not None:
            self._page_file.close()
            self._page_file = None

    def _renew(self) -> None:
        """Open another connection, then close the broken one: were none open, SQLite would find what was not synced."""
        connection = self._file.connect_writer()
        try:
            with translated(self._file.path.name):
                rows = SqlCipherRows(connection, self._report, self._file.draw)
        except BaseException:
            connection.close()
            raise
        self.rows.connection.close()
        self._file.connection, self.rows, self._broken = connection, rows, False
