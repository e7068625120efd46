"""What ``store_rules`` says from R11 on, as far as both stores share it: checks, names and small decisions. Pure.

It deliberately holds no books, and knows no SQL, no file and no clock.

Invariants:
    1. A register that says nothing (time 0, no value) is never news, and never lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import chain
from typing import Final

import msgspec

from einthoven.errors import InputError
from einthoven_protocol.canonical import (
    encode_annotation_row,
    encode_note_row,
    encode_result_rows,
    encode_superseded_row,
)
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import MAX_COUNTER, MAX_HLC
from einthoven_protocol.merge import base_mark
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketDigest,
    Capability,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    Field,
    NoteRow,
    Register,
    RejectReason,
    RepairRequest,
    RepairResponse,
    ResultId,
    ResultRow,
    RowKind,
    ServerLimits,
    Superseded,
    Tombstone,
    VerdictCode,
)
from einthoven_protocol.packed_results import IdentifiedResults

SERVER_ALIAS: Final = 0
"""Who writes notes at the console; stands for this device before its first exchange, when it has no alias yet."""
SILENT: Final = Register("", 0)
"""A register that says nothing."""
URGENT_TIER: Final = 3
"""``RiskTier.URGENT``, as rows hold it."""
DELETED_RESULT: Final = (VerdictCode.REJECTED, RejectReason.DELETED)
"""R16 and R24: what an own result counts as that the server deleted."""

Bases = tuple[int, int]
"""R12: base marks of the rhythm and of the comment."""


class DeletionState(IntEnum):
    """R15. A refused deletion is kept with its reason, which is above 0; values are stored."""

    WAITS = 0
    DONE = -1


class Shown(IntEnum):
    """R15: what became of an own note; values are stored."""

    LISTED = 0
    DELETED = 1
    """Not listed any more; the server may hold it."""
    GONE = 2
    """Its place and nothing else: the server does not hold it."""


class Known(IntEnum):
    """What is known of a note that came down; values are stored."""

    NOT_HEARD = 0
    HELD = 1
    FORMER = 2
    """R22: this device's own words under another name."""


class ServerSays(msgspec.Struct, frozen=True):
    """What the server announced last.

    Attributes:
        capabilities: See ``ExchangeResponse``.
        limits: See there.
    """

    capabilities: int = 0
    limits: ServerLimits = ServerLimits()


def note_row_bytes(row: NoteRow) -> bytes:
    """Canonical bytes of a note.

    Raises:
        InputError: It is longer than the protocol allows, or has a value that does not fit.
    """
    try:
        return encode_note_row(row)
    except ProtocolError as error:
        raise InputError(f"the note can't be kept ({error})", "shorten or correct it") from error


def encoded_results(answer: ExchangeResponse | RepairResponse) -> list[bytes]:
    """Canonical bytes of the results that came down.

    Raises:
        InputError: One of them has a value that does not fit.
    """
    try:
        if isinstance(answer.results, IdentifiedResults):
            return answer.results.rows.split()
        return encode_result_rows([result.row for result in answer.results])
    except ProtocolError as error:
        raise _unfit(error) from error


def check_words(answer: ExchangeResponse | RepairResponse) -> None:
    """Hold the words that came down to what can be kept.

    Raises:
        InputError: One of them has a value that does not fit.
    """
    try:
        for annotation in answer.annotations:
            encode_annotation_row(annotation)
        for note in answer.notes:
            encode_note_row(note)
        for superseded in answer.superseded:
            encode_superseded_row(superseded)
    except ProtocolError as error:
        raise _unfit(error) from error


def no_such_row() -> InputError:
    """R15: what to raise for a deletion of nothing of this device's."""
    return InputError("there is no such note or annotation of this device's", "list what there is")


def next_note_counter(last: int) -> int:
    """Counter of the next note.

    Raises:
        InputError: There is none left.
    """
    if last >= MAX_COUNTER:
        raise InputError("the diary of this epoch is full", "export the store and make a new one")
    return last + 1


def is_late(stored: Cursor, request: ExchangeRequest, response: ExchangeResponse) -> bool:
    """R17."""
    return request.cursor != stored and response.cursor < stored


def may_be_given_again(stored: Cursor, request: ExchangeRequest, response: ExchangeResponse) -> bool:
    """R7: whether this answer shows all that the server has, so that what is not there was never given again before."""
    return not response.more and not is_late(stored, request, response)


def feeds(capabilities: int) -> bool:
    """Whether a server says what is beyond the first version."""
    return bool(capabilities & Capability.FEED)


def identity_of(row: Tombstone) -> Tombstone:
    """A deletion or tombstone without its time."""
    return msgspec.structs.replace(row, hlc=0)


def until(row: Tombstone) -> int:
    """R15: up to which time a deletion or tombstone of an annotation goes."""
    return row.hlc or MAX_HLC


def latest(row: AnnotationRow) -> int:
    """Time of an annotation's latest register."""
    return max(row.rhythm.hlc, row.comment.hlc, *(register.hlc for register in row.further), 0)


