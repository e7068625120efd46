"""A server for the engine's tests that keeps rows, feeds them, compares them and can lose them; all in dictionaries.

It believes every seal and refuses nothing: what a server decides is tested with the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from einthoven.errors import ServerUnreachable
from einthoven.sync_repairs import REPAIR_PATH
from einthoven.syncing import EXCHANGE_PATH
from einthoven_protocol import codec, digests, repair_answer, repair_codec
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketDigest,
    BucketKind,
    Capability,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    NoteRow,
    Owner,
    RepairRequest,
    RepairResponse,
    ResultId,
    ResultRow,
    RowKind,
    ServerLimits,
    VerdictCode,
)

Row = ResultRow | AnnotationRow | NoteRow
Name = tuple[object, ...]
CAN = Capability.FEED | Capability.REPAIR


@dataclass
class FeedServer:
    """One patient's part of a server.

    Attributes:
        keys: Sync key of each device.
        capabilities: What it announces, where the device announces anything.
        lied: Added to the total of every digest of this owner.
    """

    keys: dict[int, bytes]
    capabilities: int = CAN
    limits: ServerLimits = field(default_factory=ServerLimits)
    lied: dict[int, int] = field(default_factory=dict)
    page: int = 10_000
    rows: dict[Name, tuple[int, int, Row]] = field(default_factory=dict)
    commit_seq: int = 0
    exchanges: list[ExchangeRequest] = field(default_factory=list)
    repairs: list[RepairRequest] = field(default_factory=list)
    unreachable_after: int | None = None

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """See ``Transport.post``."""
        if self.unreachable_after is not None and len(self.exchanges) + len(self.repairs) >= self.unreachable_after:
            raise ServerUnreachable("the server can't be reached", "later")
        if path == EXCHANGE_PATH:
            request = codec.decode_request(body)
            self.exchanges.append(request)
            return codec.encode_response(self.exchange(request), peer=request.capabilities)
        assert path == REPAIR_PATH
        asked = repair_codec.decode_repair_request(body)
        self.repairs.append(asked)
        return repair_codec.encode_repair_response(self.repair(asked))

    async def close(self) -> None:
        """See ``Transport.close``."""

    def put(self, alias: int, epoch: int, row: Row) -> None:
        """Commit a row of a device."""
        name = _name(alias, epoch, row)
        held = self.rows.get(name)
        if held is not None and isinstance(row, AnnotationRow) and isinstance(held[2], AnnotationRow):
            row = merge_annotation(held[2], row)
        if held is None or held[2] != row:
            self.commit_seq += 1
            self.rows[name] = (self.commit_seq, alias, row)

    def lose(self, alias: int, epoch: int, counter: int) -> None:
        """Forget a result, as no server should."""
        del self.rows[RowKind.RESULT, alias, epoch, counter]

    def exchange(self, request: ExchangeRequest) -> ExchangeResponse:
        """Answer an exchange."""
        alias, epoch = request.device_alias, request.epoch
        can = self.capabilities if request.capabilities else 0
        for row in (*request.results, *request.alerts, *request.annotations, *request.notes):
            self.put(alias, epoch, row)
        for gone in request.deletions:
            self.rows.pop((gone.kind, gone.device_alias, gone.epoch, gone.counter), None)
        found = sorted(
            (seq, author, name, row)
            for name, (seq, author, row) in self.rows.items()
            if seq > request.cursor.commit_seq and author != alias and can & Capability.FEED
        )[: self.page]
        more = len(found) == self.page
        return ExchangeResponse(
            acknowledged=request.results[-1].counter if request.results else self._highest(alias, epoch),
            notes_acknowledged=request.notes[-1].counter if request.notes else 0,
            results=tuple(
                IdentifiedResult(device_alias=author, epoch=int(str(name[2])), row=row)
                for _, author, name, row in found
                if isinstance(row, ResultRow)
            ),
            annotations=tuple(row for *_, row in found if isinstance(row, AnnotationRow)),
            notes=tuple(row for *_, row in found if isinstance(row, NoteRow)),
            owners=tuple(Owner(one, key) for one, key in sorted(self.keys.items()))
            if can and request.owners_known != len(self.keys)
            else (),
            cursor=Cursor(1, found[-1][0] if more else self.commit_seq),
            digest=self.digest(alias, BucketKind.RECORDS),
            digests=tuple(
                BucketDigest(owner, kind, digest.count, digest.total)
                for owner in sorted(self.keys)
                for kind in BucketKind
                if (owner, kind) != (alias, BucketKind.RECORDS) and (digest := self.digest(owner, kind)).count
            )
            if can
            else (),
            more=more,
            capabilities=can,
            limits=self.limits if can else ServerLimits(),
        )

    def repair(self, request: RepairRequest) -> RepairResponse:
        """Answer a repair."""
        for one in request.given:
            self.put(one.device_alias, one.epoch, one.row)
        names = self._bucket(request.owner, request.kind)
        shares = [self._share(name).to_bytes(16, "big") for name in names]
        ids = [name[2:] for name in names if name[0] == RowKind.RESULT]
        chosen = repair_answer.select(
            request,
            np.frombuffer(b"".join(shares), np.uint8).reshape(-1, 16),
            np.array(ids, np.int64).reshape(-1, 2),
        )
        sent = [(names[place], self.rows[names[place]][2]) for place in chosen.rows.tolist()]
        return RepairResponse(
            decoded=chosen.decoded,
            absent=chosen.absent,
            differences=chosen.differences,
            held=chosen.held if request.kind == BucketKind.RECORDS else (),
            results=tuple(
                IdentifiedResult(device_alias=request.owner, epoch=int(str(name[2])), row=row)
                for name, row in sent
                if isinstance(row, ResultRow)
            ),
            annotations=tuple(row for _, row in sent if isinstance(row, AnnotationRow)),
            notes=tuple(row for _, row in sent if isinstance(row, NoteRow)),
            more=chosen.more,
            verdicts=(VerdictCode.ACCEPTED,) * len(request.given),
            digest=self.digest(request.owner, request.kind),
            cursor=Cursor(1, self.commit_seq),
        )

    def digest(self, owner: int, kind: int) -> Digest:
        """Over one bucket."""
        found = digests.EMPTY
        for name in self._bucket(owner, kind):
            found = digests.add(found, self._share(name))
        return Digest(found.count, (found.total + self.lied.get(owner, 0)) % 2**128)

    def _highest(self, alias: int, epoch: int) -> int:
        return max((name[3] for name in self.rows if name[:3] == (RowKind.RESULT, alias, epoch)), default=0)  # type: ignore[type-var, return-value]

    def _bucket(self, owner: int, kind: int) -> list[Name]:
        kinds = (RowKind.RESULT, RowKind.ANNOTATION) if kind == BucketKind.RECORDS else (RowKind.NOTE,)
        return sorted((name for name in self.rows if name[1] == owner and name[0] in kinds), key=lambda name: name)

    def _share(self, name: Name) -> int:
        _, _, row = self.rows[name]
        owner = int(str(name[1]))
        if isinstance(row, ResultRow):
            return digests.result_sum(self.keys[owner], owner, int(str(name[2])), row)
        if isinstance(row, NoteRow):
            return digests.note_sum(self.keys[owner], row)
        return digests.annotation_sum(self.keys[owner], row)


def _name(alias: int, epoch: int, row: Row) -> Name:
    if isinstance(row, ResultRow):
        return (RowKind.RESULT, alias, epoch, row.counter)
    if isinstance(row, NoteRow):
        return (RowKind.NOTE, row.device_alias, row.epoch, row.counter)
    target: ResultId = row.target
    return (RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, row.author)
