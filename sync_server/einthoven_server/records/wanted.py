"""What a batch of changes needs to know before it is decided. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from einthoven_protocol.messages import Capability, ResultId, RowKind, Tombstone
from einthoven_server.records.change_store import SERVER_ALIAS, IdRun, Wanted
from einthoven_server.records.changes import (
    Annotate,
    Change,
    Delete,
    Give,
    Push,
    PutDocument,
    WriteNote,
    key_of,
    patient_of,
)


def wanted_by(changes: Sequence[Change], shard_epoch: int) -> Wanted:
    """All that these changes touch."""
    wanted = Wanted()
    for change in changes:
        key = key_of(change)
        if key is not None:
            known = wanted.keys.setdefault(patient_of(change), key)
            # Of two that were read before and after a rotation's step, the one that opens more of what is there.
            if (key.version, len(key.versions)) > (known.version, len(known.versions)):
                wanted.keys[patient_of(change)] = key
        if isinstance(change, Push):
            _of_push(wanted, change)
        elif isinstance(change, Give):
            wanted.aliases.add(change.device.alias)
            wanted.marks |= {(result.device_alias, result.epoch) for result, _ in change.rows}
            wanted.result_runs |= set(_runs(result for result, _ in change.rows))
        elif isinstance(change, Annotate):
            wanted.annotations.add((change.target, change.author))
        elif isinstance(change, WriteNote):
            wanted.marks.add((SERVER_ALIAS, shard_epoch))
        elif isinstance(change, Delete):
            _of_deletions(wanted, change.rows)
        elif isinstance(change, PutDocument):
            wanted.documents.add((change.patient_id, change.document.name))
    return wanted


def _of_push(wanted: Wanted, push: Push) -> None:
    request, device = push.request, push.device
    run = (device.alias, request.epoch)
    wanted.aliases.add(device.alias)
    wanted.marks.add(run)
    if push.rows:
        wanted.result_runs.add((*run, push.rows.counters[0], push.rows.counters[-1]))
    wanted.result_runs |= set(_runs(ResultId(*run, counter) for counter in push.alerts.counters))
    if request.notes:
        wanted.note_runs.add((*run, request.notes[0].counter, request.notes[-1].counter))
    wanted.annotations |= {(row.target, row.author) for row in request.annotations}
    targets = {row.target for row in request.annotations}
    wanted.tombstones |= {Tombstone(RowKind.RESULT, one.device_alias, one.epoch, one.counter) for one in targets}
    _of_deletions(wanted, request.deletions)
    if request.capabilities & Capability.FEED:
        wanted.server_words[device.alias] = device.patient_id


def _of_deletions(wanted: Wanted, rows: Iterable[Tombstone]) -> None:
    for row in rows:
        place = ResultId(row.device_alias, row.epoch, row.counter)
        if row.kind == RowKind.ANNOTATION:
            wanted.annotations.add((place, row.author))
        elif row.kind == RowKind.NOTE:
            wanted.note_runs.add((place.device_alias, place.epoch, place.counter, place.counter))
        elif row.kind == RowKind.RESULT:
            wanted.targets.add(place)
            wanted.result_runs.add((place.device_alias, place.epoch, place.counter, place.counter))


def _runs(results: Iterable[ResultId]) -> Iterable[IdRun]:
    """The runs that these ids, in ascending order or not, are made of."""
    first: ResultId | None = None
    last = ResultId(0, 0, 0)
    for result in sorted(results):
        if first is not None and result == ResultId(last.device_alias, last.epoch, last.counter + 1):
            last = result
            continue
        if first is not None:
            yield first.device_alias, first.epoch, first.counter, last.counter
        first = last = result
    if first is not None:
        yield first.device_alias, first.epoch, first.counter, last.counter
