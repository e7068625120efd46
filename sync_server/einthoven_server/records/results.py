"""What becomes of pushed results: in their turn, ahead of it, or given back. Pure.

Invariants:
    1. A counter at or below the mark was decided; what is not stored under it does not come back as something else,
       unless the device gives it back in a repair.
    2. An alert moves no mark and gets no verdict: in its turn it is a duplicate, or gets its verdict then.
"""

from __future__ import annotations

from typing import Final

from einthoven_protocol.messages import BucketKind, RejectReason, ResultId, RowKind, RowVerdict, Tombstone, VerdictCode
from einthoven_server.identity.callers import Device
from einthoven_server.records.books import Books
from einthoven_server.records.change_store import NewResult
from einthoven_server.records.changes import Give, Push, PushedRow

_QUARANTINED_REASONS: Final = frozenset({RejectReason.BAD_SEAL, RejectReason.CLOCK_SKEW})
_ACCEPTED: Final = (VerdictCode.ACCEPTED, RejectReason.NONE)
_DUPLICATE: Final = (VerdictCode.DUPLICATE, RejectReason.NONE)
_CONFLICTS: Final = (VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
_DELETED: Final = (VerdictCode.REJECTED, RejectReason.DELETED)


def settle(books: Books, push: Push) -> tuple[int, tuple[RowVerdict, ...]]:
    """Settle a contiguous push: what it is acknowledged to, and the verdicts that are not plainly accepted."""
    alias, epoch = run = (push.device.alias, push.request.epoch)
    acknowledged = books.held.marks.get(run, 0)
    if not push.rows or push.rows[0].row.counter > acknowledged + 1:
        return acknowledged, ()
    verdicts, taken = [], []
    for pushed in push.rows:
        result = ResultId(alias, epoch, pushed.row.counter)
        code, reason = _judge(books, result, pushed, acknowledged)
        if code is VerdictCode.ACCEPTED:
            taken.append((result, pushed))
            continue
        if code is VerdictCode.QUARANTINED and result not in books.held.quarantined:
            books.held.quarantined[result] = reason
            books.written.quarantined.append(NewResult(result, push.device, pushed, 0))
        verdicts.append(RowVerdict(result.counter, code, reason))
    _store(books, push.device, taken)
    books.written.seals += [(alias, seal) for seal in push.request.seals]
    last = push.rows[-1].row.counter
    if last > acknowledged:
        books.held.marks[run] = last
        books.written.marks[run] = (last, books.held.note_marks.get(run, 0))
    return last, tuple(verdicts)


def take_alerts(books: Books, push: Push) -> None:
    """Store what goes ahead, if it is good and not there yet."""
    alias, epoch = run = (push.device.alias, push.request.epoch)
    acknowledged = books.held.marks.get(run, 0)
    taken = []
    for pushed in push.alerts:
        result = ResultId(alias, epoch, pushed.row.counter)
        if result.counter > acknowledged and _judge(books, result, pushed, acknowledged) == _ACCEPTED:
            taken.append((result, pushed))
    if taken:
        _store(books, push.device, taken)
        if not push.rows:
            books.written.seals += [(alias, seal) for seal in push.request.seals]


def take_given(books: Books, change: Give) -> tuple[int, ...]:
    """Store what was lost of what had been acknowledged; a code for each row."""
    codes = []
    for result, pushed in change.rows:
        code = _judge_given(books, change.device, result, pushed)
        if code is VerdictCode.ACCEPTED:
            _store(books, change.device, [(result, pushed)])
        codes.append(int(code))
    return tuple(codes)


def _judge(books: Books, result: ResultId, pushed: PushedRow, acknowledged: int) -> tuple[VerdictCode, int]:
    held = books.held
    stored = held.results.get(result)
    if stored is not None:
        return _DUPLICATE if stored == pushed.share else _CONFLICTS
    if result in held.quarantined:
        return VerdictCode.QUARANTINED, held.quarantined[result]
    if held.tombstones and _tombstone(result) in held.tombstones:
        return _DELETED
    return _judge_new(pushed.fault, known=result.counter <= acknowledged)


def _judge_new(fault: RejectReason, *, known: bool) -> tuple[VerdictCode, int]:
    if fault in _QUARANTINED_REASONS and not known:
        return VerdictCode.QUARANTINED, fault
    if fault is not RejectReason.NONE:
        return VerdictCode.REJECTED, fault
    return _CONFLICTS if known else _ACCEPTED


def _judge_given(books: Books, device: Device, result: ResultId, pushed: PushedRow) -> VerdictCode:
    held = books.held
    stored = held.results.get(result)
    if stored is not None:
        return VerdictCode.DUPLICATE if stored == pushed.share else VerdictCode.REJECTED
    known = result.counter <= held.marks.get((result.device_alias, result.epoch), 0)
    own = result.device_alias == device.alias
    barred = result in held.quarantined or _tombstone(result) in held.tombstones
    if not own or not known or barred or pushed.fault is not RejectReason.NONE:
        return VerdictCode.REJECTED
    return VerdictCode.ACCEPTED


def _store(books: Books, device: Device, taken: list[tuple[ResultId, PushedRow]]) -> None:
    """Take accepted rows in; one sum for all, because there are thousands."""
    if not taken:
        return
    held, seq = books.held.results, books.commit_seq
    written = books.written.results
    total = 0
    for result, pushed in taken:
        seq += 1
        total += pushed.share
        held[result] = pushed.share
        written.append(NewResult(result, device, pushed, seq))
    books.commit_seq = seq
    books.add(device.alias, BucketKind.RECORDS, total, len(taken))


def _tombstone(result: ResultId) -> Tombstone:
    return Tombstone(RowKind.RESULT, result.device_alias, result.epoch, result.counter)