def after(row: AnnotationRow, hlc: int) -> AnnotationRow:
    """The registers of a row that were written after a time; others say nothing."""
    return AnnotationRow(
        target=row.target,
        author=row.author,
        rhythm=row.rhythm if row.rhythm.hlc > hlc else SILENT,
        comment=row.comment if row.comment.hlc > hlc else SILENT,
        further=tuple(register for register in row.further if register.hlc > hlc),
    )


def spared(row: AnnotationRow | None, hlc: int) -> AnnotationRow | None:
    """The same, ``None`` if nothing is left."""
    left = None if row is None else after(row, hlc)
    return left if left is not None and says_anything(left) else None


def refused_names(response: ExchangeResponse) -> dict[Tombstone, int]:
    """Reason of each refused annotation, note and deletion, by name."""
    return {
        Tombstone(said.kind, said.device_alias, said.epoch, said.counter, said.author): said.reason
        for said in response.refused
    }


def annotation_name(target: ResultId, author: str) -> Tombstone:
    """An annotation as a deletion, or a refusal, names it."""
    return Tombstone(RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, author)


def note_name(device_alias: int, epoch: int, counter: int) -> Tombstone:
    """A note as a deletion, or a refusal, names it."""
    return Tombstone(RowKind.NOTE, device_alias, epoch, counter)


def without_text(row: NoteRow) -> NoteRow:
    """R15: what is kept of a note that is gone, in its place in the log."""
    return msgspec.structs.replace(row, text="", extra=())


def news(local: AnnotationRow, known: AnnotationRow | None) -> AnnotationRow:
    """R12: of the local annotation, the registers that are not known to be there as they are; others say nothing."""
    if known is None:
        return local
    return AnnotationRow(
        target=local.target,
        author=local.author,
        rhythm=SILENT if local.rhythm == known.rhythm else local.rhythm,
        comment=SILENT if local.comment == known.comment else local.comment,
        further=tuple(register for register in local.further if register not in known.further),
    )


class Overtaken(msgspec.Struct, frozen=True):
    """R12: registers that waited and were overtaken by what came down, until they were pushed.

    Attributes:
        row: Their values; others say nothing.
        bases: Their marks.
    """

    row: AnnotationRow
    bases: Bases


def overtaken(
    held: Overtaken | None, before: AnnotationRow | None, known: AnnotationRow | None, now: AnnotationRow, bases: Bases
) -> Overtaken | None:
    """R12: what is overtaken once the local annotation was merged with what came down.

    Args:
        held: What was until then.
        before: The local annotation before.
        known: What the server was known to hold before.
        now: The local annotation now.
        bases: Base marks of the one before.
    """
    if before is None:
        return held
    waited = news(before, known)
    rhythm = waited.rhythm not in (SILENT, now.rhythm)
    comment = waited.comment not in (SILENT, now.comment)
    if not rhythm and not comment:
        return held
    silent = AnnotationRow(target=now.target, author=now.author, rhythm=SILENT, comment=SILENT)
    old = held or Overtaken(silent, (0, 0))
    return Overtaken(
        msgspec.structs.replace(
            silent,
            rhythm=waited.rhythm if rhythm else old.row.rhythm,
            comment=waited.comment if comment else old.row.comment,
        ),
        (bases[0] if rhythm else old.bases[0], bases[1] if comment else old.bases[1]),
    )


def without_pushed(held: Overtaken | None, pushed: AnnotationRow) -> Overtaken | None:
    """R12: what of it is still to be pushed after this was."""
    if held is None:
        return None
    row = msgspec.structs.replace(
        held.row,
        rhythm=SILENT if held.row.rhythm == pushed.rhythm else held.row.rhythm,
        comment=SILENT if held.row.comment == pushed.comment else held.row.comment,
    )
    return Overtaken(row, held.bases) if says_anything(row) else None


def said_again(
    held: Overtaken | None, kept: Sequence[tuple[Superseded, bool]], before: Overtaken | None = None
) -> Overtaken | None:
    """R21: what is to be pushed of superseded writes that the server may have lost, of each register the latest.

    Args:
        held: What is to be pushed.
        kept: All superseded writes under the annotation's name, and whether the server is known to hold them.
        before: What was to be pushed until now, if some of it was pushed; without it, begin with the latest.
    """
    if all(known for _, known in kept):
        return held
    write = kept[0][0]
    silent = AnnotationRow(target=write.target, author=write.author, rhythm=SILENT, comment=SILENT)
    old = held or Overtaken(silent, (0, 0))
    was = None if before is None else before.row
    rhythm = _said_again(old.row.rhythm, None if was is None else was.rhythm, _writes(kept, Field.RHYTHM))
    comment = _said_again(old.row.comment, None if was is None else was.comment, _writes(kept, Field.COMMENT))
    row = msgspec.structs.replace(old.row, rhythm=rhythm, comment=comment)
    bases = (
        old.bases[0] if rhythm == old.row.rhythm else 0,
        old.bases[1] if comment == old.row.comment else 0,
    )
    return Overtaken(row, bases) if says_anything(row) else None


