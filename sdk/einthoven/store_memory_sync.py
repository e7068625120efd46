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

from einthoven import store_memory_feed as feed
from einthoven.ports import Pending, SyncState
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.store_events import ForkReason
from einthoven.store_memory_books import AnnotationName, Books, Place, Replica
from einthoven.store_memory_buckets import all_digests, other_digests, server_digests
from einthoven.store_memory_words import (
    is_deleted,
    merged_with,
    push_of,
    refused_words,
    sendable_deletions,
    set_local,
    settle_deletions,
    settle_notes,
    take_pushed,
)
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
from einthoven.store_rules_feed import (
    URGENT_TIER,
    Bases,
    Overtaken,
    check_words,
    encoded_results,
    feeds,
    is_late,
    may_be_given_again,
    oldest_word_ms,
)
from einthoven_protocol import digests
from einthoven_protocol.limits import (
    MAX_ALERTS_PER_EXCHANGE,
    MAX_ANNOTATIONS_PER_EXCHANGE,
    MAX_DELETIONS_PER_EXCHANGE,
    MAX_NOTES_PER_EXCHANGE,
    MAX_RESULTS_PER_EXCHANGE,
)
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    RepairRequest,
    RepairResponse,
    ResultId,
)


def pending(books: Books, limit: int, *, current: bool = False) -> Pending:
    """What to push next."""
    epoch = books.epoch if current else _epoch_to_speak_of(books)
    mark, waiting = books.acknowledged[epoch], books.waiting(epoch)
    run = [result for place, result in enumerate(waiting, mark + 1) if result.counter == place]
    run = run[: min(limit, MAX_RESULTS_PER_EXCHANGE)]
    hole = bool(waiting) and waiting[0].counter != mark + 1
    alerts = [] if hole else _alerts(books, epoch, waiting, mark + len(run))[: min(limit, MAX_ALERTS_PER_EXCHANGE)]
    words = _sendable_annotations(books)[: min(limit, MAX_ANNOTATIONS_PER_EXCHANGE)]
    first_note = books.notes_acknowledged.get(epoch, 0) + 1
    notes = [row for place, row in enumerate(books.waiting_notes(epoch), first_note) if row.counter == place]
    return Pending(
        epoch=epoch,
        results=tuple(to_row(result) for result in run),
        segment_digests=tuple(result.segment_digest for result in run),
        annotations=tuple(row for row, _ in words),
        annotation_bases=tuple(bases for _, bases in words),
        alerts=tuple(to_row(result) for result in alerts),
        alert_segment_digests=tuple(result.segment_digest for result in alerts),
        notes=tuple(notes[: min(limit, MAX_NOTES_PER_EXCHANGE)]),
        deletions=tuple(sendable_deletions(books)[: min(limit, MAX_DELETIONS_PER_EXCHANGE)]),
    )


def _epoch_to_speak_of(books: Books) -> int:
    """The oldest in which a result waits, or if there is none, a note (R13)."""
    by_results = [epoch for epoch in books.epochs if books.waiting(epoch)]
    by_notes = [epoch for epoch in books.epochs if books.waiting_notes(epoch)]
    if not by_results and not feeds(books.server_says.capabilities):
        by_notes = []
    return min(by_results or by_notes, default=books.epoch)


def _alerts(books: Books, epoch: int, waiting: Sequence[WindowResult], last_pushed: int) -> list[WindowResult]:
    """R14."""
    return [
        result
        for result in waiting
        if result.counter > last_pushed and result.tier == URGENT_TIER and (epoch, result.counter) not in books.alerts
    ]


def _sendable_annotations(books: Books) -> list[tuple[AnnotationRow, Bases]]:
    """R9, R12 and R15: the news of what waits, but for what speaks of a result that waits itself."""
    return [
        push_of(books, row)
        for row in books.waiting_annotations()
        if not books.waits(row.target) and not is_deleted(books, (row.target, row.author))
    ]


