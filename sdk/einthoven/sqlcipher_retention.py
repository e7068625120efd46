"""Drops what a policy no longer wants kept, and the oldest signals where there is no room. Rows only, no decisions.

Which rows go is decided in ``retention``; this asks the store for what it looks at, deletes what it says, and leaves an
audit entry and an event. It runs inside the caller's transaction.

Invariants:
    1. What is dropped is said: one ``ContentDropped`` for each kind and reason, with what of it was on no server.
    2. Results go from the beginning of an epoch, and ``first_kept`` says from where on they are there.
    3. What is looked at is read a row at a time, and no signal's body.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from einthoven.retention import Droppable, credible_now, over_age, over_size, to_make_room
from einthoven.sqlcipher_books import sync_line
from einthoven.sqlcipher_buckets import BucketKeys, bucket_keys, own_held, result_shares
from einthoven.sqlcipher_connection import PAGE_BYTES
from einthoven.sqlcipher_replicas import keep_shares
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_events import ContentDropped
from einthoven.store_rules import dropped_subject
from einthoven.store_schema import epoch_and_counter, position_of
from einthoven.store_values import AuditAction, ContentKind, DropReason, RetentionPolicy, RetentionReport

ROOM_BYTES: Final = 256 * 1024
"""Signals dropped at once on a full disk: half an hour of ECG; their log fits the ballast."""
CEILING_SLACK_PERMILLE: Final = 20
"""Where the ceiling is reached, so much of it is freed, or every commit would drop something."""

_SEGMENTS: Final = "SELECT id, started_at_ms, n_bytes, acknowledged FROM segment ORDER BY id"
_BEATS: Final = "SELECT id, started_at_ms, length(body), 1 FROM beat_run ORDER BY id"
_REPLICAS: Final = """SELECT rowid, started_at_ms, length(body), history = (SELECT history FROM link) AND (
    device_alias IN (0, (SELECT digest_device_alias FROM sync)) OR device_alias IN (SELECT device_alias FROM owner))
    FROM replica ORDER BY device_alias, position"""
_RESULTS: Final = """SELECT position, started_at_ms, length(body), position & 4294967295 <= acknowledged
    AND position NOT IN (SELECT position FROM to_give)
    FROM result JOIN epoch ON epoch.epoch = position >> 32 ORDER BY position"""


def retain(rows: SqlCipherRows, policy: RetentionPolicy, *, at_ms: int) -> RetentionReport:
    """Apply a policy: results, then beats, then signals, each by age before size.

    Raises:
        ValueError: One of its limits is negative.
    """
    now_ms = _now_ms(rows, at_ms)
    results = over_age(_held(rows, _RESULTS), policy.results_max_age_ms, now_ms)
    _drop_results(rows, results, at_ms)
    replicas = _drop_replicas(rows, policy.results_max_age_ms, now_ms, at_ms)
    beats = over_age(_held(rows, _BEATS), policy.beats_max_age_ms, now_ms)
    for row in beats:
        rows.delete("beat_run", (row.key,))
    _note(rows, ContentKind.BEATS, DropReason.AGE, beats, at_ms)
    signals = over_age(_held(rows, _SEGMENTS), policy.signal_max_age_ms, now_ms)
    _drop_signals(rows, signals, DropReason.AGE, at_ms)
    large = over_size(_held(rows, _SEGMENTS), policy.signal_max_bytes)
    _remove_signals(rows, large)
    if policy.store_max_bytes is not None:
        over_ceiling = _over_ceiling(rows, policy.store_max_bytes)
        _remove_signals(rows, over_ceiling)
        large += over_ceiling
    _note(rows, ContentKind.SEGMENT, DropReason.SIZE, large, at_ms)
    signals += large
    return RetentionReport(
        segments=len(signals),
        segment_bytes=sum(signal.stored_bytes for signal in signals),
        unacknowledged_segments=sum(not signal.acknowledged for signal in signals),
        beat_runs=len(beats),
        results=len(results),
        replicas=replicas,
    )


def keep_below(rows: SqlCipherRows, max_bytes: int, *, at_ms: int) -> int:
    """Drop the oldest signals if the file's content reaches a ceiling; return how many."""
    dropped = _over_ceiling(rows, max_bytes)
    _drop_signals(rows, dropped, DropReason.SIZE, at_ms)
    return len(dropped)


def make_room(rows: SqlCipherRows, *, at_ms: int) -> int:
    """Drop the oldest signals because the disk is full; return how many."""
    dropped = to_make_room(_held(rows, _SEGMENTS), ROOM_BYTES)
    _drop_signals(rows, dropped, DropReason.DISK_FULL, at_ms)
    return len(dropped)


def free_bytes_inside(rows: SqlCipherRows) -> int:
    """Room inside the file that is used again before it grows."""
    (pages,) = rows.connection.execute("PRAGMA freelist_count").fetchone()
    return int(pages) * PAGE_BYTES


