"""What becomes of pushed results: in their turn, ahead of it, or given back. Pure.

Invariants:
    1. A counter at or below the mark was decided; what is not stored under it does not come back as something else,
       unless the device gives it back in a repair.
    2. An alert moves no mark and gets no verdict: in its turn it is a duplicate, or gets its verdict then.
"""

from __future__ import annotations

from typing import Final

from einthoven_protocol.messages import RejectReason, ResultId, RowKind, RowVerdict, Tombstone, VerdictCode
from einthoven_server.identity.callers import Device
from einthoven_server.records.books import Books
from einthoven_server.records.change_store import NewQuarantined
from einthoven_server.records.changes import Give, Push, PushedRow, PushedRows

_QUARANTINED_REASONS: Final = frozenset({RejectReason.BAD_SEAL, RejectReason.CLOCK_SKEW})
_ACCEPTED: Final = (VerdictCode.ACCEPTED, RejectReason.NONE)
_DUPLICATE: Final = (VerdictCode.DUPLICATE, RejectReason.NONE)
_CONFLICTS: Final = (VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
_DELETED: Final = (VerdictCode.REJECTED, RejectReason.DELETED)


def settle(books: Books, push: Push) -> tuple[int, tuple[RowVerdict, ...]]:
    """Settle a contiguous push: what it is acknowledged to, and the verdicts that are not plainly accepted."""
    alias, epoch = run = (push.device.alias, push.request.epoch)
    acknowledged = books.held.marks.get(run, 0)
    if not push.rows or push.rows.counters[0] > acknowledged + 1:
        return acknowledged, ()
    verdicts: list[RowVerdict] = []
    if run not in books.singled and _is_new_and_good(push.rows, acknowledged):
        # As nearly always: there is nothing to tell one from another.
        books.take_results(push.device, epoch, push.rows, whole=True)
    else:
        verdicts = _settle_singly(books, push, acknowledged)
    books.written.seals += [(alias, seal) for seal in push.request.seals]
    last = push.rows.counters[-1]
    if last > acknowledged:
        books.held.marks[run] = last
        books.written.marks[run] = (last, books.held.note_marks.get(run, 0))
    return last, tuple(verdicts)


def _is_new_and_good(rows: PushedRows, acknowledged: int) -> bool:
    first, last = rows.counters[0], rows.counters[-1]
    return first > acknowledged and last - first + 1 == len(rows) and not any(rows.faults)


def _settle_singly(books: Books, push: Push, acknowledged: int) -> list[RowVerdict]:
    verdicts, taken = [], []
    for pushed in push.rows:
        result = ResultId(push.device.alias, push.request.epoch, pushed.counter)
        code, reason = _judge(books, result, pushed, acknowledged)
        if code is VerdictCode.ACCEPTED:
            taken.append(pushed)
            continue
        if code is VerdictCode.QUARANTINED and result not in books.held.quarantined:
            books.held.quarantined[result] = reason
            books.written.quarantined.append(NewQuarantined(result, push.device, pushed.canonical, pushed.fault))
        verdicts.append(RowVerdict(result.counter, code, reason))
    books.take_results(push.device, push.request.epoch, PushedRows.of(taken))
    return verdicts


def take_alerts(books: Books, push: Push) -> None:
    """Store what goes ahead, if it is good and not there yet."""
    alias, epoch = run = (push.device.alias, push.request.epoch)
    acknowledged = books.held.marks.get(run, 0)
    taken = []
    for pushed in push.alerts:
        result = ResultId(alias, epoch, pushed.counter)
        if result.counter > acknowledged and _judge(books, result, pushed, acknowledged) == _ACCEPTED:
            taken.append(pushed)
    if taken:
        books.take_results(push.device, epoch, PushedRows.of(taken))
        if not push.rows:
            books.written.seals += [(alias, seal) for seal in push.request.seals]


def take_given(books: Books, change: Give) -> tuple[int, ...]:
    """Store what was lost of what had been acknowledged; a code for each row.

    What a device gives back had been acknowledged to it: a mark that was lost as well (the server failed over to a
    replica that lagged, and the device lost its cursor, so that it did not learn of it) comes back with the rows.
    """
    codes = []
    for result, pushed in change.rows:
        code = _judge_given(books, change.device, result, pushed)
        if code is VerdictCode.ACCEPTED:
            books.take_results(change.device, result.epoch, PushedRows.of((pushed,)))
            _move_mark(books, result)
        codes.append(int(code))
    return tuple(codes)


def _move_mark(books: Books, result: ResultId) -> None:
    run = (result.device_alias, result.epoch)
    if result.counter > books.held.marks.get(run, 0):
        books.held.marks[run] = result.counter
        books.written.marks[run] = (result.counter, books.held.note_marks.get(run, 0))


def _judge(books: Books, result: ResultId, pushed: PushedRow, acknowledged: int) -> tuple[VerdictCode, int]:
    held, stored = books.held, books.stored_share(result)
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
    held, stored = books.held, books.stored_share(result)
    if stored is not None:
        return VerdictCode.DUPLICATE if stored == pushed.share else VerdictCode.REJECTED
    own = result.device_alias == device.alias
    barred = result in held.quarantined or _tombstone(result) in held.tombstones
    if not own or barred or pushed.fault is not RejectReason.NONE:
        return VerdictCode.REJECTED
    return VerdictCode.ACCEPTED


def _tombstone(result: ResultId) -> Tombstone:
    return Tombstone(RowKind.RESULT, result.device_alias, result.epoch, result.counter)
