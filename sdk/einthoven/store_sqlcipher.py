"""The device's ``Store`` in one SQLCipher file: AES-256, a raw key, a write-ahead log, every commit synced.

Holds the SQL and nothing that decides: what may be stored is in ``store_rules``, tables in ``store_schema``, opening in
``sqlcipher_connection``, the books of an exchange in ``sqlcipher_exchange``. It deliberately does no retention, no
rekeying and no detection of a file that was turned back, and has no reader beside the writer.

Invariants:
    1. Each method is one transaction; what it returned from survives a crash and a power cut.
    2. Counters of an epoch run 1, 2, 3 ... and are given in the transaction that stores the row: no hole, no reuse.
    3. One process, and in it one store object, has a file open at a time; threads take turns.
    4. A store that could not be opened was not changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlcipher3 import dbapi2

from einthoven.errors import RecordFormatError, StoreIOError
from einthoven.file_lock import FileLock
from einthoven.plaintext_scan import files_of_store
from einthoven.ports import KeyProvider, Pending, Segment, StoreStats, SyncState
from einthoven.private_files import make_private_folder
from einthoven.result_rows import from_row
from einthoven.results import WindowResult
from einthoven.segments import decode_segment, encode_segment, segment_digest
from einthoven.sqlcipher_connection import create_file, open_file, translated
from einthoven.sqlcipher_exchange import put_local_annotation, read_pending, read_sync_state, take_over
from einthoven.store_rules import (
    annotation_row_bytes,
    check_limit,
    check_setting,
    check_window,
    result_row_bytes,
)
from einthoven_protocol.canonical import decode_annotation_row, decode_result_row
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import MAX_COUNTER
from einthoven_protocol.messages import (
    AnnotationRow,
    ExchangeRequest,
    ExchangeResponse,
    ResultId,
)

_CURRENT_EPOCH = "SELECT epoch, last_counter FROM sync JOIN epoch USING (epoch)"
_ANNOTATIONS = "SELECT local_body FROM annotation ORDER BY device_alias, epoch, counter, author"
_ANNOTATIONS_OF_TARGET = """SELECT local_body FROM annotation WHERE device_alias = ? AND epoch = ? AND counter = ?
    ORDER BY author"""


class SqlCipherStore:
    """The encrypted ``Store``; a context manager. Use :meth:`open`."""

    def __init__(self, path: Path, connection: dbapi2.Connection, file_lock: FileLock) -> None:
        self._path = path
        self._connection = connection
        self._file_lock = file_lock
        self._lock = threading.RLock()
        self._closed = False

    @classmethod
    def open(cls, path: Path | str, key_provider: KeyProvider, *, create: bool = True) -> Self:
        """Open a store, or make one.

        Args:
            path: The file. Two more lie beside it while it is open, ``-wal`` and ``-shm``.
            key_provider: Holds the key; asked once.
            create: Make the file, and its folder, if there is none.

        Raises:
            KeyUnavailable: There is no usable key.
            WrongKey: The key does not open the file, or it is no store.
            StoreTooNew: A newer version wrote it.
            StoreUnsafe: The SQLCipher build is not one to trust with data.
            StoreIOError: There is no such file, it is open elsewhere, or the disk says no.
        """
        # Two names of one file must not give two locks.
        path = Path(path).resolve()
        if not create and not path.exists():
            raise StoreIOError(f"there is no store at {path}", "name one that exists, or allow it to be made")
        key = key_provider.load()
        try:
            if create:
                make_private_folder(path.parent)
            file_lock = FileLock(path)
            try:
                if create and not path.exists():
                    create_file(path, key)
                return cls(path, open_file(path, key), file_lock)
            except BaseException:
                file_lock.release()
                raise
        except OSError as error:
            raise StoreIOError(
                f"the store {path} can't be opened ({error.strerror})", "name a file in a folder that you may write to"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append_window(self, result: WindowResult, segment: Segment) -> WindowResult:
        """See ``Store``."""
        return self.append_windows([(result, segment)])[0]

    def append_windows(self, windows: Sequence[tuple[WindowResult, Segment]]) -> list[WindowResult]:
        """Keep several verdicts and their signals in one transaction, all or none; durable on return.

        Raises:
            ValueError: One of the verdicts does not belong to its segment.
        """
        for result, segment in windows:
            check_window(result, segment)
        bodies = [encode_segment(segment) for _, segment in windows]
        with self._transaction() as connection:
            epoch, last_counter = connection.execute(_CURRENT_EPOCH).fetchone()
            stored = []
            for (result, _), body in zip(windows, bodies, strict=True):
                last_counter += 1
                stored.append(replace(result, counter=last_counter))
                connection.execute(
                    "INSERT INTO segment (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (result.segment_digest, body),
                )
                connection.execute(
                    "INSERT INTO result (epoch, counter, body, segment_digest) VALUES (?, ?, ?, ?)",
                    (epoch, last_counter, result_row_bytes(stored[-1]), result.segment_digest),
                )
            connection.execute("UPDATE epoch SET last_counter = ? WHERE epoch = ?", (last_counter, epoch))
            return stored

    def results(self, *, first_counter: int = 1, limit: int = 1_000) -> Sequence[WindowResult]:
        """See ``Store``."""
        check_limit(limit)
        with self._reading() as connection:
            rows = connection.execute(
                """SELECT body, segment_digest FROM result WHERE epoch = (SELECT epoch FROM sync) AND counter >= ?
                    ORDER BY counter LIMIT ?""",
                (min(max(first_counter, 1), MAX_COUNTER + 1), limit),
            )
            return [from_row(decode_result_row(body), digest) for body, digest in rows]

    def result(self, counter: int) -> WindowResult | None:
        """See ``Store``."""
        if not 1 <= counter <= MAX_COUNTER:
            return None
        with self._reading() as connection:
            line = connection.execute(
                "SELECT body, segment_digest FROM result WHERE epoch = (SELECT epoch FROM sync) AND counter = ?",
                (counter,),
            ).fetchone()
            return line and from_row(decode_result_row(line[0]), line[1])

    def segment(self, digest: bytes) -> Segment | None:
        """See ``Store``."""
        with self._reading() as connection:
            line = connection.execute("SELECT body FROM segment WHERE digest = ?", (digest,)).fetchone()
            if line is None:
                return None
            segment = decode_segment(line[0])
            if segment_digest(segment) != digest:
                raise ValueError("not the segment that this digest is of")
            return segment

    def annotate(self, row: AnnotationRow) -> AnnotationRow:
        """See ``Store``.

        Raises:
            InputError: The annotation is over the protocol's limits.
        """
        annotation_row_bytes(row)
        with self._transaction() as connection:
            return put_local_annotation(connection, row)

    def annotations(self, target: ResultId | None = None) -> Sequence[AnnotationRow]:
        """See ``Store``."""
        with self._reading() as connection:
            if target is None:
                rows = connection.execute(_ANNOTATIONS)
            else:
                rows = connection.execute(_ANNOTATIONS_OF_TARGET, (target.device_alias, target.epoch, target.counter))
            return [decode_annotation_row(body) for (body,) in rows]

    def pending(self, *, limit: int) -> Pending:
        """See ``Store``."""
        check_limit(limit)
        with self._reading() as connection:
            return read_pending(connection, limit)

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        """See ``Store`` and the rules of ``store_rules``.

        Raises:
            NotEnrolled: There is no sync key.
            SyncError: The server holds results of this device that are not here.
        """
        with self._transaction() as connection:
            take_over(connection, request, response, at_ms=at_ms)
            return read_sync_state(connection)

    def sync_state(self) -> SyncState:
        """See ``Store``."""
        with self._reading() as connection:
            return read_sync_state(connection)

    def setting(self, name: str) -> bytes | None:
        """See ``Store``."""
        check_setting(name)
        with self._reading() as connection:
            line = connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
            return line and bytes(line[0])

    def put_setting(self, name: str, value: bytes) -> None:
        """See ``Store``.

        Raises:
            ValueError: Name or value is over its limit.
        """
        check_setting(name, value)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def stats(self) -> StoreStats:
        """See ``Store``; the file's size counts its log and the log's index."""
        with self._reading() as connection:
            results, annotations, segments, segment_bytes = connection.execute(
                """SELECT (SELECT count(*) FROM result), (SELECT count(*) FROM annotation),
                    (SELECT count(*) FROM segment), (SELECT ifnull(sum(length(body)), 0) FROM segment)"""
            ).fetchone()
            file_bytes = sum(file.stat().st_size for file in files_of_store(self._path))
            return StoreStats(results, annotations, segments, segment_bytes, file_bytes)

    def close(self) -> None:
        """See ``Store``."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                with translated(self._path.name):
                    self._connection.close()
            finally:
                self._file_lock.release()

    @contextmanager
    def _reading(self) -> Iterator[dbapi2.Connection]:
        """The connection, alone; what the file gives back and can't be read is damage."""
        with self._lock:
            self._check_open()
            try:
                with translated(self._path.name):
                    yield self._connection
            except (ProtocolError, RecordFormatError, ValueError) as error:
                raise self._damaged_row() from error
            except OSError as error:
                raise StoreIOError(
                    f"{self._path.name} can't be looked at", "see to the disk, then try again"
                ) from error

    @contextmanager
    def _transaction(self) -> Iterator[dbapi2.Connection]:
        """The connection, alone, in a transaction that is committed at the end or leaves nothing behind."""
        with self._lock:
            self._check_open()
            with translated(self._path.name):
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException as error:
                    # SQLite rolls back by itself after some errors, and refuses to do so twice.
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    if isinstance(error, ProtocolError):
                        raise self._damaged_row() from error
                    raise

    def _damaged_row(self) -> StoreIOError:
        return StoreIOError(f"{self._path.name} holds a damaged row", "restore it from a backup")

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the store is closed")
