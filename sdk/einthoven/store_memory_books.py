"""What ``MemoryStore`` holds, as plain lists and dictionaries, and the changes that more than one of its methods makes.

It deliberately counts nothing in advance and indexes nothing.

Invariants:
    1. Values in the books are immutable, so that ``copy`` is a snapshot.
    2. Dictionaries of content are in the order in which it was written.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from einthoven.beat_runs import encode_beats
from einthoven.local_audit import next_entry
from einthoven.ports import Segment
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.retention import Droppable
from einthoven.segments import encode_segment
from einthoven.store_events import MAX_WAITING_EVENTS, ContentDropped, ForkReason, StoreEvent, StoreForked
from einthoven.store_rules import FIRST_EPOCH, Draw, dropped_subject, fork_subject, next_epoch, result_row_bytes
from einthoven.store_rules_feed import SERVER_ALIAS, Bases, Known, Overtaken, ServerSays, Shown
from einthoven.store_values import AuditAction, AuditEntry, BeatRun, ContentKind, DropReason
from einthoven_protocol import digests
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    Digest,
    Document,
    NoteRow,
    ResultId,
    ResultRow,
    RowVerdict,
    Superseded,
    Tombstone,
)

AnnotationName = tuple[ResultId, str]
"""Target and author."""
Place = tuple[int, int]
"""Epoch and counter of a result, or of a note."""
NoteName = tuple[int, int, int]
"""Alias, epoch and counter of a note."""
MAX_KEPT_HASHES: Final = 65_536
"""Rows' keyed hashes that are kept; beyond, all are computed anew."""


@dataclass(frozen=True, slots=True)
class KeptSegment:
    """A signal, when its first result began, and whether the server holds it."""

    segment: Segment
    started_at_ms: int
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Replica:
    """A result that came down, and whether the server is known to hold it."""

    row: ResultRow
    known: bool = True


@dataclass(frozen=True, slots=True)
class OwnNote:
    """A note of this device's; ``refused`` is the reason, or 0."""

    row: NoteRow
    shown: Shown = Shown.LISTED
    refused: int = 0


@dataclass(frozen=True, slots=True)
class KeptNote:
    """A note that came down; one that is to be deleted is not listed."""

    row: NoteRow
    known: Known = Known.HELD
    hidden: bool = False


class Hashed:
    """Keyed hashes of rows, computed once: of one key and row there is one, so that all snapshots share them."""

    def __init__(self) -> None:
        self._shares: dict[tuple[Hashable, ...], int] = {}

    def share(self, compute: Callable[..., int], *of: Hashable) -> int:
        """What ``compute(*of)`` gives."""
        name = (compute, *of)
        share = self._shares.get(name)
        if share is None:
            if len(self._shares) >= MAX_KEPT_HASHES:
                self._shares.clear()
            share = self._shares[name] = compute(*of)
        return share


