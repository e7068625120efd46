"""Writes what a batch decided: a statement for each kind of row there is. It deliberately reads nothing.

Invariants:
    1. Rows that are gone go first, so that one written anew is not taken for one that is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from einthoven_protocol.limits import SUM_BYTES
from einthoven_server.database import Connection, Scope
from einthoven_server.records import sealing, statements
from einthoven_server.records.change_store import (
    NewAnnotation,
    NewDocument,
    NewNote,
    NewQuarantined,
    NewResults,
    NewSuperseded,
    Written,
)
from einthoven_server.records.columns import columns_of
from einthoven_server.records.result_insert import INSERT_RESULTS, result_inserts

_Execute: TypeAlias = Callable[[str, Sequence[Sequence[object]], int], Awaitable[None]]


async def write(connection: Connection, scope: Scope, written: Written) -> None:
    """Write all of a batch, and the shard's head."""

    async def execute(query: str, rows: Sequence[Sequence[object]], width: int) -> None:
        if rows:
            await connection.execute(query, *scope, *columns_of(rows, width))

    await _remove(execute, written)
    if written.results:
        await _insert_results(connection, scope, written.results)
    quarantined = [_quarantined(new, written.received_at_ms) for new in written.quarantined]
    await execute(statements.INSERT_QUARANTINED, quarantined, 8)
    seals = [
        (alias, one.epoch, one.first_counter, one.last_counter, one.results_root, one.segments_root, one.signature)
        for alias, one in written.seals
    ]
    await execute(statements.INSERT_SEALS, seals, 7)
    await execute(statements.PUT_ANNOTATIONS, [_annotation(new) for new in written.annotations.values()], 11)
    await execute(statements.INSERT_SUPERSEDED, [_superseded(new) for new in written.superseded.values()], 11)
    await execute(statements.INSERT_NOTES, [_note(new) for new in written.notes.values()], 8)
    tombstones = [
        (
            row.kind,
            row.device_alias,
            row.epoch,
            row.counter,
            row.author,
            new.patient_id,
            new.hlc,
            new.commit_seq,
            new.deleted_at_ms,
        )
        for row, new in written.tombstones.items()
    ]
    await execute(statements.PUT_TOMBSTONES, tombstones, 9)
    await execute(statements.PUT_DOCUMENTS, [_document(new) for new in written.documents.values()], 8)
    await execute(statements.PUT_PROGRESS, [(*run, *marks) for run, marks in written.marks.items()], 4)
    await execute(statements.PUT_AHEAD, _ahead(written), 3)
    digests = [(*place, one.count, _sum(one.total)) for place, one in written.digests.items()]
    await execute(statements.PUT_DIGESTS, digests, 4)
    cursors = [(alias, one.shard_epoch, one.commit_seq) for alias, one in written.cursors.items()]
    await execute(statements.PUT_CURSORS, cursors, 3)
    await connection.execute(statements.PUT_HEAD, scope.shard, written.commit_seq)


async def _remove(execute: _Execute, written: Written) -> None:
    gone = [(one.device_alias, one.epoch, one.counter) for one in written.gone_results]
    await execute(statements.GONE_RESULTS, gone, 3)
    said = [(one.device_alias, one.epoch, one.counter, author) for one, author in written.gone_annotations]
    await execute(statements.GONE_ANNOTATIONS, said, 4)
    overtaken = [
        (row.target.device_alias, row.target.epoch, row.target.counter, row.author, row.field, row.hlc)
        for row in written.gone_superseded
    ]
    await execute(statements.GONE_SUPERSEDED, overtaken, 6)
    notes = [(one.device_alias, one.epoch, one.counter) for one in written.gone_notes]
    await execute(statements.GONE_NOTES, notes, 3)


async def _insert_results(connection: Connection, scope: Scope, new: Sequence[NewResults]) -> None:
    for insert in result_inserts(new):
        await connection.execute(INSERT_RESULTS, *scope, *insert)


def _ahead(written: Written) -> list[tuple[int, int, int]]:
    """Up to where results were stored in each epoch of a device, if not up to a mark that is written with them."""
    highest: dict[tuple[int, int], int] = {}
    for new in written.results:
        run = (new.device.alias, new.epoch)
        highest[run] = max(highest.get(run, 0), *new.rows.counters)
    return [(*run, top) for run, top in highest.items() if top > written.marks.get(run, (0, 0))[0]]


def _sum(value: int) -> bytes:
    return value.to_bytes(SUM_BYTES, "big")


def _quarantined(new: NewQuarantined, received_at_ms: int) -> tuple[object, ...]:
    result, key = new.result, new.device.patient_key
    sealed = sealing.seal_result(key, sealing.QUARANTINE, result, new.canonical)
    identity = (result.device_alias, result.epoch, result.counter)
    return (*identity, key.patient, sealed, key.version, int(new.fault), received_at_ms)


def _annotation(new: NewAnnotation) -> tuple[object, ...]:
    row, key, target = new.row, new.patient_key, new.row.target
    return (
        target.device_alias,
        target.epoch,
        target.counter,
        row.author,
        key.patient,
        sealing.seal_annotation(key, row),
        key.version,
        _sum(new.share),
        new.commit_seq,
        *(new.origin or (None, None)),
    )


def _superseded(new: NewSuperseded) -> tuple[object, ...]:
    row, key, target = new.row, new.patient_key, new.row.target
    return (
        target.device_alias,
        target.epoch,
        target.counter,
        row.author,
        row.field,
        row.hlc,
        _sum(new.share),
        key.patient,
        sealing.seal_superseded(key, row, new.share),
        key.version,
        new.commit_seq,
    )


def _note(new: NewNote) -> tuple[object, ...]:
    row, key = new.row, new.patient_key
    share = _sum(new.share) if row.device_alias else b""
    identity = (row.device_alias, row.epoch, row.counter)
    return (*identity, key.patient, sealing.seal_note(key, row), key.version, share, new.commit_seq)


def _document(new: NewDocument) -> tuple[object, ...]:
    one, key = new.document, new.patient_key
    body = one.body if key is None else sealing.seal_document(key, one.name, one.version, one.body)
    version = 0 if key is None else key.version
    return (new.patient_id, one.name, one.version, one.issued_at_ms, body, version, one.signature, new.commit_seq)
