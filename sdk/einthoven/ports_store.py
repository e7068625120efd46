"""The store of a device: port (``ports``); ``store_rules`` says what its methods mean.

It deliberately holds no code that does anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from einthoven.ports_exchange import Pending, Segment, Shares, SyncState, WaitingSegment
from einthoven.results import WindowResult
from einthoven.store_events import StoreEvent
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


class Store(Protocol):
    """The device's encrypted store. One writer, many readers; every method is one transaction, all or nothing.

    Every method may raise ``StoreIOError``, and ``StoreDamaged`` where it meets bytes that are not what was written.
    """

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        """Keep a verdict, its signal and the beats found meanwhile; durable on return.

        Where the disk is full, the oldest raw signals make room (``ContentDropped``).

        Returns:
            ``result`` with its counter set to the next one of this epoch.

        Raises:
            ValueError: ``result.segment_digest`` is not that of ``segment``.
        """
        ...

    def append_windows(self, windows: Sequence[tuple[WindowResult, Segment]]) -> list[WindowResult]:
        """Keep several verdicts and their signals, all or none; durable on return.

        Raises:
            ValueError: One of the verdicts does not belong to its segment.
        """
        ...

    def append_results(self, results: Sequence[WindowResult]) -> range:
        """Keep verdicts whose signal is not to be kept, all or none; durable on return.

        Returns:
            The counters given to them, in order.

        Raises:
            ValueError: One of them does not fit its row, or there are more than ``MAX_ROWS_PER_CALL``.
        """
        ...

    def append_beats(self, beats: BeatRun) -> None:
        """Keep beats that no window brings along; durable on return."""
        ...

    def results(self, *, first_counter: int = 1, limit: int = 1_000) -> Sequence[WindowResult]:
        """Results of the current epoch in order of counter; those that are damaged or were dropped are left out."""
        ...

    def results_between(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[StoredResult]:
        """Results of all epochs that start in [first_ms, last_ms], in order of (start, epoch, counter)."""
        ...

    def result(self, counter: int, *, epoch: int | None = None) -> WindowResult | None:
        """One result of an epoch, the current one if none is given.

        Raises:
            StoreDamaged: It is not what was written.
        """
        ...

    def segment(self, digest: bytes) -> Segment | None:
        """The signal with this SHA-256, checked against it after reading.

        Raises:
            StoreDamaged: The stored bytes are damaged.
        """
        ...

    def acknowledge_segments(self, digests: Sequence[bytes]) -> int:
        """Note that the server holds these signals; return how many of them are here and were not noted before."""
        ...

    def segments_to_send(self, *, limit_bytes: int, skip: Collection[bytes] = frozenset()) -> Sequence[WaitingSegment]:
        """Signals not yet acknowledged, of results that the server holds, in the order in which they were kept.

        Args:
            limit_bytes: Stored bytes at most; if there is any, one is given however long it is.
            skip: Digests to leave out.
        """
        ...

    def sealed_run(self, run: Run) -> Sequence[tuple[bytes, bytes]]:
        """Canonical row and segment digest of every result of a run, for proofs; none if one of them is not here."""
        ...

    def beats(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[BeatRun]:
        """Runs of beats that overlap [first_ms, last_ms], in order of their start."""
        ...

    def annotate(self, row: AnnotationRow) -> AnnotationRow:
        """Merge an annotation of this device's own making and put it in the outbox; return the merged row."""
        ...

    def annotations(self, target: ResultId | None = None) -> Sequence[AnnotationRow]:
        """All annotations, or those of one result, ordered by (target, author)."""
        ...

    def pending(self, *, limit: int, current: bool = False) -> Pending:
        """What to push next: at most ``limit`` results and ``limit`` annotations.

        Args:
            limit: See above.
            current: Speak of the current epoch, also if something older waits.
        """
        ...

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        """Take over a checked response: acknowledgements, verdicts, merged annotations, cursor and digest.

        Applying the same pair twice changes nothing.
        """
        ...

    def sync_state(self) -> SyncState:
        """Where this store stands."""
        ...

    def add_note(self, author: str, text: str, *, at_ms: int) -> NoteRow:
        """Keep a note of the diary under the next counter of this epoch's notes, and send it; durable on return.

        Raises:
            InputError: It is longer than the protocol allows, or has a value that does not fit.
        """
        ...

    def notes(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[NoteRow]:
        """Notes of this and other devices that speak of [first_ms, last_ms], in order of (at_ms, identity)."""
        ...

    def say_former_notes(self, author: str) -> int:
        """Give notes of a former enrolment that no server sent a place in this device's log; durable on return.

        Args:
            author: Whose they are now.

        Returns:
            How many there were.
        """
        ...

    def delete(self, row: Tombstone) -> None:
        """Remove a note or an annotation of this device's own making, and have the server remove it; durable on return.

        Raises:
            InputError: There is no such row here.
        """
        ...

    def superseded(self, target: ResultId | None = None) -> Sequence[Superseded]:
        """Losers of conflicts, all or those of one result, in order."""
        ...

    def documents(self) -> Sequence[Document]:
        """The newest version of each document that the server decided, by name; signatures were checked on arrival."""
        ...

    def owners(self) -> Sequence[Owner]:
        """Devices whose rows this one may see, by alias."""
        ...

    def replicas(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[IdentifiedResult]:
        """Results that came down (other devices', and own ones that were lost here) starting in [first_ms, last_ms]."""
        ...

    def replica(self, target: ResultId) -> IdentifiedResult | None:
        """One result that came down."""
        ...

    def shares(self, owner: int, kind: int) -> Shares:
        """What a repair of this bucket compares. Work in proportion to its rows."""
        ...

    def to_give(self, *, limit: int) -> tuple[tuple[IdentifiedResult, ...], tuple[bytes, ...]]:
        """Own results that the server lost (``RepairRequest.given``), and their segment digests."""
        ...

    def apply_repair(self, request: RepairRequest, response: RepairResponse, *, at_ms: int) -> SyncState:
        """Take over a checked answer to a repair (``store_rules``, R11 on). Twice changes nothing."""
        ...

    def setting(self, name: str) -> bytes | None:
        """A small value kept under a name."""
        ...

    def put_setting(self, name: str, value: bytes) -> None:
        """Keep a small value under a name, durable on return."""
        ...

    def stats(self) -> StoreStats:
        """Counts and sizes."""
        ...

    def retain(self, policy: RetentionPolicy, *, at_ms: int) -> RetentionReport:
        """Drop what the policy no longer wants kept and the server has acknowledged (see ``retention``)."""
        ...

    def check(self) -> CheckReport:
        """Read everything and say what is not as it was written; changes nothing."""
        ...

    def quarantined(self) -> Sequence[Quarantined]:
        """What was found damaged and is no longer part of the store, oldest first."""
        ...

    def record(self, action: AuditAction, subject: str = "", *, at_ms: int) -> AuditEntry:
        """Append to the local audit trail.

        Raises:
            ValueError: The subject is over ``MAX_SUBJECT_CHARS``.
        """
        ...

    def audit_trail(self, *, first_seq: int = 1, limit: int = 1_000) -> Sequence[AuditEntry]:
        """Entries of the local audit trail in order."""
        ...

    def take_events(self) -> list[StoreEvent]:
        """What happened to the store since the last call, oldest first: nothing that was lost goes unsaid."""
        ...

    def close(self) -> None:
        """Release the file; further calls are errors of the caller. Closing twice is allowed."""
        ...
