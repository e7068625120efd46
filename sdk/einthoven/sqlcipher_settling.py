"""What becomes of own results when an answer arrives, in the encrypted store (``store_rules``, R1 to R10 and R14).

Runs inside the caller's transaction and deliberately begins and commits none. It must be called before the exchange's
annotations are taken in: R7 asks what the server knew before.

Invariants:
    1. The work is in proportion to the rows that the answer speaks of, but for a new history (R6), which speaks of all.
       A new enrolment (R10) writes epochs, refusals and annotations, but no result.
    2. A result that is given again is in one place at any time, and under no counter that was given before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from einthoven import sqlcipher_feed as feed
from einthoven import sqlcipher_notes as notes
from einthoven import sqlcipher_words as words
from einthoven.result_rows import from_row
from einthoven.sqlcipher_books import EpochLine, epoch_lines, link_line, results_above, sync_line
from einthoven.sqlcipher_buckets import Buckets, own_held
from einthoven.sqlcipher_former_notes import become_former
from einthoven.sqlcipher_replicas import drop_replicas_at, find_equal, is_same_result
from einthoven.sqlcipher_result_runs import stored_run
from einthoven.sqlcipher_row_reading import Row
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_events import ForkReason
from einthoven.store_rules import MAX_GIVEN_AGAIN, is_reused, refused_verdicts
from einthoven.store_rules_feed import Overtaken
from einthoven.store_schema import epoch_and_counter, position_of
from einthoven_protocol.canonical import decode_result_row
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import (
    AnnotationRow,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    ResultId,
    RowVerdict,
)


def begin_new_history(rows: SqlCipherRows, spoken_of: int, response: ExchangeResponse, buckets: Buckets) -> None:
    """R6 and R21: what the server lost, or may have lost, is no longer known to be there."""
    alias = buckets.keys.own_alias
    held = dict(own_held(rows))
    notes.begin_new_history(rows, spoken_of, response.notes_acknowledged, alias, buckets)
    feed.begin_new_history(rows, buckets)
    for line in epoch_lines(rows):
        mark = min(line.acknowledged, response.acknowledged) if line.epoch == spoken_of else 0
        rows.delete_where("refusal", "WHERE epoch = ? AND counter > ?", (line.epoch, mark))
        _move_mark(rows, line, mark)
    kept = dict(own_held(rows))
    buckets.results(alias, [item for item in sorted(held.items()) if item[0] not in kept], -1)
    buckets.results(alias, [item for item in sorted(kept.items()) if item[0] not in held])
    for row in list(rows.select("annotation", "WHERE known_body IS NOT NULL")):
        key = row[:4]
        before = words.load(rows, key)
        words.store(rows, key, replace(before, known=None), before, buckets)


def begin_enrolment(rows: SqlCipherRows) -> None:
    """R10 and R22: to a server that knows nothing of this device, everything is new."""
    sync = sync_line(rows)
    for row in list(rows.select("annotation", "WHERE known_body IS NOT NULL OR own")):
        key = row[:4]
        before = words.load(rows, key)
        words.store(rows, key, words.Annotation(local=before.local), before)
    become_former(rows, sync.digest_device_alias)
    feed.begin_enrolment(rows)
    for line in epoch_lines(rows):
        _move_mark(rows, line, 0)
    rows.delete_where("refusal", "")
    rows.forget_acknowledged_segments()
    rows.put(
        "sync",
        sync._replace(
            cursor_shard_epoch=0,
            cursor_commit_seq=0,
            digest_count=0,
            digest_total=bytes(SUM_BYTES),
            digest_key=None,
            digest_device_alias=None,
            last_exchange_ms=None,
            last_digest_equal=None,
        ),
    )


def settle_pushed(
    rows: SqlCipherRows,
    line: EpochLine,
    request: ExchangeRequest,
    response: ExchangeResponse,
    buckets: Buckets,
    *,
    whole: bool,
) -> list[Row]:
    """R1: decide the fate of every pushed result that the mark passes; return those of R7.

    If they may not be given again yet, the mark stays below them.
    """
    if request.results[0].counter > line.acknowledged + 1:
        return []
    mark = min(response.acknowledged, request.results[-1].counter, line.last_counter)
    if mark <= line.acknowledged:
        return []
    refused = refused_verdicts(response)
    reused = _reused(rows, line, mark, refused)
    if reused and not whole:
        mark = epoch_and_counter(reused[0][0])[1] - 1
        if mark <= line.acknowledged:
            return reused
    span = (position_of(line.epoch, line.acknowledged + 1), position_of(line.epoch, mark))
    ahead = {row[0] for row in rows.select("alert_sent", "WHERE held AND position BETWEEN ? AND ?", span)}
    rows.delete_where("alert_sent", "WHERE position BETWEEN ? AND ?", span)
    if not refused and not ahead and _settle_accepted(rows, line, mark, buckets):
        return []
    held, no_longer = [], []
    for row in list(results_above(rows, line, mark)):
        _, counter = epoch_and_counter(row[0])
        verdict = refused.get(counter)
        if verdict is None:
            held.append((row[0], row[2]))
            continue
        if row[0] in ahead:
            no_longer.append((row[0], row[2]))
        if not is_reused(verdict):
            rows.put("refusal", (line.epoch, counter, int(verdict.code), int(verdict.reason)))
    alias = buckets.keys.own_alias
    buckets.results(alias, [item for item in held if item[0] not in ahead])
    buckets.results(alias, no_longer, -1)
    drop_replicas_at(rows, [position for position, _ in held], buckets)
    _move_mark(rows, line, mark)
    return reused


def _reused(rows: SqlCipherRows, line: EpochLine, mark: int, refused: Mapping[int, RowVerdict]) -> list[Row]:
    """R7: results up to a mark under whose counters the server has others, in order."""
    found = []
    for counter in sorted(counter for counter, verdict in refused.items() if is_reused(verdict)):
        row = rows.get("result", (position_of(line.epoch, counter),))
        if row is not None and line.acknowledged < counter <= mark:
            found.append(row)
    return found


def fork_if_current(rows: SqlCipherRows, epoch: int, reason: ForkReason, *, at_ms: int) -> None:
    """R7 and R8: nothing more is written under an epoch in which the server has something else."""
    if rows.current_epoch()[0] == epoch:
        rows.fork(reason, at_ms=at_ms)


def _settle_accepted(rows: SqlCipherRows, line: EpochLine, mark: int, buckets: Buckets) -> bool:
    """Move the mark over results all of which were accepted, if all are there."""
    run = stored_run(rows, line.epoch, line.acknowledged + 1, mark)
    if run is None:
        return False
    first = position_of(line.epoch, run.first_counter)
    buckets.result_run(buckets.keys.own_alias, line.epoch, run.rows.split())
    drop_replicas_at(rows, range(first, first + len(run.rows)), buckets)
    _move_mark(rows, line, mark)
    return True


def settle_alerts(rows: SqlCipherRows, request: ExchangeRequest, response: ExchangeResponse, buckets: Buckets) -> None:
    """R14: results that went ahead are held, if they were not refused."""
    epoch, refused = rows.get("epoch", (request.epoch,)), refused_verdicts(response)
    if epoch is None:
        return
    for alert in request.alerts:
        position = position_of(request.epoch, alert.counter)
        result = rows.get("result", (position,))
        if result is None or alert.counter <= EpochLine(*epoch).acknowledged:
            continue
        before, held = rows.get("alert_sent", (position,)), alert.counter not in refused
        rows.put("alert_sent", (position, int(held)))
        was_held = before is not None and bool(before[1])
        if held != was_held:
            buckets.results(buckets.keys.own_alias, [(position, result[2])], 1 if held else -1)
        if held:
            drop_replicas_at(rows, [position], buckets)


def settle_hole(rows: SqlCipherRows, line: EpochLine, response: ExchangeResponse) -> list[Row]:
    """R8: move the mark through a hole; return what is to be given again."""
    waiting = list(results_above(rows, line, line.last_counter, MAX_GIVEN_AGAIN))
    if not waiting or response.acknowledged < line.acknowledged:
        return []
    _, first_waiting = epoch_and_counter(waiting[0][0])
    if first_waiting == line.acknowledged + 1:
        return []
    _move_mark(rows, line, min(response.acknowledged, first_waiting - 1))
    return waiting if response.acknowledged < first_waiting - 1 else []


def give_again(
    rows: SqlCipherRows,
    results: Sequence[Row],
    request: ExchangeRequest,
    came: Sequence[IdentifiedResult],
    *,
    at_ms: int,
) -> None:
    """R7: move results to the next counters of the current epoch, and own words on them along.

    Args:
        rows: Writes.
        results: Of the request's epoch, in order; what has left already is passed over.
        request: What was sent.
        came: Results of the same answer.
        at_ms: UTC ms since 1970.
    """
    results = [row for row in results if rows.get("result", (row[0],)) is not None]
    if not results:
        return
    alias = request.device_alias
    displaced = _displaced(rows, alias, results, came)
    for row in displaced:
        fork_if_current(rows, epoch_and_counter(row[0])[0], ForkReason.COUNTER_REUSED, at_ms=at_ms)
    leaving = sorted([*results, *displaced], key=lambda row: row[0])
    for row in leaving:
        _leave(rows, alias, row)
    free = [_first_free(rows, places) for places in find_equal(rows, alias, leaving, came)]
    new = [row for row, place in zip(leaving, free, strict=True) if place is None]
    counters = iter(rows.append_results([from_row(decode_result_row(row[2]), row[3]) for row in new]))
    epoch = rows.current_epoch()[0]
    now = [position_of(epoch, next(counters)) if place is None else place for place in free]
    pushed = {words.key_of(row): row for row in request.annotations}
    # The last first: who stood where another one goes has left by then, as nothing is given again to an earlier epoch.
    for row, position in reversed(list(zip(leaving, now, strict=True))):
        if row[0] != position:
            old, new_target = (ResultId(alias, *epoch_and_counter(place)) for place in (row[0], position))
            _move_own_words(rows, old, new_target, pushed)


def _displaced(rows: SqlCipherRows, alias: int, results: Sequence[Row], came: Sequence[IdentifiedResult]) -> list[Row]:
    """R7: results of which nothing is decided, and which stand where the server has one of those, or of these."""
    leaving, found, asked = {row[0] for row in results}, [], list(results)
    while asked:
        taken: dict[int, Row] = {}
        for row, places in zip(asked, find_equal(rows, alias, asked, came), strict=True):
            there = [other for place in places if (other := rows.get("result", (place,))) and place not in leaving]
            if len(there) == len(places):
                taken.update({other[0]: other for other in there if _is_of_another(rows, other, row)})
        asked = [row for position, row in sorted(taken.items())]
        leaving.update(taken)
        found += asked
    return found


def _is_of_another(rows: SqlCipherRows, there: Row, row: Row) -> bool:
    """Whether a result that stands somewhere is not this one, and nothing is decided of it."""
    epoch, counter = epoch_and_counter(there[0])
    ahead = rows.get("alert_sent", (there[0],))
    undecided = counter > EpochLine(*(rows.get("epoch", (epoch,)) or ())).acknowledged and not (ahead and ahead[1])
    return undecided and not is_same_result(there[2], row[2])


def _first_free(rows: SqlCipherRows, positions: Sequence[int]) -> int | None:
    return next((position for position in positions if rows.get("result", (position,)) is None), None)


def _leave(rows: SqlCipherRows, alias: int, row: Row) -> None:
    """A result leaves its place; what the server has of it there becomes a replica (R14)."""
    rows.delete("result", (row[0],))
    ahead = rows.get("alert_sent", (row[0],))
    if ahead is None:
        return
    rows.delete("alert_sent", (row[0],))
    if ahead[1]:
        # The server has it where it was, and is counted there.
        rows.put("replica", (alias, row[0], row[1], link_line(rows).history, row[2]))


def _move_own_words(
    rows: SqlCipherRows, old: ResultId, new: ResultId, pushed: Mapping[words.Key, AnnotationRow]
) -> None:
    found = rows.select(
        "annotation",
        "WHERE device_alias = ? AND epoch = ? AND counter = ? AND own",
        (old.device_alias, old.epoch, old.counter),
    )
    for key in [row[:4] for row in found]:
        before = words.load(rows, key)
        if before.local is None or before.local == before.known:
            continue
        said = msgspec.structs.replace(before.local, target=new)
        there = words.load(rows, words.key_of(said))
        moved = replace(there.with_local(words.merged_with(there.local, said)), own=True, bases=(0, 0))
        if before.overtaken is not None:
            lost = msgspec.structs.replace(before.overtaken.row, target=new)
            moved = replace(moved, overtaken=Overtaken(lost, (0, 0)))
        words.store(rows, words.key_of(said), moved, there)
        # What was pushed is at the old place on the server, and is taken in as known there after this.
        stays = pushed.get(key, before.known)
        now = replace(before, local=stays, own=key in pushed, bases=(0, 0), refused=0, overtaken=None)
        words.store(rows, key, now, before)


def _move_mark(rows: SqlCipherRows, line: EpochLine, mark: int) -> None:
    if mark != line.acknowledged:
        rows.put("epoch", line._replace(acknowledged=mark))
