"""The two messages of an exchange, and what an answer says beside rows (docs/sync-protocol-v1.md, section 5).

They deliberately know nothing of bytes (``codec``) and decide nothing (``exchange``).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag

import msgspec

from einthoven_protocol.rows import (
    AnnotationRow,
    Document,
    IdentifiedResult,
    NoteRow,
    ResultRow,
    Seal,
    Superseded,
    Tombstone,
)


class VerdictCode(IntEnum):
    """What the server decided on one pushed row."""

    ACCEPTED = 0
    DUPLICATE = 1
    REJECTED = 2
    QUARANTINED = 3


class RejectReason(IntEnum):
    """Why a row was rejected or quarantined."""

    NONE = 0
    OUT_OF_RANGE = 1
    CONFLICTS_WITH_STORED = 2
    UNKNOWN_TARGET = 3
    BAD_SEAL = 4
    CLOCK_SKEW = 5
    DELETED = 6
    NOT_ALLOWED = 7
    FULL = 8


class RowVerdict(msgspec.Struct, frozen=True):
    """A verdict that is not ``ACCEPTED``, by counter; accepted rows are not listed."""

    counter: int
    code: int
    reason: int


class AnnotationVerdict(msgspec.Struct, frozen=True, order=True):
    """A pushed annotation, note or deletion that was refused.

    Attributes:
        kind: ``RowKind``.
        device_alias: Identity, as in ``Tombstone``.
        epoch: See there.
        counter: See there.
        author: See there.
        reason: ``RejectReason``.
    """

    kind: int
    device_alias: int
    epoch: int
    counter: int
    author: str
    reason: int


class Capability(IntFlag):
    """What a side can do beyond the first version 1; announced by both, unknown bits are ignored."""

    FEED = 1
    """Results of other devices, notes, tombstones, documents, superseded writes, digests by owner; alerts ahead."""
    REPAIR = 2
    """``/v1/repair``."""
    SIGNALS = 4
    """Upload of signals."""
    WAKE = 8
    """``/v1/wake``."""
    PACKED = 16
    """Results whose verdicts come as one column."""
    POWERS = 32
    """Power sums in a repair."""


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a server asks for; 0 where it says nothing.

    Attributes:
        max_results: Results of one push.
        max_annotations: Annotations of one push.
        min_interval_s: Exchanges without anything to send come no closer together than this.
    """

    max_results: int = 0
    max_annotations: int = 0
    min_interval_s: int = 0


class Cursor(msgspec.Struct, frozen=True, order=True):
    """How far a device has read the server's feed; opaque to the device."""

    shard_epoch: int
    commit_seq: int


class Digest(msgspec.Struct, frozen=True):
    """Count and 128-bit keyed sum of a set of rows; equal digests mean equal sets."""

    count: int
    total: int


class BucketKind(IntEnum):
    """What a digest is over; of all epochs of one owner."""

    RECORDS = 1
    """Its results, and all annotations on them."""
    WORDS = 2
    """The notes that it wrote down, and the superseded writes on its results."""


class BucketDigest(msgspec.Struct, frozen=True, order=True):
    """Digest of one bucket of one owner, keyed by the owner's sync key.

    Attributes:
        device_alias: The owner; 0 for the notes that the server wrote, keyed by the reader's own key.
        kind: Which bucket.
        count: Rows.
        total: Sum of their shares.
    """

    device_alias: int
    kind: int
    count: int
    total: int


class Owner(msgspec.Struct, frozen=True, order=True):
    """A device whose rows this device may see, itself among them.

    Attributes:
        device_alias: Its alias.
        sync_key: Key of the shares of its rows, 32 bytes.
    """

    device_alias: int
    sync_key: bytes


class ExchangeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Device to server: push, where I stand, and what I can do.

    Attributes:
        device_alias: Small integer the server gave at enrolment.
        epoch: The device's current epoch, from 1.
        cursor: How far the device has read.
        capabilities: What the device can do.
        owners_known: How many owners the device knows the keys of.
        results: New results, counters ascending and contiguous; a tuple or ``packed_results.ResultRows``.
        annotations: What the device wrote on annotations since the last acknowledged exchange; registers that it did
            not write say nothing.
        annotation_bases: For each of ``annotations``, ``merge.base_mark`` of the rhythm and of the comment that the
            server was known to hold when they were written (0 for none); or nothing at all, from a device that can't.
        seals: Signatures that cover ``results`` and ``alerts``.
        alerts: Urgent results of the same epoch that lie behind ``results``, counters ascending; they come again in
            their turn.
        notes: New notes of the same epoch, counters ascending and contiguous.
        deletions: Rows of its own that the device wants gone.
    """

    device_alias: int
    epoch: int
    cursor: Cursor = Cursor(0, 0)
    capabilities: int = 0
    owners_known: int = 0
    results: Sequence[ResultRow] = ()
    annotations: tuple[AnnotationRow, ...] = ()
    annotation_bases: tuple[tuple[int, int], ...] = ()
    seals: tuple[Seal, ...] = ()
    alerts: tuple[ResultRow, ...] = ()
    notes: tuple[NoteRow, ...] = ()
    deletions: tuple[Tombstone, ...] = ()


class ExchangeResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Server to device: what became of the push, what is new, and the server's digests.

    Attributes:
        acknowledged: All counters up to this one (of the request's epoch) are durable or refused for good. With
            results pushed, never beyond the last of them; else the highest that the server holds.
        notes_acknowledged: The same of the notes.
        verdicts: One for every pushed and acknowledged row that was not simply accepted, by counter ascending.
        refused: Annotations, notes and deletions that were pushed and refused.
        annotations: Rows committed after the request's cursor that the device may see, without its own echo; one for
            each (target, author).
        results: Results of other devices, likewise; a tuple or ``packed_results.IdentifiedResults``.
        notes: Notes of others, likewise.
        superseded: Losers of conflicts, likewise.
        tombstones: What is gone, likewise.
        documents: What the server decides, likewise.
        owners: All owners that the device may see, if it knows another number of them than there are.
        cursor: The device's new position.
        digest: Over all results of this device (all epochs) and all annotations on them, after this exchange: the
            bucket (own alias, ``RECORDS``).
        digests: All other buckets that are not empty, for a device that can ``FEED``.
        more: True when a further exchange would bring more rows.
        rebaseline: Tombstones were collected that the cursor had not reached: all that came down is to be compared
            with the server's before anything is pushed that speaks of it.
        server_time_ms: The server's clock, ms since 1970.
        capabilities: What the server can do.
        limits: What the server asks for.
    """

    acknowledged: int
    notes_acknowledged: int = 0
    verdicts: tuple[RowVerdict, ...] = ()
    refused: tuple[AnnotationVerdict, ...] = ()
    annotations: tuple[AnnotationRow, ...] = ()
    results: Sequence[IdentifiedResult] = ()
    notes: tuple[NoteRow, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    documents: tuple[Document, ...] = ()
    owners: tuple[Owner, ...] = ()
    cursor: Cursor = Cursor(0, 0)
    digest: Digest = Digest(0, 0)
    digests: tuple[BucketDigest, ...] = ()
    more: bool = False
    rebaseline: bool = False
    server_time_ms: int = 0
    capabilities: int = 0
    limits: ServerLimits = ServerLimits()
