"""The ports of the SDK: what the pure core needs from the world, and what the shell implements.

An adapter names its technology (``store_sqlcipher.py``, ``transport_https.py``). Every adapter and every fake of a
port passes that port's suite in ``tests/contracts/``. An adapter raises only errors of ``einthoven.errors``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from einthoven.events import SensorEvent
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
    AnnotationVerdict,
    BucketDigest,
    Cursor,
    Digest,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    NoteRow,
    Owner,
    RepairRequest,
    RepairResponse,
    ResultId,
    ResultRow,
    RowVerdict,
    Run,
    ServerLimits,
    Superseded,
    Tombstone,
)

NO_LIMITS = ServerLimits()
"""What a server asks for that says nothing."""
MISSING_UV = -(2**31)
"""Stands for a sample that was never received, in int32 microvolts."""
MAX_ANCHOR_RECORD_BYTES = 256
"""Bytes of an anchor's record."""


class Clock(Protocol):
    """Wall time; the core never asks the machine itself."""

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970."""
        ...


class KeyProvider(Protocol):
    """Holds the wrapping key of a store: what opens its data key. It lies outside the store's file and its backups."""

    @property
    def destroy_is_final(self) -> bool:
        """Whether after ``destroy`` nobody can make the wrapping key again, whatever they remember or kept."""
        ...

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """Encrypt a 32-byte data key for one store; makes the wrapping key on first use where that is allowed.

        Raises:
            KeyUnavailable: There is no wrapping key, or it may not be used.
        """
        ...

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """Return the 32-byte data key.

        Raises:
            KeyUnavailable: There is no wrapping key, or it may not be used.
            WrongKey: It was not wrapped by this key, not for this store, or its bytes are damaged.
        """
        ...

    def destroy(self) -> None:
        """Forget the wrapping key for good: nothing that it wrapped can be opened again. Twice is allowed.

        Raises:
            KeyUnavailable: It could not be destroyed.
        """
        ...


