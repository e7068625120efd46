"""A ``Store`` in memory: for tests and for trying things out, gone when the process ends.

It passes the same acceptance suite as ``store_sqlcipher`` and is its oracle, so it keeps its books the plain way
(``store_memory_books``, ``store_memory_contents``,
``store_memory_sync``): where the other counts incrementally, this one computes anew from
everything it holds, each time. It deliberately encrypts nothing, is quadratic in places, and has no file that could be
damaged or turned back.

Invariants:
    1. Every method is all or nothing, and the store can be used from several threads.
    2. What it gives out can't be changed through it, and what it was given can't be changed from outside.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from einthoven import (
    store_memory_buckets,
    store_memory_feed,
    store_memory_retention,
    store_memory_signal_upload,
    store_memory_sync,
    store_memory_words,
)
from einthoven import store_memory_contents as contents
from einthoven.beat_runs import check_beats
from einthoven.clock import SystemClock
from einthoven.errors import StoreIOError
from einthoven.ports import Clock, Pending, Segment, Shares, SyncState, WaitingSegment
from einthoven.results import WindowResult
from einthoven.store_events import StoreEvent
from einthoven.store_memory_books import Books, read_only_beats
from einthoven.store_rules import (
    Draw,
    annotated_subject,
    annotation_row_bytes,
    changed_anything,
    check_limit,
    check_result_count,
    check_setting,
    check_window,
    result_row_bytes,
    synced_subject,
)
from einthoven.store_rules_feed import deleted_subject, note_subject, repaired_subject
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
from einthoven_protocol.messages import (
    AnnotationRow,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    NoteRow,
    Owner,
    RepairRequest,
    RepairResponse,
    ResultId,
    Run,
    Superseded,
    Tombstone,
)


class MemoryStore:
    """The in-memory ``Store``.

    Args:
        max_windows: See Attributes.
        max_signal_bytes: See Attributes.
        clock: For the audit trail; the system's, if not given.
        draw: Where a new epoch's number comes from (``store_rules.next_epoch``).

    Attributes:
        max_windows: Windows it takes before it says that the disk is full; ``None`` for no end. May be changed, as
            a person may free space.
        max_signal_bytes: Stored bytes of raw signal that its disk takes; beyond, the oldest makes room.
    """

    def __init__(
        self,
        *,
        max_windows: int | None = None,
        max_signal_bytes: int | None = None,
        clock: Clock | None = None,
        draw: Draw = secrets.randbelow,
    ) -> None:
        self.max_windows = max_windows
        self.max_signal_bytes = max_signal_bytes
        self._clock = clock or SystemClock()
        self._draw = draw
        self._lock = threading.RLock()
        self._closed = False
        self._books = Books()
        self._record(AuditAction.CREATED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        """See ``Store``."""
        if beats is not None:
            check_beats(beats)
        with self._open():
            (stored,) = self.append_windows([(result, segment)])
            if beats is not None:
                self.append_beats(beats)
            return stored

    def append_windows(self, windows: Sequence[tuple[WindowResult, Segment]]) -> list[WindowResult]:
        """See ``Store``."""
        for result, segment in windows:
            check_window(result, segment)
            result_row_bytes(replace(result, counter=1))
        with self._open():
            books = self._books.copy()
            if self.max_windows is not None and len(books.results) + len(windows) > self.max_windows:
                raise StoreIOError("the disk is full", "free some space, then try again")
            for result, segment in windows:
                if result.segment_digest not in books.segments:
                    store_memory_retention.keep_signal(books, result, segment, self.max_signal_bytes)
            stored = [books.give_counter(result) for result, _ in windows]
            self._books = books
            return stored

    def append_results(self, results: Sequence[WindowResult]) -> range:
        """See ``Store``."""
        check_result_count(results)
        for result in results:
            result_row_bytes(replace(result, counter=1))
        with self._open():
            first = self._books.epochs[self._books.epoch] + 1
            for result in results:
                self._books.give_counter(result)
            return range(first, first + len(results))

    def append_beats(self, beats: BeatRun) -> None:
        """See ``Store``.

        Raises:
            ValueError: The run is over a limit, see ``beat_runs.check_beats``.
        """
        check_beats(beats)
        with self._open():
            self._books.beats_given += 1
            self._books.beats[self._books.beats_given] = read_only_beats(beats)

    def results(self, *, first_counter: int = 1, limit: int = 1_000) -> Sequence[WindowResult]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return contents.read_results(self._books, first_counter, limit)

    def results_between(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[StoredResult]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return contents.read_results_between(self._books, first_ms, last_ms, limit)

    def result(self, counter: int, *, epoch: int | None = None) -> WindowResult | None:
        """See ``Store``."""
        with self._open():
            return self._books.results.get((self._books.epoch if epoch is None else epoch, counter))

    def segment(self, digest: bytes) -> Segment | None:
        """See ``Store``."""
        with self._open():
            kept = self._books.segments.get(digest)
            return None if kept is None else kept.segment

    def acknowledge_segments(self, digests: Sequence[bytes]) -> int:
        """See ``Store``."""
        with self._open():
            segments = self._books.segments
            new = {digest for digest in digests if digest in segments and not segments[digest].acknowledged}
            for digest in new:
                segments[digest] = replace(segments[digest], acknowledged=True)
            return len(new)

    def segments_to_send(self, *, limit_bytes: int, skip: Collection[bytes] = frozenset()) -> Sequence[WaitingSegment]:
        """See ``Store``."""
        with self._open():
            return store_memory_signal_upload.segments_to_send(self._books, limit_bytes, skip)

    def sealed_run(self, run: Run) -> Sequence[tuple[bytes, bytes]]:
        """See ``Store``."""
        with self._open():
            return store_memory_signal_upload.sealed_run(self._books, run)

    def beats(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[BeatRun]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return contents.read_beats(self._books, first_ms, last_ms, limit)

    def annotate(self, row: AnnotationRow) -> AnnotationRow:
        """See ``Store``.

        Raises:
            InputError: The annotation is over the protocol's limits.
        """
        annotation_row_bytes(row)
        with self._open():
            merged = store_memory_words.put_local_annotation(self._books, row)
            self._record(AuditAction.ANNOTATED, annotated_subject(row.target))
            return merged

    def annotations(self, target: ResultId | None = None) -> Sequence[AnnotationRow]:
        """See ``Store``."""
        with self._open():
            return [row for key, row in sorted(self._books.local.items()) if target in (None, key[0])]

    def pending(self, *, limit: int, current: bool = False) -> Pending:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return store_memory_sync.pending(self._books, limit, current=current)

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        """See ``Store`` and the rules of ``store_rules``.

        Raises:
            NotEnrolled: There is no sync key.
            SyncError: The exchange is of an epoch that this store never had.
            InputError: An annotation is over the protocol's limits.
        """
        with self._open():
            before, books = self.sync_state(), self._books.copy()
            store_memory_sync.apply(books, request, response, self._draw, at_ms)
            self._books = books
            if changed_anything(before, after := self.sync_state()):
                self._record(AuditAction.SYNCED, synced_subject(request, response))
            return after

    def sync_state(self) -> SyncState:
        """See ``Store``."""
        with self._open():
            return store_memory_sync.sync_state(self._books)

    def add_note(self, author: str, text: str, *, at_ms: int) -> NoteRow:
        """See ``Store``.

        Raises:
            InputError: It is over the protocol's limits.
        """
        with self._open():
            row = store_memory_words.add_note(self._books, author, text, at_ms)
            self._record(AuditAction.ANNOTATED, note_subject(row.epoch, row.counter))
            return row

    def notes(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[NoteRow]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return store_memory_words.listed_notes(self._books, first_ms, last_ms, limit)

    def say_former_notes(self, author: str) -> int:
        """See ``Store``."""
        with self._open():
            said = store_memory_words.say_former_notes(self._books, author)
            for row in said:
                self._record(AuditAction.ANNOTATED, note_subject(row.epoch, row.counter))
            return len(said)

    def delete(self, row: Tombstone) -> None:
        """See ``Store``.

        Raises:
            InputError: There is no such row here.
        """
        with self._open():
            store_memory_words.delete(self._books, row)
            self._record(AuditAction.ANNOTATED, deleted_subject(row))

    def superseded(self, target: ResultId | None = None) -> Sequence[Superseded]:
        """See ``Store``."""
        with self._open():
            return sorted(row for row in self._books.superseded if target in (None, row.target))

    def documents(self) -> Sequence[Document]:
        """See ``Store``."""
        with self._open():
            return [document for _, document in sorted(self._books.documents.items())]

    def owners(self) -> Sequence[Owner]:
        """See ``Store``."""
        with self._open():
            return [Owner(alias, key) for alias, key in sorted(self._books.owners.items())]

    def replicas(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[IdentifiedResult]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return store_memory_feed.listed_replicas(self._books, first_ms, last_ms, limit)

    def replica(self, target: ResultId) -> IdentifiedResult | None:
        """See ``Store``."""
        with self._open():
            return store_memory_feed.replica(self._books, target)

    def shares(self, owner: int, kind: int) -> Shares:
        """See ``Store``."""
        with self._open():
            return store_memory_buckets.shares(self._books, owner, kind)

    def to_give(self, *, limit: int) -> tuple[tuple[IdentifiedResult, ...], tuple[bytes, ...]]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return store_memory_feed.to_give(self._books, limit)

    def apply_repair(self, request: RepairRequest, response: RepairResponse, *, at_ms: int) -> SyncState:
        """See ``Store`` and R24 of ``store_rules``.

        Raises:
            InputError: A row is over the protocol's limits.
        """
        with self._open():
            before, books = self.sync_state(), self._books.copy()
            store_memory_sync.apply_repair(books, request, response, self._draw, at_ms)
            self._books = books
            if changed_anything(before, after := self.sync_state()):
                self._record(AuditAction.SYNCED, repaired_subject(request))
            return after

    def setting(self, name: str) -> bytes | None:
        """See ``Store``."""
        check_setting(name)
        with self._open():
            return self._books.settings.get(name)

    def put_setting(self, name: str, value: bytes) -> None:
        """See ``Store``.

        Raises:
            ValueError: Name or value is over its limit.
        """
        check_setting(name, value)
        with self._open():
            store_memory_sync.put_setting(self._books, name, bytes(value))
            self._record(AuditAction.SETTING_CHANGED, name)

    def stats(self) -> StoreStats:
        """See ``Store``; there is no file."""
        with self._open():
            return contents.read_stats(self._books)

    def retain(self, policy: RetentionPolicy, *, at_ms: int) -> RetentionReport:
        """See ``Store``; the ceiling is held to the stored bytes of all content."""
        with self._open():
            books = self._books.copy()
            report = store_memory_retention.retain(books, policy, at_ms)
            self._books = books
            return report

    def check(self) -> CheckReport:
        """See ``Store``; what can be wrong in memory is the audit trail and a signal's digest."""
        with self._open():
            return contents.check(self._books)

    def quarantined(self) -> Sequence[Quarantined]:
        """See ``Store``; always empty."""
        with self._open():
            return []

    def record(self, action: AuditAction, subject: str = "", *, at_ms: int) -> AuditEntry:
        """See ``Store``."""
        with self._open():
            return self._books.record(action, subject, at_ms)

    def audit_trail(self, *, first_seq: int = 1, limit: int = 1_000) -> Sequence[AuditEntry]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return self._books.audit[max(first_seq, 1) - 1 :][:limit]

    def take_events(self) -> list[StoreEvent]:
        """See ``Store``."""
        with self._open():
            events = list(self._books.events)
            self._books.events.clear()
            return events

    def close(self) -> None:
        """See ``Store``."""
        self._closed = True

    def _record(self, action: AuditAction, subject: str = "") -> None:
        self._books.record(action, subject, self._clock.now_ms())

    def _open(self) -> threading.RLock:
        if self._closed:
            raise ValueError("the store is closed")
        return self._lock
