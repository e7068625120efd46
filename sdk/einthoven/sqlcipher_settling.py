"""What becomes of results when an answer arrives, in the encrypted store: R1, R6 to R8 and R10 of ``store_rules``.

Runs inside the caller's transaction and deliberately begins and commits none. It must be called before the exchange's
annotations are taken in: R7 asks what the server knew before.

Invariants:
    1. The work is in proportion to the rows that the answer speaks of, but for a new history (R6), which speaks of all.
       A new enrolment (R10) writes epochs, refusals and annotations, but no result.
    2. A result that is given again is in one place at any time, and under no counter that was given before.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from einthoven.result_rows import from_row
from einthoven.sqlcipher_books import (
    AnnotationLine,
    EpochLine,
    RunningDigest,
    epoch_lines,
    refused_places,
    results_above,
    results_in,
    sync_line,
)
from einthoven.sqlcipher_row_reading import Row
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_events import ForkReason
from einthoven.store_rules import MAX_GIVEN_AGAIN, annotation_row_bytes, is_reused, refused_verdicts
from einthoven.store_schema import epoch_and_counter
from einthoven_protocol import digests
from einthoven_protocol.canonical import decode_annotation_row, decode_result_row
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import ExchangeRequest, ExchangeResponse, ResultId


def begin_new_history(rows: SqlCipherRows, spoken_of: int, acknowledged: int, running: RunningDigest) -> None:
    """R6: what the server lost, or may have lost, is no longer known to be there."""
    refused = refused_places(rows)
    for line in epoch_lines(rows):
        mark = min(line.acknowledged, acknowledged) if line.epoch == spoken_of else 0
        for position, _, body, _ in results_in(rows, line.epoch, mark + 1, line.acknowledged):
            if epoch_and_counter(position) not in refused:
                running.remove_result(line.epoch, decode_result_row(body))
        rows.delete_where("refusal", "WHERE epoch = ? AND counter > ?", (line.epoch, mark))
        _move_mark(rows, line, mark)
    known = [AnnotationLine(*row) for row in rows.select("annotation", "WHERE known_body IS NOT NULL")]
    for annotation in known:
        if annotation.known_body is not None:
            running.remove_annotation(decode_annotation_row(annotation.known_body))
        rows.put("annotation", annotation._replace(known_body=None))


def begin_enrolment(rows: SqlCipherRows) -> None:
    """R10: to a server that knows nothing of this device, everything is new."""
    for line in epoch_lines(rows):
        _move_mark(rows, line, 0)
    rows.delete_where("refusal", "")
    for row in list(rows.select("annotation", "WHERE known_body IS NOT NULL OR own")):
        rows.put("annotation", AnnotationLine(*row)._replace(known_body=None, own=0))
    rows.forget_acknowledged_segments()
    fresh = RunningDigest(digests.EMPTY, b"", 0)
    rows.put(
        "sync",
        sync_line(rows)._replace(
            cursor_shard_epoch=0,
            cursor_commit_seq=0,
            digest_count=fresh.digest.count,
            digest_total=fresh.total_bytes(),
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
    running: RunningDigest,
) -> list[Row]:
    """R1: decide the fate of every pushed result that the mark passes; return those of R7."""
    if request.results[0].counter > line.acknowledged + 1:
        return []
    mark = min(response.acknowledged, request.results[-1].counter, line.last_counter)
    if mark <= line.acknowledged:
        return []
    refused = refused_verdicts(response)
    reused = []
    for row in list(results_above(rows, line, mark)):
        _, counter = epoch_and_counter(row[0])
        verdict = refused.get(counter)
        if verdict is None:
            running.add_result(line.epoch, decode_result_row(row[2]))
        elif is_reused(verdict):
            reused.append(row)
        else:
            rows.put("refusal", (line.epoch, counter, int(verdict.code), int(verdict.reason)))
    _move_mark(rows, line, mark)
    return reused


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
    rows: SqlCipherRows, results: Sequence[Row], request: ExchangeRequest, reason: ForkReason, *, at_ms: int
) -> None:
    """R7: move results to the next counters of the current epoch, and own words on them along.

    Args:
        rows: Writes.
        results: Of the request's epoch, in order.
        request: What was sent.
        reason: Why to fork if the request's epoch is the current one.
        at_ms: UTC, ms since 1970.
    """
    if not results:
        return
    if rows.current_epoch()[0] == request.epoch:
        rows.fork(reason, at_ms=at_ms)
    counters = rows.append_results([from_row(decode_result_row(row[2]), row[3]) for row in results])
    epoch = rows.current_epoch()[0]
    for row, counter in zip(results, counters, strict=True):
        rows.delete("result", (row[0],))
        old = ResultId(request.device_alias, *epoch_and_counter(row[0]))
        _move_own_words(rows, old, ResultId(request.device_alias, epoch, counter), request)


def _move_own_words(rows: SqlCipherRows, old: ResultId, new: ResultId, request: ExchangeRequest) -> None:
    found = rows.select(
        "annotation",
        "WHERE device_alias = ? AND epoch = ? AND counter = ? AND own",
        (old.device_alias, old.epoch, old.counter),
    )
    for line in [AnnotationLine(*row) for row in found]:
        if line.local_body == line.known_body:
            continue
        words = msgspec.structs.replace(decode_annotation_row(line.local_body), target=new)
        key = (new.device_alias, new.epoch, new.counter, line.author)
        there = rows.get("annotation", key)
        known = None
        if there is not None:
            known = AnnotationLine(*there).known_body
            words = merge_annotation(decode_annotation_row(AnnotationLine(*there).local_body), words)
        rows.put("annotation", (*key, annotation_row_bytes(words), known, 1))
        pushed = next((row for row in request.annotations if (row.target, row.author) == (old, line.author)), None)
        # What was pushed is at the old place on the server, and is taken in as known there after this.
        stays = line.known_body if pushed is None else annotation_row_bytes(pushed)
        if stays is None:
            rows.delete("annotation", line[:4])
        else:
            rows.put("annotation", line._replace(local_body=stays, own=int(pushed is not None)))


def _move_mark(rows: SqlCipherRows, line: EpochLine, mark: int) -> None:
    if mark != line.acknowledged:
        rows.put("epoch", line._replace(acknowledged=mark))
