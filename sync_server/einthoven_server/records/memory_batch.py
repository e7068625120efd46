"""One batch on its copy of a shard in memory: loads, writes, feed.

Invariants:
    1. As on a database: a primary key is used once, and what is gone goes before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from einthoven_protocol.canonical import decode_result_rows, encode_annotation_row
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    IdentifiedResult,
    ResultId,
    RowKind,
    Tombstone,
)
from einthoven_server.audit.chain import Event
from einthoven_server.records.change_store import (
    SERVER_WORDS,
    AnnotationKey,
    FedRow,
    FeedQuestion,
    Held,
    NewResults,
    NonceUse,
    Patient,
    Wanted,
    Written,
)
from einthoven_server.records.memory_state import State, StoredResult, server_notes, within


class MemoryBatch:
    """A batch on its copy of the state."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def head(self) -> Cursor:
        """Where the shard stands."""
        return self._state.head

    async def remember(self, nonces: Sequence[NonceUse], now_ms: int) -> list[bool]:
        """Use nonces and forget expired ones."""
        known = self._state.nonces
        for place in [place for place, expires_at_ms in known.items() if expires_at_ms < now_ms]:
            del known[place]
        fresh = []
        for use in nonces:
            fresh.append((use.alias, use.nonce) not in known)
            known[use.alias, use.nonce] = use.expires_at_ms
        return fresh

    async def load(self, wanted: Wanted) -> Held:
        """What is known of what a batch touches."""
        state, held = self._state, Held()
        for patient_id in wanted.keys:
            held.patients[patient_id] = Patient(state.owners(patient_id), state.horizons.get(patient_id, 0))
        aliases = {owner.device_alias for patient in held.patients.values() for owner in patient.owners}
        held.digests = {place: digest for place, digest in state.digests.items() if place[0] in aliases}
        held.revoked = wanted.aliases & state.revoked
        held.cursors = {alias: state.cursors[alias] for alias in wanted.aliases if alias in state.cursors}
        for place in wanted.marks & state.marks.keys():
            held.marks[place], held.note_marks[place] = state.marks[place]
        for result in _ids(wanted.result_runs, state.results):
            held.results[result] = state.results[result].share
        held.quarantined = {result: state.quarantined[result] for result in _ids(wanted.result_runs, state.quarantined)}
        held.notes = {place: state.notes[place].row for place in _ids(wanted.note_runs, state.notes)}
        self._load_words(wanted, held)
        for name in wanted.documents & state.documents.keys():
            held.documents[name] = state.documents[name].document.version
        for_all = {name for patient_id, name in state.documents if not patient_id}
        for_one = {name for patient_id, name in state.documents if patient_id}
        held.named_elsewhere = {one for one in wanted.documents if one[1] in (for_all if one[0] else for_one)}
        for alias, patient_id in wanted.server_words.items():
            if (alias, SERVER_WORDS) not in held.digests:
                held.server_notes[patient_id] = tuple(server_notes(state, patient_id))
        return held

    def _load_words(self, wanted: Wanted, held: Held) -> None:
        state = self._state

        def asked(place: AnnotationKey) -> bool:
            return place in wanted.annotations or place[0] in wanted.targets

        if wanted.annotations or wanted.targets:
            for place in filter(asked, state.annotations):
                held.annotations[place] = state.annotations[place].row
                held.origins[place] = state.annotations[place].origin
            for row, kept in state.superseded.items():
                if asked((row.target, row.author)):
                    held.overtaken[row] = kept.concurrent
        for tombstone, buried in state.tombstones.items():
            if _is_wanted(tombstone, wanted):
                held.tombstones[tombstone] = buried.hlc

    async def write(self, written: Written) -> None:
        """Write all of it, and the head."""
        state = self._state
        for result in written.gone_results:
            state.results.pop(result, None)
        for place in written.gone_annotations:
            state.annotations.pop(place, None)
        for row in written.gone_superseded:
            state.superseded.pop(row, None)
        for note in written.gone_notes:
            state.notes.pop(note, None)
        for new in written.results:
            _put_results(state, new)
        for aside in written.quarantined:
            state.quarantined[aside.result] = int(aside.fault)
        for alias, seal in written.seals:
            state.seals.setdefault((alias, seal.epoch, seal.first_counter, seal.last_counter), seal)
        for row in written.superseded:
            _once(state.superseded, row)
        for note in written.notes:
            _once(state.notes, note)
        for name in ("annotations", "superseded", "notes", "tombstones", "documents", "marks", "digests", "cursors"):
            getattr(state, name).update(getattr(written, name))
        state.collected.difference_update(written.tombstones)
        state.head = Cursor(state.head.shard_epoch, written.commit_seq)

    async def feed(self, asked: Sequence[FeedQuestion], most: Mapping[str, int]) -> list[list[FedRow]]:
        """Rows for each question, in order of commit."""
        return [self._fed(question, most) for question in asked]

    def _fed(self, question: FeedQuestion, most: Mapping[str, int]) -> list[FedRow]:
        state, patient_id = self._state, question.device.patient_id
        kinds = _all_kinds(state, question) if question.everything else {"annotations": _old_feed(state, question)}
        rows: list[FedRow] = []
        for kind, found in kinds.items():
            fed = [
                FedRow(seq, kind, octets, row)
                for owner, seq, octets, row in found
                if owner in (patient_id, "") and seq > question.since
            ]
            rows += sorted(fed, key=_commit_seq)[: most[kind] + 1]
        return sorted(rows, key=_commit_seq)

    async def append(self, events: Sequence[Event]) -> None:
        """Put events on the audit trail."""
        self._state.events = [*self._state.events, *events]


