"""Shards of every adapter of the change store, and phones that speak to them without HTTP.

A phone here is an honest device in as few lines as possible: it keeps what comes down, and its own sums of it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.site import result_row

from einthoven_protocol import digests, merkle
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.exchange import check_response
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Capability,
    Cursor,
    Digest,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    NoteRow,
    Register,
    ResultId,
    ResultRow,
    RowKind,
    Seal,
    Superseded,
    Tombstone,
)
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Database, Scope
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import ChangeBatch, ChangeStore
from einthoven_server.records.change_store_memory import MemoryChangeStore
from einthoven_server.records.change_store_postgres import PostgresChangeStore
from einthoven_server.records.changes import Nonce
from einthoven_server.records.result_months import ResultMonths
from einthoven_server.records.writer import Writer
from einthoven_server.sync.service import SyncService

NOW_MS = 1_800_000_000_000
EVENT = Event(NOW_MS, "actor", "exchange", "", "allowed")
FEED = Capability.FEED
DAY_MS = 24 * 3600 * 1000
_MONTHS = 8
_nonces, _shards = count(), count(1)
T = TypeVar("T")


class StillClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_ms = NOW_MS

    def now_ms(self) -> int:
        return self.at_ms


class Enrolment(Protocol):
    """How devices become known to an adapter."""

    async def enrol(self, device: Device) -> None: ...

    async def revoke(self, device: Device) -> None: ...

    async def lose_tombstones(self) -> None:
        """Lose the names of all that was deleted: a row that was deleted is then one that was lost."""


class MemoryEnrolment:
    def __init__(self, store: MemoryChangeStore) -> None:
        self._store = store

    async def enrol(self, device: Device) -> None:
        self._store.enrol(device)

    async def revoke(self, device: Device) -> None:
        self._store.revoke(device.alias)

    async def lose_tombstones(self) -> None:
        self._store.lose_tombstones()


class PostgresEnrolment:
    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def enrol(self, device: Device) -> None:
        sealed = device.patient_key.seal(device.sync_key, "device", "sync_key_sealed", device.device_id)
        await self._database.fetch(
            "INSERT INTO device VALUES ($1, $2, $3, $4, $5, $6, $7, 1, 0)",
            *self._scope,
            device.device_id,
            device.alias,
            device.patient_id,
            device.public_key,
            sealed,
        )

    async def revoke(self, device: Device) -> None:
        await self._database.fetch(
            "UPDATE device SET revoked_at_ms = 1 WHERE shard = $1 AND tenant = $2 AND device_alias = $3",
            *self._scope,
            device.alias,
        )

    async def lose_tombstones(self) -> None:
        await self._database.fetch("DELETE FROM tombstone WHERE shard = $1 AND tenant = $2", *self._scope)


@dataclass
class Shard:
    """A running shard."""

    store: ChangeStore
    enrolment: Enrolment
    clock: StillClock
    writer: Writer
    service: SyncService
    tenant: str
    _aliases: count[int] = field(default_factory=lambda: count(1))

    def stay(self) -> None:
        """Let the sequence go on by ones, whatever month it is."""
        if isinstance(self.store, TurningStore):
            self.store.stay()

    def new_patient(self) -> PatientKey:
        return PatientKey(self.tenant, str(uuid.uuid4()), 1, uuid.uuid4().bytes * 2)

    async def new_phone(self, patient: PatientKey | None = None) -> Phone:
        key, private = patient or self.new_patient(), Ed25519PrivateKey.generate()
        alias = next(self._aliases)
        device = Device(
            device_id=f"device-{alias}",
            alias=alias,
            patient_id=key.patient,
            public_key=private.public_key().public_bytes_raw(),
            sync_key=uuid.uuid4().bytes * 2,
            revoked=False,
            patient_key=key,
        )
        await self.enrolment.enrol(device)
        return Phone(self, device, private)


@asynccontextmanager
async def memory_shard() -> AsyncIterator[Shard]:
    store = MemoryChangeStore()
    async with _running(store, MemoryEnrolment(store), "t") as shard:
        yield shard


@asynccontextmanager
async def postgres_shard(database: Database) -> AsyncIterator[Shard]:
    scope = Scope(0, str(uuid.uuid4()))
    await database.fetch("INSERT INTO shard_head VALUES ($1, 1, 0) ON CONFLICT DO NOTHING", scope.shard)
    await database.fetch("INSERT INTO audit_head VALUES ($1, $2, 0, $3)", *scope, bytes(32))
    store = PostgresChangeStore(database, scope, AuditLog(database, scope, bytes(32)))
    async with _running(store, PostgresEnrolment(database, scope), scope.tenant) as shard:
        yield shard


class TurningStore(PostgresChangeStore):
    """Every batch lies in another month, as long as there are months."""

    def __init__(self, database: Database, scope: Scope, audit: AuditLog) -> None:
        super().__init__(database, scope, audit)
        self._months, self._month = ResultMonths(database, scope), 0

    async def commit(self, work: Callable[[ChangeBatch], Awaitable[T]]) -> T:
        if self._month < _MONTHS:
            assert await self._months.keep(self._month * 31 * DAY_MS)
            self._month += 1
        return await super().commit(work)

    def stay(self) -> None:
        """Turn no more pages."""
        self._month = _MONTHS


@asynccontextmanager
async def turning_shard(database: Database) -> AsyncIterator[Shard]:
    """A shard of its own, because months are a shard's."""
    scope = Scope(next(_shards), str(uuid.uuid4()))
    await database.fetch("INSERT INTO shard_head VALUES ($1, 1, 0)", scope.shard)
    await database.fetch("INSERT INTO audit_head VALUES ($1, $2, 0, $3)", *scope, bytes(32))
    store = TurningStore(database, scope, AuditLog(database, scope, bytes(32)))
    async with _running(store, PostgresEnrolment(database, scope), scope.tenant) as shard:
        yield shard


