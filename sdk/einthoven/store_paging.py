"""Everything of a kind that a store holds, a page at a time, so that a store of any size takes the memory of one page.

Over the port alone: what holds for every ``Store`` holds here. It deliberately keeps nothing and decides nothing.

Invariants:
    1. Every row is yielded once, in the order of the port, also where many begin in the same millisecond.
    2. Rows that are added behind the place that was reached may be missed; none is yielded twice for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from einthoven.errors import InputError
from einthoven.ports import Store
from einthoven.store_rules import MAX_ROWS_PER_CALL
from einthoven.store_values import AuditEntry, BeatRun, StoredResult
from einthoven_protocol.limits import MAX_TIME_MS

PAGE_ROWS: Final = 500
"""Rows of a page."""
PAGE_BEAT_RUNS: Final = 100
"""Runs of beats of a page."""


def all_results(store: Store, *, first_ms: int = 0, last_ms: int = MAX_TIME_MS) -> Iterator[StoredResult]:
    """Yield results of all epochs that start in [first_ms, last_ms], in order of (start, epoch, counter).

    Raises:
        InputError: More than ``MAX_ROWS_PER_CALL`` results start in the same millisecond.
        StoreError: The store can't be read.
    """
    seen: set[tuple[int, int]] = set()
    while True:
        limit = _checked(PAGE_ROWS + len(seen))
        page = store.results_between(first_ms, last_ms, limit=limit)
        yield from (one for one in page if (one.epoch, one.result.counter) not in seen)
        if len(page) < limit:
            return
        # The next page begins in the millisecond that this one ended in, of which there may be more.
        reached_ms = page[-1].result.started_at_ms
        if reached_ms != first_ms:
            seen = set()
        seen |= {(one.epoch, one.result.counter) for one in page if one.result.started_at_ms == reached_ms}
        first_ms = reached_ms


def all_beats(store: Store, *, first_ms: int = 0, last_ms: int = MAX_TIME_MS) -> Iterator[BeatRun]:
    """Yield runs of beats that overlap [first_ms, last_ms], in order of their start.

    Raises:
        InputError: More than ``MAX_ROWS_PER_CALL`` runs overlap the same millisecond.
        StoreError: The store can't be read.
    """
    limit, reached_ms, reached = PAGE_BEAT_RUNS, -1, 0
    while True:
        page = store.beats(first_ms, last_ms, limit=_checked(limit))
        # A page begins with runs that began earlier and still go on; those were yielded before.
        starts_ms = [int(run.at_ms[0]) for run in page]
        skipped = sum(start_ms < reached_ms for start_ms in starts_ms) + reached if reached_ms >= 0 else 0
        yield from page[skipped:]
        if len(page) < limit:
            return
        if skipped >= len(page):
            limit *= 2
            continue
        reached_ms, reached = starts_ms[-1], starts_ms.count(starts_ms[-1])
        first_ms = max(first_ms, reached_ms)


def all_audit_entries(store: Store) -> Iterator[AuditEntry]:
    """Yield the local audit trail from its beginning."""
    seq = 1
    while page := store.audit_trail(first_seq=seq, limit=PAGE_ROWS):
        yield from page
        seq = page[-1].seq + 1


def _checked(limit: int) -> int:
    if limit > MAX_ROWS_PER_CALL:
        raise InputError("too many rows of this store begin in the same millisecond", "export it by hand")
    return limit
