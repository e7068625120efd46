"""Notes of the diary in the encrypted store, and the deletions of all words (``store_rules``, R13, R15, R16).

Runs inside the caller's transaction and deliberately begins and commits none.

Invariants:
    1. Counters of the log of an epoch run 1, 2, 3 ...; a note that is deleted keeps its place.
    2. Every change of what the server is known to hold is told to the buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from einthoven.sqlcipher_books import NoteLog, note_log, note_logs, sync_line
from einthoven.sqlcipher_buckets import Buckets, signed
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_words import load, remove_annotation
from einthoven.store_events import ForkReason
from einthoven.store_rules import annotation_row_bytes
from einthoven.store_rules_feed import (
    SERVER_ALIAS,
    DeletionState,
    Known,
    Shown,
    feeds,
    identity_of,
    is_same_note,
    latest,
    next_note_counter,
    no_such_row,
    note_name,
    note_row_bytes,
    refused_names,
    without_text,
)
from einthoven.store_schema import COUNTER_BITS, epoch_and_counter, position_of
from einthoven_protocol.canonical import decode_note_row
from einthoven_protocol.limits import MAX_COUNTER
from einthoven_protocol.messages import (
    ExchangeRequest,
    ExchangeResponse,
    NoteRow,
    RejectReason,
    ResultId,
    RowKind,
    Tombstone,
)

_WAITING = "WHERE position BETWEEN ? AND ? ORDER BY position"


class OwnNoteLine(NamedTuple):
    """A row of table ``own_note``."""

    position: int
    at_ms: int
    shown: int
    refused: int
    body: bytes


class NoteLine(NamedTuple):
    """A row of table ``note``."""

    device_alias: int
    epoch: int
    counter: int
    at_ms: int
    known: int
    hidden: int
    body: bytes


def own_alias(rows: RowReader) -> int:
    """Alias of this device, as of the last exchange."""
    alias = sync_line(rows).digest_device_alias
    return SERVER_ALIAS if alias is None else alias


def add_note(rows: SqlCipherRows, author: str, text: str, *, at_ms: int) -> NoteRow:
    """Keep a note under the next counter.

    Raises:
        InputError: It has a value that does not fit.
    """
    log = note_log(rows, rows.current_epoch()[0])
    counter = next_note_counter(log.last_counter)
    row = NoteRow(device_alias=0, epoch=log.epoch, counter=counter, author=author, at_ms=at_ms, text=text)
    body, position = note_row_bytes(row), position_of(log.epoch, counter)
    rows.put("note_log", log._replace(last_counter=counter))
    rows.insert("own_note", (position, at_ms, int(Shown.LISTED), 0, body))
    return signed(body, own_alias(rows), position)


def read_notes(rows: RowReader, first_ms: int, last_ms: int, limit: int) -> list[NoteRow]:
    """Notes that are not deleted, in order."""
    alias = own_alias(rows)
    times = (max(first_ms, 0), min(last_ms, 2**62))
    clause = "WHERE at_ms BETWEEN ? AND ? AND shown = 0 ORDER BY at_ms, position LIMIT ?"
    own = rows.select("own_note", clause, (*times, limit))
    found = [signed(row[4], alias, row[0]) for row in own]
    others = rows.select(
        "note",
        f"""WHERE at_ms BETWEEN ? AND ? AND NOT hidden AND NOT (device_alias = ? AND EXISTS (
            SELECT 1 FROM own_note WHERE position = note.epoch * {1 << COUNTER_BITS} + note.counter AND shown = 0))
            ORDER BY at_ms, device_alias, epoch, counter LIMIT ?""",  # noqa: S608 - a number of our own
        (*times, alias, limit),
    )
    found += [decode_note_row(row[6]) for row in others]
    found.sort(key=lambda row: (row.at_ms, row.device_alias, row.epoch, row.counter))
    return found if limit < 0 else found[:limit]


def waiting_notes(rows: RowReader, log: NoteLog, limit: int = -1) -> list[OwnNoteLine]:
    """Own notes of an epoch above its mark, in order."""
    first, last = position_of(log.epoch, log.acknowledged + 1), position_of(log.epoch, MAX_COUNTER)
    return [OwnNoteLine(*row) for row in rows.select("own_note", f"{_WAITING} LIMIT ?", (first, last, limit))]


def delete(rows: SqlCipherRows, row: Tombstone) -> None:
    """R15.

    Raises:
        InputError: There is no such row here.
    """
    if row.kind == RowKind.ANNOTATION:
        _delete_annotation(rows, identity_of(row))
    elif row.kind == RowKind.NOTE and not row.author:
        _delete_note(rows, identity_of(row))
    else:
        raise no_such_row()


def result_waits(rows: RowReader, target: ResultId) -> bool:
    """R9: whether this is an own result that waits itself."""
    alias = sync_line(rows).digest_device_alias
    if alias not in (None, target.device_alias) or not 1 <= target.counter <= MAX_COUNTER:
        return False
    epoch = rows.get("epoch", (target.epoch,))
    if epoch is None or target.counter <= epoch[2]:
        return False
    return rows.get("result", (position_of(target.epoch, target.counter),)) is not None


def _delete_annotation(rows: SqlCipherRows, row: Tombstone) -> None:
    key = (row.device_alias, row.epoch, row.counter, row.author)
    before = load(rows, key)
    if not before.own or before.local is None:
        raise no_such_row()
    former = rows.get("deletion", (int(RowKind.ANNOTATION), *key))
    time = max(latest(before.local), 0 if former is None else former[6])
    remove_annotation(rows, key, None)
    if before.known is not None:
        body = annotation_row_bytes(before.known)
        rows.put("annotation", (*key, body, body, 0))
    elif result_waits(rows, ResultId(*key[:3])):
        return
    rows.put("deletion", (int(RowKind.ANNOTATION), *key, int(DeletionState.WAITS), time))


def _delete_note(rows: SqlCipherRows, row: Tombstone) -> None:
    name, alias = (row.device_alias, row.epoch, row.counter), own_alias(rows)
    own, kept = own_note(rows, row.epoch, row.counter), kept_note(rows, *name)
    if row.device_alias == alias and own is not None and own.shown == Shown.LISTED:
        rows.put("own_note", own._replace(shown=int(Shown.DELETED)))
        if kept is not None:
            rows.put("note", kept._replace(hidden=1))
    elif kept is not None and kept.known == Known.FORMER:
        rows.delete("note", name)
        return
    elif row.device_alias == alias and kept is not None and not kept.hidden and own is None:
        rows.put("note", kept._replace(hidden=1))
    else:
        raise no_such_row()
    _put_deletion(rows, name, DeletionState.WAITS)


def own_note(rows: RowReader, epoch: int, counter: int) -> OwnNoteLine | None:
    """An own note, listed or not."""
    row = rows.get("own_note", (position_of(epoch, counter),))
    return None if row is None else OwnNoteLine(*row)


def kept_note(rows: RowReader, device_alias: int, epoch: int, counter: int) -> NoteLine | None:
    """A note that came down."""
    row = rows.get("note", (device_alias, epoch, counter))
    return None if row is None else NoteLine(*row)


def note_deletion(rows: RowReader, name: tuple[int, int, int]) -> int | None:
    """What became of the deletion of a note, if there was one."""
    row = rows.get("deletion", (int(RowKind.NOTE), *name, ""))
    return None if row is None else row[5]


def _put_deletion(rows: SqlCipherRows, name: tuple[int, int, int], state: int) -> None:
    rows.put("deletion", (int(RowKind.NOTE), *name, "", int(state), 0))


def _drop_deletion(rows: SqlCipherRows, name: tuple[int, int, int]) -> None:
    rows.delete("deletion", (int(RowKind.NOTE), *name, ""))


def drop_kept(rows: SqlCipherRows, kept: NoteLine | None, buckets: Buckets) -> None:
    """Remove a note that came down."""
    if kept is not None:
        rows.delete("note", kept[:3])
        if kept.known == Known.HELD:
            buckets.note(decode_note_row(kept.body), -1)


def _gone(rows: SqlCipherRows, own: OwnNoteLine) -> None:
    """R15: keep the place and nothing else."""
    body = note_row_bytes(without_text(decode_note_row(own.body)))
    rows.put("own_note", own._replace(shown=int(Shown.GONE), refused=0, body=body))


def holds_note(rows: RowReader, own: OwnNoteLine | None) -> bool:
    """R13: whether the server holds this own note."""
    if own is None or own.refused or own.shown == Shown.GONE:
        return False
    epoch, counter = epoch_and_counter(own.position)
    return counter <= note_log(rows, epoch).acknowledged


def settle_note_deletion(rows: SqlCipherRows, row: Tombstone, reason: int | None, buckets: Buckets) -> None:
    """R15: what became of a pushed deletion that waited."""
    name = (row.device_alias, row.epoch, row.counter)
    own, kept = own_note(rows, row.epoch, row.counter), kept_note(rows, *name)
    _put_deletion(rows, name, DeletionState.DONE if reason is None else reason)
    if reason is None:
        drop_kept(rows, kept, buckets)
        if own is not None:
            if holds_note(rows, own):
                buckets.note(signed(own.body, row.device_alias, own.position), -1)
            _gone(rows, own)
        return
    if own is not None and own.shown == Shown.DELETED:
        rows.put("own_note", own._replace(shown=int(Shown.LISTED)))
    if kept is not None:
        rows.put("note", kept._replace(hidden=0))


def settle_notes(
    rows: SqlCipherRows,
    request: ExchangeRequest,
    response: ExchangeResponse,
    buckets: Buckets,
    *,
    at_ms: int,
    whole: bool,
) -> None:
    """R13."""
    log = note_log(rows, request.epoch)
    if request.notes:
        if request.notes[0].counter > log.acknowledged + 1:
            return
        again = _reused(rows, log, request, response)
        mark = min(response.notes_acknowledged, request.notes[-1].counter, log.last_counter)
        if again and not whole:
            fork_to_hear(rows, request, at_ms=at_ms)
            mark = epoch_and_counter(again[0].position)[1] - 1
        _pass_notes(rows, log, request, response, buckets, mark)
        reason = ForkReason.COUNTER_REUSED
    else:
        again = _pass_hole(rows, log, response) if feeds(response.capabilities) else []
        if again and not whole:
            again = []
            fork_to_hear(rows, request, at_ms=at_ms)
        reason = ForkReason.SERVER_BEHIND
    if again and rows.current_epoch()[0] == request.epoch:
        rows.fork(reason, at_ms=at_ms)
    for own in again if whole else ():
        rows.delete("own_note", (own.position,))
        row = decode_note_row(own.body)
        if own.shown == Shown.LISTED:
            if _was_given_again(rows, row, response.notes):
                continue
            add_note(rows, row.author, row.text, at_ms=row.at_ms)
        else:
            _drop_deletion(rows, (own_alias(rows), row.epoch, row.counter))


def fork_to_hear(rows: SqlCipherRows, request: ExchangeRequest, *, at_ms: int) -> None:
    """R7: go on in a new epoch, unless the server sends all that it has to one who speaks of the current one."""
    epoch, last_counter, acknowledged, _ = rows.current_epoch()
    log = note_log(rows, epoch)
    if request.epoch != epoch and (last_counter > acknowledged or log.last_counter > log.acknowledged):
        rows.fork(ForkReason.COUNTER_REUSED, at_ms=at_ms)


def _reused(rows: RowReader, log: NoteLog, request: ExchangeRequest, response: ExchangeResponse) -> list[OwnNoteLine]:
    """R7: listed notes that were pushed, and under whose counters the server has others, in order."""
    refused, found = refused_names(response), []
    for row in request.notes:
        reason = refused.get(note_name(request.device_alias, request.epoch, row.counter))
        if reason != RejectReason.CONFLICTS_WITH_STORED:
            continue
        own = own_note(rows, request.epoch, row.counter)
        decided = log.acknowledged < row.counter <= min(response.notes_acknowledged, log.last_counter)
        if own is not None and own.shown == Shown.LISTED and decided:
            found.append(own)
    return found


def _pass_hole(rows: SqlCipherRows, log: NoteLog, response: ExchangeResponse) -> list[OwnNoteLine]:
    """R8; return the notes that are to be given again."""
    waiting = waiting_notes(rows, log)
    if not waiting or response.notes_acknowledged < log.acknowledged:
        return []
    _, first = epoch_and_counter(waiting[0].position)
    if first == log.acknowledged + 1:
        return []
    rows.put("note_log", log._replace(acknowledged=min(response.notes_acknowledged, first - 1)))
    return [] if response.notes_acknowledged >= first - 1 else waiting


def _pass_notes(
    rows: SqlCipherRows,
    log: NoteLog,
    request: ExchangeRequest,
    response: ExchangeResponse,
    buckets: Buckets,
    mark: int,
) -> None:
    """Decide the fate of every pushed note that the mark passes, but of those of R7."""
    refused = refused_names(response)
    if mark <= log.acknowledged:
        return
    for own in waiting_notes(rows, log, mark - log.acknowledged):
        epoch, counter = epoch_and_counter(own.position)
        if counter > mark:
            break
        name = (request.device_alias, epoch, counter)
        reason = refused.get(note_name(*name))
        if reason is None:
            drop_kept(rows, kept_note(rows, *name), buckets)
            buckets.note(signed(own.body, request.device_alias, own.position))
        elif own.shown != Shown.LISTED:
            _refuse_deleted(rows, own, name, reason)
        elif reason != RejectReason.CONFLICTS_WITH_STORED:
            rows.put("own_note", own._replace(refused=reason))
    rows.put("note_log", log._replace(acknowledged=mark))


def _refuse_deleted(rows: SqlCipherRows, own: OwnNoteLine, name: tuple[int, int, int], reason: int) -> None:
    """A note that was deleted before it was sent was refused."""
    if reason != RejectReason.CONFLICTS_WITH_STORED:
        _drop_deletion(rows, name)
    elif decode_note_row(own.body).text:
        # What the server has there is another note, which nobody wanted deleted.
        _drop_deletion(rows, name)
        rows.delete("own_note", (own.position,))
        kept = kept_note(rows, *name)
        if kept is not None:
            rows.put("note", kept._replace(hidden=0))
        return
    _gone(rows, own)


def _was_given_again(rows: SqlCipherRows, row: NoteRow, came: Sequence[NoteRow]) -> bool:
    """R7: whether this own note came down from another place, before or in this very answer."""
    alias = own_alias(rows)
    if any(
        one.device_alias == alias and is_same_note(one, row) and not _is_taken(rows, one.epoch, one.counter, row)
        for one in came
    ):
        return True
    found = rows.select(
        "note", "WHERE device_alias = ? AND known = ? AND at_ms = ?", (alias, int(Known.HELD), row.at_ms)
    )
    kept = [NoteLine(*line) for line in found]
    return any(
        is_same_note(decode_note_row(line.body), row) and not _is_taken(rows, line.epoch, line.counter, row)
        for line in kept
    )


def _is_taken(rows: RowReader, epoch: int, counter: int, row: NoteRow) -> bool:
    """Whether an own note stands there whose fate is decided, or which is this very note."""
    own = own_note(rows, epoch, counter)
    if own is None:
        return False
    return counter <= note_log(rows, epoch).acknowledged or is_same_note(decode_note_row(own.body), row)


def hear_note(rows: SqlCipherRows, row: NoteRow, alias: int, buckets: Buckets) -> None:
    """R13: keep a note that came down."""
    name, hidden = (row.device_alias, row.epoch, row.counter), False
    if row.device_alias == alias:
        own = own_note(rows, row.epoch, row.counter)
        if holds_note(rows, own):
            return
        state = note_deletion(rows, name)
        hidden = (state is not None and state <= 0) or (own is not None and own.shown != Shown.LISTED)
        if hidden:
            _put_deletion(rows, name, DeletionState.WAITS)
    drop_kept(rows, kept_note(rows, *name), buckets)
    rows.insert("note", (*name, row.at_ms, int(Known.HELD), int(hidden), note_row_bytes(row)))
    buckets.note(row)


def bury_note(rows: SqlCipherRows, name: tuple[int, int, int], alias: int, buckets: Buckets) -> None:
    """R16."""
    own = own_note(rows, name[1], name[2]) if name[0] == alias else None
    if own is not None:
        if name[2] > note_log(rows, name[1]).acknowledged:
            return
        if holds_note(rows, own):
            buckets.note(signed(own.body, alias, own.position), -1)
        _gone(rows, own)
    drop_kept(rows, kept_note(rows, *name), buckets)
    if note_deletion(rows, name) == DeletionState.WAITS:
        _put_deletion(rows, name, DeletionState.DONE)


def lose_note(rows: SqlCipherRows, row: NoteRow, alias: int, buckets: Buckets) -> None:
    """R24: the server lacks a note that it was known to hold."""
    name = (row.device_alias, row.epoch, row.counter)
    own = own_note(rows, row.epoch, row.counter) if row.device_alias == alias else None
    if own is None or not holds_note(rows, own):
        drop_kept(rows, kept_note(rows, *name), buckets)
        return
    buckets.note(row, -1)
    if own.shown == Shown.DELETED:
        _gone(rows, own)
        _put_deletion(rows, name, DeletionState.DONE)
    else:
        rows.put("own_note", own._replace(refused=int(RejectReason.DELETED)))


def begin_new_history(rows: SqlCipherRows, spoken_of: int, acknowledged: int, alias: int, buckets: Buckets) -> None:
    """R21: notes and their deletions."""
    held = [OwnNoteLine(*row) for row in rows.select("own_note")]
    held = [own for own in held if holds_note(rows, own)]
    for log in note_logs(rows):
        mark = min(log.acknowledged, acknowledged) if log.epoch == spoken_of else 0
        if mark != log.acknowledged:
            rows.put("note_log", log._replace(acknowledged=mark))
        for own in waiting_notes(rows, log._replace(acknowledged=mark)):
            if own.shown == Shown.GONE:
                rows.put("own_note", own._replace(shown=int(Shown.DELETED)))
                _put_deletion(rows, (alias, *epoch_and_counter(own.position)), DeletionState.WAITS)
            elif own.refused:
                rows.put("own_note", own._replace(refused=0))
    for own in held:
        epoch, counter = epoch_and_counter(own.position)
        if counter > note_log(rows, epoch).acknowledged:
            buckets.note(signed(own.body, alias, own.position), -1)
    done = (int(RowKind.NOTE), int(DeletionState.DONE))
    for row in list(rows.select("deletion", "WHERE kind = ? AND state = ?", done)):
        rows.put("deletion", (*row[:5], int(DeletionState.WAITS), row[6]))
    for kept in [NoteLine(*row) for row in rows.select("note", "WHERE known = ?", (int(Known.HELD),))]:
        buckets.note(decode_note_row(kept.body), -1)
        rows.put("note", kept._replace(known=int(Known.NOT_HEARD)))
