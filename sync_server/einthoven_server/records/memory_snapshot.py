"""One moment of a shard in memory, for a repair to read. Only rows of the reader's patient are found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from einthoven_protocol import digests
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Cursor,
    Digest,
    IdentifiedResult,
    NoteRow,
    ResultId,
    RowKind,
    Run,
    Superseded,
)
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import (
    SERVER_ALIAS,
    SERVER_WORDS,
    Bucket,
    BucketRows,
    BucketShares,
    OtherKey,
    Patient,
)
from einthoven_server.records.memory_state import State, server_notes, within


class MemorySnapshot:
    """One moment of the state."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def position(self) -> Cursor:
        """Where the shard stands."""
        return self._state.head

    async def patient(self, patient_id: str, key: PatientKey) -> Patient:
        """Its devices."""
        del key
        return Patient(self._state.owners(patient_id), self._state.horizons.get(patient_id, 0))

    async def digests(self, reader: Device) -> dict[tuple[int, int], Digest]:
        """All buckets that the device may see."""
        aliases = {owner.device_alias for owner in self._state.owners(reader.patient_id)}
        found = {place: digest for place, digest in self._state.digests.items() if place[0] in aliases}
        found = {(alias, kind): digest for (alias, kind), digest in found.items() if kind != SERVER_WORDS}
        notes = digests.EMPTY
        for row in server_notes(self._state, reader.patient_id):
            notes = digests.add(notes, digests.note_sum(reader.sync_key, row))
        found[SERVER_ALIAS, int(BucketKind.WORDS)] = notes
        return found

    async def shares(self, bucket: Bucket) -> BucketShares:
        """Of all rows."""
        results, others = self._results(bucket), self._others(bucket)
        shares = [share for _, share in results] + [share for _, share, _ in others]
        octets = b"".join(share.to_bytes(16, "big") for share in shares)
        ids = [(result.epoch, result.counter) for result, _ in results]
        return BucketShares(
            np.frombuffer(octets, np.uint8).reshape(len(shares), 16),
            np.array(ids, np.int64).reshape(len(ids), 2),
            tuple(key for key, _, _ in others),
        )

    async def rows(self, bucket: Bucket, results: Sequence[tuple[int, int]], others: Sequence[OtherKey]) -> BucketRows:
        """Rows by name."""
        names = {ResultId(bucket.owner, *name) for name in results}
        wanted = set(others)
        found = [row for key, _, row in self._others(bucket) if key in wanted]
        return _bucket_rows([self._identified(name) for name, _ in self._results(bucket) if name in names], found)

    async def runs(self, bucket: Bucket, runs: Sequence[Run], limit: int) -> tuple[IdentifiedResult, ...]:
        """Results in runs."""
        named = [(bucket.owner, run.epoch, run.first, run.last) for run in runs]
        names = [name for name, _ in self._results(bucket) if within(name, named)]
        return tuple(map(self._identified, names[:limit]))

    async def page(self, bucket: Bucket, first: int, limit: int) -> BucketRows:
        """Rows other than results, from ``first`` on."""
        return _bucket_rows([], [row for _, _, row in self._others(bucket)[first : first + limit]])

    def _identified(self, result: ResultId) -> IdentifiedResult:
        row = self._state.results[result].row
        return IdentifiedResult(device_alias=result.device_alias, epoch=result.epoch, row=row)

    def _results(self, bucket: Bucket) -> list[tuple[ResultId, int]]:
        if bucket.kind != BucketKind.RECORDS:
            return []
        found = self._state.results.items()
        return sorted((result, kept.share) for result, kept in found if _is_in(bucket, result, kept.patient_id))

    def _others(self, bucket: Bucket) -> list[tuple[OtherKey, int, object]]:
        state, owner = self._state, bucket.owner
        if bucket.kind == BucketKind.RECORDS:
            said = [
                new for (target, _), new in state.annotations.items() if _is_in(bucket, target, new.patient_key.patient)
            ]
            named: list[tuple[OtherKey, int, object]] = [
                ((RowKind.ANNOTATION, new.row.target, new.row.author, 0, 0, ""), new.share, new.row) for new in said
            ]
            return sorted(named, key=lambda one: one[0])
        notes: list[tuple[OtherKey, int, object]] = []
        for place, note in sorted(state.notes.items()):
            if _is_in(bucket, place, note.patient_key.patient):
                share = note.share if owner != SERVER_ALIAS else digests.note_sum(bucket.reader.sync_key, note.row)
                notes.append(((RowKind.NOTE, place, "", 0, 0, ""), share, note.row))
        lost: list[tuple[OtherKey, int, object]] = [
            ((None, row.target, row.author, row.field, row.hlc, row.value), new.share, row)
            for row, new in sorted(state.superseded.items())
            if new.commit_seq and _is_in(bucket, row.target, new.patient_key.patient)
        ]
        return notes + lost


def _is_in(bucket: Bucket, place: ResultId, patient_id: str) -> bool:
    return place.device_alias == bucket.owner and patient_id == bucket.reader.patient_id


def _bucket_rows(results: list[IdentifiedResult], others: Iterable[object]) -> BucketRows:
    rows = list(others)
    return BucketRows(
        results=tuple(results),
        annotations=tuple(row for row in rows if isinstance(row, AnnotationRow)),
        notes=tuple(row for row in rows if isinstance(row, NoteRow)),
        superseded=tuple(row for row in rows if isinstance(row, Superseded)),
    )
