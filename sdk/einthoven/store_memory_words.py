"""Annotations, notes and deletions of ``MemoryStore``, as they are written and as an exchange settles them.

The oracle of ``sqlcipher_words`` and ``sqlcipher_notes``.

Invariants:
    1. An annotation that is deleted and not yet gone is among those known and not among the local ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from einthoven.store_events import ForkReason
from einthoven.store_memory_books import AnnotationName, Books, KeptNote, NoteName, OwnNote, Place
from einthoven.store_memory_buckets import holds_note
from einthoven.store_rules import Draw
from einthoven.store_rules_feed import (
    Bases,
    DeletionState,
    Known,
    Overtaken,
    Shown,
    annotation_name,
    feeds,
    identity_of,
    is_same_note,
    latest,
    next_bases,
    next_note_counter,
    no_such_row,
    note_name,
    note_row_bytes,
    overtaken,
    refused_names,
    said,
    said_again,
    spared,
    to_push,
    until,
    without_pushed,
    without_text,
)
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    ExchangeRequest,
    ExchangeResponse,
    NoteRow,
    RejectReason,
    ResultId,
    RowKind,
    Superseded,
    Tombstone,
)


def put_local_annotation(books: Books, row: AnnotationRow) -> AnnotationRow:
    """Merge a row of this device's own making into the local one; return the merged row."""
    name = (row.target, row.author)
    before = books.local.get(name)
    known = None if is_deleted(books, name) else books.known.get(name)
    merged = merged_with(before, row)
    books.bases[name] = next_bases(books.bases.get(name, (0, 0)), before, known, merged)
    books.own.add(name)
    set_local(books, name, merged)
    return merged


def set_local(books: Books, name: AnnotationName, row: AnnotationRow) -> None:
    """Change the local annotation; one that changed, or is known to be held, is no refused one any more (R12)."""
    if books.local.get(name) != row or books.known.get(name) == row:
        books.refused_words.pop(name, None)
    books.local[name] = row


def learn(books: Books, row: AnnotationRow) -> None:
    """R3."""
    name = (row.target, row.author)
    before, known_before = books.local.get(name), books.known.get(name)
    books.known[name] = known = merged_with(known_before, row)
    if is_deleted(books, name):
        return
    local = merged_with(before, known)
    if name in books.own:
        bases = books.bases.get(name, (0, 0))
        keep_overtaken(books, name, overtaken(books.overtaken.get(name), before, known_before, local, bases))
    set_local(books, name, local)


def keep_overtaken(books: Books, name: AnnotationName, held: Overtaken | None) -> None:
    """R12: remember what is still to be pushed."""
    books.overtaken.pop(name, None)
    if held is not None:
        books.overtaken[name] = held


def push_of(books: Books, row: AnnotationRow) -> tuple[AnnotationRow, Bases]:
    """R12: what goes up of an annotation that waits, and its base marks."""
    name = (row.target, row.author)
    known = None if is_deleted(books, name) else books.known.get(name)
    refused = name in books.refused_words
    return to_push(row, known, books.bases.get(name, (0, 0)), books.overtaken.get(name), refused=refused)


def take_pushed(books: Books, request: ExchangeRequest, response: ExchangeResponse) -> None:
    """R3 and R12: pushed annotations are held as they are, or refused."""
    refused = refused_names(response)
    for row in request.annotations:
        name = (row.target, row.author)
        reason = refused.get(annotation_name(*name))
        waited = books.overtaken.get(name)
        if (left := without_pushed(waited, row)) != waited:
            left = said_again(left, superseded_of(books, name), waited)
        keep_overtaken(books, name, left)
        if reason is None:
            learn(books, row)
        elif name in books.own and name in books.local and said(row, books.local[name]):
            books.refused_words[name] = reason


def superseded_of(books: Books, name: AnnotationName) -> list[tuple[Superseded, bool]]:
    """Superseded writes under the name of an annotation, and whether the server is known to hold them."""
    return [(row, known) for row, known in books.superseded.items() if (row.target, row.author) == name]


def forget_annotation(books: Books, name: AnnotationName) -> None:
    """Leave nothing of an annotation."""
    for held in (books.local, books.known, books.bases, books.refused_words, books.overtaken):
        held.pop(name, None)
    books.own.discard(name)
    books.deletions.pop(annotation_name(*name), None)


