"""What becomes of what a shard is asked for. Pure: a working copy of what a batch touches, and decisions.

It deliberately knows no SQL, no encryption and no clock; ``commit`` loads its books and writes what they collected.

Invariants:
    1. Results never change: a stored row pushed again is a duplicate if it is the same, else it conflicts.
    2. What a device pushed contiguously is settled: stored, quarantined or rejected for good, and acknowledged. One bad
       row stops nothing behind it.
    3. A push that leaves a gap settles nothing.
    4. Within a batch, changes apply in the order they came; within a push: results, alerts, notes, deletions,
       annotations.
    5. What was deleted does not come back by being pushed again, as long as its tombstone is kept.
    6. A document's name is the tenant's or patients', never both: a device knows a document by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import hlc
from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    Cursor,
    Document,
    NoteRow,
    Register,
    RejectReason,
    ResultRow,
    RowVerdict,
    Tombstone,
)
from einthoven_server import limits
from einthoven_server.errors import Conflict, RequestRefused
from einthoven_server.records import deletions, notes, results, words
from einthoven_server.records.books import Books
from einthoven_server.records.change_store import NewDocument
from einthoven_server.records.changes import Annotate, Delete, Give, Push, PutDocument, WriteNote
from einthoven_server.records.commits import WHOLE_TENANT

_REASONS: Final = {int(reason): reason for reason in RejectReason}


@dataclass(frozen=True, slots=True)
class Settled:
    """What a push came to.

    Attributes:
        acknowledged: As ``ExchangeResponse`` says it.
        verdicts: On results.
        notes_acknowledged: Of the notes.
        refused: Words and deletions.
    """

    acknowledged: int
    verdicts: tuple[RowVerdict, ...] = ()
    notes_acknowledged: int = 0
    refused: tuple[AnnotationVerdict, ...] = ()


class Ledger:
    """Decides, on one batch's books.

    Args:
        books: What was loaded.
    """

    def __init__(self, books: Books) -> None:
        self.books = books

    def settle(self, push: Push) -> Settled | RequestRefused:
        """Decide on everything a push holds."""
        refused = self._refusal(push)
        if refused is not None:
            return refused
        books, alias, cursor = self.books, push.device.alias, push.request.cursor
        acknowledged, verdicts = results.settle(books, push)
        results.take_alerts(books, push)
        notes_acknowledged, refused_notes = notes.settle(books, push)
        refused_deletions = deletions.settle(books, push)
        refused_words = words.settle(books, push)
        if books.held.cursors.get(alias) != cursor:
            books.held.cursors[alias] = books.written.cursors[alias] = cursor
        return Settled(acknowledged, verdicts, notes_acknowledged, (*refused_notes, *refused_deletions, *refused_words))

    def give(self, change: Give) -> tuple[int, ...]:
        """Take back what a device still has of what was lost here; a ``VerdictCode`` for each row."""
        return results.take_given(self.books, change)

    def annotate(self, change: Annotate) -> AnnotationRow:
        """Put a clinician's words in; return the row as it is then."""
        books, empty = self.books, Register("", 0)
        held = books.held.annotations.get((change.target, change.author)) or AnnotationRow(
            target=change.target, author=change.author, rhythm=empty, comment=empty
        )
        seen = max(books.last_hlc, held.rhythm.hlc, held.comment.hlc)
        books.last_hlc = now = hlc.tick(seen, change.now_ms)
        row = AnnotationRow(
            target=change.target,
            author=change.author,
            rhythm=empty if change.rhythm is None else Register(change.rhythm, now),
            comment=empty if change.comment is None else Register(change.comment, now),
        )
        return words.take(books, change.device.patient_key, row)

    def note(self, change: WriteNote) -> NoteRow:
        """Put a note of somebody at the console in."""
        return notes.write(self.books, change)

    def delete(self, change: Delete) -> tuple[Tombstone, ...]:
        """Remove rows, whoever wrote them; return those that were there."""
        key = change.patient_key
        return tuple(row for row in change.rows if deletions.remove(self.books, key, row, change.now_ms))

    def put_document(self, change: PutDocument) -> Document | RequestRefused:
        """Put the next version of a document."""
        document, key = change.document, (change.patient_id, change.document.name)
        if key in self.books.held.named_elsewhere or self._is_named_meanwhile(change):
            return Conflict(
                "the tenant, or a patient, has a document of that name, and devices tell them apart by name",
                "use another name",
                code="name_taken",
            )
        if document.version != self.books.held.documents.get(key, 0) + 1:
            return Conflict(
                "this is not the version that follows the one held", "read it again", code="version_conflict"
            )
        self.books.held.documents[key] = document.version
        self.books.written.documents[key] = NewDocument(
            change.patient_id, change.patient_key, document, self.books.next_seq()
        )
        return document

    def _is_named_meanwhile(self, change: PutDocument) -> bool:
        """Whether this batch put a document of the same name for the tenant, or for a patient, where that is other."""
        for_all = change.patient_id == WHOLE_TENANT
        return any(
            name == change.document.name and (patient_id == WHOLE_TENANT) is not for_all
            for patient_id, name in self.books.held.documents
        )

    def _refusal(self, push: Push) -> RequestRefused | None:
        cursor, request = push.request.cursor, push.request
        if cursor > Cursor(self.books.shard_epoch, self.books.commit_seq):
            return Conflict("the device has read further than this server goes", "enrol anew", code="cursor_ahead")
        run = (push.device.alias, request.epoch)
        if cursor.shard_epoch != self.books.shard_epoch:
            return None  # this history may have lost what the device saw acknowledged
        held = self.books.held
        return _gap("results", request.results, held.marks.get(run, 0)) or _gap(
            "notes", request.notes, held.note_marks.get(run, 0)
        )


def _gap(name: str, pushed: Sequence[ResultRow] | Sequence[NoteRow], acknowledged: int) -> RequestRefused | None:
    if not pushed or pushed[0].counter <= acknowledged + 1:
        return None
    return Conflict(
        f"{name} {acknowledged + 1} to {pushed[0].counter - 1} were never pushed",
        "push from the first unacknowledged one",
        code="counter_gap",
    )


def row_faults(fields: NDArray[np.void], now_ms: int) -> list[RejectReason]:
    """What is wrong with each of many rows in itself, as ``row_fault`` tells it.

    Args:
        fields: Structured array [rows] of ``packed_results.RESULT_FIELDS``.
        now_ms: When they came, ms since 1970.
    """
    ahead = fields["started_at_ms"] > now_ms + limits.RESULT_AHEAD_MAX_MS
    faults = np.where(ahead, int(RejectReason.CLOCK_SKEW), int(RejectReason.NONE))
    faults[(fields["tier"] == 0) != (fields["reason"] != 0)] = int(RejectReason.OUT_OF_RANGE)
    return list(map(_REASONS.__getitem__, faults.tolist())) if faults.any() else [RejectReason.NONE] * len(faults)


def row_fault(row: ResultRow, now_ms: int) -> RejectReason:
    """What is wrong with a row in itself; ranges of single fields are the codec's matter."""
    if (row.tier == 0) != (row.reason != 0):  # einthoven.results, invariant 1
        return RejectReason.OUT_OF_RANGE
    if row.started_at_ms > now_ms + limits.RESULT_AHEAD_MAX_MS:
        return RejectReason.CLOCK_SKEW
    return RejectReason.NONE
