"""What the protocol asks of a server, the plain way: results by identity, and a feed of annotations."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

from tests.contracts.exchanges import SYNC_KEY

from einthoven_protocol import digests
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    RejectReason,
    ResultId,
    ResultRow,
    RowVerdict,
    VerdictCode,
)

Place = tuple[int, int]
Name = tuple[ResultId, str]


@dataclass(frozen=True)
class FeedRow:
    """An annotation, where it stands in the feed, and the epoch of the device whose own words it is."""

    row: AnnotationRow
    commit_seq: int
    origin_epoch: int | None


@dataclass
class ModelServer:
    """One device's part of a server.

    Attributes:
        refuse: Starts of the results that it calls out of range.
    """

    alias: int
    refuse: frozenset[int] = frozenset()
    shard_epoch: int = 1
    commit_seq: int = 0
    results: dict[Place, ResultRow] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)
    annotations: dict[Name, FeedRow] = field(default_factory=dict)
    sync_key: bytes = SYNC_KEY

    def restored(self, backup: ModelServer) -> ModelServer:
        """What comes back from a backup: an older state, and a new history from there."""
        return replace(copy.deepcopy(backup), shard_epoch=self.shard_epoch + 1)

    def write(self, row: AnnotationRow, origin_epoch: int | None = None) -> None:
        """Merge somebody's words in."""
        name = (row.target, row.author)
        held = self.annotations.get(name)
        merged = row if held is None else merge_annotation(held.row, row)
        if held is None or held.row != merged:
            self.commit_seq += 1
            self.annotations[name] = FeedRow(merged, self.commit_seq, origin_epoch if merged == row else None)

    def exchange(self, request: ExchangeRequest, take: int = 10_000) -> ExchangeResponse:
        """Answer, settling at most ``take`` results.

        Raises:
            AssertionError: The device sent what a server refuses as a whole.
        """
        assert request.device_alias == self.alias
        assert all(row.target.device_alias == self.alias for row in request.annotations), "another device's result"
        assert request.cursor <= Cursor(self.shard_epoch, self.commit_seq), "the device read further than there is"
        settled = self.settled.get(request.epoch, 0)
        verdicts: list[RowVerdict] = []
        acknowledged = settled
        if request.results:
            gap = request.results[0].counter > settled + 1
            assert not (gap and request.cursor.shard_epoch == self.shard_epoch), "the device left a gap"
            if not gap:
                acknowledged = self._settle(request, settled, verdicts, take)
        for row in request.annotations:
            self.write(row, request.epoch)
        since = request.cursor.commit_seq if request.cursor.shard_epoch == self.shard_epoch else 0
        feed = sorted(self.annotations.values(), key=lambda found: found.commit_seq)
        return ExchangeResponse(
            acknowledged=acknowledged,
            verdicts=tuple(verdicts),
            annotations=tuple(
                found.row for found in feed if found.commit_seq > since and found.origin_epoch != request.epoch
            ),
            cursor=Cursor(self.shard_epoch, self.commit_seq),
            digest=self.digest(),
        )

    def _settle(self, request: ExchangeRequest, settled: int, verdicts: list[RowVerdict], take: int) -> int:
        last = request.results[0].counter - 1
        for row in request.results:
            if row.counter > settled:
                if take == 0:
                    break
                take -= 1
            code, reason = self._decide(request.epoch, row, settled)
            if code is not VerdictCode.ACCEPTED:
                verdicts.append(RowVerdict(row.counter, code, reason))
            last = row.counter
        self.settled[request.epoch] = max(settled, last)
        return last

    def _decide(self, epoch: int, row: ResultRow, settled: int) -> tuple[VerdictCode, RejectReason]:
        stored = self.results.get((epoch, row.counter))
        if stored == row:
            return VerdictCode.DUPLICATE, RejectReason.NONE
        if stored is not None:
            return VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED
        if row.started_at_ms in self.refuse:
            return VerdictCode.REJECTED, RejectReason.OUT_OF_RANGE
        if row.counter <= settled:
            return VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED
        self.commit_seq += 1
        self.results[epoch, row.counter] = row
        return VerdictCode.ACCEPTED, RejectReason.NONE

    def digest(self) -> Digest:
        """Over everything."""
        digest = digests.EMPTY
        for (epoch, _), row in self.results.items():
            digest = digests.add(digest, digests.result_sum(self.sync_key, self.alias, epoch, row))
        for found in self.annotations.values():
            digest = digests.add(digest, digests.annotation_sum(self.sync_key, found.row))
        return digest