T = TypeVar("T")
_Fed = tuple[str, int, int, object]
"""Whose it is, its commit_seq, about how many bytes it takes, and the value."""


def _commit_seq(row: FedRow) -> int:
    return row.commit_seq


def _all_kinds(state: State, question: FeedQuestion) -> dict[str, Iterator[_Fed]]:
    own = (question.device.alias, question.epoch)
    return {
        "results": (
            (
                kept.patient_id,
                kept.commit_seq,
                120,
                IdentifiedResult(device_alias=result.device_alias, epoch=result.epoch, row=kept.row),
            )
            for result, kept in state.results.items()
            if (result.device_alias, result.epoch) != own
        ),
        "annotations": _annotations(state, own),
        "superseded": (
            (new.patient_key.patient, new.commit_seq, 64 + 4 * len(row.value), row)
            for row, new in state.superseded.items()
            if new.commit_seq
        ),
        "notes": (
            (new.patient_key.patient, new.commit_seq, 64 + 4 * len(new.row.text), new.row)
            for place, new in state.notes.items()
            if (place.device_alias, place.epoch) != own
        ),
        "tombstones": (
            (new.patient_id, new.commit_seq, 32, msgspec.structs.replace(row, hlc=new.hlc))
            for row, new in state.tombstones.items()
            if row not in state.collected
        ),
        "documents": (
            (patient_id, new.commit_seq, len(new.document.body) + 600, new.document)
            for (patient_id, _), new in state.documents.items()
        ),
    }


def _annotations(state: State, own: tuple[int, int]) -> Iterator[_Fed]:
    for new in state.annotations.values():
        if new.origin != own:
            yield new.patient_key.patient, new.commit_seq, len(encode_annotation_row(new.row)), new.row


def _old_feed(state: State, question: FeedQuestion) -> Iterator[_Fed]:
    alias = question.device.alias
    for fed in _annotations(state, (alias, question.epoch)):
        row = fed[3]
        if isinstance(row, AnnotationRow) and row.target.device_alias == alias:
            yield fed


def _put_results(state: State, new: NewResults) -> None:
    rows, patient_id = new.rows, new.device.patient_id
    for counter, row, share, seq in zip(
        rows.counters, decode_result_rows(rows.canonical), rows.shares, new.seqs, strict=True
    ):
        result = ResultId(new.device.alias, new.epoch, counter)
        _once(state.results, result)
        state.results[result] = StoredResult(row, patient_id, share, seq)


def _once(table: Mapping[T, object], key: T) -> None:
    if key in table:
        raise KeyError("a row under this primary key is held already")


def _is_wanted(row: Tombstone, wanted: Wanted) -> bool:
    place = ResultId(row.device_alias, row.epoch, row.counter)
    if row.kind == RowKind.ANNOTATION:
        return (place, row.author) in wanted.annotations
    runs = wanted.note_runs if row.kind == RowKind.NOTE else wanted.result_runs
    return row in wanted.tombstones or within(place, runs)


def _ids(runs: Iterable[tuple[int, int, int, int]], table: Mapping[ResultId, object]) -> Iterator[ResultId]:
    for alias, epoch, first, last in runs:
        if last - first < len(table):
            ids: Iterable[ResultId] = (ResultId(alias, epoch, counter) for counter in range(first, last + 1))
            yield from (result for result in ids if result in table)
        else:
            yield from (result for result in table if within(result, [(alias, epoch, first, last)]))
