"""The outbox and the books of an exchange in memory: the rules of ``store_rules``, the plain way.

The oracle of ``sqlcipher_exchange``, and so deliberately shares nothing with it but the rules' checks and names: every
set is computed anew from all that is held.

Invariants:
    1. ``apply`` works on books that the caller throws away if it raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from einthoven.ports import Pending, SyncState
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.store_events import ForkReason
from einthoven.store_memory_books import Books
from einthoven.store_rules import (
    MAX_GIVEN_AGAIN,
    SYNC_KEY_SETTING,
    Draw,
    annotation_row_bytes,
    begins_new_history,
    checked_sync_key,
    is_enrolled_anew,
    is_reused,
    next_cursor,
    refused_verdicts,
    server_is_ahead,
    unknown_epoch,
)
from einthoven_protocol import digests
from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE, MAX_RESULTS_PER_EXCHANGE
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import AnnotationRow, Cursor, Digest, ExchangeRequest, ExchangeResponse, ResultId


def pending(books: Books, limit: int) -> Pending:
    """What to push next."""
    epoch = min((epoch for epoch in books.epochs if books.waiting(epoch)), default=books.epoch)
    mark = books.acknowledged[epoch]
    run = [result for place, result in enumerate(books.waiting(epoch), mark + 1) if result.counter == place]
    run = run[: min(limit, MAX_RESULTS_PER_EXCHANGE)]
    return Pending(
        epoch=epoch,
        results=tuple(to_row(result) for result in run),
        segment_digests=tuple(result.segment_digest for result in run),
        annotations=tuple(_sendable_annotations(books)[: min(limit, MAX_ANNOTATIONS_PER_EXCHANGE)]),
    )


def _sendable_annotations(books: Books) -> list[AnnotationRow]:
    """R9: of what waits, what does not speak of a result that waits itself."""
    waiting = {(epoch, result.counter) for epoch in books.epochs for result in books.waiting(epoch)}
    return [row for row in books.waiting_annotations() if (row.target.epoch, row.target.counter) not in waiting]


def sync_state(books: Books) -> SyncState:
    """Where the store stands."""
    waiting = sum(len(books.waiting(epoch)) for epoch in books.epochs)
    return SyncState(
        epoch=books.epoch,
        acknowledged=books.acknowledged[books.epoch],
        last_counter=books.epochs[books.epoch],
        cursor=books.cursor,
        digest=digest(books),
        waiting=waiting + len(books.waiting_annotations()),
        refused=tuple(verdict for _, verdict in sorted(books.refused.items(), key=lambda item: item[0])),
        last_exchange_ms=books.last_exchange_ms,
        last_digest_equal=books.last_digest_equal,
    )


def digest(books: Books) -> Digest:
    """R5, from scratch, as of the last exchange's key and alias."""
    total = digests.EMPTY
    if books.keyed_with is None:
        return total
    key, alias = books.keyed_with
    for share in books.shares:
        total = digests.add(total, share)
    for epoch, result in books.held_by_server():
        total = digests.add(total, digests.result_sum(key, alias, epoch, to_row(result)))
    for row in books.known.values():
        total = digests.add(total, digests.annotation_sum(key, row))
    return total


def put_local_annotation(books: Books, row: AnnotationRow) -> AnnotationRow:
    """Merge a row of this device's own making into the local one; return the merged row."""
    name = (row.target, row.author)
    books.own.add(name)
    books.local[name] = _merged(books.local.get(name), row)
    return books.local[name]


def put_setting(books: Books, name: str, value: bytes) -> None:
    """Keep a setting; with another sync key, begin anew (R10)."""
    used = None if books.keyed_with is None else books.keyed_with[0]
    if is_enrolled_anew(name, value, books.settings.get(name), used):
        _begin_enrolment(books)
    books.settings[name] = value


def _begin_enrolment(books: Books) -> None:
    """R10."""
    for epoch in books.epochs:
        books.acknowledged[epoch] = 0
    for held in (books.refused, books.known, books.own, books.shares):
        held.clear()
    books.segments = {digest: replace(kept, acknowledged=False) for digest, kept in books.segments.items()}
    books.keyed_with = books.last_exchange_ms = books.last_digest_equal = None
    books.cursor = Cursor(0, 0)