def to_push(
    local: AnnotationRow, known: AnnotationRow | None, bases: Bases, held: Overtaken | None, *, refused: bool
) -> tuple[AnnotationRow, Bases]:
    """R12: what goes up of an annotation, and its base marks."""
    row = after(local, MAX_HLC) if refused else news(local, known)
    rhythm, comment = sent_bases(bases, row)
    if held is not None and row.rhythm == SILENT:
        row, rhythm = msgspec.structs.replace(row, rhythm=held.row.rhythm), held.bases[0]
    if held is not None and row.comment == SILENT:
        row, comment = msgspec.structs.replace(row, comment=held.row.comment), held.bases[1]
    return row, sent_bases((rhythm, comment), row)


def is_same_note(one: NoteRow, other: NoteRow) -> bool:
    """R7: whether two notes are equal but for where they stand."""
    return (one.author, one.at_ms, one.text, one.extra) == (other.author, other.at_ms, other.text, other.extra)


def says_anything(row: AnnotationRow) -> bool:
    """Whether any of its registers does."""
    return bool(row.further) or row.rhythm != SILENT or row.comment != SILENT


def said(pushed: AnnotationRow, local: AnnotationRow) -> bool:
    """R12: whether the local annotation still says what was pushed."""
    return (
        pushed.rhythm in (SILENT, local.rhythm)
        and pushed.comment in (SILENT, local.comment)
        and set(pushed.further) <= set(local.further)
    )


def next_bases(bases: Bases, before: AnnotationRow | None, known: AnnotationRow | None, after: AnnotationRow) -> Bases:
    """R12: base marks once an annotation was written.

    Args:
        bases: As they were.
        before: The local annotation before.
        known: What the server is known to hold.
        after: The local annotation now.
    """
    there = AnnotationRow(target=after.target, author=after.author, rhythm=SILENT, comment=SILENT)
    before, known = before or there, known or there
    return (
        _next_base(bases[0], before.rhythm, known.rhythm, after.rhythm),
        _next_base(bases[1], before.comment, known.comment, after.comment),
    )


def sent_bases(bases: Bases, pushed: AnnotationRow) -> Bases:
    """R12: the marks that go with a push; 0 for what it does not say."""
    return 0 if pushed.rhythm == SILENT else bases[0], 0 if pushed.comment == SILENT else bases[1]


def oldest_word_ms(rows: Iterable[AnnotationRow]) -> int | None:
    """When the oldest register of some news was written, UTC ms."""
    times = chain.from_iterable((row.rhythm.hlc, row.comment.hlc, *(r.hlc for r in row.further)) for row in rows)
    oldest = min((hlc for hlc in times if hlc), default=None)
    return None if oldest is None else oldest >> 16


def is_urgent(row: ResultRow) -> bool:
    """R14."""
    return row.tier == URGENT_TIER


def note_subject(epoch: int, counter: int) -> str:
    """Subject of the audit entry that a note leaves."""
    return f"note {epoch}:{counter}"


def deleted_subject(row: Tombstone) -> str:
    """Subject of the audit entry that a deletion leaves."""
    return f"deleted {row.kind} {row.device_alias}:{row.epoch}:{row.counter}"


def repaired_subject(request: RepairRequest) -> str:
    """Subject of the audit entry that a repair leaves."""
    return f"repair {request.owner}:{request.kind}"


def all_equal(
    mine: Digest, theirs: Digest, others: Iterable[BucketDigest], their_others: Iterable[BucketDigest]
) -> bool:
    """R19: whether all buckets are, those without rows aside.

    Args:
        mine: This device's ``RECORDS``.
        theirs: The server's of the same.
        others: All other buckets here.
        their_others: The server's.
    """
    return mine == theirs and _rows_of(others) == _rows_of(their_others)


def _rows_of(buckets: Iterable[BucketDigest]) -> set[BucketDigest]:
    return {bucket for bucket in buckets if bucket.count or bucket.total}


def _next_base(base: int, before: Register, known: Register, after: Register) -> int:
    if after == known:
        return 0
    return base if before != known else base_mark(known.hlc)


def _writes(kept: Iterable[tuple[Superseded, bool]], field: Field) -> dict[Register, bool]:
    return {Register(write.value, write.hlc): known for write, known in kept if write.field == field}


def _said_again(held: Register, before: Register | None, writes: dict[Register, bool]) -> Register:
    """The register to push: what waits for the first time stays; of the others, the latest that was not pushed yet."""
    if held != SILENT and (before is not None or held not in writes):
        return held
    if before == SILENT:
        return held
    lost = sorted((one for one, known in writes.items() if not known), key=lambda one: (one.hlc, one.value))
    if before is not None and before in writes:
        lost = [one for one in lost if (one.hlc, one.value) < (before.hlc, before.value)]
    return lost[-1] if lost else SILENT


def _unfit(error: ProtocolError) -> InputError:
    return InputError(f"a row of the answer can't be kept ({error})", "update this software")
