"""What a batch loads, and what it writes, as values. Pure.

They deliberately know neither SQL nor what is decided; ``change_store`` is the port they pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Final, NamedTuple, TypeAlias

from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    Digest,
    Document,
    NoteRow,
    Owner,
    RejectReason,
    ResultId,
    Seal,
    Superseded,
    Tombstone,
)
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.changes import PushedRows

SERVER_ALIAS: Final = 0
"""Who wrote a note that no device wrote."""
SERVER_WORDS: Final = 3
"""Bucket kind that never travels: the server's notes under one reader's key, kept by the reader's alias. A missing one
was never computed; ``Held.server_notes`` then has what it takes."""

AnnotationKey: TypeAlias = tuple[ResultId, str]
"""(target, author)."""
IdRun: TypeAlias = tuple[int, int, int, int]
"""(device alias, epoch, first counter, last counter), inclusive."""


class NewResults(NamedTuple):
    """Results of one epoch of a device to be written, each with its ``commit_seq``."""

    device: Device
    epoch: int
    rows: PushedRows
    seqs: Sequence[int]

    def chosen(self, keep: Sequence[bool]) -> NewResults:
        """Those that are to be kept."""
        return self._replace(rows=self.rows.chosen(keep), seqs=list(compress(self.seqs, keep)))


class NewQuarantined(NamedTuple):
    """A result to be put aside."""

    result: ResultId
    device: Device
    canonical: bytes
    fault: RejectReason


class NewAnnotation(NamedTuple):
    """An annotation to be written; ``origin`` is (alias, epoch) of a device that knows all of it already."""

    row: AnnotationRow
    patient_key: PatientKey
    share: int
    commit_seq: int
    origin: tuple[int, int] | None


class NewSuperseded(NamedTuple):
    """A register that was overtaken: shown and summed if ``concurrent``, else history with ``commit_seq`` 0."""

    row: Superseded
    patient_key: PatientKey
    share: int
    commit_seq: int
    concurrent: bool


class NewNote(NamedTuple):
    """A note to be written; its share is 0 where every reader sums it under its own key."""

    row: NoteRow
    patient_key: PatientKey
    share: int
    commit_seq: int


class NewTombstone(NamedTuple):
    """A tombstone; ``hlc`` is the latest time of the words that went, 0 for other kinds."""

    row: Tombstone
    patient_id: str
    hlc: int
    commit_seq: int
    deleted_at_ms: int


class NewDocument(NamedTuple):
    """A document to be written."""

    patient_id: str
    patient_key: PatientKey | None
    document: Document
    commit_seq: int


class Patient(NamedTuple):
    """A patient's devices, and what was collected.

    Attributes:
        owners: All devices ever enrolled, with the keys of their rows, by alias.
        collected_seq: Tombstones up to here may be gone.
    """

    owners: tuple[Owner, ...]
    collected_seq: int


class NonceUse(NamedTuple):
    """A nonce as it was used."""

    alias: int
    nonce: str
    expires_at_ms: int


@dataclass(slots=True)
class Wanted:
    """What a batch needs to know before it decides.

    Attributes:
        keys: Data keys of the patients it touches; patients' owners, digests and horizons are loaded with them.
        aliases: Devices that push: are they revoked?
        marks: (alias, epoch) of acknowledged marks.
        result_runs: Stored, quarantined and deleted results in these runs.
        note_runs: Stored and deleted notes in these runs.
        annotations: Annotations, overtaken writes and tombstones under these keys.
        targets: Results of which everything that was said is wanted.
        tombstones: Further ones.
        documents: (patient, name).
        server_words: Readers whose sum of the server's notes is needed.
    """

    keys: dict[str, PatientKey] = field(default_factory=dict)
    aliases: set[int] = field(default_factory=set)
    marks: set[tuple[int, int]] = field(default_factory=set)
    result_runs: set[IdRun] = field(default_factory=set)
    note_runs: set[IdRun] = field(default_factory=set)
    annotations: set[AnnotationKey] = field(default_factory=set)
    targets: set[ResultId] = field(default_factory=set)
    tombstones: set[Tombstone] = field(default_factory=set)
    documents: set[tuple[str, str]] = field(default_factory=set)
    server_words: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Held:
    """What was loaded; the ledger's working copy.

    Attributes:
        patients: By patient id.
        revoked: Aliases of revoked devices.
        marks: Acknowledged results, by (alias, epoch).
        note_marks: Acknowledged notes, by (alias, epoch).
        results: Digest shares of stored results, one by one.
        runs: The same of whole runs that the batch itself took in, by (alias, epoch): first counter, shares.
        quarantined: Reasons of quarantined results.
        notes: Stored notes; of note identity (alias, epoch, counter).
        annotations: By (target, author).
        origins: (alias, epoch) of the device that knows all of an annotation, where there is one.
        overtaken: Whether an overtaken write was concurrent.
        tombstones: Up to which time each goes, by identity (``hlc`` 0).
        digests: By (alias, bucket kind), ``SERVER_WORDS`` among them.
        server_notes: By patient id, where a wanted ``SERVER_WORDS`` is missing.
        documents: Version held, by (patient, name).
        named_elsewhere: Those wanted whose name the tenant has (for a patient's), or a patient (for the tenant's).
        cursors: How far pushing devices were known to have read.
        key_versions: Versions of patients' data keys that are there, and whether each seals; empty if nothing is known.
    """

    patients: dict[str, Patient] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    marks: dict[tuple[int, int], int] = field(default_factory=dict)
    note_marks: dict[tuple[int, int], int] = field(default_factory=dict)
    results: dict[ResultId, int] = field(default_factory=dict)
    runs: dict[tuple[int, int], list[tuple[int, Sequence[int]]]] = field(default_factory=dict)
    quarantined: dict[ResultId, int] = field(default_factory=dict)
    notes: dict[ResultId, NoteRow] = field(default_factory=dict)
    annotations: dict[AnnotationKey, AnnotationRow] = field(default_factory=dict)
    origins: dict[AnnotationKey, tuple[int, int] | None] = field(default_factory=dict)
    overtaken: dict[Superseded, bool] = field(default_factory=dict)
    tombstones: dict[Tombstone, int] = field(default_factory=dict)
    digests: dict[tuple[int, int], Digest] = field(default_factory=dict)
    server_notes: dict[str, tuple[NoteRow, ...]] = field(default_factory=dict)
    documents: dict[tuple[str, str], int] = field(default_factory=dict)
    named_elsewhere: set[tuple[str, str]] = field(default_factory=set)
    cursors: dict[int, Cursor] = field(default_factory=dict)
    key_versions: dict[str, dict[int, bool]] = field(default_factory=dict)


@dataclass(slots=True)
class Written:
    """What a batch writes. ``gone_*`` are removed before anything is written.

    Attributes:
        seals: By alias; a seal that is held already is left alone.
        received_at_ms: When the quarantined came.
        marks: Acknowledged results and notes, by (alias, epoch).
        digests: By (alias, bucket kind).
    """

    commit_seq: int = 0
    results: list[NewResults] = field(default_factory=list)
    quarantined: list[NewQuarantined] = field(default_factory=list)
    seals: list[tuple[int, Seal]] = field(default_factory=list)
    received_at_ms: int = 0
    annotations: dict[AnnotationKey, NewAnnotation] = field(default_factory=dict)
    superseded: dict[Superseded, NewSuperseded] = field(default_factory=dict)
    notes: dict[ResultId, NewNote] = field(default_factory=dict)
    tombstones: dict[Tombstone, NewTombstone] = field(default_factory=dict)
    documents: dict[tuple[str, str], NewDocument] = field(default_factory=dict)
    gone_results: set[ResultId] = field(default_factory=set)
    gone_annotations: set[AnnotationKey] = field(default_factory=set)
    gone_superseded: set[Superseded] = field(default_factory=set)
    gone_notes: set[ResultId] = field(default_factory=set)
    marks: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    digests: dict[tuple[int, int], Digest] = field(default_factory=dict)
    cursors: dict[int, Cursor] = field(default_factory=dict)
