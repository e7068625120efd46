"""A shard on PostgreSQL, or one of its distributed kin: the change store of every server.

It deliberately decides nothing and keeps nothing but devices' keys, which never change.

Invariants:
    1. The shard's head is locked first, so that sequences are visible in order; the audit's head is locked last.
    2. Every row of a patient lies sealed under the patient's key, bound to its place.
    3. 40001 and 40P01 are retried (``database``).
    4. An identity is used once: within a month by the primary key; across months because what a batch touches was
       looked up in all of them under the head's lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from einthoven_protocol.messages import (
    AnnotationRow,
    Document,
    IdentifiedResult,
    NoteRow,
    ResultId,
    Superseded,
    Tombstone,
)
from einthoven_server import limits
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.envelope import PatientKey
from einthoven_server.migrations import was_applied
from einthoven_server.records import feed_statements, result_months, sealing, statements
from einthoven_server.records.batch_postgres import PostgresBatch
from einthoven_server.records.change_store import ChangeBatch, FedRow, FeedPage, Snapshot
from einthoven_server.records.owner_keys import OwnerKeys
from einthoven_server.records.snapshot_postgres import PostgresSnapshot

T = TypeVar("T")
_DAY_MS = 24 * 3600 * 1000


class PostgresChangeStore:
    """A shard of one tenant.

    Args:
        database: Open and migrated.
        scope: Shard and tenant.
        audit: The tenant's audit log.
    """

    def __init__(self, database: Database, scope: Scope, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit
        self._owner_keys = OwnerKeys()
        self._by_month: bool | None = None

    def sealed_results(
        self, key: PatientKey, alias: int, epoch: int, counters: Sequence[int], canonical: Sequence[bytes]
    ) -> list[bytes]:
        """Ciphertext, each bound to its place."""
        return sealing.seal_results(key, alias, epoch, counters, canonical)

    def opened(self, key: PatientKey, page: Sequence[FedRow]) -> FeedPage:
        """Values of a page of the feed.

        Raises:
            EnvelopeRefused: A row does not belong where it lies.
        """
        by_kind: dict[str, list[Row]] = {kind: [] for kind in feed_statements.KINDS}
        for row in page:
            by_kind[row.kind].append(row.stored)
        return FeedPage(
            results=_results(key, by_kind["results"]),
            annotations=tuple(_annotation(key, row) for row in by_kind["annotations"]),
            superseded=tuple(_superseded(key, row) for row in by_kind["superseded"]),
            notes=tuple(_note(key, row) for row in by_kind["notes"]),
            tombstones=tuple(_tombstone(row) for row in by_kind["tombstones"]),
            documents=tuple(_document(key, row) for row in by_kind["documents"]),
        )

    async def commit(self, work: Callable[[ChangeBatch], Awaitable[T]]) -> T:
        """Run a batch in one transaction.

        Raises:
            Busy: The database does not answer, or is contended.
        """
        if self._by_month is None:
            self._by_month = await was_applied(self._database, result_months.STEP)
        by_month = self._by_month

        async def run(connection: Connection) -> T:
            batch = PostgresBatch(connection, self._scope, self._audit, self._owner_keys, by_month=by_month)
            return await work(batch)

        return await self._database.transact(run)

    async def read(self, work: Callable[[Snapshot], Awaitable[T]]) -> T:
        """Read in one transaction that sees one moment.

        Raises:
            Busy: The database does not answer, or is contended.
        """

        async def run(connection: Connection) -> T:
            return await work(PostgresSnapshot(connection, self._scope, self._owner_keys))

        return await self._database.transact(run, snapshot=True)

    async def collect_tombstones(self, now_ms: int) -> int:
        """Take tombstones out of the feed, so many a call at most; see ``ChangeStore``.

        Raises:
            Busy: The database does not answer, or is contended.
        """

        async def work(connection: Connection) -> int:
            head = await connection.fetchrow(statements.HEAD, self._scope.shard)
            gone = await connection.fetch(
                feed_statements.COLLECTED,
                *self._scope,
                head["shard_epoch"],
                head["commit_seq"],
                now_ms - limits.TOMBSTONE_MAX_AGE_DAYS * _DAY_MS,
                limits.TOMBSTONES_COLLECTED_MAX,
            )
            horizons: dict[str, int] = {}
            for row in gone:
                horizons[row["patient_id"]] = max(horizons.get(row["patient_id"], 0), row["commit_seq"])
            if gone:
                names = [list(column) for column in zip(*(row[:5] for row in map(tuple, gone)), strict=True)]
                await connection.execute(feed_statements.TAKE_FROM_FEED, *self._scope, *names)
                await connection.execute(
                    feed_statements.PUT_HORIZONS, *self._scope, list(horizons), list(horizons.values())
                )
            return len(gone)

        return await self._database.transact(work)


def _id(row: Row) -> ResultId:
    return ResultId(row["device_alias"], row["epoch"], row["counter"])


def _results(key: PatientKey, rows: Sequence[Row]) -> Sequence[IdentifiedResult]:
    ids = [(row["device_alias"], row["epoch"], row["counter"]) for row in rows]
    return sealing.open_results(key, ids, [row["row_sealed"] for row in rows])


def _annotation(key: PatientKey, row: Row) -> AnnotationRow:
    return sealing.open_annotation(key, _id(row), row["author"], row["row_sealed"])


def _superseded(key: PatientKey, row: Row) -> Superseded:
    return sealing.open_superseded(
        key, _id(row), row["author"], row["number"], row["hlc"], row["octets"], row["row_sealed"]
    )


def _note(key: PatientKey, row: Row) -> NoteRow:
    return sealing.open_note(key, _id(row), row["row_sealed"])


def _tombstone(row: Row) -> Tombstone:
    return Tombstone(row["number"], row["device_alias"], row["epoch"], row["counter"], row["author"], row["hlc"])


def _document(key: PatientKey, row: Row) -> Document:
    name, version, body = row["author"], row["counter"], row["row_sealed"]
    sealed = row["device_alias"] > 0  # the key's version; 0 for what is nobody's
    return Document(
        name=name,
        version=version,
        issued_at_ms=row["epoch"],
        body=sealing.open_document(key, name, version, body) if sealed else body,
        signature=row["octets"],
    )
