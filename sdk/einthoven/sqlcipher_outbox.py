"""What waits in the encrypted store, and where it stands: ``pending`` and ``sync_state``, as ``store_rules`` has them.

It deliberately writes nothing: a reader's connection will do.

Invariants:
    1. Work is in proportion to what is given out, but for counts, which go by indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from einthoven.errors import StoreDamaged
from einthoven.ports import Pending, SyncState
from einthoven.sqlcipher_books import (
    EpochLine,
    LinkLine,
    NoteLog,
    SyncLine,
    epoch_lines,
    link_line,
    note_log,
    note_logs,
    results_above,
    sync_line,
)
from einthoven.sqlcipher_buckets import other_digests, said_digests, signed
from einthoven.sqlcipher_notes import own_alias, waiting_notes
from einthoven.sqlcipher_result_runs import stored_run
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.sqlcipher_words import push_of, waiting_annotations
from einthoven.store_rules_feed import feeds, oldest_word_ms
from einthoven.store_schema import COUNTER_BITS, IS_URGENT, epoch_and_counter, position_of
from einthoven_protocol.canonical import decode_result_row
from einthoven_protocol.limits import (
    MAX_ALERTS_PER_EXCHANGE,
    MAX_ANNOTATIONS_PER_EXCHANGE,
    MAX_COUNTER,
    MAX_DELETIONS_PER_EXCHANGE,
    MAX_NOTES_PER_EXCHANGE,
    MAX_RESULTS_PER_EXCHANGE,
)
from einthoven_protocol.messages import (
    AnnotationVerdict,
    BucketDigest,
    BucketKind,
    NoteRow,
    ResultRow,
    RowKind,
    RowVerdict,
    Tombstone,
)

_RESULT_WAITS = f"""EXISTS (
    SELECT 1 FROM epoch JOIN result ON position = epoch.epoch * {1 << COUNTER_BITS} + {{0}}.counter
    WHERE epoch.epoch = {{0}}.epoch AND {{0}}.counter > epoch.acknowledged
    AND ifnull((SELECT digest_device_alias FROM sync), {{0}}.device_alias) = {{0}}.device_alias)"""  # noqa: S608 - numbers of our own
"""R9: whether the result that a row speaks of waits itself."""
_SENDABLE_ANNOTATIONS = f"""AND NOT {_RESULT_WAITS.format("annotation")} AND NOT EXISTS (SELECT 1 FROM deletion
    WHERE kind = {int(RowKind.ANNOTATION)} AND NOT state AND deletion.device_alias = annotation.device_alias
    AND deletion.epoch = annotation.epoch AND deletion.counter = annotation.counter
    AND deletion.author = annotation.author) ORDER BY device_alias, epoch, counter, author LIMIT ?"""  # noqa: S608 - likewise
_SENDABLE_DELETIONS = f"""WHERE NOT state AND CASE kind WHEN {int(RowKind.ANNOTATION)}
    THEN NOT {_RESULT_WAITS.format("deletion")}
    ELSE NOT EXISTS (SELECT 1 FROM own_note WHERE position = deletion.epoch * {1 << COUNTER_BITS} + deletion.counter
        AND deletion.counter > ifnull((SELECT acknowledged FROM note_log WHERE epoch = deletion.epoch), 0)) END
    ORDER BY kind, device_alias, epoch, counter, author LIMIT ?"""  # noqa: S608 - likewise
_URGENT = f"WHERE {IS_URGENT} AND position BETWEEN ? AND ? AND position NOT IN (SELECT position FROM alert_sent)"  # noqa: S608 - likewise


def read_pending(rows: RowReader, limit: int, *, current: bool = False) -> Pending:
    """What to push next, in one message of the protocol at most."""
    lines, now = epoch_lines(rows), sync_line(rows).epoch
    among = [line for line in lines if line.epoch == now] if current else lines
    waiting = _oldest_waiting(rows, among, min(limit, MAX_RESULTS_PER_EXCHANGE))
    epoch = waiting.epoch
    if epoch is None:
        epoch = now if current else _epoch_of_notes(rows)
    words = waiting_annotations(rows, _SENDABLE_ANNOTATIONS, (min(limit, MAX_ANNOTATIONS_PER_EXCHANGE),))
    alerts = [] if waiting.hole else _alerts(rows, epoch, waiting.results, min(limit, MAX_ALERTS_PER_EXCHANGE))
    said = [push_of(word) for word in words]
    return Pending(
        epoch=epoch,
        results=waiting.results,
        segment_digests=waiting.segment_digests,
        annotations=tuple(row for row, _ in said),
        annotation_bases=tuple(bases for _, bases in said),
        alerts=tuple(decode_result_row(body) for _, _, body, _ in alerts),
        alert_segment_digests=tuple(digest for _, _, _, digest in alerts),
        notes=_sendable_notes(rows, note_log(rows, epoch), min(limit, MAX_NOTES_PER_EXCHANGE)),
        deletions=tuple(
            Tombstone(row[0], row[1], row[2], row[3], row[4], row[6])
            for row in rows.select("deletion", _SENDABLE_DELETIONS, (min(limit, MAX_DELETIONS_PER_EXCHANGE),))
        ),
    )


class _Waiting(NamedTuple):
    """The oldest epoch in which a result waits, the unbroken run of results above its mark, and whether a hole is."""

    epoch: int | None = None
    results: Sequence[ResultRow] = ()
    segment_digests: tuple[bytes, ...] = ()
    hole: bool = False


def _oldest_waiting(rows: RowReader, lines: Sequence[EpochLine], limit: int) -> _Waiting:
    for line in lines:
        if line.acknowledged < line.last_counter:
            waiting = _waiting_run(rows, line, limit) or _waiting_rows(rows, line, limit)
            if waiting is not None:
                return waiting
    return _Waiting()


def _waiting_run(rows: RowReader, line: EpochLine, limit: int) -> _Waiting | None:
    last_counter = min(line.last_counter, line.acknowledged + limit)
    run = stored_run(rows, line.epoch, line.acknowledged + 1, last_counter) if limit else None
    return None if run is None else _Waiting(line.epoch, run.rows, run.segment_digests())


def _waiting_rows(rows: RowReader, line: EpochLine, limit: int) -> _Waiting | None:
    # One more than none, to see whether there is any.
    found = list(results_above(rows, line, line.last_counter, max(limit, 1)))
    if not found:
        return None
    first = position_of(line.epoch, line.acknowledged + 1)
    run = [row for _, row in takewhile(lambda pair: pair[0] == pair[1][0], enumerate(found, first))][:limit]
    results = tuple(decode_result_row(body) for _, _, body, _ in run)
    return _Waiting(line.epoch, results, tuple(digest for _, _, _, digest in run), hole=found[0][0] != first)


def _epoch_of_notes(rows: RowReader) -> int:
    """R13: the oldest epoch in which a note waits, or the current one."""
    if feeds(link_line(rows).capabilities):
        for log in note_logs(rows):
            if waiting_notes(rows, log, 1):
                return log.epoch
    return sync_line(rows).epoch


def _alerts(rows: RowReader, epoch: int, results: Sequence[ResultRow], limit: int) -> list[Row]:
    """R14."""
    found = rows.get("epoch", (epoch,))
    if not limit or found is None:
        return []
    first = position_of(epoch, (results[-1].counter if results else EpochLine(*found).acknowledged) + 1)
    span = (first, position_of(epoch, MAX_COUNTER))
    return list(rows.select("result", f"{_URGENT} ORDER BY position LIMIT ?", (*span, limit)))


def _sendable_notes(rows: RowReader, log: NoteLog, limit: int) -> tuple[NoteRow, ...]:
    alias = own_alias(rows)
    first = position_of(log.epoch, log.acknowledged + 1)
    run = takewhile(lambda pair: pair[0] == pair[1].position, enumerate(waiting_notes(rows, log, limit), first))
    return tuple(signed(own.body, alias, own.position) for _, own in run)


def read_sync_state(rows: RowReader) -> SyncState:
    """Where the store stands."""
    sync, lines, link = sync_line(rows), epoch_lines(rows), link_line(rows)
    current = next((line for line in lines if line.epoch == sync.epoch), None)
    if current is None:
        raise StoreDamaged("the store has lost its epoch", "run a repair of the store")
    words = waiting_annotations(rows, "")
    notes = [own for log in note_logs(rows) for own in waiting_notes(rows, log)]
    results = sum(_count_waiting(rows, line, closed=line is not current) for line in lines)
    (deletions, given, owners) = rows.connection.execute(
        """SELECT (SELECT count(*) FROM deletion WHERE NOT state), (SELECT count(*) FROM to_give),
            (SELECT count(*) FROM owner)"""
    ).fetchone()
    said_ms = oldest_word_ms(push_of(word)[0] for word in words)
    return SyncState(
        epoch=sync.epoch,
        acknowledged=current.acknowledged,
        last_counter=current.last_counter,
        cursor=sync.cursor,
        digest=sync.digest,
        waiting=results + len(words) + len(notes) + deletions,
        refused=tuple(
            RowVerdict(counter, code, reason)
            for _, counter, code, reason in rows.select("refusal", "ORDER BY epoch, counter")
        ),
        last_exchange_ms=sync.last_exchange_ms,
        last_digest_equal=None if sync.last_digest_equal is None else bool(sync.last_digest_equal),
        digests=other_digests(rows),
        server_digests=_said(rows, sync, link),
        owners=0 if link.owners_asked else owners,
        waiting_notes=len(notes),
        waiting_deletions=deletions,
        waiting_given=given,
        refused_words=_refused_words(rows),
        capabilities=link.capabilities,
        limits=link.limits,
        rebaseline=bool(link.rebaseline),
        waiting_annotations=len(words),
        waiting_alerts=sum(_count_alerts(rows, line) for line in lines),
        oldest_waiting_ms=min(
            [
                *_oldest_results_ms(rows, lines),
                *(own.at_ms for own in notes),
                *([] if said_ms is None else [said_ms]),
            ],
            default=None,
        ),
    )


def _said(rows: RowReader, sync: SyncLine, link: LinkLine) -> tuple[BucketDigest, ...]:
    if link.server_count is None or sync.digest_device_alias is None:
        return ()
    total = int.from_bytes(link.server_total or b"", "big")
    own = BucketDigest(sync.digest_device_alias, BucketKind.RECORDS, link.server_count, total)
    return (own, *said_digests(rows))


def _refused_words(rows: RowReader) -> tuple[AnnotationVerdict, ...]:
    alias = own_alias(rows)
    drafts, notes = rows.select("draft", "WHERE refused"), rows.select("own_note", "WHERE refused")
    found = [AnnotationVerdict(int(RowKind.ANNOTATION), row[0], row[1], row[2], row[3], row[6]) for row in drafts]
    found += [AnnotationVerdict(int(RowKind.NOTE), alias, *epoch_and_counter(row[0]), "", row[3]) for row in notes]
    found += [AnnotationVerdict(*row[:6]) for row in rows.select("deletion", "WHERE state > 0")]
    return tuple(sorted(found))


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


def _count_alerts(rows: RowReader, line: EpochLine) -> int:
    if line.acknowledged >= line.last_counter:
        return 0
    (count,) = rows.connection.execute(
        f"SELECT count(*) FROM result {_URGENT}",  # noqa: S608 - a constant
        (position_of(line.epoch, line.acknowledged + 1), position_of(line.epoch, line.last_counter)),
    ).fetchone()
    return int(count)


def _oldest_results_ms(rows: RowReader, lines: Sequence[EpochLine]) -> list[int]:
    waiting = [line for line in lines if line.acknowledged < line.last_counter]
    return [row[1] for line in waiting for row in results_above(rows, line, line.last_counter, 1)]
