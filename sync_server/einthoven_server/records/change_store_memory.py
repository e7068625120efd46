"""A shard in memory: the change store that simulations use, and the oracle of the one on PostgreSQL.

It deliberately seals nothing and lasts no longer than its process. It can be set back, as a fail-over to a replica that
lagged behind sets a shard back.

Invariants:
    1. A batch works on a copy and becomes the shard's state as a whole.
    2. ``fork_history`` raises the shard epoch above every one there was: cursors of the lost history are told apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from einthoven_protocol.messages import (
    Cursor,
)
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import (
    ChangeBatch,
    FedRow,
    FeedPage,
    Snapshot,
)
from einthoven_server.records.memory_batch import MemoryBatch
from einthoven_server.records.memory_snapshot import MemorySnapshot
from einthoven_server.records.memory_state import State

T = TypeVar("T")
_DAY_MS: Final = 24 * 3600 * 1000


class MemoryChangeStore:
    """A shard in memory.

    Args:
        state: Where it stands; fresh by default.
    """

    def __init__(self, state: State | None = None) -> None:
        self._state = State() if state is None else state
        self._highest_epoch = self._state.head.shard_epoch

    @property
    def events(self) -> Sequence[Event]:
        """The audit trail."""
        return self._state.events

    def enrol(self, device: Device) -> None:
        """Make a device known."""
        self._state.devices[device.alias] = device

    def revoke(self, alias: int) -> None:
        """Bar a device."""
        self._state.revoked.add(alias)

    def saved(self) -> State:
        """The state as it is now, for ``fork_history``."""
        return self._state.copied()

    def fork_history(self, earlier: State) -> None:
        """Go back to an earlier state, under a new shard epoch; who was enrolled and barred since stays so."""
        state = earlier.copied()
        self._highest_epoch += 1
        state.head = Cursor(self._highest_epoch, state.head.commit_seq)
        state.devices, state.revoked = self._state.devices, self._state.revoked
        self._state = state

    def lose_tombstones(self) -> None:
        """Forget what was deleted, as no store does: what was deleted is then what was lost."""
        state = self._state.copied()
        state.tombstones, state.collected = {}, set()
        self._state = state

    def sealed_results(
        self, key: PatientKey, alias: int, epoch: int, counters: Sequence[int], canonical: Sequence[bytes]
    ) -> list[bytes]:
        """Canonical bytes, as they are."""
        del key, alias, epoch, counters
        return list(canonical)

    def opened(self, key: PatientKey, page: Sequence[FedRow]) -> FeedPage:
        """Values of a page of the feed."""
        del key
        kinds: dict[str, list[Any]] = {kind: [] for kind in FeedPage._fields}
        for row in page:
            kinds[row.kind].append(row.stored)
        return FeedPage(**{kind: tuple(rows) for kind, rows in kinds.items()})

    async def commit(self, work: Callable[[ChangeBatch], Awaitable[T]]) -> T:
        """Run a batch on a copy, and make it the state."""
        state = self._state.copied()
        done = await work(MemoryBatch(state))
        self._state = state
        return done

    async def read(self, work: Callable[[Snapshot], Awaitable[T]]) -> T:
        """Read from the state as it is now."""
        return await work(MemorySnapshot(self._state.copied()))

    async def collect_tombstones(self, now_ms: int) -> int:
        """Take tombstones out of the feed; see ``ChangeStore``."""
        state = self._state.copied()
        too_old = now_ms - limits.TOMBSTONE_MAX_AGE_DAYS * _DAY_MS
        gone = [
            row
            for row, kept in state.tombstones.items()
            if row not in state.collected
            and (kept.deleted_at_ms < too_old or kept.commit_seq <= _read_by_all(state, kept.patient_id))
        ]
        state.collected.update(gone)
        for row in gone:
            kept = state.tombstones[row]
            state.horizons[kept.patient_id] = max(state.horizons.get(kept.patient_id, 0), kept.commit_seq)
        self._state = state
        return len(gone)


def _read_by_all(state: State, patient_id: str) -> int:
    def read(alias: int) -> int:
        cursor = state.cursors.get(alias, Cursor(0, 0))
        return cursor.commit_seq if cursor.shard_epoch == state.head.shard_epoch else 0

    aliases = [owner.device_alias for owner in state.owners(patient_id) if owner.device_alias not in state.revoked]
    return min(map(read, aliases), default=state.head.commit_seq)
