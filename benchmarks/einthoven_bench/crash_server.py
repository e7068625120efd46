"""An honest server for the crash points: what the protocol asks of one, the plain way, in memory.

It takes rows in order, forgets nothing, answers every request from what it holds, and can be pickled, so that it lives
on when the device that talked to it was killed. It deliberately has no transport, no seals and no other device; the
real one is ``einthoven_server``.

Invariants:
    1. A row that it acknowledged is in ``results`` (or was refused on purpose) and is never given up.
    2. A counter's row is taken once; the same row again is a duplicate, another row is refused as a conflict.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass
class HonestServer:
    """What it holds of one device.

    Attributes:
        sync_key: Keys the digests, 32 bytes.
        device_alias: Of the device.
        results: Rows by (epoch, counter).
        decided: Highest counter whose fate is decided, for each epoch.
        annotations: Merged rows by (target, author).
        feed: Names of annotations in the order in which they changed.
    """

    sync_key: bytes
    device_alias: int
    results: dict[tuple[int, int], ResultRow] = field(default_factory=dict)
    decided: dict[int, int] = field(default_factory=dict)
    verdicts: dict[tuple[int, int], RowVerdict] = field(default_factory=dict)
    annotations: dict[tuple[ResultId, str], AnnotationRow] = field(default_factory=dict)
    feed: list[tuple[ResultId, str]] = field(default_factory=list)

    def write(self, row: AnnotationRow) -> None:
        """Merge an annotation, a device's or a clinician's."""
        name = (row.target, row.author)
        before = self.annotations.get(name)
        merged = row if before is None else merge_annotation(before, row)
        if merged != before:
            self.annotations[name] = merged
            self.feed.append(name)

    def exchange(self, request: ExchangeRequest) -> ExchangeResponse:
        """Take what a request brings and answer it."""
        for row in request.results:
            self._take(request.epoch, row)
        for annotation in request.annotations:
            self.write(annotation)
        since = request.cursor.commit_seq if request.cursor.shard_epoch == 1 else 0
        pushed = {row.counter for row in request.results}
        return ExchangeResponse(
            acknowledged=self.decided.get(request.epoch, 0),
            verdicts=tuple(
                verdict
                for (epoch, counter), verdict in self.verdicts.items()
                if epoch == request.epoch and counter in pushed
            ),
            annotations=tuple(self.annotations[name] for name in dict.fromkeys(self.feed[since:])),
            cursor=Cursor(1, len(self.feed)),
            digest=self.digest(),
        )

    def digest(self) -> Digest:
        """Over everything that it holds."""
        digest = digests.EMPTY
        for (epoch, _), row in self.results.items():
            digest = digests.add(digest, digests.result_sum(self.sync_key, self.device_alias, epoch, row))
        for annotation in self.annotations.values():
            digest = digests.add(digest, digests.annotation_sum(self.sync_key, annotation))
        return digest

    def _take(self, epoch: int, row: ResultRow) -> None:
        decided = self.decided.get(epoch, 0)
        name = (epoch, row.counter)
        if row.counter == decided + 1:
            self.decided[epoch] = row.counter
            self.results[name] = row
        elif row.counter <= decided and self.results.get(name) != row:
            self.verdicts[name] = RowVerdict(row.counter, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
