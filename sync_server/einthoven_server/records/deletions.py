"""What becomes of a wish that a row be gone. Pure.

Invariants:
    1. What is removed leaves a tombstone of the same batch, and takes along what was said of it.
    2. A device removes its own and its patient's words only, never a result.
    3. A deletion repeated, with what was written anew after it, changes nothing.
"""

from __future__ import annotations

from einthoven_protocol import digests, limits
from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    BucketKind,
    RejectReason,
    ResultId,
    RowKind,
    Superseded,
    Tombstone,
)
from einthoven_server.envelope import PatientKey
from einthoven_server.records.books import Books, identity_of
from einthoven_server.records.change_store import AnnotationKey, NewAnnotation
from einthoven_server.records.changes import Push
from einthoven_server.records.words import after, says_nothing


def settle(books: Books, push: Push) -> list[AnnotationVerdict]:
    """Remove what a push wants gone; return what was refused."""
    refused = []
    written_anew = {(row.target, row.author): row for row in push.request.annotations}
    for row in push.request.deletions:
        reason = _refusal(books, push, row)
        if reason is RejectReason.NONE:
            remove(books, push.device.patient_key, row, push.now_ms, written_anew.get(_key(row)))
        else:
            identity = (row.kind, row.device_alias, row.epoch, row.counter, row.author)
            refused.append(AnnotationVerdict(*identity, reason))
    return refused


def remove(
    books: Books, key: PatientKey, row: Tombstone, now_ms: int, written_anew: AnnotationRow | None = None
) -> bool:
    """Remove a row, whoever wrote it, and leave a tombstone; whether it was there.

    Args:
        books: The batch's.
        key: The patient's data key.
        row: What is to be gone.
        now_ms: When.
        written_anew: What the same request says in its place; what is not older than that stays.
    """
    if row.kind == RowKind.ANNOTATION:
        return _remove_annotation(books, key, row, now_ms, written_anew)
    row = identity_of(row)
    if row in books.held.tombstones:
        return False
    if row.kind == RowKind.RESULT:
        return _remove_result(books, key, row, now_ms)
    return row.kind == RowKind.NOTE and _remove_note(books, key, row, now_ms)


def _refusal(books: Books, push: Push, row: Tombstone) -> RejectReason:
    device = push.device
    authors = (device.device_id, device.patient_id)
    if row.kind == RowKind.ANNOTATION:
        if books.sync_key(device.patient_id, row.device_alias) is None:
            return RejectReason.UNKNOWN_TARGET
        return RejectReason.NONE if row.author in authors else RejectReason.NOT_ALLOWED
    if row.kind != RowKind.NOTE:
        return RejectReason.NOT_ALLOWED
    held = books.held.notes.get(_place(row))
    if held is None:
        # A note of its own may be deleted before it was ever pushed.
        own = row.device_alias == device.alias or identity_of(row) in books.held.tombstones
        return RejectReason.NONE if own else RejectReason.UNKNOWN_TARGET
    if row.device_alias != device.alias and books.sync_key(device.patient_id, row.device_alias) is None:
        return RejectReason.UNKNOWN_TARGET
    return RejectReason.NONE if held.author in authors else RejectReason.NOT_ALLOWED


def _remove_annotation(
    books: Books, key: PatientKey, row: Tombstone, now_ms: int, written_anew: AnnotationRow | None
) -> bool:
    place = _key(row)
    held, owner = books.held.annotations.get(place), books.sync_key(key.patient, row.device_alias)
    if held is None or owner is None:
        return False
    # A deletion that says up to when it goes may come late, or twice, and hurts nothing that was said since.
    until = row.hlc or limits.MAX_HLC
    if written_anew is not None:
        until = min(until, min(_times(written_anew), default=0) - 1)
    row = identity_of(row)
    gone = [time for time in _times(held) if time <= until]
    # What was overtaken goes also where all that overtook it stays: whoever deletes had not seen that yet.
    overtaken = [one for one in books.held.overtaken if (one.target, one.author) == place and one.hlc <= until]
    if not gone and not overtaken:
        return False
    _remove_overtaken(books, owner, overtaken)
    latest = max((*gone, *(one.hlc for one in overtaken)))
    books.bury(key.patient, row, max(latest, books.held.tombstones.get(row, 0)), now_ms)
    if gone:
        _leave(books, key, owner, place, after(held, until))
    return True


def _leave(books: Books, key: PatientKey, owner: bytes, place: AnnotationKey, rest: AnnotationRow) -> None:
    """Hold of an annotation the rest, under its owner's key."""
    alias = place[0].device_alias
    old = digests.annotation_sum(owner, books.held.annotations[place])
    books.held.origins.pop(place, None)
    books.written.annotations.pop(place, None)
    if says_nothing(rest):
        del books.held.annotations[place]
        books.written.gone_annotations.add(place)
        books.remove(alias, BucketKind.RECORDS, old)
    else:
        share = digests.annotation_sum(owner, rest)
        books.held.annotations[place] = rest
        books.written.annotations[place] = NewAnnotation(rest, key, share, books.next_seq(), None)
        books.replace(alias, BucketKind.RECORDS, old, share)


def _remove_result(books: Books, key: PatientKey, row: Tombstone, now_ms: int) -> bool:
    result, held = _place(row), books.held
    share, owner = books.stored_share(result), books.sync_key(key.patient, row.device_alias)
    if share is None or owner is None:
        return False
    for place in [place for place in held.annotations if place[0] == result]:
        books.remove(row.device_alias, BucketKind.RECORDS, digests.annotation_sum(owner, held.annotations[place]))
        del held.annotations[place]
        books.written.annotations.pop(place, None)
        books.written.gone_annotations.add(place)
    _remove_overtaken(books, owner, [one for one in held.overtaken if one.target == result])
    books.drop_result(result, share)
    books.bury(key.patient, row, 0, now_ms)
    return True


def _remove_note(books: Books, key: PatientKey, row: Tombstone, now_ms: int) -> bool:
    place = _place(row)
    held = books.held.notes.pop(place, None)
    if held is not None:
        books.remove_note(key.patient, held)
        books.written.notes.pop(place, None)
        books.written.gone_notes.add(place)
    books.bury(key.patient, row, 0, now_ms)
    return held is not None


def _remove_overtaken(books: Books, owner: bytes, rows: list[Superseded]) -> None:
    for row in rows:
        if books.held.overtaken.pop(row):
            books.remove(row.target.device_alias, BucketKind.WORDS, digests.superseded_sum(owner, row))
        books.written.superseded.pop(row, None)
        books.written.gone_superseded.add(row)


def _times(row: AnnotationRow) -> list[int]:
    """When the row's registers were written, those that were."""
    return [time for time in (row.rhythm.hlc, row.comment.hlc, *(one.hlc for one in row.further)) if time]


def _key(row: Tombstone) -> AnnotationKey:
    return _place(row), row.author


def _place(row: Tombstone) -> ResultId:
    return ResultId(row.device_alias, row.epoch, row.counter)
