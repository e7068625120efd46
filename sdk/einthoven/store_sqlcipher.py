"""The device's ``Store`` in one SQLCipher file: AES-256, a raw key, a write-ahead log, every commit synced.

Puts the parts together and decides nothing: opening is ``store_opening``'s, rows ``sqlcipher_rows``', turns, commits
and room ``sqlcipher_writer``'s, reading ``sqlcipher_contents``', the exchange ``sqlcipher_exchange``'s, what may be
stored ``store_rules``'. Signals and beats are packed, and verdicts held to their signals, before a writer's turn is
taken.

Invariants:
    1. Each method is one transaction; what it returned from survives a crash and a power cut.
    2. Counters of an epoch run 1, 2, 3 ... and are given in the transaction that stores the row: no hole, no reuse.
    3. One process, and in it one store object, has a file open at a time. Its threads read side by side, and while one
       of them writes; writers take turns.
    4. A store that could not be opened was not changed.
    5. A row that is not what was written is left out of listings, an error of the single read that asks for it, and
       said once in an event.
    6. What the store does is on its audit trail, in the transaction that does it; reading and results are not.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from einthoven import sqlcipher_contents as contents
from einthoven import sqlcipher_signal_upload
from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.beat_runs import encode_beats
from einthoven.errors import StoreIOError
from einthoven.ports import Anchor, Clock, KeyProvider, Pending, Segment, SyncState, WaitingSegment
from einthoven.process_hardening import protect_process
from einthoven.results import WindowResult
from einthoven.segments import encode_segment
from einthoven.sqlcipher_connection import translated
from einthoven.sqlcipher_exchange import put_setting, take_over
from einthoven.sqlcipher_outbox import read_pending, read_sync_state
from einthoven.sqlcipher_readers import ReaderPool
from einthoven.sqlcipher_repairs import check_opened, repair_opened
from einthoven.sqlcipher_retention import retain
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_words import put_local_annotation
from einthoven.sqlcipher_writer import StoreWriter
from einthoven.store_damage_reports import DamageReports
from einthoven.store_events import MAX_WAITING_EVENTS, StoreEvent
from einthoven.store_opened_file import OpenedFile
from einthoven.store_opening import open_store_file
from einthoven.store_rekey import rekey, rewrap
from einthoven.store_rules import (
    Draw,
    annotation_row_bytes,
    check_limit,
    check_result_count,
    check_setting,
    check_window,
    result_row_bytes,
)
from einthoven.store_sqlcipher_feed import SqlCipherFeed
from einthoven.store_values import (
    AuditAction,
    AuditEntry,
    BeatRun,
    CheckReport,
    Quarantined,
    RetentionPolicy,
    RetentionReport,
    StoredResult,
    StoreStats,
)
from einthoven_protocol.messages import AnnotationRow, ExchangeRequest, ExchangeResponse, ResultId, Run

_Value = TypeVar("_Value")


class SqlCipherStore(SqlCipherFeed):
    """The encrypted ``Store``; a context manager. Use :meth:`open`."""

    def __init__(
        self, file: OpenedFile, anchor: Anchor, events: deque[StoreEvent], store_max_bytes: int | None
    ) -> None:
        self._path = file.path
        self._clock = file.clock
        self._anchor = anchor
        self._events = events
        self._damage = DamageReports(events)
        self._writer = StoreWriter(file, events, self._damage.note, store_max_bytes)
        self._readers = ReaderPool(file.connect_reader)

    @classmethod
    def open(
        cls,
        path: Path | str,
        key_provider: KeyProvider,
        *,
        create: bool = True,
        anchor: Anchor | None = None,
        repair: bool = True,
        clock: Clock | None = None,
        store_max_bytes: int | None = None,
        core_dumps: bool = False,
        draw: Draw = secrets.randbelow,
    ) -> Self:
        """Open a store, or make one.

        Args:
            path: The file. Others lie beside it (docs/store.md).
            key_provider: Unwraps the data key.
            create: Make the file, and its folder, if there is none.
            anchor: Where the last commit is remembered, best out of reach of what may turn the file back; a file
                beside the store if not given.
            repair: Salvage what is whole of a file that can't be opened any more; otherwise that is an error.
            clock: For the audit trail; the system's if not given.
            store_max_bytes: Ceiling of the file: reached, the oldest raw signals go (``RetentionPolicy``).
            core_dumps: Leave this process's core dumps as they are; otherwise there are none from now on, for they
                would hold the key (``process_hardening``).
            draw: Where a new epoch's number comes from (``store_rules.next_epoch``); for simulations.

        Raises:
            KeyUnavailable: There is no usable key.
            WrongKey: The key does not open the file, or it is no store.
            StoreTooNew: A newer version wrote it.
            StoreUnsafe: The SQLCipher build is not one to trust with data.
            StoreDamaged: It can't be opened, and is not to be repaired or can't be.
            StoreIOError: There is no such file, it is open elsewhere, or the disk says no.
        """
        if not core_dumps:
            protect_process()
        anchor = anchor or FileAnchor(anchor_path(Path(path).resolve()))
        events: deque[StoreEvent] = deque(maxlen=MAX_WAITING_EVENTS)
        file = open_store_file(
            path,
            key_provider,
            create=create,
            anchor=anchor,
            repair=repair,
            clock=clock,
            report=events.append,
            draw=draw,
        )
        try:
            return cls(file, anchor, events, store_max_bytes)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        """See ``Store``."""
        with self._writer.hurry():
            check_window(result, segment)
            result_row_bytes(replace(result, counter=1))
            body = encode_segment(segment)
            packed_beats = None if beats is None else _beats(beats)

            def append(rows: SqlCipherRows) -> WindowResult:
                if packed_beats is not None:
                    rows.append_beats(packed_beats)
                return rows.append_windows([(result, body)])[0]

            return self._writer.write(append)

    def append_windows(self, windows: Sequence[tuple[WindowResult, Segment]]) -> list[WindowResult]:
        """See ``Store``."""
        for result, segment in windows:
            check_window(result, segment)
            result_row_bytes(replace(result, counter=1))
        bodies = [(result, encode_segment(segment)) for result, segment in windows]
        return self._writer.write(lambda rows: rows.append_windows(bodies))

    def append_results(self, results: Sequence[WindowResult]) -> range:
        """See ``Store``."""
        check_result_count(results)
        return self._writer.write(lambda rows: rows.append_results(results))

    def append_beats(self, beats: BeatRun) -> None:
        """See ``Store``.

        Raises:
            ValueError: The run is over a limit, see ``beat_runs.check_beats``.
        """
        packed = _beats(beats)
        self._writer.write(lambda rows: rows.append_beats(packed))

    def results(self, *, first_counter: int = 1, limit: int = 1_000) -> Sequence[WindowResult]:
        """See ``Store``."""
        check_limit(limit)
        return self._read(lambda rows: contents.read_results(rows, first_counter, limit))

    def results_between(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[StoredResult]:
        """See ``Store``."""
        check_limit(limit)
        return self._read(lambda rows: contents.read_results_between(rows, first_ms, last_ms, limit))

    def result(self, counter: int, *, epoch: int | None = None) -> WindowResult | None:
        """See ``Store``."""
        return self._read(lambda rows: contents.read_result(rows, counter, epoch))

    def segment(self, digest: bytes) -> Segment | None:
        """See ``Store``."""
        return self._read(lambda rows: contents.read_segment(rows, digest))

    def acknowledge_segments(self, digests: Sequence[bytes]) -> int:
        """See ``Store``."""
        return self._writer.write(lambda rows: rows.acknowledge_segments(digests))

    def segments_to_send(self, *, limit_bytes: int, skip: Collection[bytes] = frozenset()) -> Sequence[WaitingSegment]:
        """See ``Store``."""
        return self._read(lambda rows: sqlcipher_signal_upload.segments_to_send(rows, limit_bytes, skip))

    def sealed_run(self, run: Run) -> Sequence[tuple[bytes, bytes]]:
        """See ``Store``."""
        return self._read(lambda rows: sqlcipher_signal_upload.sealed_run(rows, run))

    def beats(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[BeatRun]:
        """See ``Store``."""
        check_limit(limit)
        return self._read(lambda rows: contents.read_beats(rows, first_ms, last_ms, limit))

    def annotate(self, row: AnnotationRow) -> AnnotationRow:
        """See ``Store``.

        Raises:
            InputError: The annotation is over the protocol's limits.
        """
        annotation_row_bytes(row)
        target = row.target

        def annotate(rows: SqlCipherRows) -> AnnotationRow:
            merged = put_local_annotation(rows, row)
            subject = f"{target.device_alias}:{target.epoch}:{target.counter}"
            rows.append_audit(AuditAction.ANNOTATED, subject, at_ms=self._clock.now_ms())
            return merged

        return self._writer.write(annotate)

    def annotations(self, target: ResultId | None = None) -> Sequence[AnnotationRow]:
        """See ``Store``."""
        return self._read(lambda rows: contents.read_annotations(rows, target))

    def pending(self, *, limit: int, current: bool = False) -> Pending:
        """See ``Store``; what is handed out to be sent is anchored, so that it can't be turned back unnoticed."""
        check_limit(limit)
        pending = self._read(lambda rows: read_pending(rows, limit, current=current))
        if any((pending.results, pending.annotations, pending.alerts, pending.notes, pending.deletions)):
            self._writer.anchor_durably()
        return pending

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        """See ``Store`` and the rules of ``store_rules``.

        Raises:
            NotEnrolled: There is no sync key.
            SyncError: The exchange is of an epoch that this store never had.
            InputError: An annotation is over the protocol's limits.
        """

        def apply(rows: SqlCipherRows) -> SyncState:
            before = read_sync_state(rows)
            take_over(rows, request, response, at_ms=at_ms)
            after = read_sync_state(rows)
            if replace(after, last_exchange_ms=None) != replace(before, last_exchange_ms=None):
                subject = f"{request.epoch}:{response.acknowledged}"
                rows.append_audit(AuditAction.SYNCED, subject, at_ms=self._clock.now_ms())
            return after

        return self._writer.write(apply)

    def sync_state(self) -> SyncState:
        """See ``Store``."""
        return self._read(read_sync_state)

    def setting(self, name: str) -> bytes | None:
        """See ``Store``."""
        check_setting(name)
        return self._read(lambda rows: contents.read_setting(rows, name))

    def put_setting(self, name: str, value: bytes) -> None:
        """See ``Store``.

        Raises:
            ValueError: Name or value is over its limit.
        """
        check_setting(name, value)
        kept = bytes(value)

        def put(rows: SqlCipherRows) -> None:
            put_setting(rows, name, kept)
            rows.append_audit(AuditAction.SETTING_CHANGED, name, at_ms=self._clock.now_ms())

        self._writer.write(put)

    def stats(self) -> StoreStats:
        """See ``Store``; the file's size counts all files of the store."""
        try:
            return self._read(lambda rows: contents.read_stats(rows, self._path))
        except OSError as error:
            raise StoreIOError(f"{self._path.name} can't be looked at", "see to the disk, then try again") from error

    def retain(self, policy: RetentionPolicy, *, at_ms: int) -> RetentionReport:
        """See ``Store``; a policy's ceiling also becomes the one that is held to while the store is open.

        Raises:
            ValueError: One of the policy's limits is negative.
        """
        report = self._writer.write(lambda rows: retain(rows, policy, at_ms=at_ms))
        if policy.store_max_bytes is not None:
            self._writer.store_max_bytes = policy.store_max_bytes
        return report

    def check(self) -> CheckReport:
        """See ``Store``; writers wait meanwhile, readers do not."""
        with self._writer.still() as (file, page_file):
            return check_opened(file, page_file, self._anchor)

    def repair(self) -> CheckReport:
        """Salvage what is whole into a new file, list what was lost, and go on in a new epoch; nothing if all is sound.

        Returns:
            What was wrong before.

        Raises:
            StoreDamaged: Nothing of it can be read.
            StoreIOError: The disk says no; the damaged file is where it was.
        """
        report = self.check()
        if not report.sound:
            with self._closed_file() as file:
                repair_opened(file, self._anchor, self._events.append)
            self._damage.forget()
        return report

    def rekey(self, key_provider: KeyProvider) -> None:
        """Encrypt everything with a new random key, wrapped by this provider; the old key opens nothing any more.

        Raises:
            KeyUnavailable: There is no wrapping key.
            StoreDamaged: Something can't be read, so not everything would be there afterwards; nothing was changed.
            StoreIOError: There is no room for a second copy, or the disk says no.
        """
        with self._closed_file() as file:
            rekey(file, key_provider)

    def rewrap(self, key_provider: KeyProvider) -> None:
        """Wrap the present key anew, for this provider or another; from then on only that one opens the store.

        Raises:
            KeyUnavailable: There is no wrapping key.
            StoreIOError: The key slots can't be written.
        """
        with self._writer.still() as (file, _):
            rewrap(file, key_provider)

    def quarantined(self) -> Sequence[Quarantined]:
        """See ``Store``."""
        return self._read(contents.read_quarantine)

    def record(self, action: AuditAction, subject: str = "", *, at_ms: int) -> AuditEntry:
        """See ``Store``."""
        return self._writer.write(lambda rows: rows.append_audit(action, subject, at_ms=at_ms))

    def audit_trail(self, *, first_seq: int = 1, limit: int = 1_000) -> Sequence[AuditEntry]:
        """See ``Store``."""
        check_limit(limit)
        return self._read(lambda rows: contents.read_audit_trail(rows, first_seq, limit))

    def take_events(self) -> list[StoreEvent]:
        """See ``Store``."""
        self._writer.check_open()
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def close(self) -> None:
        """See ``Store``."""
        self._readers.close()
        self._writer.close()

    @contextmanager
    def _closed_file(self) -> Iterator[OpenedFile]:
        """The file with nobody in it; readers wait meanwhile."""
        self._readers.pause()
        try:
            with self._writer.alone() as file:
                yield file
        finally:
            self._readers.resume()

    def _read(self, read: Callable[[RowReader], _Value]) -> _Value:
        with translated(self._path.name), self._readers.lend() as connection:
            return read(RowReader(connection, self._writer.rows.tags, self._damage.note, self._writer.give_way()))


def _beats(beats: BeatRun) -> tuple[int, int, int, bytes]:
    """A run as its row holds it: first and last time, number of beats, packed form."""
    body = encode_beats(beats)
    return int(beats.at_ms[0]), int(beats.at_ms[-1]), len(beats.at_ms), body