def is_deleted(books: Books, name: AnnotationName) -> bool:
    """Whether its deletion waits."""
    return books.deletions.get(annotation_name(*name)) == DeletionState.WAITS


def add_note(books: Books, author: str, text: str, at_ms: int) -> NoteRow:
    """Keep a note under the next counter."""
    counter = next_note_counter(books.notes_given.get(books.epoch, 0))
    row = NoteRow(device_alias=0, epoch=books.epoch, counter=counter, author=author, at_ms=at_ms, text=text)
    note_row_bytes(row)
    books.notes_given[books.epoch] = counter
    books.own_notes[books.epoch, counter] = OwnNote(row)
    return books.signed(row)


def say_former_notes(books: Books, author: str) -> list[NoteRow]:
    """R22: former notes that did not come down are this device's again."""
    former = sorted(
        (kept.row for kept in books.notes.values() if kept.known is Known.FORMER),
        key=lambda row: (row.device_alias, row.epoch, row.counter),
    )
    for row in former:
        del books.notes[row.device_alias, row.epoch, row.counter]
    return [add_note(books, author, row.text, row.at_ms) for row in former]


def listed_notes(books: Books, first_ms: int, last_ms: int, limit: int) -> list[NoteRow]:
    """Notes that are not deleted, in order."""
    found = [books.signed(note.row) for note in books.own_notes.values() if note.shown is Shown.LISTED]
    here = {(row.device_alias, row.epoch, row.counter) for row in found}
    found += [kept.row for name, kept in books.notes.items() if not kept.hidden and name not in here]
    found = [row for row in found if first_ms <= row.at_ms <= last_ms]
    return sorted(found, key=lambda row: (row.at_ms, row.device_alias, row.epoch, row.counter))[:limit]


def delete(books: Books, row: Tombstone) -> None:
    """R15.

    Raises:
        InputError: There is no such row here.
    """
    if row.kind == RowKind.ANNOTATION:
        _delete_annotation(books, identity_of(row))
    elif row.kind == RowKind.NOTE and not row.author:
        _delete_note(books, identity_of(row))
    else:
        raise no_such_row()


def _delete_annotation(books: Books, row: Tombstone) -> None:
    name = (ResultId(row.device_alias, row.epoch, row.counter), row.author)
    if name not in books.own or name not in books.local:
        raise no_such_row()
    known, time = books.known.get(name), latest(books.local[name])
    forget_annotation(books, name)
    if known is not None:
        books.known[name] = known
    elif books.waits(name[0]):
        return
    books.deletions[row] = DeletionState.WAITS
    books.deletion_times[row] = max(time, books.deletion_times.get(row, 0))


def _delete_note(books: Books, row: Tombstone) -> None:
    place, name = (row.epoch, row.counter), (row.device_alias, row.epoch, row.counter)
    own, kept = books.own_notes.get(place), books.notes.get(name)
    if row.device_alias == books.own_alias and own is not None and own.shown is Shown.LISTED:
        books.own_notes[place] = replace(own, shown=Shown.DELETED)
        if name in books.notes:
            books.notes[name] = replace(books.notes[name], hidden=True)
    elif kept is not None and kept.known is Known.FORMER:
        del books.notes[name]
        return
    elif row.device_alias == books.own_alias and kept is not None and not kept.hidden and own is None:
        books.notes[name] = replace(kept, hidden=True)
    else:
        raise no_such_row()
    books.deletions[row] = DeletionState.WAITS


def sendable_deletions(books: Books) -> list[Tombstone]:
    """R15: those that need not wait for anything else."""
    return [
        msgspec.structs.replace(row, hlc=books.deletion_times.get(row, 0))
        for row, state in sorted(books.deletions.items())
        if state == DeletionState.WAITS and not _held_back(books, row)
    ]


def _held_back(books: Books, row: Tombstone) -> bool:
    if row.kind == RowKind.ANNOTATION:
        return books.waits(ResultId(row.device_alias, row.epoch, row.counter))
    place = (row.epoch, row.counter)
    return place in books.own_notes and row.counter > books.notes_acknowledged.get(row.epoch, 0)