def _over_ceiling(rows: SqlCipherRows, max_bytes: int) -> list[Droppable]:
    if max_bytes < 0:
        raise ValueError("a policy's limits are not negative")
    over_bytes = _used_bytes(rows) - max_bytes
    if over_bytes <= 0:
        return []
    return to_make_room(_held(rows, _SEGMENTS), over_bytes + max_bytes * CEILING_SLACK_PERMILLE // 1_000)


def _held(rows: SqlCipherRows, question: str) -> Iterator[Droppable]:
    for key, started_at_ms, stored_bytes, acknowledged in rows.connection.execute(question):
        yield Droppable(key, started_at_ms, stored_bytes, bool(acknowledged))


def _now_ms(rows: SqlCipherRows, at_ms: int) -> int:
    last_exchange_ms, newest_result_ms, newest_beats_ms = rows.connection.execute(
        """SELECT (SELECT last_exchange_ms FROM sync), (SELECT max(started_at_ms) FROM result),
            (SELECT max(started_at_ms) FROM beat_run)"""
    ).fetchone()
    starts_ms = [start_ms for start_ms in (newest_result_ms, newest_beats_ms) if start_ms is not None]
    return credible_now(at_ms, last_exchange_ms=last_exchange_ms, newest_ms=max(starts_ms, default=None))


def _used_bytes(rows: SqlCipherRows) -> int:
    (pages,) = rows.connection.execute("PRAGMA page_count").fetchone()
    return int(pages) * PAGE_BYTES - free_bytes_inside(rows)


def _drop_signals(rows: SqlCipherRows, dropped: Sequence[Droppable], reason: DropReason, at_ms: int) -> None:
    _remove_signals(rows, dropped)
    _note(rows, ContentKind.SEGMENT, reason, dropped, at_ms)


def _drop_replicas(rows: SqlCipherRows, max_age_ms: int | None, now_ms: int, at_ms: int) -> int:
    """R20."""
    dropped = over_age(_held(rows, _REPLICAS), max_age_ms, now_ms)
    sync = sync_line(rows)
    if not dropped or sync.digest_key is None or sync.digest_device_alias is None:
        return 0
    keys = bucket_keys(rows, sync.digest_key, sync.digest_device_alias)
    found: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for row in dropped:
        line = rows.find("replica", "WHERE rowid = ?", (row.key,))
        if line is not None:
            found[line[0]].append((line[1], line[4]))
            rows.delete("replica", line[:2])
    for owner, bodies in found.items():
        _keep_shares(rows, keys, owner, sorted(bodies))
    _note(rows, ContentKind.REPLICA, DropReason.AGE, dropped, at_ms)
    return len(dropped)


def _keep_shares(rows: SqlCipherRows, keys: BucketKeys, owner: int, bodies: list[tuple[int, bytes]]) -> None:
    key = keys.of(owner)
    if key is not None:
        positions = [position for position, _ in bodies]
        keep_shares(rows, owner, zip(positions, result_shares(key, owner, bodies), strict=True))


def _keep_own_shares(rows: SqlCipherRows, last_dropped: dict[int, int]) -> None:
    """R20: of what is about to go, what the server holds."""
    sync = sync_line(rows)
    if not last_dropped or sync.digest_key is None or sync.digest_device_alias is None:
        return
    bodies = [
        (position, body)
        for position, body in own_held(rows)
        if epoch_and_counter(position)[1] <= last_dropped.get(epoch_and_counter(position)[0], 0)
    ]
    keys = bucket_keys(rows, sync.digest_key, sync.digest_device_alias)
    _keep_shares(rows, keys, sync.digest_device_alias, bodies)


def _drop_results(rows: SqlCipherRows, dropped: Sequence[Droppable], at_ms: int) -> None:
    last_dropped = dict(epoch_and_counter(row.key) for row in dropped)
    _keep_own_shares(rows, last_dropped)
    for epoch, counter in last_dropped.items():
        rows.delete_where(
            "result", "WHERE position BETWEEN ? AND ?", (position_of(epoch, 0), position_of(epoch, counter))
        )
        rows.delete_where("refusal", "WHERE epoch = ? AND counter <= ?", (epoch, counter))
        row = rows.get("epoch", (epoch,))
        if row is not None:
            rows.put("epoch", (*row[:3], counter + 1))
    _note(rows, ContentKind.RESULT, DropReason.AGE, dropped, at_ms)


def _remove_signals(rows: SqlCipherRows, dropped: Sequence[Droppable]) -> None:
    rows.remove_segments(sorted(row.key for row in dropped))


def _note(rows: SqlCipherRows, kind: ContentKind, reason: DropReason, dropped: Sequence[Droppable], at_ms: int) -> None:
    if not dropped:
        return
    rows.append_audit(AuditAction.DROPPED, dropped_subject(kind, reason, len(dropped)), at_ms=at_ms)
    rows.events.append(
        ContentDropped(
            kind=kind,
            count=len(dropped),
            dropped_bytes=sum(row.stored_bytes for row in dropped),
            unacknowledged=sum(not row.acknowledged for row in dropped),
            reason=reason,
        )
    )
