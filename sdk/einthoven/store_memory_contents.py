"""What ``MemoryStore`` holds, read from its books.

It deliberately changes no books.

Invariants:
    1. Listings are in the order that the port names.
"""

from __future__ import annotations

from einthoven.local_audit import verify
from einthoven.results import WindowResult
from einthoven.segments import segment_digest
from einthoven.store_memory_books import Books
from einthoven.store_memory_words import listed_notes
from einthoven.store_values import BeatRun, CheckReport, DamageReason, Finding, StoredResult, StoreStats


def read_results(books: Books, first_counter: int, limit: int) -> list[WindowResult]:
    """Results of the current epoch from a counter on."""
    places = [place for place in sorted(books.results) if place[0] == books.epoch and place[1] >= first_counter]
    return [books.results[place] for place in places[:limit]]


def read_results_between(books: Books, first_ms: int, last_ms: int, limit: int) -> list[StoredResult]:
    """Results of all epochs by their time."""
    found = [
        (result.started_at_ms, *place)
        for place, result in books.results.items()
        if first_ms <= result.started_at_ms <= last_ms
    ]
    return [StoredResult(epoch, books.results[epoch, counter]) for _, epoch, counter in sorted(found)[:limit]]


def read_beats(books: Books, first_ms: int, last_ms: int, limit: int) -> list[BeatRun]:
    """Runs of beats that overlap a stretch of time."""
    runs = [run for run in books.beats.values() if run.at_ms[0] <= last_ms and run.at_ms[-1] >= first_ms]
    return sorted(runs, key=lambda run: int(run.at_ms[0]))[:limit]


def read_stats(books: Books) -> StoreStats:
    """Counts and sizes; there is no file."""
    starts = [result.started_at_ms for result in books.results.values()]
    return StoreStats(
        results=len(books.results),
        annotations=len(books.local),
        segments=len(books.segments),
        segment_bytes=sum(row.stored_bytes for _, row in books.droppable_segments()),
        unacknowledged_segments=sum(not kept.acknowledged for kept in books.segments.values()),
        beats=sum(len(run.at_ms) for run in books.beats.values()),
        epochs=len(books.epochs),
        audit_entries=len(books.audit),
        oldest_ms=min(starts, default=None),
        newest_ms=max(starts, default=None),
        notes=len(listed_notes(books, 0, 2**62, len(books.notes) + len(books.own_notes))),
        replicas=len(books.replicas),
    )


def check(books: Books) -> CheckReport:
    """What can be wrong in memory: the audit trail, and a signal's digest."""
    findings = [
        Finding(DamageReason.ROW_UNREADABLE, f"segment {digest.hex()}")
        for digest, kept in books.segments.items()
        if segment_digest(kept.segment) != digest
    ]
    if (seq := verify(books.audit)) is not None:
        findings.append(Finding(DamageReason.CHAIN_BROKEN, f"audit {seq}"))
    tables = (books.results, books.segments, books.beats, books.local, books.settings, books.audit)
    return CheckReport(pages=0, rows=sum(len(table) for table in tables), findings=tuple(findings))