def settle_deletions(books: Books, request: ExchangeRequest, response: ExchangeResponse) -> None:
    """R15: what became of pushed deletions."""
    refused = refused_names(response)
    for pushed in request.deletions:
        row = identity_of(pushed)
        if books.deletions.get(row) != DeletionState.WAITS or pushed.hlc != books.deletion_times.get(row, 0):
            continue
        reason = refused.get(row)
        if row.kind == RowKind.ANNOTATION:
            _settle_annotation(books, row, reason, until(pushed))
        else:
            _settle_note(books, row, reason)


def _settle_annotation(books: Books, row: Tombstone, reason: int | None, hlc: int) -> None:
    name = (ResultId(row.device_alias, row.epoch, row.counter), row.author)
    del books.deletions[row]
    if reason is None:
        bury_overtaken(books, *name, hlc)
        books.deletion_times.pop(row, None)
        left = spared(books.known.pop(name, None), hlc)
        if left is not None:
            books.known[name] = left
            set_local(books, name, merged_with(books.local.get(name), left))
        return
    books.deletions[row] = reason
    if name in books.known:
        books.own.add(name)
        set_local(books, name, merged_with(books.local.get(name), books.known[name]))


def bury_overtaken(books: Books, target: ResultId, author: str, hlc: int) -> None:
    """R15 and R16: superseded writes go with the words of their author, up to a time."""
    for row in [row for row in books.superseded if (row.target, row.author) == (target, author) and row.hlc <= hlc]:
        del books.superseded[row]


def _settle_note(books: Books, row: Tombstone, reason: int | None) -> None:
    place, name = (row.epoch, row.counter), (row.device_alias, row.epoch, row.counter)
    books.deletions[row] = DeletionState.DONE if reason is None else reason
    own = books.own_notes.get(place)
    if reason is None:
        books.notes.pop(name, None)
        if own is not None:
            books.own_notes[place] = OwnNote(without_text(own.row), Shown.GONE)
        return
    if own is not None and own.shown is Shown.DELETED:
        books.own_notes[place] = replace(own, shown=Shown.LISTED)
    if name in books.notes:
        books.notes[name] = replace(books.notes[name], hidden=False)


def settle_notes(
    books: Books, request: ExchangeRequest, response: ExchangeResponse, draw: Draw, at_ms: int, *, whole: bool
) -> None:
    """R13."""
    epoch = request.epoch
    mark = books.notes_acknowledged.get(epoch, 0)
    if request.notes:
        if request.notes[0].counter > mark + 1:
            return
        reused = _reused_notes(books, request, response, mark)
        last = min(response.notes_acknowledged, request.notes[-1].counter, books.notes_given.get(epoch, 0))
        if reused and not whole:
            last = min(last, reused[0] - 1)
            books.fork_to_hear(epoch, draw, at_ms)
        again = _pass_notes(books, request, response, mark, last)
        forks, reason = bool(reused), ForkReason.COUNTER_REUSED
    else:
        again = _pass_hole(books, response, epoch, mark) if feeds(response.capabilities) else []
        if again and not whole:
            again = []
            books.fork_to_hear(epoch, draw, at_ms)
        forks, reason = bool(again), ForkReason.SERVER_BEHIND
    if forks and epoch == books.epoch:
        books.fork(reason, draw, at_ms)
    for place in again:
        _give_note_again(books, place, response.notes)


def _pass_hole(books: Books, response: ExchangeResponse, epoch: int, mark: int) -> list[Place]:
    """R8; return the notes that are to be given again."""
    waiting = books.waiting_notes(epoch)
    if not waiting or waiting[0].counter == mark + 1 or response.notes_acknowledged < mark:
        return []
    end_of_hole = waiting[0].counter - 1
    books.notes_acknowledged[epoch] = min(response.notes_acknowledged, end_of_hole)
    if response.notes_acknowledged >= end_of_hole:
        return []
    return [(row.epoch, row.counter) for row in waiting]


def _reused_notes(books: Books, request: ExchangeRequest, response: ExchangeResponse, mark: int) -> list[int]:
    """R7: counters of pushed notes under which the server has another one."""
    refused, found = refused_names(response), []
    for row in request.notes:
        note = books.own_notes.get((request.epoch, row.counter))
        reason = refused.get(note_name(request.device_alias, request.epoch, row.counter))
        decided = mark < row.counter <= min(response.notes_acknowledged, books.notes_given.get(request.epoch, 0))
        listed = note is not None and note.shown is Shown.LISTED
        if decided and listed and reason == RejectReason.CONFLICTS_WITH_STORED:
            found.append(row.counter)
    return found


