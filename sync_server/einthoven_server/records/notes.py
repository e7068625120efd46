"""What becomes of notes: a log of their own for every epoch of a device, and one of the server. Pure.

Invariants:
    1. Notes never change; a counter at or below the mark was decided.
    2. Notes behind a gap, which only a history that was set back may have, settle nothing.
"""

from __future__ import annotations

from einthoven_protocol import digests
from einthoven_protocol.messages import AnnotationVerdict, NoteRow, RejectReason, ResultId, RowKind, Tombstone
from einthoven_server.records.books import Books
from einthoven_server.records.change_store import SERVER_ALIAS, NewNote
from einthoven_server.records.changes import Push, WriteNote


def settle(books: Books, push: Push) -> tuple[int, list[AnnotationVerdict]]:
    """Take a push's notes in: what they are acknowledged to, and those that were refused."""
    request, device = push.request, push.device
    run = (device.alias, request.epoch)
    acknowledged = books.held.note_marks.get(run, 0)
    if not request.notes or request.notes[0].counter > acknowledged + 1:
        return acknowledged, []
    refused = []
    for row in request.notes:
        reason = _refusal(books, push, row, acknowledged)
        place = _place(row)
        if reason is not RejectReason.NONE:
            refused.append(AnnotationVerdict(RowKind.NOTE, *run, row.counter, "", reason))
        elif place not in books.held.notes:
            share = books.add_note(device.patient_id, row)
            books.held.notes[place] = row
            books.written.notes[place] = NewNote(row, device.patient_key, share, books.next_seq())
    last = request.notes[-1].counter
    if last > acknowledged:
        books.held.note_marks[run] = last
        books.written.marks[run] = (books.held.marks.get(run, 0), last)
    return last, refused


def write(books: Books, change: WriteNote) -> NoteRow:
    """Write a note of the server's own."""
    run = (SERVER_ALIAS, books.shard_epoch)
    counter = books.held.note_marks.get(run, 0) + 1
    row = NoteRow(
        device_alias=SERVER_ALIAS,
        epoch=books.shard_epoch,
        counter=counter,
        author=change.author,
        at_ms=change.at_ms,
        text=change.text,
    )
    books.add_note(change.patient_id, row)
    books.held.notes[_place(row)] = row
    books.held.note_marks[run] = counter
    books.written.marks[run] = (0, counter)
    books.written.notes[_place(row)] = NewNote(row, change.patient_key, 0, books.next_seq())
    return row


def _refusal(books: Books, push: Push, row: NoteRow, acknowledged: int) -> RejectReason:
    device = push.device
    if (row.device_alias, row.epoch) != (device.alias, push.request.epoch):
        return RejectReason.NOT_ALLOWED
    held = books.held.notes.get(_place(row))
    if held is not None:
        same = digests.note_sum(device.sync_key, held) == digests.note_sum(device.sync_key, row)
        return RejectReason.NONE if same else RejectReason.CONFLICTS_WITH_STORED
    if Tombstone(RowKind.NOTE, device.alias, row.epoch, row.counter) in books.held.tombstones:
        return RejectReason.DELETED
    if row.author not in (device.device_id, device.patient_id):
        return RejectReason.NOT_ALLOWED
    if row.counter <= acknowledged:  # refused for good before, or long gone
        return RejectReason.CONFLICTS_WITH_STORED
    return RejectReason.NONE


def _place(row: NoteRow) -> ResultId:
    return ResultId(row.device_alias, row.epoch, row.counter)
