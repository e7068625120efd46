"""The messages of the sync protocol, version 1, as immutable values (docs/sync-protocol-v1.md).

They deliberately know nothing of bytes (``codec``), of SQL, or of who may see what.

Invariants:
    1. A row's identity is (device_alias, epoch, counter); counters of an epoch run 1, 2, 3 ... without holes.
    2. Result rows never change. Annotations merge field by field (``merge``).
    3. Enum values are those of ``einthoven.results``; the protocol carries them as integers and keeps unknown ones.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

PROTOCOL_VERSION = 1


class ResultRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):  # thousands at a time; can't form a cycle
    """One window's verdict as it travels.

    Attributes:
        counter: Position in the device's log for this epoch, from 1.
        started_at_ms: UTC of the first sample, ms since 1970.
        duration_ms: Length of the window.
        n_steps: Model steps that the verdict rests on.
        usable_s: Seconds of usable quality.
        quality: Quality flags seen.
        rhythm: Rhythm class.
        confidence_permille: Calibrated probability of the class, 0-1000.
        logits: Calibrated integer logits of N, A, O, ~; their unit is the model's.
        tier: Risk tier.
        reason: Inconclusive reason, 0 for none.
        model_digest: SHA-256 of the model's manifest, which names all that decides; 32 bytes.
        front_end_version: Version of the integer front end.
    """

    counter: int
    started_at_ms: int
    duration_ms: int
    n_steps: int
    usable_s: int
    quality: int
    rhythm: int
    confidence_permille: int
    logits: tuple[int, int, int, int]
    tier: int
    reason: int
    model_digest: bytes
    front_end_version: int


class ResultId(msgspec.Struct, frozen=True, order=True):
    """Identity of a result anywhere in a tenant."""

    device_alias: int
    epoch: int
    counter: int


class Register(msgspec.Struct, frozen=True):
    """One field of an annotation: a value and the hybrid logical time it was written at."""

    value: str
    hlc: int


class AnnotationRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one author says of one result; merges field by field, last writer by hybrid logical clock.

    Attributes:
        target: The result it speaks of.
        author: Opaque principal id of the author (no name), at most 64 characters.
        rhythm: The author's rhythm class as text (``""`` none, ``"N" "A" "O" "~"``).
        comment: Free text, at most 2,000 characters.
    """

    target: ResultId
    author: str
    rhythm: Register
    comment: Register


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """A device's signature over a run of its results, so that a row needs none of its own.

    Attributes:
        epoch: Epoch of the run.
        first_counter: First counter of the run.
        last_counter: Last counter, inclusive.
        results_root: RFC 9162 Merkle tree hash over the canonical bytes of the rows, 32 bytes.
        segments_root: The same over the rows' segment digests, 32 bytes.
        signature: Ed25519 over ``merkle.seal_message``, 64 bytes.
    """

    epoch: int
    first_counter: int
    last_counter: int
    results_root: bytes
    segments_root: bytes
    signature: bytes


class Cursor(msgspec.Struct, frozen=True, order=True):
    """How far a device has read the server's feed; opaque to the device."""

    shard_epoch: int
    commit_seq: int


class Digest(msgspec.Struct, frozen=True):
    """Count and 128-bit keyed sum of a set of rows; equal digests mean equal sets."""

    count: int
    total: int


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


class RowVerdict(msgspec.Struct, frozen=True):
    """A verdict that is not ``ACCEPTED``, by counter; accepted rows are not listed."""

    counter: int
    code: int
    reason: int


class ExchangeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Device to server: push, where I stand, and what I hold.

    Attributes:
        device_alias: Small integer the server gave at enrolment.
        epoch: The device's current epoch, from 1.
        results: New results, counters ascending and contiguous.
        annotations: The device's own annotations changed since the last acknowledged exchange.
        seals: Signatures that cover ``results``.
        cursor: How far the device has read.
    """

    device_alias: int
    epoch: int
    results: tuple[ResultRow, ...] = ()
    annotations: tuple[AnnotationRow, ...] = ()
    seals: tuple[Seal, ...] = ()
    cursor: Cursor = Cursor(0, 0)


class ExchangeResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Server to device: what became of the push, what is new, and the server's digest.

    Attributes:
        acknowledged: All counters up to this one (of the request's epoch) are durable or refused for good. With
            results pushed, never beyond the last of them; else the highest that the server holds.
        verdicts: One for every pushed and acknowledged row that was not simply accepted, by counter ascending.
        annotations: Rows committed after the request's cursor that the device may see, without its own echo; one for
            each (target, author).
        cursor: The device's new position.
        digest: Over all results of this device (all epochs) and all annotations visible to it, after this exchange.
        more: True when a further exchange would bring more rows.
        server_time_ms: The server's clock, ms since 1970.
    """

    acknowledged: int
    verdicts: tuple[RowVerdict, ...] = ()
    annotations: tuple[AnnotationRow, ...] = ()
    cursor: Cursor = Cursor(0, 0)
    digest: Digest = Digest(0, 0)
    more: bool = False
    server_time_ms: int = 0