def _pass_notes(
    books: Books, request: ExchangeRequest, response: ExchangeResponse, mark: int, last: int
) -> list[Place]:
    """Decide the fate of every pushed note that the mark passes; return those that are to be given again."""
    epoch, refused, again = request.epoch, refused_names(response), []
    for counter in range(mark + 1, last + 1):
        place, name = (epoch, counter), (request.device_alias, epoch, counter)
        note = books.own_notes.get(place)
        if note is None:
            continue
        reason = refused.get(note_name(*name))
        if reason is None:
            books.notes.pop(name, None)
        elif note.shown is Shown.LISTED and reason == RejectReason.CONFLICTS_WITH_STORED:
            again.append(place)
        elif note.shown is Shown.LISTED:
            books.own_notes[place] = replace(note, refused=reason)
        elif note.row.text and reason == RejectReason.CONFLICTS_WITH_STORED:
            _leave_place(books, place, name)
        else:
            if reason != RejectReason.CONFLICTS_WITH_STORED:
                books.deletions.pop(note_name(*name), None)
            books.own_notes[place] = OwnNote(without_text(note.row), Shown.GONE)
    books.notes_acknowledged[epoch] = max(mark, last)
    return again


def _leave_place(books: Books, place: Place, name: NoteName) -> None:
    """What was deleted here is not what the server has there: that one is not to be deleted."""
    del books.own_notes[place]
    books.deletions.pop(note_name(*name), None)
    if name in books.notes:
        books.notes[name] = replace(books.notes[name], hidden=False)


def _was_given_again(books: Books, note: NoteRow, came: Sequence[NoteRow]) -> bool:
    """R7: whether this own note came down from another place, before or in this very answer."""
    there = [kept.row for kept in books.notes.values() if kept.known is Known.HELD]
    return any(
        row.device_alias == books.own_alias and is_same_note(row, note)
        for row in (*there, *came)
        if not _is_taken(books, (row.epoch, row.counter), note)
    )


def _is_taken(books: Books, place: Place, note: NoteRow) -> bool:
    """Whether an own note stands there whose fate is decided, or which is this very note."""
    own, mark = books.own_notes.get(place), books.notes_acknowledged.get(place[0], 0)
    return own is not None and (place[1] <= mark or is_same_note(own.row, note))


def _give_note_again(books: Books, place: Place, came: Sequence[NoteRow]) -> None:
    note = books.own_notes.pop(place)
    if note.shown is Shown.LISTED:
        if _was_given_again(books, note.row, came):
            return
        add_note(books, note.row.author, note.row.text, note.row.at_ms)
    else:
        books.deletions.pop(note_name(books.own_alias, *place), None)


def hear_note(books: Books, row: NoteRow) -> None:
    """R13: keep a note that came down."""
    name, place = (row.device_alias, row.epoch, row.counter), (row.epoch, row.counter)
    if row.device_alias != books.own_alias:
        books.notes[name] = KeptNote(row)
        return
    if holds_note(books, place):
        return
    own = books.own_notes.get(place)
    hidden = note_name(*name) in books.deletions and books.deletions[note_name(*name)] <= 0
    hidden = hidden or (own is not None and own.shown is not Shown.LISTED)
    if hidden:
        books.deletions[note_name(*name)] = DeletionState.WAITS
    books.notes[name] = KeptNote(row, hidden=hidden)


def refused_words(books: Books) -> tuple[AnnotationVerdict, ...]:
    """Annotations, notes and deletions that the server refused."""
    names = [(annotation_name(*name), reason) for name, reason in books.refused_words.items()]
    names += [(note_name(books.own_alias, *place), note.refused) for place, note in books.own_notes.items()]
    names += list(books.deletions.items())
    return tuple(
        sorted(
            AnnotationVerdict(name.kind, name.device_alias, name.epoch, name.counter, name.author, reason)
            for name, reason in names
            if reason > 0
        )
    )


def merged_with(mine: AnnotationRow | None, theirs: AnnotationRow) -> AnnotationRow:
    """Both, or the other one where there is none yet."""
    return theirs if mine is None else merge_annotation(mine, theirs)
