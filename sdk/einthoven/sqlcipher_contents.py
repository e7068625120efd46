"""What a store holds, read over one connection: rows made into the values of the port.

It deliberately writes nothing, and leaves the books of the exchange to ``sqlcipher_exchange``.

Invariants:
    1. A listing leaves out what is damaged (it was reported); a single read raises ``StoreDamaged`` for it.
    2. A row whose tag is right and that still can't be read as what it should be is damaged as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from einthoven.beat_runs import decode_beats
from einthoven.errors import RecordFormatError
from einthoven.plaintext_scan import files_of_store
from einthoven.ports import Segment
from einthoven.result_rows import from_row
from einthoven.results import WindowResult
from einthoven.segments import decode_segment, segment_digest
from einthoven.sqlcipher_connection import PAGE_BYTES
from einthoven.sqlcipher_notes import read_notes
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.sqlcipher_signals import read_signal
from einthoven.sqlcipher_words import LISTED_ANNOTATIONS
from einthoven.store_schema import epoch_and_counter, position_of
from einthoven.store_values import (
    AuditAction,
    AuditEntry,
    BeatRun,
    ContentKind,
    DamageReason,
    Quarantined,
    StoredResult,
    StoreStats,
)
from einthoven_protocol.canonical import decode_annotation_row, decode_result_row
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import MAX_COUNTER, MAX_EPOCH, MAX_TIME_MS
from einthoven_protocol.messages import AnnotationRow, ResultId

_Value = TypeVar("_Value")
_UNREADABLE = (ProtocolError, RecordFormatError, ValueError)


def read_results(rows: RowReader, first_counter: int, limit: int) -> list[WindowResult]:
    """Results of the current epoch from a counter on."""
    (epoch,) = rows.connection.execute("SELECT epoch FROM sync").fetchone()
    first = position_of(epoch, min(max(first_counter, 1), MAX_COUNTER + 1))
    last = position_of(epoch, MAX_COUNTER)
    found = rows.select("result", "WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?", (first, last, limit))
    return list(_readable(rows, "result", found, _result))


def read_results_between(rows: RowReader, first_ms: int, last_ms: int, limit: int) -> list[StoredResult]:
    """Results of all epochs by their time."""
    found = rows.select(
        "result",
        "WHERE started_at_ms BETWEEN ? AND ? ORDER BY started_at_ms, position LIMIT ?",
        (max(first_ms, 0), min(last_ms, MAX_TIME_MS), limit),
    )
    return list(_readable(rows, "result", found, lambda row: StoredResult(epoch_and_counter(row[0])[0], _result(row))))


def read_result(rows: RowReader, counter: int, epoch: int | None = None) -> WindowResult | None:
    """One result of an epoch, the current one if none is given.

    Raises:
        StoreDamaged: It is not what was written.
    """
    if not 1 <= counter <= MAX_COUNTER or not 1 <= (1 if epoch is None else epoch) <= MAX_EPOCH:
        return None
    row = rows.find("result", "WHERE position = (ifnull(?, (SELECT epoch FROM sync)) << 32) + ?", (epoch, counter))
    return None if row is None else _single(rows, "result", row, _result)


def read_segment(rows: RowReader, digest: bytes) -> Segment | None:
    """A signal, checked against its digest.

    Raises:
        StoreDamaged: It is not what was written.
    """
    row = rows.find("segment", "WHERE digest = ?", (digest,))
    return (
        None
        if row is None
        else _single(rows, "segment", row, lambda line: _segment(line, read_signal(rows, *line[4:])))
    )


def read_beats(rows: RowReader, first_ms: int, last_ms: int, limit: int) -> list[BeatRun]:
    """Runs of beats that overlap a stretch of time."""
    found = rows.select(
        "beat_run",
        "WHERE started_at_ms <= ? AND ended_at_ms >= ? ORDER BY started_at_ms, id LIMIT ?",
        (min(last_ms, MAX_TIME_MS), max(first_ms, 0), limit),
    )
    return list(_readable(rows, "beat_run", found, lambda row: decode_beats(row[4])))


def read_annotations(rows: RowReader, target: ResultId | None) -> list[AnnotationRow]:
    """All annotations, or those of one result."""
    if target is None:
        found = rows.select("annotation", f"WHERE {LISTED_ANNOTATIONS} ORDER BY device_alias, epoch, counter, author")
    else:
        clause = f"WHERE {LISTED_ANNOTATIONS} AND device_alias = ? AND epoch = ? AND counter = ? ORDER BY author"
        found = rows.select("annotation", clause, (target.device_alias, target.epoch, target.counter))
    return list(_readable(rows, "annotation", found, lambda row: decode_annotation_row(row[4])))


def read_setting(rows: RowReader, name: str) -> bytes | None:
    """A setting's value.

    Raises:
        StoreDamaged: It is not what was written.
    """
    row = rows.get("setting", (name,))
    return None if row is None else bytes(row[1])


def read_quarantine(rows: RowReader) -> list[Quarantined]:
    """What was found damaged."""
    return list(_readable(rows, "quarantine", rows.select("quarantine", "ORDER BY id"), _quarantined))


def read_audit_trail(rows: RowReader, first_seq: int, limit: int) -> list[AuditEntry]:
    """Entries of the audit trail in order."""
    found = rows.select("audit", "WHERE seq >= ? ORDER BY seq LIMIT ?", (max(first_seq, 1), limit))
    return list(_readable(rows, "audit", found, _audit_entry))


def read_stats(rows: RowReader, path: Path) -> StoreStats:
    """Counts and sizes.

    Raises:
        OSError: The files can't be looked at.
    """
    ask = rows.connection.execute
    segments, segment_bytes, unacknowledged = ask(
        "SELECT count(*), ifnull(sum(n_bytes), 0), ifnull(sum(NOT acknowledged), 0) FROM segment"
    ).fetchone()
    results, annotations, beats, epochs, quarantined, audit_entries, oldest_ms, newest_ms, replicas = ask(
        f"""SELECT (SELECT count(*) FROM result), (SELECT count(*) FROM annotation WHERE {LISTED_ANNOTATIONS}),
            (SELECT ifnull(sum(n_beats), 0) FROM beat_run), (SELECT count(*) FROM epoch),
            (SELECT count(*) FROM quarantine), (SELECT count(*) FROM audit),
            (SELECT min(started_at_ms) FROM result), (SELECT max(started_at_ms) FROM result),
            (SELECT count(*) FROM replica)"""  # noqa: S608 - a constant
    ).fetchone()
    (free_pages,) = ask("PRAGMA freelist_count").fetchone()
    return StoreStats(
        results=results,
        annotations=annotations,
        segments=segments,
        segment_bytes=segment_bytes,
        unacknowledged_segments=unacknowledged,
        beats=beats,
        epochs=epochs,
        quarantined=quarantined,
        audit_entries=audit_entries,
        file_bytes=sum(file.stat().st_size for file in files_of_store(path)),
        free_bytes=free_pages * PAGE_BYTES,
        oldest_ms=oldest_ms,
        newest_ms=newest_ms,
        notes=len(read_notes(rows, 0, MAX_TIME_MS, -1)),
        replicas=replicas,
    )


def _readable(rows: RowReader, table: str, found: Iterable[Row], read: Callable[[Row], _Value]) -> Iterator[_Value]:
    for row in found:
        try:
            value = read(row)
        except _UNREADABLE:
            rows.damaged(table, row, DamageReason.ROW_UNREADABLE)
        else:
            yield value


def _single(rows: RowReader, table: str, row: Row, read: Callable[[Row], _Value]) -> _Value:
    try:
        return read(row)
    except _UNREADABLE as error:
        raise rows.damaged(table, row, DamageReason.ROW_UNREADABLE) from error


def _result(row: Row) -> WindowResult:
    result = from_row(decode_result_row(row[2]), row[3])
    if result.counter != epoch_and_counter(row[0])[1]:
        raise ValueError("not the result of this counter")
    return result


def _segment(row: Row, stored: bytes | None) -> Segment:
    if stored is None:
        raise ValueError("a part of the signal is not what was written")
    segment = decode_segment(stored)
    if segment_digest(segment) != row[1]:
        raise ValueError("not the signal that this digest is of")
    return segment


def _quarantined(row: Row) -> Quarantined:
    _, kind, name, reason, found_at_ms = row
    return Quarantined(kind=ContentKind(kind), place=name, reason=DamageReason(reason), found_at_ms=found_at_ms)


def _audit_entry(row: Row) -> AuditEntry:
    seq, at_ms, action, subject, entry_hash = row
    return AuditEntry(seq=seq, at_ms=at_ms, action=AuditAction(action), subject=subject, entry_hash=bytes(entry_hash))