@asynccontextmanager
async def _running(store: ChangeStore, enrolment: Enrolment, tenant: str) -> AsyncIterator[Shard]:
    clock = StillClock()
    writer = Writer(store, clock)
    async with writer.running():
        yield Shard(store, enrolment, clock, writer, SyncService(store, writer, clock), tenant)


@dataclass
class Phone:
    """A device, what it has read, and what it knows the server to hold."""

    shard: Shard
    device: Device
    private: Ed25519PrivateKey
    epoch: int = 1
    cursor: Cursor = field(default_factory=lambda: Cursor(0, 0))
    capabilities: int = FEED
    owners: dict[int, bytes] = field(default_factory=dict)
    results: dict[ResultId, ResultRow] = field(default_factory=dict)
    annotations: dict[tuple[ResultId, str], AnnotationRow] = field(default_factory=dict)
    notes: dict[ResultId, NoteRow] = field(default_factory=dict)
    superseded: set[Superseded] = field(default_factory=set)
    documents: dict[str, Document] = field(default_factory=dict)
    last: ExchangeResponse | None = None

    @property
    def alias(self) -> int:
        return self.device.alias

    def rows(self, first: int, n: int, **changed: Any) -> tuple[ResultRow, ...]:
        return tuple(result_row(counter, **changed) for counter in range(first, first + n))

    def seal(self, rows: Sequence[ResultRow]) -> Seal:
        root = merkle.tree_hash([encode_result_row(row) for row in rows])
        run = (self.epoch, rows[0].counter, rows[-1].counter)
        message = merkle.seal_message(self.alias, *run, root, bytes(32))
        return Seal(
            epoch=run[0],
            first_counter=run[1],
            last_counter=run[2],
            results_root=root,
            segments_root=bytes(32),
            signature=self.private.sign(message),
        )

    def note(self, counter: int, text: str, author: str | None = None) -> NoteRow:
        author = self.device.device_id if author is None else author
        return NoteRow(
            device_alias=self.alias, epoch=self.epoch, counter=counter, author=author, at_ms=NOW_MS, text=text
        )

    def words(
        self, target: ResultId, *, rhythm: tuple[str, int] = ("", 0), comment: tuple[str, int] = ("", 0), by: str = ""
    ) -> AnnotationRow:
        author = by or self.device.patient_id
        return AnnotationRow(target=target, author=author, rhythm=Register(*rhythm), comment=Register(*comment))

    def request(self, rows: Sequence[ResultRow] = (), **changed: Any) -> ExchangeRequest:
        alerts = changed.get("alerts", ())
        seals = ((self.seal(rows),) if rows else ()) + tuple(self.seal([row]) for row in alerts)
        given: dict[str, Any] = {
            "device_alias": self.alias,
            "epoch": self.epoch,
            "results": tuple(rows),
            "seals": seals,
            "cursor": self.cursor,
            "capabilities": self.capabilities,
            "owners_known": len(self.owners),
        }
        return ExchangeRequest(**given | changed)

    async def send(self, request: ExchangeRequest) -> ExchangeResponse:
        nonce = Nonce(f"nonce-{next(_nonces)}", NOW_MS * 2)
        return await self.shard.service.exchange(self.device, request, nonce, EVENT)

    async def exchange(self, rows: Sequence[ResultRow] = (), **changed: Any) -> ExchangeResponse:
        """Exchange once, and keep what came."""
        request = self.request(rows, **changed)
        response = await self.send(request)
        check_response(request, response)
        self.take(request, response)
        return response

    async def catch_up(self) -> ExchangeResponse:
        """Exchange until there is no more; the sums must then agree."""
        response = await self.exchange()
        while response.more:
            response = await self.exchange()
        self.check()
        return response

    def take(self, request: ExchangeRequest, response: ExchangeResponse) -> None:
        """Apply a response: what is gone first."""
        self.last, self.cursor = response, response.cursor
        if response.owners:
            self.owners = {owner.device_alias: owner.sync_key for owner in response.owners}
        for gone in response.tombstones:
            self._bury(gone)
        refused = {(one.kind, one.device_alias, one.epoch, one.counter, one.author) for one in response.refused}
        for gone in request.deletions:
            if (gone.kind, gone.device_alias, gone.epoch, gone.counter, gone.author) not in refused:
                self._bury(gone)
        held = {verdict.counter for verdict in response.verdicts if verdict.code > 1}
        for pushed in (*request.results, *request.alerts):
            if pushed.counter not in held:
                self.results[ResultId(self.alias, request.epoch, pushed.counter)] = pushed
        for note in request.notes:
            place = (RowKind.NOTE, note.device_alias, note.epoch, note.counter, "")
            if note.counter <= response.notes_acknowledged and place not in refused:
                self.notes[ResultId(note.device_alias, note.epoch, note.counter)] = note
        for row in request.annotations:
            target = row.target
            place = (RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, row.author)
            if place not in refused:
                self._say(row)
        for one in response.results:
            self.results[ResultId(one.device_alias, one.epoch, one.row.counter)] = one.row
        for note in response.notes:
            self.notes[ResultId(note.device_alias, note.epoch, note.counter)] = note
        for row in response.annotations:
            self._say(row)
        self.superseded.update(response.superseded)
        for document in response.documents:
            held_version = self.documents.get(document.name)
            if held_version is None or held_version.version < document.version:
                self.documents[document.name] = document

    def check(self) -> None:
        """Hold the sums of what is here to the server's."""
        assert self.last is not None
        said = {(one.device_alias, one.kind): Digest(one.count, one.total) for one in self.last.digests}
        if self.last.digest != digests.EMPTY:
            said[self.alias, int(BucketKind.RECORDS)] = self.last.digest
        assert self.sums() == said

    def sums(self) -> dict[tuple[int, int], Digest]:
        """The digests of all buckets that are not empty."""
        shares: list[tuple[int, int, int]] = []
        for place, row in self.results.items():
            key = self.owners[place.device_alias]
            shares.append((place.device_alias, 1, digests.result_sum(key, place.device_alias, place.epoch, row)))
        for (target, _), said in self.annotations.items():
            shares.append((target.device_alias, 1, digests.annotation_sum(self.owners[target.device_alias], said)))
        for place, note in self.notes.items():
            key = self.owners[place.device_alias or self.alias]
            shares.append((place.device_alias, 2, digests.note_sum(key, note)))
        for lost in self.superseded:
            owner = lost.target.device_alias
            shares.append((owner, 2, digests.superseded_sum(self.owners[owner], lost)))
        sums: dict[tuple[int, int], Digest] = {}
        for alias, kind, share in shares:
            sums[alias, kind] = digests.add(sums.get((alias, kind), digests.EMPTY), share)
        return sums

    def restored(self, epoch: int) -> Phone:
        """A phone set up anew from a backup that holds nothing, under a new epoch."""
        fresh = replace(self, epoch=epoch, cursor=Cursor(0, 0), owners={}, results={}, annotations={}, notes={})
        return replace(fresh, superseded=set(), documents={}, last=None)

    def _say(self, row: AnnotationRow) -> None:
        place = (row.target, row.author)
        held = self.annotations.get(place)
        self.annotations[place] = row if held is None else merge_annotation(held, row)

    def _bury(self, gone: Tombstone) -> None:
        place = ResultId(gone.device_alias, gone.epoch, gone.counter)
        if gone.kind == RowKind.NOTE:
            self.notes.pop(place, None)
        elif gone.kind == RowKind.RESULT:
            self.results.pop(place, None)
        for key in [key for key in self.annotations if key[0] == place]:
            if gone.kind == RowKind.RESULT or (gone.kind == RowKind.ANNOTATION and key[1] == gone.author):
                row = self.annotations.pop(key)
                if gone.kind == RowKind.ANNOTATION and gone.hlc and (left := _later(row, gone.hlc)) is not None:
                    self.annotations[key] = left
        self.superseded = {
            lost
            for lost in self.superseded
            if lost.target != place
            or not (gone.kind == RowKind.RESULT or (gone.kind == RowKind.ANNOTATION and lost.author == gone.author))
            or 0 < gone.hlc < lost.hlc
        }


def _later(row: AnnotationRow, hlc: int) -> AnnotationRow | None:
    """The registers of a row that were written after a tombstone's time, if there are any."""
    rhythm, comment = (one if one.hlc > hlc else Register("", 0) for one in (row.rhythm, row.comment))
    left = AnnotationRow(target=row.target, author=row.author, rhythm=rhythm, comment=comment)
    return left if rhythm.hlc or comment.hlc else None