def sync_state(books: Books) -> SyncState:
    """Where the store stands."""
    waiting, held = {epoch: books.waiting(epoch) for epoch in books.epochs}, all_digests(books)
    results = [result for run in waiting.values() for result in run]
    notes = [row for epoch in books.epochs for row in books.waiting_notes(epoch)]
    alerts = [_alerts(books, epoch, run, books.acknowledged[epoch]) for epoch, run in waiting.items()]
    words, deletions = books.waiting_annotations(), sum(state == 0 for state in books.deletions.values())
    oldest = [run[0].started_at_ms for run in waiting.values() if run] + [row.at_ms for row in notes]
    said_ms = oldest_word_ms(push_of(books, row)[0] for row in words)
    return SyncState(
        epoch=books.epoch,
        acknowledged=books.acknowledged[books.epoch],
        last_counter=books.epochs[books.epoch],
        cursor=books.cursor,
        digest=held.get((books.own_alias, BucketKind.RECORDS), digests.EMPTY),
        waiting=len(results) + len(words) + len(notes) + deletions,
        refused=tuple(verdict for _, verdict in sorted(books.refused.items(), key=lambda item: item[0])),
        last_exchange_ms=books.last_exchange_ms,
        last_digest_equal=books.last_digest_equal,
        digests=other_digests(books, held),
        server_digests=server_digests(books),
        owners=0 if books.owners_asked else len(books.owners),
        waiting_notes=len(notes),
        waiting_deletions=deletions,
        waiting_given=len(books.lost),
        refused_words=refused_words(books),
        capabilities=books.server_says.capabilities,
        limits=books.server_says.limits,
        rebaseline=books.rebaseline,
        waiting_annotations=len(words),
        waiting_alerts=sum(map(len, alerts)),
        oldest_waiting_ms=min(oldest if said_ms is None else [*oldest, said_ms], default=None),
    )


def put_setting(books: Books, name: str, value: bytes) -> None:
    """Keep a setting; with another sync key, begin anew (R10)."""
    used = None if books.keyed_with is None else books.keyed_with[0]
    if is_enrolled_anew(name, value, books.settings.get(name), used):
        _begin_enrolment(books)
    books.settings[name] = value


def _begin_enrolment(books: Books) -> None:
    """R10."""
    feed.begin_enrolment(books)
    for epoch in books.epochs:
        books.acknowledged[epoch] = 0
    for held in (books.refused, books.known, books.own):
        held.clear()
    books.segments = {digest: replace(kept, acknowledged=False) for digest, kept in books.segments.items()}
    books.keyed_with = books.last_exchange_ms = books.last_digest_equal = None
    books.cursor = Cursor(0, 0)


def apply(books: Books, request: ExchangeRequest, response: ExchangeResponse, draw: Draw, at_ms: int) -> None:
    """Take over a checked response.

    Raises:
        NotEnrolled: There is no sync key.
        SyncError: The exchange is of an epoch that was never here.
        InputError: An annotation, or another row, is over the protocol's limits.
    """
    keyed_with = (checked_sync_key(books.settings.get(SYNC_KEY_SETTING)), request.device_alias)
    if request.epoch not in books.epochs:
        raise unknown_epoch()
    for row in request.annotations:
        annotation_row_bytes(row)
    check_words(response)
    encoded_results(response)
    if books.keyed_with != keyed_with:
        feed.rename_own_deletions(books, books.own_alias, request.device_alias)
        books.keyed_with = keyed_with
    upgraded = (
        feeds(response.capabilities)
        and not feeds(books.server_says.capabilities)
        and books.last_exchange_ms is not None
    )
    feed.note_server(books, response)
    late = is_late(books.cursor, request, response)
    whole = may_be_given_again(books.cursor, request, response)
    notes_mark = books.notes_acknowledged.get(request.epoch, 0) if feeds(response.capabilities) else 0
    if begins_new_history(books.cursor, request, response, books.acknowledged[request.epoch], notes_mark):
        _begin_new_history(books, request.epoch, response)
    if request.epoch == books.epoch and _server_is_ahead(books, response):
        books.fork(ForkReason.SERVER_AHEAD, draw, at_ms)
    if request.results:
        _settle_pushed(books, request, response, draw, at_ms, whole=whole)
    else:
        _settle_hole(books, request, response, draw, at_ms, whole=whole)
    _settle_alerts(books, request, response)
    settle_notes(books, request, response, draw, at_ms, whole=whole)
    settle_deletions(books, request, response)
    if not late:
        take_pushed(books, request, response)
        feed.hear(books, response)
    current = request.epoch == books.epoch
    books.cursor = next_cursor(books.cursor, request, response, current=current, upgraded=upgraded)
    books.last_exchange_ms = at_ms
    feed.note_digests(books, response)
    books.rebaseline = books.rebaseline or response.rebaseline
    _compare(books, more=response.more or response.rebaseline)


