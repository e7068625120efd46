"""What the server holds of a patient, row by row, read through its port; and what its digests should be.

It deliberately computes digests anew from the rows: the server's own are what is to be checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from einthoven_bench.simulation.content import serial_of
from einthoven_protocol import digests
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Digest,
    NoteRow,
    ResultId,
    ResultRow,
    Superseded,
)
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import AnnotationKey, Bucket, ChangeBatch, ChangeStore, Snapshot, Wanted


@dataclass(slots=True)
class Holdings:
    """All rows of one patient.

    Attributes:
        results: By identity.
        annotations: By target and author.
        notes: By identity.
        superseded: Losers that are shown.
        kept: All that were overtaken, shown or not, of what is still spoken of.
        digests: What the server says, for one reader: by owner and kind.
        computed: The same from the rows.
    """

    results: dict[ResultId, ResultRow] = field(default_factory=dict)
    annotations: dict[AnnotationKey, AnnotationRow] = field(default_factory=dict)
    notes: dict[ResultId, NoteRow] = field(default_factory=dict)
    superseded: set[Superseded] = field(default_factory=set)
    kept: set[Superseded] = field(default_factory=set)
    digests: dict[tuple[int, int], Digest] = field(default_factory=dict)
    computed: dict[tuple[int, int], Digest] = field(default_factory=dict)

    def serials(self) -> list[tuple[int, int]]:
        """(alias, serial) of every result."""
        return [(result.device_alias, serial_of(row)) for result, row in self.results.items()]

    def places_of(self, alias: int, serial: int) -> list[ResultId]:
        """Where a result of a device stands."""
        return [name for name, row in self.results.items() if (name.device_alias, serial_of(row)) == (alias, serial)]


async def read_holdings(changes: ChangeStore, devices: list[Device]) -> Holdings:
    """Everything of the patient whose devices these are; the first of them reads."""
    held = Holdings()
    reader = devices[0]

    async def work(snapshot: Snapshot) -> None:
        held.digests = {name: digest for name, digest in (await snapshot.digests(reader)).items() if digest.count}
        for owner in (0, *(device.alias for device in devices)):
            for kind in BucketKind:
                await _read_bucket(snapshot, Bucket(reader, owner, kind), held)

    await changes.read(work)
    _compute(held, reader, devices)
    await _read_kept(changes, reader, held)
    return held


async def _read_bucket(snapshot: Snapshot, bucket: Bucket, held: Holdings) -> None:
    shares = await snapshot.shares(bucket)
    names = [(int(epoch), int(counter)) for epoch, counter in shares.results]
    rows = await snapshot.rows(bucket, names, shares.others)
    for found in rows.results:
        held.results[ResultId(found.device_alias, found.epoch, found.row.counter)] = found.row
    for annotation in rows.annotations:
        held.annotations[annotation.target, annotation.author] = annotation
    for note in rows.notes:
        held.notes[ResultId(note.device_alias, note.epoch, note.counter)] = note
    held.superseded.update(rows.superseded)


async def _read_kept(changes: ChangeStore, reader: Device, held: Holdings) -> None:
    async def work(batch: ChangeBatch) -> None:
        await batch.head()
        wanted = Wanted(keys={reader.patient_id: reader.patient_key}, annotations=set(held.annotations))
        held.kept = set((await batch.load(wanted)).overtaken)

    await changes.commit(work)


def _compute(held: Holdings, reader: Device, devices: list[Device]) -> None:
    keys = {device.alias: device.sync_key for device in devices} | {0: reader.sync_key}
    shares: list[tuple[int, BucketKind, int]] = []
    for result, row in held.results.items():
        alias = result.device_alias
        shares.append((alias, BucketKind.RECORDS, digests.result_sum(keys[alias], alias, result.epoch, row)))
    for (target, _), annotation in held.annotations.items():
        alias = target.device_alias
        shares.append((alias, BucketKind.RECORDS, digests.annotation_sum(keys[alias], annotation)))
    shares.extend(
        (note.device_alias, BucketKind.WORDS, digests.note_sum(keys[note.device_alias], note))
        for note in held.notes.values()
    )
    for write in held.superseded:
        alias = write.target.device_alias
        shares.append((alias, BucketKind.WORDS, digests.superseded_sum(keys[alias], write)))
    for alias, kind, share in shares:
        held.computed[alias, kind] = digests.add(held.computed.get((alias, kind), digests.EMPTY), share)