@dataclass(slots=True)
class Books:
    """Everything.

    Attributes:
        epochs: Highest counter given in each epoch.
        acknowledged: Highest acknowledged counter of each.
        epoch: The current one.
        results: By place.
        segments: By digest.
        beats: By number.
        settings: By name.
        local: Annotations as they are here.
        known: Annotations as the server is known to hold them.
        own: Names of those that were ever written here.
        bases: R12, by name of the annotation.
        overtaken: R12, by name of the annotation.
        refused_words: Why the server refused an annotation, by name.
        refused: By place.
        alerts: Results that went ahead, and whether the server holds them (R14).
        lost: Own results that the server lost (R24).
        dropped: Digest shares of dropped results that the server holds (R20).
        replicas: Results that came down.
        own_notes: By place; their alias is not yet said.
        notes_given: Highest counter of notes given in each epoch.
        notes_acknowledged: Highest acknowledged counter of notes of each.
        notes: Notes that came down, by (alias, epoch, counter).
        superseded: And whether the server is known to hold them.
        documents: By name.
        owners: Their keys, by alias.
        owners_asked: Whether a row came of an owner whose key is not known.
        deletion_times: Up to when deletions of annotations go, by name.
        deletions: By name, with their ``DeletionState`` or why they were refused.
        server_says: What it announced last.
        server_digests: What it said of each bucket when it last did.
        rebaseline: R23.
        keyed_with: Sync key and alias of the last exchange.
        cursor: How far the feed was read.
        last_exchange_ms: When.
        last_digest_equal: And how it ended.
        audit: The trail.
        events: Not yet taken.
        hashed: Keyed hashes that were computed.
    """

    epochs: dict[int, int] = field(default_factory=lambda: {FIRST_EPOCH: 0})
    acknowledged: dict[int, int] = field(default_factory=lambda: {FIRST_EPOCH: 0})
    epoch: int = FIRST_EPOCH
    results: dict[Place, WindowResult] = field(default_factory=dict)
    segments: dict[bytes, KeptSegment] = field(default_factory=dict)
    beats: dict[int, BeatRun] = field(default_factory=dict)
    beats_given: int = 0
    settings: dict[str, bytes] = field(default_factory=dict)
    local: dict[AnnotationName, AnnotationRow] = field(default_factory=dict)
    known: dict[AnnotationName, AnnotationRow] = field(default_factory=dict)
    own: set[AnnotationName] = field(default_factory=set)
    refused: dict[Place, RowVerdict] = field(default_factory=dict)
    bases: dict[AnnotationName, Bases] = field(default_factory=dict)
    overtaken: dict[AnnotationName, Overtaken] = field(default_factory=dict)
    refused_words: dict[AnnotationName, int] = field(default_factory=dict)
    alerts: dict[Place, bool] = field(default_factory=dict)
    lost: set[Place] = field(default_factory=set)
    dropped: dict[ResultId, int] = field(default_factory=dict)
    replicas: dict[ResultId, Replica] = field(default_factory=dict)
    own_notes: dict[Place, OwnNote] = field(default_factory=dict)
    notes_given: dict[int, int] = field(default_factory=dict)
    notes_acknowledged: dict[int, int] = field(default_factory=dict)
    notes: dict[NoteName, KeptNote] = field(default_factory=dict)
    superseded: dict[Superseded, bool] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)
    owners: dict[int, bytes] = field(default_factory=dict)
    owners_asked: bool = False
    deletion_times: dict[Tombstone, int] = field(default_factory=dict)
    deletions: dict[Tombstone, int] = field(default_factory=dict)
    server_says: ServerSays = field(default_factory=ServerSays)
    server_digests: dict[tuple[int, int], Digest] = field(default_factory=dict)
    rebaseline: bool = False
    keyed_with: tuple[bytes, int] | None = None
    cursor: Cursor = field(default_factory=lambda: Cursor(0, 0))
    last_exchange_ms: int | None = None
    last_digest_equal: bool | None = None
    audit: list[AuditEntry] = field(default_factory=list)
    events: deque[StoreEvent] = field(default_factory=lambda: deque(maxlen=MAX_WAITING_EVENTS))
    hashed: Hashed = field(default_factory=Hashed, compare=False)

    def copy(self) -> Books:
        """A snapshot that goes its own way."""
        snapshot = copy.copy(self)
        for name in self.__slots__:
            if isinstance(value := getattr(self, name), (dict, set, list, deque)):
                setattr(snapshot, name, value.copy())
        return snapshot

    def record(self, action: AuditAction, subject: str, at_ms: int) -> AuditEntry:
        """Append to the trail."""
        self.audit.append(next_entry(self.audit[-1] if self.audit else None, action, subject, at_ms))
        return self.audit[-1]

    def give_counter(self, result: WindowResult) -> WindowResult:
        """Keep a result under the next counter."""
        stored = replace(result, counter=self.epochs[self.epoch] + 1)
        self.epochs[self.epoch] += 1
        self.results[self.epoch, stored.counter] = stored
        return stored

    def fork(self, reason: ForkReason, draw: Draw, at_ms: int) -> None:
        """Go on in a new epoch."""
        old, new = self.epoch, next_epoch(max(self.epochs), draw)
        self.epoch = new
        self.epochs[new] = self.acknowledged[new] = 0
        self.record(AuditAction.FORKED, fork_subject(old, new, reason), at_ms)
        self.events.append(StoreForked(old, new, reason))

    def fork_to_hear(self, asked: int, draw: Draw, at_ms: int) -> None:
        """R7: go on in a new epoch, unless the server sends all that it has to one who speaks of the current one.

        Args:
            asked: Epoch of the request.
            draw: Source of chance.
            at_ms: UTC ms since 1970.
        """
        epoch = self.epoch
        undecided = self.epochs[epoch] > self.acknowledged[epoch]
        notes_undecided = self.notes_given.get(epoch, 0) > self.notes_acknowledged.get(epoch, 0)
        if asked != epoch and (undecided or notes_undecided):
            self.fork(ForkReason.COUNTER_REUSED, draw, at_ms)

    def waiting(self, epoch: int) -> list[WindowResult]:
        """Results of an epoch above its mark, in order."""
        return [
            result
            for place, result in sorted(self.results.items(), key=lambda item: item[0])
            if place[0] == epoch and place[1] > self.acknowledged[epoch]
        ]

    def waiting_annotations(self) -> list[AnnotationRow]:
        """Own annotations that the server is not known to hold as they are, and did not refuse, in order."""
        return [
            row
            for name, row in sorted(self.local.items())
            if name in self.own
            and ((self.known.get(name) != row and name not in self.refused_words) or name in self.overtaken)
        ]

    def waiting_notes(self, epoch: int) -> list[NoteRow]:
        """Own notes of an epoch above its mark, in order."""
        mark = self.notes_acknowledged.get(epoch, 0)
        return [
            self.signed(self.own_notes[place].row)
            for place in sorted(self.own_notes)
            if place[0] == epoch and place[1] > mark
        ]

    @property
    def own_alias(self) -> int:
        """Alias of this device, as of the last exchange."""
        return SERVER_ALIAS if self.keyed_with is None else self.keyed_with[1]

    def signed(self, row: NoteRow) -> NoteRow:
        """An own note with this device's alias."""
        return msgspec.structs.replace(row, device_alias=self.own_alias)

    def waits(self, target: ResultId) -> bool:
        """R9: whether this is an own result that waits itself."""
        return (
            (self.keyed_with is None or target.device_alias == self.own_alias)
            and (target.epoch, target.counter) in self.results
            and target.counter > self.acknowledged[target.epoch]
        )

    def holds(self, place: Place) -> bool:
        """R1 and R14: whether the server holds the own result at this place."""
        if place[1] > self.acknowledged.get(place[0], 0):
            return self.alerts.get(place, False)
        return place not in self.refused and place not in self.lost

    def held_by_server(self) -> Iterator[tuple[int, WindowResult]]:
        """Results that the server holds by R1, with their epoch."""
        for (epoch, counter), result in self.results.items():
            if self.holds((epoch, counter)):
                yield epoch, result

    def droppable_segments(self) -> list[tuple[bytes, Droppable]]:
        """Signals by digest, as ``retention`` looks at them."""
        return [
            (digest, Droppable(number, kept.started_at_ms, len(encode_segment(kept.segment)), kept.acknowledged))
            for number, (digest, kept) in enumerate(self.segments.items())
        ]

    def droppable_beats(self) -> list[Droppable]:
        """Runs of beats, as ``retention`` looks at them."""
        return [
            Droppable(number, int(run.at_ms[0]), len(encode_beats(run)), acknowledged=True)
            for number, run in self.beats.items()
        ]

    def droppable_results(self) -> list[tuple[Place, Droppable]]:
        """Results by place, as ``retention`` looks at them."""
        return [
            (
                place,
                Droppable(
                    number,
                    result.started_at_ms,
                    len(result_row_bytes(result)),
                    place[1] <= mark and place not in self.lost,
                ),
            )
            for number, (place, result) in enumerate(sorted(self.results.items(), key=lambda item: item[0]))
            for mark in (self.acknowledged[place[0]],)
        ]

    def drop_results(self, places: Iterable[Place]) -> None:
        """Forget results; what the digest covers stays covered (R5)."""
        held = {(epoch, result.counter) for epoch, result in self.held_by_server()}
        for place in places:
            if place in held and self.keyed_with is not None:
                key, alias = self.keyed_with
                self.dropped[ResultId(alias, *place)] = digests.result_sum(
                    key, alias, place[0], to_row(self.results[place])
                )
            del self.results[place]
            self.refused.pop(place, None)

    def droppable_replicas(self) -> list[tuple[ResultId, Droppable]]:
        """Replicas by name, as ``retention`` looks at them."""
        return [
            (name, Droppable(number, kept.row.started_at_ms, len(encode_result_row(kept.row)), self._counts(name)))
            for number, (name, kept) in enumerate(sorted(self.replicas.items(), key=lambda item: item[0]))
        ]

    def drop_replicas(self, names: Iterable[ResultId]) -> None:
        """Forget replicas; they stay in their buckets (R20)."""
        for name in names:
            key = self.key_of(name.device_alias) or b""
            row = self.replicas.pop(name).row
            self.dropped[name] = digests.result_sum(key, name.device_alias, name.epoch, row)

    def key_of(self, owner: int) -> bytes | None:
        """R19: what an owner's shares are keyed with; ``None`` if not known."""
        return self.keys().get(owner)

    def keys(self) -> dict[int, bytes]:
        """R19: what shares are keyed with, by owner."""
        if self.keyed_with is None:
            return {}
        key, alias = self.keyed_with
        return {**self.owners, SERVER_ALIAS: key, alias: key}

    def _counts(self, name: ResultId) -> bool:
        return self.replicas[name].known and self.key_of(name.device_alias) is not None

    def note_dropped(self, kind: ContentKind, reason: DropReason, dropped: list[Droppable], at_ms: int) -> None:
        """Say that content was dropped, if any was."""
        if not dropped:
            return
        self.record(AuditAction.DROPPED, dropped_subject(kind, reason, len(dropped)), at_ms)
        self.events.append(
            ContentDropped(
                kind=kind,
                count=len(dropped),
                dropped_bytes=sum(row.stored_bytes for row in dropped),
                unacknowledged=sum(not row.acknowledged for row in dropped),
                reason=reason,
            )
        )


def read_only_beats(run: BeatRun) -> BeatRun:
    """A copy of a run of beats that nobody can change."""
    at_ms, classes = run.at_ms.copy(), run.classes.copy()
    at_ms.flags.writeable = classes.flags.writeable = False
    return BeatRun(at_ms, classes)
