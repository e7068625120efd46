"""The outbox and an exchange inside the encrypted store: the rules of ``store_rules``, written as SQL.

Runs inside the caller's transaction and deliberately begins and commits none; every row goes through
``sqlcipher_rows``. Marks and given-again results are in ``sqlcipher_settling``, the digest in ``sqlcipher_books``.

Invariants:
    1. Nothing is written by ``read_pending`` and ``read_sync_state``: a reader's connection will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from einthoven.errors import StoreDamaged
from einthoven.ports import Pending, SyncState
from einthoven.sqlcipher_books import (
    AnnotationLine,
    EpochLine,
    RunningDigest,
    epoch_lines,
    results_above,
    running_digest,
    sync_line,
)
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_settling import begin_enrolment, begin_new_history, give_again, settle_hole, settle_pushed
from einthoven.store_events import ForkReason
from einthoven.store_rules import (
    SYNC_KEY_SETTING,
    annotation_row_bytes,
    begins_new_history,
    checked_sync_key,
    is_enrolled_anew,
    next_cursor,
    server_is_ahead,
    unknown_epoch,
)
from einthoven.store_schema import COUNTER_BITS, position_of
from einthoven_protocol.canonical import decode_annotation_row, decode_result_row
from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE, MAX_RESULTS_PER_EXCHANGE
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import AnnotationRow, ExchangeRequest, ExchangeResponse, RowVerdict

_WAITING_ANNOTATIONS = "WHERE own AND local_body IS NOT known_body"
_SENDABLE_ANNOTATIONS = f"""{_WAITING_ANNOTATIONS} AND NOT EXISTS (
    SELECT 1 FROM epoch JOIN result ON position = epoch.epoch * {1 << COUNTER_BITS} + annotation.counter
    WHERE epoch.epoch = annotation.epoch AND annotation.counter > epoch.acknowledged)"""  # noqa: S608 - numbers of our own
"""R9: not those of a result that waits itself."""


def read_pending(rows: RowReader, limit: int) -> Pending:
    """What to push next, in one message of the protocol at most."""
    epoch, results = _oldest_waiting(rows, min(limit, MAX_RESULTS_PER_EXCHANGE))
    annotations = rows.select(
        "annotation",
        _SENDABLE_ANNOTATIONS + " ORDER BY device_alias, epoch, counter, author LIMIT ?",
        (min(limit, MAX_ANNOTATIONS_PER_EXCHANGE),),
    )
    return Pending(
        epoch=epoch,
        results=tuple(decode_result_row(body) for _, _, body, _ in results),
        segment_digests=tuple(digest for _, _, _, digest in results),
        annotations=tuple(decode_annotation_row(AnnotationLine(*row).local_body) for row in annotations),
    )


def _oldest_waiting(rows: RowReader, limit: int) -> tuple[int, Sequence[Row]]:
    """The oldest epoch in which a result waits, and the unbroken run of results above its mark."""
    for line in epoch_lines(rows):
        if line.acknowledged < line.last_counter:
            # One more than none, to see whether there is any.
            found = list(results_above(rows, line, line.last_counter, max(limit, 1)))
            if found:
                first = position_of(line.epoch, line.acknowledged + 1)
                run = takewhile(lambda pair: pair[0] == pair[1][0], enumerate(found, first))
                return line.epoch, [row for _, row in run][:limit]
    return sync_line(rows).epoch, ()


def read_sync_state(rows: RowReader) -> SyncState:
    """Where the store stands."""
    sync, lines = sync_line(rows), epoch_lines(rows)
    current = next((line for line in lines if line.epoch == sync.epoch), None)
    if current is None:
        raise StoreDamaged("the store has lost its epoch", "run a repair of the store")
    (annotations,) = rows.connection.execute(
        f"SELECT count(*) FROM annotation {_WAITING_ANNOTATIONS}"  # noqa: S608 - a constant
    ).fetchone()
    return SyncState(
        epoch=sync.epoch,
        acknowledged=current.acknowledged,
        last_counter=current.last_counter,
        cursor=sync.cursor,
        digest=sync.digest,
        waiting=annotations + sum(_count_waiting(rows, line, closed=line is not current) for line in lines),
        refused=tuple(
            RowVerdict(counter, code, reason)
            for _, counter, code, reason in rows.select("refusal", "ORDER BY epoch, counter")
        ),
        last_exchange_ms=sync.last_exchange_ms,
        last_digest_equal=None if sync.last_digest_equal is None else bool(sync.last_digest_equal),
    )


def _count_waiting(rows: RowReader, line: EpochLine, *, closed: bool) -> int:
    if line.acknowledged >= line.last_counter:
        return 0
    if not closed:  # where nothing is missing but what was dropped, there is nothing to count
        return line.last_counter - max(line.acknowledged, line.first_kept - 1)
    (count,) = rows.connection.execute(
        "SELECT count(*) FROM result WHERE position BETWEEN ? AND ?",
        (position_of(line.epoch, line.acknowledged + 1), position_of(line.epoch, line.last_counter)),
    ).fetchone()
    return int(count)


def put_local_annotation(rows: SqlCipherRows, row: AnnotationRow) -> AnnotationRow:
    """Merge a row into the local one; return the merged row."""
    line = _annotation(rows, row)
    merged = row if line is None else merge_annotation(decode_annotation_row(line.local_body), row)
    known = None if line is None else line.known_body
    rows.put("annotation", (*_annotation_key(row), annotation_row_bytes(merged), known, 1))
    return merged


def put_setting(rows: SqlCipherRows, name: str, value: bytes) -> None:
    """Keep a setting; with another sync key, begin anew (R10).

    Raises:
        StoreDamaged: A line that is to be changed is not what was written.
    """
    if name == SYNC_KEY_SETTING:
        setting = rows.get("setting", (name,))
        former = None if setting is None else setting[1]
        if is_enrolled_anew(name, value, former, sync_line(rows).digest_key):
            begin_enrolment(rows)
    rows.put("setting", (name, value))


def take_over(rows: SqlCipherRows, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> None:
    """Apply a checked response; a fork's event is among ``rows.events``.

    Raises:
        NotEnrolled: There is no sync key.
        SyncError: The exchange is of an epoch that this store never had.
        InputError: An annotation is over the protocol's limits.
        StoreDamaged: A line that is to be changed is not what was written.
    """
    setting = rows.get("setting", (SYNC_KEY_SETTING,))
    key = checked_sync_key(None if setting is None else setting[1])
    if rows.get("epoch", (request.epoch,)) is None:
        raise unknown_epoch()
    before = sync_line(rows)
    running = running_digest(rows, before, key, request.device_alias)
    if begins_new_history(before.cursor, response):
        begin_new_history(rows, request.epoch, response.acknowledged, running)
    line = EpochLine(*(rows.get("epoch", (request.epoch,)) or ()))
    if request.epoch == before.epoch and server_is_ahead(response, line.last_counter):
        rows.fork(ForkReason.SERVER_AHEAD, at_ms=at_ms)
    if request.results:
        again, reason = settle_pushed(rows, line, request, response, running), ForkReason.COUNTER_REUSED
    else:
        again, reason = settle_hole(rows, line, response), ForkReason.SERVER_BEHIND
    give_again(rows, again, request, reason, at_ms=at_ms)
    for row in (*request.annotations, *response.annotations):
        _learn(rows, row, running)
    now = sync_line(rows)
    cursor = next_cursor(before.cursor, request, response, current=request.epoch == now.epoch)
    rows.put(
        "sync",
        now._replace(
            cursor_shard_epoch=cursor.shard_epoch,
            cursor_commit_seq=cursor.commit_seq,
            digest_count=running.digest.count,
            digest_total=running.total_bytes(),
            digest_key=key,
            digest_device_alias=request.device_alias,
            last_exchange_ms=at_ms,
            last_digest_equal=int(running.digest == response.digest),
        ),
    )


def _learn(rows: SqlCipherRows, row: AnnotationRow, running: RunningDigest) -> None:
    """R3: merge a row that the server holds into what it is known to hold, and that into the local row."""
    annotation_row_bytes(row)
    line = _annotation(rows, row)
    known, local, own = row, row, 0
    if line is not None:
        own = line.own
        if line.known_body is not None:
            before = decode_annotation_row(line.known_body)
            known = merge_annotation(before, row)
            running.remove_annotation(before)
        local = merge_annotation(decode_annotation_row(line.local_body), known)
    running.add_annotation(known)
    rows.put("annotation", (*_annotation_key(row), annotation_row_bytes(local), annotation_row_bytes(known), own))


def _annotation(rows: RowReader, row: AnnotationRow) -> AnnotationLine | None:
    found = rows.get("annotation", _annotation_key(row))
    return None if found is None else AnnotationLine(*found)


def _annotation_key(row: AnnotationRow) -> tuple[int, int, int, str]:
    target = row.target
    return (target.device_alias, target.epoch, target.counter, row.author)
