"""What a ``Store`` takes and gives besides results and signal: beats, policies, reports, audit. Values, no behaviour.

It deliberately knows no SQL, no file and no clock; what may be dropped is decided in ``retention``, what an audit entry
hashes to in ``local_audit``.

Invariants:
    1. Enum values are stored: never renumber, only append.
    2. Nothing here holds a name, a note or a sample of a patient, ``BeatRun`` and results aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.results import WindowResult

MAX_SUBJECT_CHARS: Final = 200
"""Characters of an audit entry's subject."""
MAX_BEATS_PER_RUN: Final = 100_000
"""Beats in one run: a day."""


@dataclass(frozen=True, slots=True, eq=False)
class BeatRun:
    """Beats of a stretch of signal, in order.

    Attributes:
        at_ms: int64 [n], UTC of the R peaks, ms since 1970, not descending; read-only.
        classes: uint8 [n], ``BeatClass`` of each; read-only.
    """

    at_ms: NDArray[np.int64]
    classes: NDArray[np.uint8]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BeatRun)
            and np.array_equal(self.at_ms, other.at_ms)
            and np.array_equal(self.classes, other.classes)
        )

    def __hash__(self) -> int:
        return hash((self.at_ms.tobytes(), self.classes.tobytes()))


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result of any epoch.

    Attributes:
        epoch: In which its counter was given.
        result: The verdict.
    """

    epoch: int
    result: WindowResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """Counts and sizes of a store.

    Attributes:
        results: Results held, of all epochs.
        annotations: Annotations held.
        segments: Raw signals held.
        segment_bytes: Their stored form, in bytes.
        unacknowledged_segments: Of them, those that the server is not known to hold.
        beats: Beats held.
        epochs: Epochs begun, 1 in a store that was never turned back.
        quarantined: Entries of the quarantine.
        audit_entries: Entries of the local audit trail.
        file_bytes: All files of the store, with its log; 0 in memory.
        free_bytes: Room inside the file that is used again before it grows.
        oldest_ms: Start of the oldest result, UTC ms; ``None`` without results.
        newest_ms: Start of the newest result.
        notes: Notes held, this device's and others', without deleted ones.
        replicas: Results that came down held.
    """

    results: int
    annotations: int
    segments: int
    segment_bytes: int
    unacknowledged_segments: int = 0
    beats: int = 0
    epochs: int = 1
    quarantined: int = 0
    audit_entries: int = 0
    file_bytes: int = 0
    free_bytes: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None
    notes: int = 0
    replicas: int = 0


class ContentKind(IntEnum):
    """Kinds of content that a store holds."""

    RESULT = 1
    SEGMENT = 2
    BEATS = 3
    ANNOTATION = 4
    SETTING = 5
    SYNC = 6
    AUDIT = 7
    NOTE = 8
    REPLICA = 9
    DOCUMENT = 10


class DropReason(IntEnum):
    """Why content was dropped."""

    AGE = 1
    SIZE = 2
    DISK_FULL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long and how much to keep; ``None`` is no limit (GDPR Art. 5(1)(c), (e)).

    What the server has not acknowledged stays whatever the policy says, but for ``store_max_bytes``.

    Attributes:
        signal_max_age_ms: Age of raw signal, in ms from the start of its result.
        signal_max_bytes: Stored bytes of raw signal; the oldest goes first.
        beats_max_age_ms: Age of beats.
        results_max_age_ms: Age of results, also of those that came down.
        store_max_bytes: Ceiling of the file: reached, the oldest raw signals go, acknowledged ones first, then others.
    """

    signal_max_age_ms: int | None = None
    signal_max_bytes: int | None = None
    beats_max_age_ms: int | None = None
    results_max_age_ms: int | None = None
    store_max_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionReport:
    """What one ``retain`` dropped.

    Attributes:
        segments: Raw signals.
        segment_bytes: Their stored bytes.
        unacknowledged_segments: Of them, those that the server is not known to hold.
        beat_runs: Runs of beats.
        results: Results.
        replicas: Results that came down.
    """

    segments: int = 0
    segment_bytes: int = 0
    unacknowledged_segments: int = 0
    beat_runs: int = 0
    results: int = 0
    replicas: int = 0


class DamageReason(IntEnum):
    """How something was found not to be what was written."""

    PAGE_UNREADABLE = 1
    """A page's authentication code is not that of its bytes."""
    PAGE_TURNED_BACK = 2
    """A page is one that was written before, or was cleared since."""
    STRUCTURE = 3
    """The b-trees do not hold together."""
    TAG_WRONG = 4
    """A row is not the one that was written under this key."""
    ROW_MISSING = 5
    """A row that was written is not there."""
    ROW_UNREADABLE = 6
    """A row that can't be decoded, or is not of its digest."""
    SUM_WRONG = 7
    """The rows of a table are not those that were counted."""
    CHAIN_BROKEN = 8
    """An audit entry does not follow from the one before."""
    ANCHOR_WRONG = 9
    """The file is not the one that the anchor was written for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written.

    Attributes:
        reason: How it was found.
        place: Where: a table and key, a page number, an audit sequence; opaque, no content.
    """

    reason: DamageReason
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What reading everything found.

    Attributes:
        pages: Pages looked at; 0 in memory.
        rows: Rows looked at.
        findings: What is wrong, ``MAX_FINDINGS`` at most; empty for a sound store.
    """

    pages: int
    rows: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether everything is as it was written."""
        return not self.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Something that was lost to damage.

    Attributes:
        kind: What it was.
        place: Its key or range of keys, as far as known.
        reason: How it was found.
        found_at_ms: UTC, ms since 1970.
    """

    kind: ContentKind
    place: str
    reason: DamageReason
    found_at_ms: int


class AuditAction(IntEnum):
    """What an entry of the local audit trail says was done."""

    CREATED = 1
    MIGRATED = 2
    FORKED = 3
    REKEYED = 4
    REPAIRED = 5
    DROPPED = 6
    EXPORTED = 7
    ENROLLED = 8
    ANNOTATED = 9
    SETTING_CHANGED = 10
    CHECKED = 11
    SYNCED = 12
    VIEWED = 13
    CONSENT_CHANGED = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the local audit trail.

    Attributes:
        seq: Its number, from 1 without holes.
        at_ms: UTC by this device's clock, ms since 1970.
        action: What was done.
        subject: What to: a number, a setting's name, a digest; opaque.
        entry_hash: Chains it to the entry before (see ``local_audit``), 32 bytes.
    """

    seq: int
    at_ms: int
    action: AuditAction
    subject: str
    entry_hash: bytes