def apply(books: Books, request: ExchangeRequest, response: ExchangeResponse, draw: Draw, at_ms: int) -> None:
    """Take over a checked response.

    Raises:
        NotEnrolled: There is no sync key.
        SyncError: The exchange is of an epoch that was never here.
        InputError: An annotation is over the protocol's limits.
    """
    keyed_with = (checked_sync_key(books.settings.get(SYNC_KEY_SETTING)), request.device_alias)
    if request.epoch not in books.epochs:
        raise unknown_epoch()
    for row in (*request.annotations, *response.annotations):
        annotation_row_bytes(row)
    if books.keyed_with != keyed_with:
        books.keyed_with = keyed_with
        books.shares.clear()
    new_history = begins_new_history(books.cursor, response)
    if new_history:
        _begin_new_history(books, request.epoch, response.acknowledged)
    if request.epoch == books.epoch and server_is_ahead(response, books.epochs[books.epoch]):
        books.fork(ForkReason.SERVER_AHEAD, draw, at_ms)
    before = books.copy()
    for row in (*request.annotations, *response.annotations):
        name = (row.target, row.author)
        books.known[name] = _merged(books.known.get(name), row)
        books.local[name] = _merged(books.local.get(name), books.known[name])
    if request.results:
        _settle_pushed(books, request, response, before, draw, at_ms)
    else:
        _settle_hole(books, request, response, before, draw, at_ms)
    current = request.epoch == books.epoch
    books.cursor = next_cursor(books.cursor, request, response, current=current)
    books.last_exchange_ms = at_ms
    books.last_digest_equal = digest(books) == response.digest


def _begin_new_history(books: Books, spoken_of: int, acknowledged: int) -> None:
    """R6."""
    for epoch, mark in books.acknowledged.items():
        books.acknowledged[epoch] = min(mark, acknowledged) if epoch == spoken_of else 0
    books.refused = {
        (epoch, counter): verdict
        for (epoch, counter), verdict in books.refused.items()
        if counter <= books.acknowledged[epoch]
    }
    books.known.clear()


def _settle_pushed(
    books: Books,
    request: ExchangeRequest,
    response: ExchangeResponse,
    before: Books,
    draw: Draw,
    at_ms: int,
) -> None:
    """R1 and R7."""
    epoch, mark = request.epoch, books.acknowledged[request.epoch]
    first, last = request.results[0].counter, request.results[-1].counter
    if first > mark + 1:
        return
    new_mark = min(response.acknowledged, last, books.epochs[epoch])
    verdicts = refused_verdicts(response)
    again = []
    for counter in range(mark + 1, new_mark + 1):
        verdict = verdicts.get(counter)
        if verdict is None or (epoch, counter) not in books.results:
            continue
        if is_reused(verdict):
            again.append(books.results[epoch, counter])
        else:
            books.refused[epoch, counter] = verdict
    books.acknowledged[epoch] = max(mark, new_mark)
    if again and epoch == books.epoch:
        books.fork(ForkReason.COUNTER_REUSED, draw, at_ms)
    _give_again(books, epoch, again, request, before)


def _settle_hole(
    books: Books,
    request: ExchangeRequest,
    response: ExchangeResponse,
    before: Books,
    draw: Draw,
    at_ms: int,
) -> None:
    """R8."""
    epoch, mark = request.epoch, books.acknowledged[request.epoch]
    waiting = books.waiting(epoch)
    if not waiting or waiting[0].counter == mark + 1 or response.acknowledged < mark:
        return
    end_of_hole = waiting[0].counter - 1
    books.acknowledged[epoch] = min(response.acknowledged, end_of_hole)
    if response.acknowledged >= end_of_hole:
        return
    if epoch == books.epoch:
        books.fork(ForkReason.SERVER_BEHIND, draw, at_ms)
    _give_again(books, epoch, waiting[:MAX_GIVEN_AGAIN], request, before)


def _give_again(
    books: Books,
    epoch: int,
    results: Sequence[WindowResult],
    request: ExchangeRequest,
    before: Books,
) -> None:
    """R7: results leave their place for the next counters of the current epoch; own words on them go along."""
    pushed = {(row.target, row.author) for row in request.annotations}
    for result in results:
        del books.results[epoch, result.counter]
        given = books.give_counter(result)
        old_target = ResultId(request.device_alias, epoch, result.counter)
        new_target = ResultId(request.device_alias, books.epoch, given.counter)
        for name in sorted(name for name in books.own if name[0] == old_target):
            words = before.local[name]
            if before.known.get(name) == words:
                continue
            moved = (new_target, name[1])
            books.local[moved] = _merged(books.local.get(moved), msgspec.structs.replace(words, target=new_target))
            books.own.add(moved)
            if name in books.known:
                books.local[name] = books.known[name]
            else:
                del books.local[name]
            if name not in pushed:
                books.own.discard(name)


def _merged(mine: AnnotationRow | None, theirs: AnnotationRow) -> AnnotationRow:
    return theirs if mine is None else merge_annotation(mine, theirs)
