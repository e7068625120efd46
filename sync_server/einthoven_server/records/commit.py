"""One batch of changes as one transaction: load what it touches, let the ledger decide, write, read the feed.

It deliberately decides nothing but replay and revocation, which only the transaction can know.

Invariants:
    1. The shard's head is locked first and its commit sequence written last, so that sequences are visible in order.
    2. A batch is all or nothing, audit entries included.
    3. Every answer shows the state after the whole batch: feed, cursor and digest belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from einthoven_protocol import digests
from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE, SUM_BYTES
from einthoven_protocol.messages import AnnotationRow, Cursor, Digest, ResultId
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Scope
from einthoven_server.errors import RequestRefused, Unauthorized
from einthoven_server.identity.guard import revoked
from einthoven_server.records import sealing, statements
from einthoven_server.records.ledger import Annotate, Ledger, NewResult, Push, Settled
from einthoven_server.records.resource_ids import Kind, resource_id

Change: TypeAlias = Push | Annotate


class Pushed(NamedTuple):
    """The answer to a push."""

    settled: Settled
    annotations: tuple[AnnotationRow, ...]
    cursor: Cursor
    digest: Digest
    more: bool


Outcome: TypeAlias = Pushed | AnnotationRow | RequestRefused


@dataclass(slots=True)
class Batch:
    """One transaction in the making.

    Args:
        connection: Inside the transaction.
        scope: Shard and tenant.
        audit: The tenant's audit log.
    """

    connection: Connection
    scope: Scope
    audit: AuditLog

    async def commit(self, changes: Sequence[Change], last_hlc: int, now_ms: int) -> tuple[list[Outcome], int]:
        """Do everything but the COMMIT.

        Returns:
            One outcome a change, and the last hybrid logical time given.
        """
        pushes = [change for change in changes if isinstance(change, Push)]
        ledger = await self._lock(last_hlc)
        barred = await self._barred(pushes, now_ms)
        await self._load(ledger, changes)
        decided = [
            barred.get(id(change)) or (ledger.settle(change) if isinstance(change, Push) else ledger.annotate(change))
            for change in changes
        ]
        await self._write(ledger, changes, decided)
        outcomes = await self._answers(ledger, changes, decided)
        await self.connection.execute(
            "UPDATE shard_head SET commit_seq = $2 WHERE shard = $1", self.scope.shard, ledger.commit_seq
        )
        await self.audit.append(self.connection, list(_events(changes, outcomes)))
        return outcomes, ledger.last_hlc

    async def _lock(self, last_hlc: int) -> Ledger:
        head = await self.connection.fetchrow(
            "SELECT shard_epoch, commit_seq FROM shard_head WHERE shard = $1 FOR UPDATE", self.scope.shard
        )
        return Ledger(head["shard_epoch"], head["commit_seq"], last_hlc)

    async def _barred(self, pushes: Sequence[Push], now_ms: int) -> dict[int, RequestRefused]:
        """Replayed and revoked pushes, by identity; remembers the nonces of all."""
        if not pushes:
            return {}
        await self.connection.execute(statements.FORGET_NONCES, self.scope.shard, now_ms)
        nonces = [(push.device.alias, push.nonce, push.nonce_expires_at_ms) for push in pushes]
        fresh = {(row[0], row[1]) for row in await self._fetch(statements.REMEMBER_NONCES, *_columns(nonces, 3))}
        gone = {row[0] for row in await self._fetch(statements.REVOKED, [push.device.alias for push in pushes])}
        barred: dict[int, RequestRefused] = {}
        for push in pushes:
            if (push.device.alias, push.nonce) not in fresh:
                barred[id(push)] = Unauthorized("this request was seen before", "sign anew", code="replayed")
            elif push.device.alias in gone:
                barred[id(push)] = revoked()
            fresh.discard((push.device.alias, push.nonce))
        return barred

    async def _load(self, ledger: Ledger, changes: Sequence[Change]) -> None:
        aliases = sorted({change.device.alias for change in changes})
        pushes = [change for change in changes if isinstance(change, Push)]
        runs = sorted({(push.device.alias, push.request.epoch) for push in pushes})
        for row in await self._fetch(statements.PROGRESS, *_columns(runs, 2)):
            ledger.acknowledged[row[0], row[1]] = row[2]
        for row in await self._fetch(statements.DIGESTS, aliases):
            ledger.digests[row[0]] = Digest(row[1], int.from_bytes(row[2], "big"))
        again = [
            (*run, push.rows[0].row.counter, min(push.rows[-1].row.counter, ledger.acknowledged.get(run, 0)))
            for push in pushes
            if push.rows and push.rows[0].row.counter <= ledger.acknowledged.get(run := _run(push), 0)
        ]
        if again:
            for row in await self._fetch(statements.STORED_SHARES, *_columns(again, 4)):
                ledger.shares[ResultId(row[0], row[1], row[2])] = int.from_bytes(row[3], "big")
            for row in await self._fetch(statements.QUARANTINED, *_columns(again, 4)):
                ledger.quarantined[ResultId(row[0], row[1], row[2])] = row[3]
        await self._load_annotations(ledger, changes)

    async def _load_annotations(self, ledger: Ledger, changes: Sequence[Change]) -> None:
        devices = {change.device.alias: change.device for change in changes}
        keys = sorted(set(_annotation_keys(changes)))
        if not keys:
            return
        for row in await self._fetch(statements.ANNOTATIONS, *_columns(keys, 4)):
            target, author = ResultId(row[0], row[1], row[2]), row[3]
            patient_key = devices[target.device_alias].patient_key
            ledger.annotations[target, author] = sealing.open_annotation(patient_key, target, author, row[4])

    async def _write(self, ledger: Ledger, changes: Sequence[Change], decided: Sequence[object]) -> None:
        if ledger.new_results:
            await self._execute(
                statements.INSERT_RESULTS, [self._result_columns(new) for new in ledger.new_results], 10
            )
        if ledger.new_quarantined:
            received = changes[0].now_ms
            rows = [_quarantine_columns(new, received) for new in ledger.new_quarantined]
            await self._execute(statements.INSERT_QUARANTINED, rows, 8)
        settled = [
            push
            for push, what in zip(changes, decided, strict=True)
            if isinstance(push, Push) and isinstance(what, Settled)
        ]
        seals = [(push.device.alias, *_seal_columns(seal)) for push in settled for seal in push.request.seals]
        if seals:
            await self._execute(statements.INSERT_SEALS, seals, 7)
        if ledger.new_annotations:
            rows = [_annotation_columns(new) for new in ledger.new_annotations.values()]
            await self._execute(statements.PUT_ANNOTATIONS, rows, 10)
        progress = {_run(push): ledger.acknowledged.get(_run(push), 0) for push in settled if push.rows}
        if progress:
            await self._execute(statements.PUT_PROGRESS, [(*run, last) for run, last in progress.items()], 3)
        if ledger.new_results or ledger.new_annotations:
            rows = [(alias, held.count, _sum(held.total)) for alias, held in ledger.digests.items()]
            await self._execute(statements.PUT_DIGESTS, rows, 3)

    async def _answers(
        self, ledger: Ledger, changes: Sequence[Change], decided: Sequence[Settled | AnnotationRow | RequestRefused]
    ) -> list[Outcome]:
        asked: list[tuple[int, int, int, int]] = []
        for place, (change, what) in enumerate(zip(changes, decided, strict=True)):
            if isinstance(change, Push) and isinstance(what, Settled):
                asked.append((place, change.device.alias, change.request.epoch, _since(change, ledger)))
        feeds: dict[int, list[Any]] = {place: [] for place, *_ in asked}
        if asked:
            query = statements.FEED
            for row in await self._fetch(query, *_columns(asked, 4), MAX_ANNOTATIONS_PER_EXCHANGE + 1):
                feeds[row[0]].append(row)
        outcomes: list[Outcome] = []
        for place, (change, what) in enumerate(zip(changes, decided, strict=True)):
            if not isinstance(what, Settled):
                outcomes.append(what)
            elif isinstance(change, Push):
                outcomes.append(_answer(ledger, change, what, feeds[place]))
        return outcomes

    def _result_columns(self, new: NewResult) -> tuple[object, ...]:
        result, device, pushed = new.result, new.device, new.pushed
        return (
            result.device_alias,
            result.epoch,
            result.counter,
            device.patient_id,
            sealing.seal_result(device.patient_key, sealing.RESULTS, result, pushed.canonical),
            device.patient_key.version,
            _sum(pushed.share),
            new.commit_seq,
            resource_id(self.scope.tenant, result, Kind.RISK),
            resource_id(self.scope.tenant, result, Kind.OBSERVATION),
        )

    async def _fetch(self, query: str, *columns: object) -> Sequence[Any]:
        rows: Sequence[Any] = await self.connection.fetch(query, *self.scope, *columns)
        return rows

    async def _execute(self, query: str, rows: Sequence[Sequence[object]], width: int) -> None:
        await self.connection.execute(query, *self.scope, *_columns(rows, width))


def _columns(rows: Iterable[Sequence[object]], width: int) -> list[list[object]]:
    """Rows to columns, ``width`` of them also where there is no row."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