def apply_repair(books: Books, request: RepairRequest, response: RepairResponse, draw: Draw, at_ms: int) -> None:
    """Take over a checked answer to a repair (R24).

    Raises:
        InputError: A row is over the protocol's limits.
    """
    check_words(response)
    encoded_results(response)
    if books.keyed_with is None or response.cursor.shard_epoch != books.cursor.shard_epoch:
        return
    again = feed.apply_repair(books, request, response)
    for epoch in sorted({epoch for epoch, _ in again}):
        if epoch == books.epoch:
            books.fork(ForkReason.COUNTER_REUSED, draw, at_ms)
        asked = ExchangeRequest(device_alias=books.own_alias, epoch=epoch)
        # Some may have left already, with those of an epoch before.
        places = [place for place in again if place[0] == epoch and place in books.results]
        _give_again(books, places, asked, (), draw, at_ms)
    _compare(books, more=False)


def _compare(books: Books, *, more: bool) -> None:
    """R19 and R23."""
    books.last_digest_equal = feed.equal_throughout(books)
    if books.last_digest_equal and not more:
        books.rebaseline = False


def _server_is_ahead(books: Books, response: ExchangeResponse) -> bool:
    """R2 and R13."""
    notes_ahead = response.notes_acknowledged > books.notes_given.get(books.epoch, 0)
    return server_is_ahead(response, books.epochs[books.epoch]) or notes_ahead


def _settle_alerts(books: Books, request: ExchangeRequest, response: ExchangeResponse) -> None:
    """R14."""
    refused = refused_verdicts(response)
    for row in request.alerts:
        place = (request.epoch, row.counter)
        if place in books.results and row.counter > books.acknowledged[request.epoch]:
            books.alerts[place] = row.counter not in refused
            if books.alerts[place]:
                books.replicas.pop(ResultId(request.device_alias, *place), None)


def _begin_new_history(books: Books, spoken_of: int, response: ExchangeResponse) -> None:
    """R6 and R21."""
    acknowledged = response.acknowledged
    feed.begin_new_history(books, spoken_of, response.notes_acknowledged)
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
    draw: Draw,
    at_ms: int,
    *,
    whole: bool,
) -> None:
    """R1 and R7."""
    epoch, mark = request.epoch, books.acknowledged[request.epoch]
    first, last = request.results[0].counter, request.results[-1].counter
    if first > mark + 1:
        return
    new_mark = min(response.acknowledged, last, books.epochs[epoch])
    verdicts = refused_verdicts(response)
    reused = [
        row.counter
        for row in request.results
        if mark < row.counter <= new_mark and row.counter in verdicts and is_reused(verdicts[row.counter])
    ]
    if reused and not whole:
        new_mark = reused[0] - 1
        if any((epoch, counter) in books.results for counter in reused):
            books.fork_to_hear(epoch, draw, at_ms)
    again = []
    for counter in range(mark + 1, new_mark + 1):
        verdict = verdicts.get(counter)
        books.alerts.pop((epoch, counter), None)
        if (epoch, counter) not in books.results:
            continue
        if verdict is None:
            books.replicas.pop(ResultId(request.device_alias, epoch, counter), None)
        elif is_reused(verdict):
            again.append((epoch, counter))
        else:
            books.refused[epoch, counter] = verdict
    books.acknowledged[epoch] = max(mark, new_mark)
    if any((epoch, counter) in books.results for counter in reused) and epoch == books.epoch:
        books.fork(ForkReason.COUNTER_REUSED, draw, at_ms)
    _give_again(books, again, request, response.results, draw, at_ms)


