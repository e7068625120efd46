"""All of a shard in memory, as a value that copies cheaply. It deliberately decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from einthoven_protocol.messages import (
    Cursor,
    Digest,
    NoteRow,
    Owner,
    ResultId,
    ResultRow,
    Seal,
    Superseded,
    Tombstone,
)
from einthoven_server.audit.chain import Event
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import (
    SERVER_ALIAS,
    AnnotationKey,
    NewAnnotation,
    NewDocument,
    NewNote,
    NewSuperseded,
    NewTombstone,
)


@dataclass(slots=True)
class StoredResult:
    """A result as it is kept."""

    row: ResultRow
    patient_id: str
    share: int
    commit_seq: int


@dataclass(slots=True)
class State:
    """All of a shard; ``Written``'s rows are kept as they came."""

    head: Cursor = field(default_factory=lambda: Cursor(1, 0))
    devices: dict[int, Device] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    nonces: dict[tuple[int, str], int] = field(default_factory=dict)
    marks: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    results: dict[ResultId, StoredResult] = field(default_factory=dict)
    quarantined: dict[ResultId, int] = field(default_factory=dict)
    seals: dict[tuple[int, int, int, int], Seal] = field(default_factory=dict)
    annotations: dict[AnnotationKey, NewAnnotation] = field(default_factory=dict)
    superseded: dict[Superseded, NewSuperseded] = field(default_factory=dict)
    notes: dict[ResultId, NewNote] = field(default_factory=dict)
    tombstones: dict[Tombstone, NewTombstone] = field(default_factory=dict)
    collected: set[Tombstone] = field(default_factory=set)
    documents: dict[tuple[str, str], NewDocument] = field(default_factory=dict)
    digests: dict[tuple[int, int], Digest] = field(default_factory=dict)
    horizons: dict[str, int] = field(default_factory=dict)
    cursors: dict[int, Cursor] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def copied(self) -> State:
        """A copy whose tables change by themselves; rows never do."""
        return State(*(_copied(getattr(self, name)) for name in self.__slots__))

    def owners(self, patient_id: str) -> tuple[Owner, ...]:
        """A patient's devices."""
        devices = sorted(self.devices.items())
        return tuple(Owner(alias, one.sync_key) for alias, one in devices if one.patient_id == patient_id)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, (dict, set, list)) else value


def within(place: ResultId, runs: Iterable[tuple[int, int, int, int]]) -> bool:
    """Whether an identity lies in one of the runs."""
    return any(
        (place.device_alias, place.epoch) == (alias, epoch) and first <= place.counter <= last
        for alias, epoch, first, last in runs
    )


def server_notes(state: State, patient_id: str) -> list[NoteRow]:
    """A patient's notes that the server wrote, in order."""
    return [
        new.row
        for _, new in sorted(state.notes.items())
        if new.row.device_alias == SERVER_ALIAS and new.patient_key.patient == patient_id
    ]
