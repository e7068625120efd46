"""One moment of a shard on PostgreSQL, for a repair to read.

It deliberately opens only rows that are asked for; shares lie beside them in the open, being keyed hashes.

Invariants:
    1. Only rows of the reader's patient are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from einthoven_protocol import digests
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Cursor,
    Digest,
    IdentifiedResult,
    NoteRow,
    Owner,
    ResultId,
    RowKind,
    Run,
    Superseded,
)
from einthoven_server.database import Connection, Scope
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records import feed_statements, sealing, statements
from einthoven_server.records.change_store import (
    SERVER_ALIAS,
    SERVER_WORDS,
    Bucket,
    BucketRows,
    BucketShares,
    OtherKey,
    Patient,
)
from einthoven_server.records.columns import columns_of
from einthoven_server.records.owner_keys import OwnerKeys


class _Other(NamedTuple):
    """A row that is no result, opened."""

    key: OtherKey
    share: bytes
    row: AnnotationRow | NoteRow | Superseded


class PostgresSnapshot:
    """One moment.

    Args:
        connection: Inside a transaction that sees one moment.
        scope: Shard and tenant.
        owner_keys: Devices' keys.
    """

    def __init__(self, connection: Connection, scope: Scope, owner_keys: OwnerKeys) -> None:
        self._connection = connection
        self._scope = scope
        self._owner_keys = owner_keys

    async def position(self) -> Cursor:
        """Where the shard stands."""
        head = await self._connection.fetchrow(feed_statements.POSITION, self._scope.shard)
        return Cursor(head["shard_epoch"], head["commit_seq"])

    async def patient(self, patient_id: str, key: PatientKey) -> Patient:
        """Its devices."""
        rows = await self._fetch(statements.DEVICES, [patient_id])
        collected = {row[0]: row[1] for row in await self._fetch(statements.HORIZONS, [patient_id])}
        owners = tuple(
            Owner(row["device_alias"], self._owner_keys.opened(key, row["device_id"], row["sync_key_sealed"]))
            for row in rows
        )
        return Patient(owners, collected.get(patient_id, 0))

    async def digests(self, reader: Device) -> dict[tuple[int, int], Digest]:
        """All buckets that the device may see."""
        patient = await self.patient(reader.patient_id, reader.patient_key)
        aliases = [owner.device_alias for owner in patient.owners]
        found: dict[tuple[int, int], Digest] = {}
        for row in await self._fetch(statements.DIGESTS, aliases):
            if row["kind"] != SERVER_WORDS:
                found[row["device_alias"], row["kind"]] = Digest(row["count"], int.from_bytes(row["total"], "big"))
        notes = await self._notes(Bucket(reader, SERVER_ALIAS, BucketKind.WORDS))
        shares = [int.from_bytes(note.share, "big") for note in notes]
        found[SERVER_ALIAS, int(BucketKind.WORDS)] = digests.add_all(digests.EMPTY, shares)
        return found

    async def shares(self, bucket: Bucket) -> BucketShares:
        """Of all rows."""
        ids = [np.empty((0, 2), np.int64)]
        sums = []
        if bucket.kind == BucketKind.RECORDS:
            for epoch, counters, octets in await self._fetch(feed_statements.BUCKET_RESULTS, *_owned(bucket)):
                column = np.array(counters, np.int64)
                ids.append(np.stack((np.full_like(column, epoch), column), axis=1))
                sums.append(octets)
        others = await self._others(bucket)
        sums += [other.share for other in others]
        shares = np.frombuffer(b"".join(sums), np.uint8).reshape(-1, SUM_BYTES)
        return BucketShares(shares, np.concatenate(ids), tuple(other.key for other in others))

    async def rows(self, bucket: Bucket, results: Sequence[tuple[int, int]], others: Sequence[OtherKey]) -> BucketRows:
        """Rows by name."""
        found: Sequence[Any] = ()
        if results and bucket.kind == BucketKind.RECORDS:
            names = columns_of(results, 2)
            found = await self._fetch(feed_statements.RESULTS_BY_NAME, *_owned(bucket), *names)
        wanted = set(others)
        said = [other for other in await self._others(bucket) if other.key in wanted] if wanted else []
        return _bucket_rows(_results(bucket, found), said)

    async def runs(self, bucket: Bucket, runs: Sequence[Run], limit: int) -> tuple[IdentifiedResult, ...]:
        """Results in runs."""
        named = columns_of([(run.epoch, run.first, run.last) for run in _apart(runs)], 3)
        return _results(bucket, await self._fetch(feed_statements.RESULTS_BY_RUN, *_owned(bucket), *named, limit))

    async def page(self, bucket: Bucket, first: int, limit: int) -> BucketRows:
        """Rows other than results, from ``first`` on."""
        return _bucket_rows((), (await self._others(bucket))[first : first + limit])

    async def _others(self, bucket: Bucket) -> list[_Other]:
        if bucket.kind == BucketKind.RECORDS:
            return await self._annotations(bucket)
        return [*await self._notes(bucket), *await self._superseded(bucket)]

    async def _annotations(self, bucket: Bucket) -> list[_Other]:
        key, found = bucket.reader.patient_key, []
        owners = {one.device_alias: one.sync_key for one in (await self.patient(key.patient, key)).owners}
        for row in await self._fetch(feed_statements.BUCKET_ANNOTATIONS, *_owned(bucket)):
            target = ResultId(bucket.owner, row["epoch"], row["counter"])
            said = sealing.open_annotation(key, target, row["author"], row["row_sealed"])
            share = row["row_sum"]
            if share is None:  # written before there were shares
                share = digests.annotation_sum(owners[bucket.owner], said).to_bytes(SUM_BYTES, "big")
            found.append(_Other((RowKind.ANNOTATION, target, said.author, 0, 0, ""), share, said))
        return sorted(found, key=_key)

    async def _notes(self, bucket: Bucket) -> list[_Other]:
        reader, found = bucket.reader, []
        for row in await self._fetch(feed_statements.BUCKET_NOTES, *_owned(bucket)):
            place = ResultId(bucket.owner, row["epoch"], row["counter"])
            note = sealing.open_note(reader.patient_key, place, row["row_sealed"])
            share = row["row_sum"] or digests.note_sum(reader.sync_key, note).to_bytes(SUM_BYTES, "big")
            found.append(_Other((RowKind.NOTE, place, "", 0, 0, ""), share, note))
        return sorted(found, key=_key)

    async def _superseded(self, bucket: Bucket) -> list[_Other]:
        found = []
        for row in await self._fetch(feed_statements.BUCKET_SUPERSEDED, *_owned(bucket)):
            target = ResultId(bucket.owner, row["epoch"], row["counter"])
            named = (row["author"], row["field"], row["hlc"])
            lost = sealing.open_superseded(bucket.reader.patient_key, target, *named, row["row_sum"], row["row_sealed"])
            found.append(_Other((None, target, *named, lost.value), row["row_sum"], lost))
        return sorted(found, key=_key)

    async def _fetch(self, query: str, *columns: object) -> Sequence[Any]:
        rows: Sequence[Any] = await self._connection.fetch(query, *self._scope, *columns)
        return rows


def _key(other: _Other) -> tuple[object, ...]:
    return other.key[1:]


def _owned(bucket: Bucket) -> tuple[str, int]:
    return bucket.reader.patient_id, bucket.owner


def _apart(runs: Sequence[Run]) -> list[Run]:
    """The same results in runs that do not overlap, in order."""
    apart: list[Run] = []
    for run in sorted(runs):
        if apart and run.epoch == apart[-1].epoch and run.first <= apart[-1].last:
            apart[-1] = Run(run.epoch, apart[-1].first, max(apart[-1].last, run.last))
        else:
            apart.append(run)
    return apart


def _results(bucket: Bucket, rows: Sequence[Any]) -> tuple[IdentifiedResult, ...]:
    ids = [(row["device_alias"], row["epoch"], row["counter"]) for row in rows]
    return tuple(sealing.open_results(bucket.reader.patient_key, ids, [row["row_sealed"] for row in rows]))


def _bucket_rows(results: tuple[IdentifiedResult, ...], others: Sequence[_Other]) -> BucketRows:
    rows = [other.row for other in others]
    return BucketRows(
        results=results,
        annotations=tuple(row for row in rows if isinstance(row, AnnotationRow)),
        notes=tuple(row for row in rows if isinstance(row, NoteRow)),
        superseded=tuple(row for row in rows if isinstance(row, Superseded)),
    )
