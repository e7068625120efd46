"""What waits in a store, by lane, and which buckets are the same on both sides. Pure.

It deliberately reads no store: ``SyncState`` says what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from einthoven.identity import Identity
from einthoven.ports import SyncState
from einthoven.store_values import StoreStats
from einthoven.sync_policy import Lane
from einthoven_protocol import digests
from einthoven_protocol.messages import BucketKind, Digest


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits in each lane.

    Attributes:
        alerts: Urgent results.
        results: Other results, and those that are to be given back.
        words: Annotations, notes, deletions.
        signals: Raw signals.
    """

    alerts: int
    results: int
    words: int
    signals: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket on both sides.

    Attributes:
        owner: Alias of the device whose rows they are; 0 for the server.
        kind: ``BucketKind``.
        here: Its digest on this device.
        there: The server's, when it last said.
    """

    owner: int
    kind: int
    here: Digest
    there: Digest


def waiting_rows(state: SyncState, stats: StoreStats) -> Waiting:
    """Return how much waits in each lane."""
    results = state.waiting - _words(state)
    return Waiting(
        alerts=state.waiting_alerts,
        results=results - state.waiting_alerts + state.waiting_given,
        words=_words(state),
        signals=stats.unacknowledged_segments,
    )


def results_wait(state: SyncState) -> bool:
    """Return whether any result waits for its turn."""
    return state.waiting > _words(state)


def waiting_lane(state: SyncState, left: SyncState | None, *, news: bool) -> Lane:
    """Return the most urgent of what waits.

    Args:
        state: Where the store stands.
        left: Where the last exchange left it: what waited then waits for the server, and hurries nothing.
        news: Whether the server said that there is something.
    """
    if left is None or _books(state) != _books(left):
        if state.waiting_alerts:
            return Lane.ALERT
        if results_wait(state) or state.waiting_given:
            return Lane.RESULT
        if _words(state):
            return Lane.WORDS
    return Lane.NEWS if news else Lane.POLL


def compared_buckets(identity: Identity | None, state: SyncState) -> tuple[Bucket, ...]:
    """Return every bucket that either side has, own records first; none before the server spoke of any."""
    if identity is None or not state.server_digests:
        return ()
    own = (identity.device_alias, int(BucketKind.RECORDS))
    here = {(one.device_alias, one.kind): Digest(one.count, one.total) for one in state.digests}
    here[own] = state.digest
    there = {(one.device_alias, one.kind): Digest(one.count, one.total) for one in state.server_digests}
    names = sorted(here.keys() | there.keys(), key=lambda name: (name != own, name))
    return tuple(Bucket(*name, here.get(name, digests.EMPTY), there.get(name, digests.EMPTY)) for name in names)


def _words(state: SyncState) -> int:
    return state.waiting_annotations + state.waiting_notes + state.waiting_deletions


def _books(state: SyncState) -> tuple[int, ...]:
    """What changes when something is written."""
    return (
        state.epoch,
        state.last_counter,
        state.waiting,
        state.waiting_annotations,
        state.waiting_notes,
        state.waiting_deletions,
        state.waiting_given,
        state.waiting_alerts,
    )