def _settle_hole(
    books: Books,
    request: ExchangeRequest,
    response: ExchangeResponse,
    draw: Draw,
    at_ms: int,
    *,
    whole: bool,
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
    if not whole:
        books.fork_to_hear(epoch, draw, at_ms)
        return
    if epoch == books.epoch:
        books.fork(ForkReason.SERVER_BEHIND, draw, at_ms)
    again = [(epoch, result.counter) for result in waiting[:MAX_GIVEN_AGAIN]]
    _give_again(books, again, request, response.results, draw, at_ms)


def _give_again(
    books: Books,
    places: Sequence[Place],
    request: ExchangeRequest,
    came: Sequence[IdentifiedResult],
    draw: Draw,
    at_ms: int,
) -> None:
    """R7: results leave their places for the next counters of the current epoch; own words on them go along."""
    displaced = _displaced(books, places, request.device_alias, came)
    if any(epoch == books.epoch for epoch, _ in displaced):
        books.fork(ForkReason.COUNTER_REUSED, draw, at_ms)
    left = [(place, books.results.pop(place)) for place in sorted({*places, *displaced})]
    for place, result in left:
        if books.alerts.pop(place, False):
            books.replicas[ResultId(request.device_alias, *place)] = Replica(to_row(result))
    moves = []
    for place, result in left:
        target = _given_before(books, request.device_alias, result, came)
        if target is None:
            target = ResultId(request.device_alias, books.epoch, books.give_counter(result).counter)
        moves.append((ResultId(request.device_alias, *place), target))
    pushed = {(row.target, row.author): row for row in request.annotations}
    # The last first: who stood where another one goes has left by then, as nothing is given again to an earlier epoch.
    for old, new in reversed(moves):
        for name in sorted(name for name in books.own if name[0] == old != new):
            _move_words(books, name, new, pushed.get(name))


def _displaced(books: Books, places: Sequence[Place], alias: int, came: Sequence[IdentifiedResult]) -> list[Place]:
    """R7: results of which nothing is decided, and which stand where the server has one of those, or of these."""
    leaving, asked = set(places), list(places)
    while asked:
        result = books.results[asked.pop()]
        there = {(name.epoch, name.counter) for name in _equal_rows(books, alias, result, came)}
        if there <= (books.results.keys() - leaving):
            found = [place for place in sorted(there) if _is_of_another(books, place, result)]
            leaving.update(found)
            asked += found
    return sorted(leaving - set(places))


def _is_of_another(books: Books, place: Place, result: WindowResult) -> bool:
    """Whether a result stands there that is not this one, and of which nothing is decided."""
    undecided = place[1] > books.acknowledged[place[0]] and not books.alerts.get(place, False)
    return undecided and to_row(replace(books.results[place], counter=result.counter)) != to_row(result)


def _given_before(books: Books, alias: int, result: WindowResult, came: Sequence[IdentifiedResult]) -> ResultId | None:
    """R7: where this own result came down from, before or in this very answer, if it was given again before."""
    found = _equal_rows(books, alias, result, came)
    return min((name for name in found if (name.epoch, name.counter) not in books.results), default=None)


def _equal_rows(books: Books, alias: int, result: WindowResult, came: Sequence[IdentifiedResult]) -> list[ResultId]:
    """Own rows that came down, and are this result but for epoch and counter."""
    row = to_row(result)
    there = [(name, kept.row) for name, kept in books.replicas.items() if kept.known]
    there += [(ResultId(one.device_alias, one.epoch, one.row.counter), one.row) for one in came]
    return [
        name
        for name, held in there
        if name.device_alias == alias and msgspec.structs.replace(held, counter=row.counter) == row
    ]


def _move_words(books: Books, name: AnnotationName, new_target: ResultId, pushed: AnnotationRow | None) -> None:
    words, known = books.local[name], books.known.get(name)
    if words == known:
        return
    moved = (new_target, name[1])
    books.refused_words.pop(name, None)
    for held in (moved, name):
        books.bases.pop(held, None)
    if name in books.overtaken:
        lost = books.overtaken.pop(name).row
        books.overtaken[moved] = Overtaken(msgspec.structs.replace(lost, target=new_target), (0, 0))
    set_local(books, moved, merged_with(books.local.get(moved), msgspec.structs.replace(words, target=new_target)))
    books.own.add(moved)
    stays = known if pushed is None else pushed
    if stays is None:
        del books.local[name]
    else:
        books.local[name] = stays
    if pushed is None:
        books.own.discard(name)
