"""What becomes of what is said of a result: merged, overtaken and kept, or refused. Pure.

Registers merge by (time, value), wherever the rows come from. Here alone is decided what was concurrent: a write that
was made without having seen the one that it meets. The loser of two such writes is kept and shown; what was overtaken
by somebody who had seen it is kept as history.

Invariants:
    1. What is held of a register is the highest (time, value) of all that was taken since it was last deleted.
    2. A write that is held, or was overtaken before, changes nothing.
    3. A time too far ahead of this clock is refused, and so can't win for days. (From a device of before there were
       such refusals it is taken: it could not be told.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from einthoven_protocol import digests, hlc
from einthoven_protocol.merge import base_mark, merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    BucketKind,
    Capability,
    Field,
    Register,
    RejectReason,
    ResultId,
    RowKind,
    Superseded,
    Tombstone,
)
from einthoven_server.envelope import PatientKey
from einthoven_server.records.books import Books
from einthoven_server.records.change_store import NewAnnotation, NewSuperseded
from einthoven_server.records.changes import Push

_EMPTY: Final = Register("", 0)


@dataclass(frozen=True, slots=True)
class Writer:
    """The device that wrote a row.

    Attributes:
        origin: Its (alias, epoch).
        bases: Marks of the rhythm and the comment it knew; ``None`` from one that can't say.
    """

    origin: tuple[int, int]
    bases: tuple[int, int] | None


def settle(books: Books, push: Push) -> list[AnnotationVerdict]:
    """Take a push's annotations in; return those that were refused.

    Where a tombstone is as late as some registers of a row, and not as all of them, the row is refused as deleted, and
    the later ones are taken all the same: they come down, so that the device knows what is held of what it pushed.
    """
    request, device = push.request, push.device
    bases: tuple[tuple[int, int] | None, ...] = request.annotation_bases or (None,) * len(request.annotations)
    authors = (device.device_id, device.patient_id)
    latest = hlc.latest_believed(push.now_ms) if request.capabilities & Capability.FEED else None
    refused = []
    for row, marks in zip(request.annotations, bases, strict=True):
        reason = _refusal(books, device.patient_id, authors, row, latest)
        kept = _after_tombstone(books, row) if reason is RejectReason.NONE else None
        if kept is not None and not says_nothing(kept):
            take(books, device.patient_key, kept, Writer((device.alias, request.epoch), marks))
            if kept != row:
                _send_back(books, device.patient_key, row)
        if kept is not None and kept != row:
            reason = RejectReason.DELETED
        if reason is not RejectReason.NONE:
            target = row.target
            identity = (target.device_alias, target.epoch, target.counter, row.author)
            refused.append(AnnotationVerdict(RowKind.ANNOTATION, *identity, reason))
    return refused


def take(books: Books, key: PatientKey, row: AnnotationRow, writer: Writer | None = None) -> AnnotationRow:
    """Merge a row in; return what is held then.

    Args:
        books: The batch's.
        key: The patient's data key.
        row: Registers that were not written say nothing.
        writer: ``None`` for the server itself, which has seen what it holds.
    """
    place = (row.target, row.author)
    held = books.held.annotations.get(place)
    if held is None:
        merged = row
    else:
        row = _without_overtaken(books, row)
        merged = merge_annotation(held, row)
        _overtake(books, key, held, row, writer)
        if merged == held:
            return held
    owner = _owner_key(books, key, row.target)
    share = digests.annotation_sum(owner, merged)
    alias = row.target.device_alias
    if held is None:
        books.add(alias, BucketKind.RECORDS, share)
    else:
        books.replace(alias, BucketKind.RECORDS, digests.annotation_sum(owner, held), share)
    origin = None if writer is None or not _knows(books, held, row, merged, writer) else writer.origin
    books.held.annotations[place] = merged
    books.held.origins[place] = origin
    books.written.annotations[place] = NewAnnotation(merged, key, share, books.next_seq(), origin)
    return merged


def _send_back(books: Books, key: PatientKey, row: AnnotationRow) -> None:
    """Have a row come down to whoever wrote it, who can't know what of it is held; nothing if it does already."""
    place = (row.target, row.author)
    held = books.held.annotations.get(place)
    if held is None or books.held.origins.get(place) is None:
        return
    share = digests.annotation_sum(_owner_key(books, key, row.target), held)
    books.held.origins[place] = None
    books.written.annotations[place] = NewAnnotation(held, key, share, books.next_seq(), None)


def says_nothing(row: AnnotationRow) -> bool:
    """Whether no register of the row was written."""
    return row.rhythm == _EMPTY and row.comment == _EMPTY and not row.further