def _run(push: Push) -> tuple[int, int]:
    return push.device.alias, push.request.epoch


def _sum(value: int) -> bytes:
    return value.to_bytes(SUM_BYTES, "big")


def _annotation_keys(changes: Iterable[Change]) -> Iterable[tuple[int, int, int, str]]:
    for change in changes:
        named = (
            [(row.target, row.author) for row in change.request.annotations]
            if isinstance(change, Push)
            else [(change.target, change.author)]
        )
        for target, author in named:
            yield target.device_alias, target.epoch, target.counter, author


def _quarantine_columns(new: NewResult, received_at_ms: int) -> tuple[object, ...]:
    result, device, pushed = new.result, new.device, new.pushed
    return (
        result.device_alias,
        result.epoch,
        result.counter,
        device.patient_id,
        sealing.seal_result(device.patient_key, sealing.QUARANTINE, result, pushed.canonical),
        device.patient_key.version,
        int(pushed.fault),
        received_at_ms,
    )


def _seal_columns(seal: Any) -> tuple[object, ...]:
    return (
        seal.epoch,
        seal.first_counter,
        seal.last_counter,
        seal.results_root,
        seal.segments_root,
        seal.signature,
    )


def _annotation_columns(new: Any) -> tuple[object, ...]:
    row, key = new.row, new.device.patient_key
    return (
        row.target.device_alias,
        row.target.epoch,
        row.target.counter,
        row.author,
        new.device.patient_id,
        sealing.seal_annotation(key, row),
        key.version,
        new.commit_seq,
        *(new.origin or (None, None)),
    )


def _since(push: Push, ledger: Ledger) -> int:
    """From where the device reads; everything again after the shard began a new history."""
    cursor = push.request.cursor
    return cursor.commit_seq if cursor.shard_epoch == ledger.shard_epoch else 0


def _answer(ledger: Ledger, push: Push, settled: Settled, feed: Sequence[Any]) -> Pushed:
    page = feed[:MAX_ANNOTATIONS_PER_EXCHANGE]
    more = len(feed) > len(page)
    key = push.device.patient_key
    return Pushed(
        settled=settled,
        annotations=tuple(
            sealing.open_annotation(key, ResultId(row[1], row[2], row[3]), row[4], row[5]) for row in page
        ),
        cursor=Cursor(ledger.shard_epoch, page[-1][6] if more else ledger.commit_seq),
        digest=ledger.digests.get(push.device.alias, digests.EMPTY),
        more=more,
    )


def _events(changes: Sequence[Change], outcomes: Sequence[Outcome]) -> Iterable[Event]:
    """The events of what was done; refusals are written by the request's guard."""
    for change, outcome in zip(changes, outcomes, strict=True):
        if not isinstance(outcome, RequestRefused):
            yield change.event