@runtime_checkable
class HoldsRawKey(Protocol):
    """A provider whose key itself encrypted stores of version 1; such a store is adopted when it is opened."""

    def load(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: There is none, or others can read it.
        """
        ...


class Vault(Protocol):
    """Small secrets by name in the platform's own keeping (OS keyring, Keychain)."""

    def get(self, name: str) -> bytes | None:
        """The secret of this name.

        Raises:
            KeyUnavailable: The vault is locked, or not to be had.
        """
        ...

    def put(self, name: str, secret: bytes) -> None:
        """Keep a secret, in place of what was there; durable on return.

        Raises:
            KeyUnavailable: See ``get``.
        """
        ...

    def delete(self, name: str) -> None:
        """Forget a secret; one that is not there is no error.

        Raises:
            KeyUnavailable: See ``get``.
        """
        ...


class Anchor(Protocol):
    """One small record outside the store's file, by which a file that was turned back is known.

    Every method may raise ``StoreIOError``.
    """

    def read(self) -> bytes | None:
        """The record that was written last and is whole; ``None`` if there is none."""
        ...

    def write(self, record: bytes, *, durable: bool) -> None:
        """Keep a record in place of the last; a crash leaves one or the other.

        Args:
            record: ``MAX_ANCHOR_RECORD_BYTES`` at most.
            durable: On return it survives a power cut; otherwise, a crash of the process.
        """
        ...

    def destroy(self) -> None:
        """Remove every trace. Twice is allowed."""
        ...


class Source(Protocol):
    """Where samples come from: a file, a sensor, the simulator."""

    @property
    def name(self) -> str:
        """What to call it on a screen; no path, no patient."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no heart was involved."""
        ...

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Samples a second, exact."""
        ...

    @property
    def started_at_ms(self) -> int | None:
        """UTC of the first sample, ms since 1970, where the source knows it."""
        ...

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] in microvolts, ``MISSING_UV`` where none was received.

        Raises:
            InputError: The source turns out not to hold what it claimed.
        """
        ...


class Stamped(Enum):
    """Which of a packet's samples its stamp is for."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Packet:
    """Consecutive samples as a sensor sent them.

    Attributes:
        samples_uv: int32 [n] microvolts, ``MISSING_UV`` where none was received.
        stamp_ns: When the sensor (or the host, for one without a clock) says that the stamped sample was taken, ns;
            of any epoch if ``received_at_ms`` is given, else UTC since 1970. Without one, the packet follows what
            came before.
        stamped: The sample that the stamp is for.
        received_at_ms: UTC when the packet arrived here, ms since 1970; anchors the sensor's clock to UTC.
    """

    samples_uv: NDArray[np.int32]
    stamp_ns: int | None = None
    stamped: Stamped = Stamped.FIRST
    received_at_ms: int | None = None


class LiveSource(Protocol):
    """A sensor that sends packets while it is listened to."""

    @property
    def name(self) -> str:
        """What to call it on a screen; no patient."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no heart is involved."""
        ...

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Nominal samples a second, exact."""
        ...

    def listen(self, listener: Callable[[SensorEvent], None]) -> None:
        """Call ``listener``, in the event loop, with what happens to the sensor; there is one listener at most."""
        ...

    async def start(self) -> None:
        """Find the sensor and start its stream; starting twice is an error of the caller.

        Raises:
            SensorError: In one of its kinds.
        """
        ...

    def packets(self) -> AsyncGenerator[Packet, None]:
        """Yield packets as they arrive, until the source ends or is closed.

        Raises:
            SensorError: The sensor was lost for good.
        """
        ...

    async def close(self) -> None:
        """Stop the stream and let go of the sensor. Closing twice is allowed; it never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of raw signal as it was received.

    Attributes:
        sampling_rate_hz: Samples a second, exact.
        samples_uv: int32 [n], microvolts, ``MISSING_UV`` where none was received; read-only.
    """

    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class WaitingSegment:
    """A signal that the server lacks, of a result that it holds.

    Attributes:
        epoch: Epoch of the result.
        counter: Its counter.
        digest: SHA-256 of the signal's canonical form, 32 bytes.
        stored: Its stored form, see ``segments``.
    """

    epoch: int
    counter: int
    digest: bytes
    stored: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits to be sent.

    Attributes:
        epoch: Epoch of ``results``: the oldest in which something waits, so not always the current one. With no
            results, a question how far the server has that epoch.
        results: Contiguous results from the first unacknowledged counter; a tuple or ``packed_results.ResultRows``.
        segment_digests: One for each of ``results``, 32 bytes.
        annotations: Own annotations written since they were last acknowledged, without the registers that the server
            is known to hold as they are.
        annotation_bases: For each of ``annotations``, see ``ExchangeRequest.annotation_bases``.
        alerts: Urgent results of ``epoch`` behind ``results`` that were not sent ahead yet, oldest first.
        alert_segment_digests: One for each of ``alerts``.
        notes: Own notes of ``epoch``, contiguous from the first unacknowledged counter.
        deletions: Rows of its own that this device wants gone.
    """

    epoch: int
    results: Sequence[ResultRow]
    segment_digests: tuple[bytes, ...]
    annotations: tuple[AnnotationRow, ...]
    annotation_bases: tuple[tuple[int, int], ...] = ()
    alerts: tuple[ResultRow, ...] = ()
    alert_segment_digests: tuple[bytes, ...] = ()
    notes: tuple[NoteRow, ...] = ()
    deletions: tuple[Tombstone, ...] = ()


@dataclass(frozen=True, slots=True)
class Shares:
    """The rows of one bucket that the server is known to hold, in canonical order (results, then the others).

    Attributes:
        shares: uint8 [n, 16], big-endian: each row's share of the digest, under the owner's sync key.
        result_ids: int64 [n_results, 2]: epoch and counter of those that are results, which are the first; the others
            are annotations, or notes and superseded writes.
    """

    shares: NDArray[np.uint8]
    result_ids: NDArray[np.int64]

    @property
    def n_results(self) -> int:
        """How many of them are results."""
        return len(self.result_ids)


@dataclass(frozen=True, slots=True)
class SyncState:
    """Where this store stands with its server.

    Attributes:
        epoch: Epoch that new rows are written in, from 1.
        acknowledged: Highest acknowledged counter of this epoch.
        last_counter: Highest counter given in this epoch.
        cursor: How far the server's feed was read.
        digest: Over all rows that the server is known to hold (see ``ExchangeResponse.digest``).
        waiting: Rows not yet acknowledged (results of all epochs, and annotations).
        refused: Verdicts other than accepted and duplicate, oldest first.
        last_exchange_ms: UTC of the last successful exchange, ms; ``None`` before the first.
        last_digest_equal: Whether that exchange ended with equal digests, of all owners.
        digests: What ``digest`` is, of every other bucket that is not empty (``ExchangeResponse.digests``).
        server_digests: What the server said of the same buckets when it last did, its own device's ``RECORDS`` first.
        owners: How many owners' keys are known.
        waiting_notes: Of ``waiting``, notes.
        waiting_deletions: Of ``waiting``, deletions.
        waiting_given: Own results that the server lost and that are to be given back (``RepairRequest.given``).
        refused_words: Annotations, notes and deletions that the server refused, oldest first.
        capabilities: What the server announced last.
        limits: What the server asked for last.
        rebaseline: Whether what came down must be compared before anything is pushed that speaks of it.
        waiting_annotations: Of ``waiting``, annotations, also those that R9 holds back.
        waiting_alerts: Of the results that wait, urgent ones that were not sent ahead yet.
        oldest_waiting_ms: When the oldest of what waits was made, as its row says, UTC ms; ``None`` if nothing does.
    """

    epoch: int
    acknowledged: int
    last_counter: int
    cursor: Cursor
    digest: Digest
    waiting: int
    refused: tuple[RowVerdict, ...]
    last_exchange_ms: int | None
    last_digest_equal: bool | None
    digests: tuple[BucketDigest, ...] = ()
    server_digests: tuple[BucketDigest, ...] = ()
    owners: int = 0
    waiting_notes: int = 0
    waiting_deletions: int = 0
    waiting_given: int = 0
    refused_words: tuple[AnnotationVerdict, ...] = ()
    capabilities: int = 0
    limits: ServerLimits = NO_LIMITS
    rebaseline: bool = False
    waiting_annotations: int = 0
    waiting_alerts: int = 0
    oldest_waiting_ms: int | None = None


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

    def pending(self, *, limit: int) -> Pending:
        """What to push next: at most ``limit`` results and ``limit`` annotations."""
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


class Answer(NamedTuple):
    """What a server answered.

    Attributes:
        status: HTTP status.
        headers: Its headers; names in any case.
        body: At most ``limits.MAX_RESPONSE_BYTES``.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class SignedTransport(Protocol):
    """Any signed request to the enrolled server over an authenticated channel."""

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        expected: Collection[int] = frozenset({200}),
    ) -> Answer:
        """Send, and return the answer if its status is one of ``expected``.

        Raises:
            TransportError: In one of its kinds, for every other status.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Transport(Protocol):
    """One request to the enrolled server over an authenticated channel."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Send and return the body of a 200 answer.

        Raises:
            TransportError: In one of its kinds.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Wake(Protocol):
    """The line on which a server says that there is something for this device."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Open the line, for as long as the context lasts; the iterator yields once a call and never ends by itself.

        Raises:
            TransportError: In one of its kinds; also while iterating, when the line breaks.
        """
        ...