def registers(row: AnnotationRow) -> tuple[tuple[Field, Register], tuple[Field, Register]]:
    """The two registers whose losers are kept; those of newer versions only merge."""
    return (Field.RHYTHM, row.rhythm), (Field.COMMENT, row.comment)


def after(row: AnnotationRow, time: int) -> AnnotationRow:
    """The registers of a row that were written after a hybrid logical time."""
    return replace(
        row,
        rhythm=row.rhythm if row.rhythm.hlc > time else _EMPTY,
        comment=row.comment if row.comment.hlc > time else _EMPTY,
        further=tuple(one for one in row.further if one.hlc > time),
    )


def _latest_hlc(row: AnnotationRow) -> int:
    """The time of the row's latest register."""
    return max((row.rhythm.hlc, row.comment.hlc, *(one.hlc for one in row.further)))


def _refusal(
    books: Books, patient_id: str, authors: tuple[str, str], row: AnnotationRow, latest: int | None
) -> RejectReason:
    target = row.target
    if books.sync_key(patient_id, target.device_alias) is None:
        return RejectReason.UNKNOWN_TARGET
    if row.author not in authors:
        return RejectReason.NOT_ALLOWED
    if latest is not None and _latest_hlc(row) > latest:
        return RejectReason.CLOCK_SKEW
    gone = Tombstone(RowKind.RESULT, target.device_alias, target.epoch, target.counter)
    return RejectReason.DELETED if gone in books.held.tombstones else RejectReason.NONE


def _after_tombstone(books: Books, row: AnnotationRow) -> AnnotationRow:
    """The row without registers that are not later than what was deleted."""
    target = row.target
    gone = Tombstone(RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, row.author)
    deleted = books.held.tombstones.get(gone)
    if deleted is None:
        return row
    return after(row, deleted)


def _without_overtaken(books: Books, row: AnnotationRow) -> AnnotationRow:
    def kept(field: Field, register: Register) -> Register:
        return _EMPTY if _named(row, field, register) in books.held.overtaken else register

    return replace(row, rhythm=kept(Field.RHYTHM, row.rhythm), comment=kept(Field.COMMENT, row.comment))


def _overtake(books: Books, key: PatientKey, held: AnnotationRow, row: AnnotationRow, writer: Writer | None) -> None:
    """Keep the losers of the merge of ``row`` into ``held``."""
    # A device whose own words these are had seen them, also if the answer that said so was lost.
    seen = writer is None or books.held.origins.get((row.target, row.author)) == writer.origin
    bases = writer.bases if writer is not None and writer.bases is not None else (None, None)
    for (field, mine), (_, theirs), mark in zip(registers(held), registers(row), bases, strict=True):
        if theirs == mine or _EMPTY in (mine, theirs):
            continue
        lost = theirs if (theirs.hlc, theirs.value) < (mine.hlc, mine.value) else mine
        concurrent = mark is not None and (lost is theirs or (not seen and mark != base_mark(mine.hlc)))
        _keep(books, key, _named(row, field, lost), concurrent=concurrent)


def _keep(books: Books, key: PatientKey, row: Superseded, *, concurrent: bool) -> None:
    if row in books.held.overtaken:
        return
    books.held.overtaken[row] = concurrent
    share, seq = digests.superseded_sum(_owner_key(books, key, row.target), row), 0
    if concurrent:
        books.add(row.target.device_alias, BucketKind.WORDS, share)
        seq = books.next_seq()
    books.written.superseded[row] = NewSuperseded(row, key, share, seq, concurrent)


def _knows(books: Books, held: AnnotationRow | None, row: AnnotationRow, merged: AnnotationRow, writer: Writer) -> bool:
    """Whether the device that wrote ``row`` knows all that was merged, so that it needs no echo."""
    if held is None or merged == row:
        return True
    if writer.bases is None:  # a device of before gets the echo that it got before
        return False
    if books.held.origins.get((row.target, row.author)) == writer.origin:
        return True
    if merged.further != row.further:
        return False
    return all(
        register in (written, _EMPTY) or mark == base_mark(register.hlc)
        for (_, register), (_, written), mark in zip(registers(merged), registers(row), writer.bases, strict=True)
    )


def _owner_key(books: Books, key: PatientKey, target: ResultId) -> bytes:
    owner = books.sync_key(key.patient, target.device_alias)
    if owner is None:
        raise LookupError("a row's owner is no device of its patient")
    return owner


def _named(row: AnnotationRow, field: Field, register: Register) -> Superseded:
    return Superseded(row.target, row.author, field, register.hlc, register.value)
