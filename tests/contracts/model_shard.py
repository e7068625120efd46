"""What version 1.1 of the protocol asks of a server, the plain way: one patient, several devices, a console."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from einthoven_protocol import digests
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.merge import base_mark, merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    BucketDigest,
    BucketKind,
    Capability,
    Cursor,
    Digest,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    Field,
    IdentifiedResult,
    NoteRow,
    Owner,
    Register,
    RejectReason,
    RepairRequest,
    RepairResponse,
    ResultId,
    ResultRow,
    RowKind,
    RowVerdict,
    Superseded,
    Tombstone,
    VerdictCode,
)
from einthoven_protocol.repair_answer import select

SILENT = Register("", 0)
Name = tuple[ResultId, str]
NoteName = tuple[int, int, int]
Origin = tuple[int, int]


@dataclass(frozen=True)
class Held:
    """A row, where it stands in the feed, and the device and epoch whose own words it is."""

    row: Any
    seq: int
    origin: Origin


@dataclass
class ModelShard:
    """One patient's part of a shard.

    Attributes:
        keys: Sync key of each device, by alias.
        page: Rows of the feed in one answer.
        collected_seq: Tombstones up to here are gone.
        buried: All that was ever deleted: what is pushed or given again is refused, however long ago that was.
    """

    keys: dict[int, bytes]
    page: int = 7
    shard_epoch: int = 1
    seq: int = 0
    collected_seq: int = 0
    buried: set[Tombstone] = field(default_factory=set)
    results: dict[ResultId, Held] = field(default_factory=dict)
    settled: dict[Origin, int] = field(default_factory=dict)
    notes: dict[NoteName, Held] = field(default_factory=dict)
    notes_settled: dict[Origin, int] = field(default_factory=dict)
    annotations: dict[Name, Held] = field(default_factory=dict)
    superseded: dict[Superseded, Held] = field(default_factory=dict)
    tombstones: dict[Tombstone, Held] = field(default_factory=dict)
    gone_hlc: dict[Name, int] = field(default_factory=dict)
    documents: dict[str, Held] = field(default_factory=dict)

    def restored(self, backup: ModelShard) -> ModelShard:
        """What comes back from a backup: an older state, and a new history from there."""
        return replace(copy.deepcopy(backup), shard_epoch=self.shard_epoch + 1)

    # ---- what is written at the console ------------------------------------------------------------------------------

    def write(self, row: AnnotationRow) -> None:
        """Somebody's words."""
        if row.target in self.results:
            self._write(row, (0, 0), None)

    def add_note(self, text: str, at_ms: int) -> None:
        """A note of somebody at the console."""
        counter = self.notes_settled.get((0, self.shard_epoch), 0) + 1
        self.notes_settled[0, self.shard_epoch] = counter
        row = NoteRow(
            device_alias=0, epoch=self.shard_epoch, counter=counter, author="clinician", at_ms=at_ms, text=text
        )
        self.notes[0, self.shard_epoch, counter] = self._held(row, (0, 0))

    def decide(self, document: Document) -> None:
        """A document, already signed."""
        self.documents[document.name] = self._held(document, (0, 0))

    def erase(self, target: ResultId) -> None:
        """A result goes, with all that was said of it."""
        if self.results.pop(target, None) is None:
            return
        self.annotations = {name: held for name, held in self.annotations.items() if name[0] != target}
        self.superseded = {row: held for row, held in self.superseded.items() if row.target != target}
        self._bury(Tombstone(RowKind.RESULT, target.device_alias, target.epoch, target.counter), (0, 0))

    def collect(self) -> None:
        """Forget all tombstones, as after 180 days."""
        self.collected_seq = self.seq
        self.tombstones.clear()

    def lose(self, count: int) -> None:
        """Lose rows without knowing it."""
        for target in sorted(self.results)[:count]:
            del self.results[target]
        for name in sorted(self.annotations)[:count]:
            del self.annotations[name]

    # ---- exchanges ---------------------------------------------------------------------------------------------------

    def exchange(self, request: ExchangeRequest) -> ExchangeResponse:
        """Answer.

        Raises:
            AssertionError: The device sent what a server refuses as a whole.
        """
        alias, epoch = request.device_alias, request.epoch
        assert request.cursor <= Cursor(self.shard_epoch, self.seq), "the device read further than there is"
        ahead = [verdict for row in request.alerts if (verdict := self._alert(alias, epoch, row)) is not None]
        acknowledged, verdicts = self._settle(request)
        notes_acknowledged, refused = self._settle_notes(request)
        bases = request.annotation_bases or ((0, 0),) * len(request.annotations)
        for row, base in zip(request.annotations, bases, strict=True):
            reason = self._write(row, (alias, epoch), base)
            if reason:
                refused.append(AnnotationVerdict(RowKind.ANNOTATION, *_flat(row.target), row.author, reason))
        for gone in request.deletions:
            self._delete(gone, (alias, epoch))
        return self._feed(
            request,
            acknowledged=acknowledged,
            verdicts=(*verdicts, *ahead),
            notes_acknowledged=notes_acknowledged,
            refused=tuple(refused),
        )

    def _alert(self, alias: int, epoch: int, row: ResultRow) -> RowVerdict | None:
        name = ResultId(alias, epoch, row.counter)
        if self._gone(RowKind.RESULT, *_flat(name)):
            return RowVerdict(row.counter, VerdictCode.REJECTED, RejectReason.DELETED)
        held = self.results.setdefault(name, Held(None, 0, (0, 0)))
        if held.row is None:
            self.results[name] = self._held(row, (alias, epoch))
        elif held.row != row:
            return RowVerdict(row.counter, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
        return None

    def _settle(self, request: ExchangeRequest) -> tuple[int, list[RowVerdict]]:
        owner, verdicts = (request.device_alias, request.epoch), []
        settled = self.settled.get(owner, 0)
        if not request.results:
            return settled, []
        first = request.results[0].counter
        if first > settled + 1:
            assert request.cursor.shard_epoch != self.shard_epoch, "the device left a gap"
            return settled, []
        for row in request.results:
            verdict = self._decide(*owner, row, settled)
            if verdict is not None:
                verdicts.append(verdict)
        last = request.results[-1].counter
        self.settled[owner] = max(settled, last)
        return last, verdicts

    def _decide(self, alias: int, epoch: int, row: ResultRow, settled: int) -> RowVerdict | None:
        name = ResultId(alias, epoch, row.counter)
        held = self.results.get(name)
        if held is not None and held.row == row:
            return RowVerdict(row.counter, VerdictCode.DUPLICATE, RejectReason.NONE)
        if self._gone(RowKind.RESULT, *_flat(name)):
            return RowVerdict(row.counter, VerdictCode.REJECTED, RejectReason.DELETED)
        if held is not None or row.counter <= settled:
            return RowVerdict(row.counter, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
        self.results[name] = self._held(row, (alias, epoch))
        return None

    def _settle_notes(self, request: ExchangeRequest) -> tuple[int, list[AnnotationVerdict]]:
        owner, refused = (request.device_alias, request.epoch), []
        settled = self.notes_settled.get(owner, 0)
        if not request.notes or request.notes[0].counter > settled + 1:
            return settled, []
        for row in request.notes:
            name = (*owner, row.counter)
            held = self.notes.get(name)
            if self._gone(RowKind.NOTE, *name):
                refused.append(AnnotationVerdict(RowKind.NOTE, *name, "", RejectReason.DELETED))
            elif (held is not None and held.row != row) or (held is None and row.counter <= settled):
                refused.append(AnnotationVerdict(RowKind.NOTE, *name, "", RejectReason.CONFLICTS_WITH_STORED))
            elif held is None:
                self.notes[name] = self._held(row, owner)
        self.notes_settled[owner] = max(settled, request.notes[-1].counter)
        return request.notes[-1].counter, refused

    def _write(self, row: AnnotationRow, origin: Origin, base: tuple[int, int] | None) -> int:
        name = (row.target, row.author)
        if row.target not in self.results:
            return int(RejectReason.UNKNOWN_TARGET)
        if max(row.rhythm.hlc, row.comment.hlc) <= self.gone_hlc.get(name, -1):
            return int(RejectReason.DELETED)
        held = self.annotations.get(name)
        if held is None:
            self.annotations[name] = self._held(row, origin)
            return 0
        merged = merge_annotation(held.row, row)
        if base is not None:
            self._supersede(Field.RHYTHM, name, held.row.rhythm, row.rhythm, merged.rhythm, base[0])
            self._supersede(Field.COMMENT, name, held.row.comment, row.comment, merged.comment, base[1])
        if merged != held.row:
            self.annotations[name] = self._held(merged, origin if merged == row else (0, 0))
        return 0

    def _supersede(self, of: Field, name: Name, held: Register, pushed: Register, kept: Register, base: int) -> None:
        if pushed in (SILENT, held) or held == SILENT or base == base_mark(held.hlc):
            return
        lost = pushed if kept == held else held
        row = Superseded(name[0], name[1], of, lost.hlc, lost.value)
        if row not in self.superseded:
            self.superseded[row] = self._held(row, (0, 0))

    def _delete(self, gone: Tombstone, origin: Origin) -> None:
        if gone.kind == RowKind.NOTE:
            held: Held | None = self.notes.pop((gone.device_alias, gone.epoch, gone.counter), None)
        else:
            name = (ResultId(gone.device_alias, gone.epoch, gone.counter), gone.author)
            held = self.annotations.pop(name, None)
            if held is not None:
                latest = max(held.row.rhythm.hlc, held.row.comment.hlc)
                self.gone_hlc[name] = max(latest, self.gone_hlc.get(name, -1))
        if held is not None:
            self._bury(gone, origin)

    def _feed(self, request: ExchangeRequest, **answer: Any) -> ExchangeResponse:
        me, cursor = (request.device_alias, request.epoch), request.cursor
        since = cursor.commit_seq if cursor.shard_epoch == self.shard_epoch else 0
        rebaseline = cursor.shard_epoch == self.shard_epoch and 0 < since < self.collected_seq
        since = 0 if rebaseline else since
        kinds: dict[str, Iterable[Held]] = {
            "results": self.results.values(),
            "annotations": self.annotations.values(),
            "notes": self.notes.values(),
            "superseded": self.superseded.values(),
            "tombstones": self.tombstones.values(),
            "documents": self.documents.values(),
        }
        fresh = sorted(
            ((held.seq, kind, held) for kind, rows in kinds.items() for held in rows if held.seq > since),
            key=lambda item: item[0],
        )
        some = fresh[: self.page]
        down: dict[str, list[Any]] = {kind: [] for kind in kinds}
        for _, kind, held in some:
            if held.origin != me:
                down[kind].append(held)
        named = {held.seq: name for name, held in self.results.items()}
        results = tuple(
            IdentifiedResult(device_alias=named[held.seq].device_alias, epoch=named[held.seq].epoch, row=held.row)
            for held in down.pop("results")
        )
        owners = tuple(Owner(alias, key) for alias, key in sorted(self.keys.items()))
        more = len(fresh) > len(some)
        mine, others = self.digests(request.device_alias)
        return ExchangeResponse(
            **answer,
            results=results,
            **{kind: tuple(held.row for held in rows) for kind, rows in down.items()},
            owners=owners if request.owners_known != len(owners) else (),
            cursor=Cursor(self.shard_epoch, some[-1][0] if more else max(self.seq, since)),
            digest=mine,
            digests=others,
            more=more,
            rebaseline=rebaseline,
            capabilities=int(Capability.FEED | Capability.REPAIR),
        )

    # ---- buckets and repairs -----------------------------------------------------------------------------------------

    def bucket(self, reader: int, owner: int, kind: int) -> list[tuple[int, ResultId | None, Any]]:
        """Share, name of a result, and row of all rows in canonical order."""
        key = self.keys[reader] if owner == 0 else self.keys[owner]
        if kind == BucketKind.RECORDS:
            rows: list[tuple[int, ResultId | None, Any]] = [
                (digests.result_sum(key, owner, name.epoch, held.row), name, held.row)
                for name, held in sorted(self.results.items())
                if name.device_alias == owner
            ]
            return rows + [
                (digests.annotation_sum(key, held.row), None, held.row)
                for name, held in sorted(self.annotations.items())
                if name[0].device_alias == owner
            ]
        rows = [
            (digests.note_sum(key, held.row), None, held.row)
            for name, held in sorted(self.notes.items())
            if name[0] == owner
        ]
        return rows + [
            (digests.superseded_sum(key, row), None, row)
            for row in sorted(self.superseded)
            if row.target.device_alias == owner
        ]

    def digests(self, reader: int) -> tuple[Digest, tuple[BucketDigest, ...]]:
        """Of the reader's own records, and of all other buckets that are not empty."""
        found = {
            (owner, int(kind)): digests.add_all(
                digests.EMPTY, [share for share, _, _ in self.bucket(reader, owner, kind)]
            )
            for owner in (0, *self.keys)
            for kind in BucketKind
        }
        mine = found.pop((reader, int(BucketKind.RECORDS)))
        return mine, tuple(
            BucketDigest(*name, one.count, one.total) for name, one in sorted(found.items()) if one.count
        )

    def repair(self, request: RepairRequest) -> RepairResponse:
        """Answer."""
        verdicts = [self._give(request.device_alias, given) for given in request.given]
        rows = self.bucket(request.device_alias, request.owner, request.kind)
        octets = b"".join(share.to_bytes(SUM_BYTES, "big") for share, _, _ in rows)
        ids = np.array([(name.epoch, name.counter) for _, name, _ in rows if name is not None], np.int64)
        chosen = select(request, np.frombuffer(octets, np.uint8).reshape(-1, SUM_BYTES), ids.reshape(-1, 2))
        sent = [rows[int(place)] for place in chosen.rows]

        def of(kind: type) -> tuple[Any, ...]:
            return tuple(row for _, _, row in sent if isinstance(row, kind))

        return RepairResponse(
            decoded=chosen.decoded,
            absent=chosen.absent,
            results=tuple(
                IdentifiedResult(device_alias=name.device_alias, epoch=name.epoch, row=row)
                for _, name, row in sent
                if name is not None
            ),
            annotations=of(AnnotationRow),
            notes=of(NoteRow),
            superseded=of(Superseded),
            more=chosen.more,
            verdicts=tuple(verdicts),
            digest=digests.add_all(digests.EMPTY, [share for share, _, _ in rows]),
            differences=chosen.differences,
            held=chosen.held,
            cursor=Cursor(self.shard_epoch, self.seq),
        )

    def _give(self, alias: int, given: IdentifiedResult) -> int:
        name = ResultId(alias, given.epoch, given.row.counter)
        held = self.results.get(name)
        if held is not None:
            return int(VerdictCode.DUPLICATE if held.row == given.row else VerdictCode.REJECTED)
        if self._gone(RowKind.RESULT, *_flat(name)):
            return int(VerdictCode.REJECTED)
        self.results[name] = self._held(given.row, (alias, given.epoch))
        return int(VerdictCode.ACCEPTED)

    def _held(self, row: Any, origin: Origin) -> Held:
        self.seq += 1
        return Held(row, self.seq, origin)

    def _bury(self, gone: Tombstone, origin: Origin) -> None:
        self.tombstones[gone] = self._held(gone, origin)
        self.buried.add(gone)

    def _gone(self, kind: int, alias: int, epoch: int, counter: int) -> bool:
        return Tombstone(kind, alias, epoch, counter) in self.buried


def _flat(target: ResultId) -> tuple[int, int, int]:
    return msgspec.structs.astuple(target)
