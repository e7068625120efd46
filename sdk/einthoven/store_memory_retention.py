"""Retention in memory: carries out what ``retention`` plans, on the books of ``MemoryStore``.

It deliberately plans nothing itself.

Invariants:
    1. What is dropped is on the audit trail and in an event, once for each kind and reason.
    2. ``store_max_bytes`` is held to the stored bytes of results, signals and beats: there is no file.
"""

from __future__ import annotations

import numpy as np

from einthoven.errors import StoreIOError
from einthoven.ports import Segment
from einthoven.results import WindowResult
from einthoven.retention import Droppable, check_ceiling, credible_now, over_age, over_size, to_make_room
from einthoven.segments import encode_segment
from einthoven.store_memory_books import Books, KeptSegment
from einthoven.store_values import ContentKind, DropReason, RetentionPolicy, RetentionReport


def retain(books: Books, policy: RetentionPolicy, at_ms: int) -> RetentionReport:
    """Drop what the policy no longer wants kept: results, then beats, then signals, each by age before size."""
    starts = [result.started_at_ms for result in books.results.values()]
    starts += [int(run.at_ms[0]) for run in books.beats.values()]
    now_ms = credible_now(at_ms, last_exchange_ms=books.last_exchange_ms, newest_ms=max(starts, default=None))

    places = books.droppable_results()
    results = over_age((row for _, row in places), policy.results_max_age_ms, now_ms)
    books.drop_results([places[row.key][0] for row in results])
    books.note_dropped(ContentKind.RESULT, DropReason.AGE, results, at_ms)

    named = books.droppable_replicas()
    replicas = over_age((row for _, row in named), policy.results_max_age_ms, now_ms)
    books.drop_replicas([named[row.key][0] for row in replicas])
    books.note_dropped(ContentKind.REPLICA, DropReason.AGE, replicas, at_ms)

    beats = over_age(books.droppable_beats(), policy.beats_max_age_ms, now_ms)
    for row in beats:
        del books.beats[row.key]
    books.note_dropped(ContentKind.BEATS, DropReason.AGE, beats, at_ms)

    old = over_age(_signals(books), policy.signal_max_age_ms, now_ms)
    _drop_signals(books, old, DropReason.AGE, at_ms)
    large = over_size(_signals(books), policy.signal_max_bytes)
    if policy.store_max_bytes is not None:
        check_ceiling(policy.store_max_bytes)
        kept = [row for row in _signals(books) if row not in large]
        over_bytes = _content_bytes(books) - sum(row.stored_bytes for row in large) - policy.store_max_bytes
        large += to_make_room(kept, over_bytes)
    _drop_signals(books, large, DropReason.SIZE, at_ms)

    signals = old + large
    return RetentionReport(
        segments=len(signals),
        segment_bytes=sum(row.stored_bytes for row in signals),
        unacknowledged_segments=sum(not row.acknowledged for row in signals),
        beat_runs=len(beats),
        results=len(results),
        replicas=len(replicas),
    )


def keep_signal(books: Books, result: WindowResult, segment: Segment, max_signal_bytes: int | None) -> None:
    """Keep a copy of a signal that nobody can change, and drop the oldest ones if it does not fit otherwise.

    Raises:
        StoreIOError: It does not fit an empty disk.
    """
    samples_uv = np.array(segment.samples_uv, dtype=np.int32)
    samples_uv.flags.writeable = False
    signal = KeptSegment(Segment(segment.sampling_rate_hz, samples_uv), result.started_at_ms)
    if max_signal_bytes is not None:
        _make_room(books, signal, max_signal_bytes, result.started_at_ms + result.duration_ms)
    books.segments[result.segment_digest] = signal


def _make_room(books: Books, signal: KeptSegment, max_signal_bytes: int, at_ms: int) -> None:
    held = _signals(books)
    wanted_bytes = sum(row.stored_bytes for row in held) + len(encode_segment(signal.segment)) - max_signal_bytes
    dropped = to_make_room(held, wanted_bytes)
    if sum(row.stored_bytes for row in dropped) < wanted_bytes:
        raise StoreIOError("the disk is full", "free some space, then try again")
    _drop_signals(books, dropped, DropReason.DISK_FULL, at_ms)


def _signals(books: Books) -> list[Droppable]:
    return [row for _, row in books.droppable_segments()]


def _drop_signals(books: Books, dropped: list[Droppable], reason: DropReason, at_ms: int) -> None:
    digests = [digest for digest, _ in books.droppable_segments()]
    for row in dropped:
        del books.segments[digests[row.key]]
    books.note_dropped(ContentKind.SEGMENT, reason, dropped, at_ms)


def _content_bytes(books: Books) -> int:
    rows = [*_signals(books), *books.droppable_beats(), *(row for _, row in books.droppable_results())]
    return sum(row.stored_bytes for row in rows)
