"""What a store says of what waits and where it stands: the values of its port (``ports_store``).

It deliberately holds no code that does anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    BucketDigest,
    Cursor,
    Digest,
    NoteRow,
    ResultRow,
    RowVerdict,
    ServerLimits,
    Tombstone,
)

NO_LIMITS: Final = ServerLimits()
"""What a server asks for that says nothing."""


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
