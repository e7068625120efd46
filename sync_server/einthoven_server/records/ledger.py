"""What becomes of pushed rows and of an author's words. Pure: a working copy of what a batch touches, and decisions.

It deliberately knows no SQL, no encryption and no clock; ``commit`` loads it and writes what it collected.

Invariants:
    1. Results never change: a stored row pushed again is a duplicate if it is the same, else it conflicts.
    2. What a device pushed contiguously is settled: stored, quarantined or rejected for good, and acknowledged. One bad
       row stops nothing behind it.
    3. A push that leaves a gap settles nothing.
    4. Every row written gets the next commit sequence; within a batch, changes apply in the order they came.
    5. A digest changes with exactly the rows that are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from einthoven_protocol import digests, hlc
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    Digest,
    ExchangeRequest,
    Register,
    RejectReason,
    ResultId,
    ResultRow,
    RowVerdict,
    VerdictCode,
)
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.errors import Conflict, RequestRefused
from einthoven_server.identity.callers import Device

_QUARANTINED_REASONS = frozenset({RejectReason.BAD_SEAL, RejectReason.CLOCK_SKEW})


@dataclass(frozen=True, slots=True)
class PushedRow:
    """A result as it was pushed.

    Attributes:
        row: The row.
        canonical: Its canonical bytes.
        share: Its share of the device's digest.
        fault: What is wrong with it, ``NONE`` for nothing.
    """

    row: ResultRow
    canonical: bytes
    share: int
    fault: RejectReason


@dataclass(frozen=True, slots=True)
class Push:
    """One device's exchange, verified and ready to be written.

    Attributes:
        device: Who pushed.
        request: What it sent.
        rows: Its results.
        nonce: To be used once.
        nonce_expires_at_ms: Until when it is remembered.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
    """

    device: Device
    request: ExchangeRequest
    rows: tuple[PushedRow, ...]
    nonce: str
    nonce_expires_at_ms: int
    event: Event
    now_ms: int


@dataclass(frozen=True, slots=True)
class Annotate:
    """A clinician's words on one result; ``None`` leaves a field as it is.

    Attributes:
        device: The device whose result it is, for its keys.
        target: The result.
        author: Principal id.
        rhythm: Rhythm class as text.
        comment: Free text.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
    """

    device: Device
    target: ResultId
    author: str
    rhythm: str | None
    comment: str | None
    event: Event
    now_ms: int


class NewResult(NamedTuple):
    """A result to be written."""

    result: ResultId
    device: Device
    pushed: PushedRow
    commit_seq: int


class NewAnnotation(NamedTuple):
    """An annotation to be written; ``origin`` is (alias, epoch) of a device whose own words it is."""

    row: AnnotationRow
    device: Device
    commit_seq: int
    origin: tuple[int, int] | None


class Settled(NamedTuple):
    """What a push came to."""

    acknowledged: int
    verdicts: tuple[RowVerdict, ...]


@dataclass(slots=True)
class Ledger:
    """Working copy of what a batch touches, and what it is to write.

    Attributes:
        shard_epoch: Counts the shard's histories.
        commit_seq: Last commit sequence given.
        last_hlc: Last hybrid logical time this writer gave.
        acknowledged: By (device alias, epoch).
        shares: Digest shares of stored results that are pushed again.
        quarantined: Reasons of quarantined rows that are pushed again.
        digests: By device alias.
        annotations: By (target, author).
    """

    shard_epoch: int
    commit_seq: int
    last_hlc: int
    acknowledged: dict[tuple[int, int], int] = field(default_factory=dict)
    shares: dict[ResultId, int] = field(default_factory=dict)
    quarantined: dict[ResultId, int] = field(default_factory=dict)
    digests: dict[int, Digest] = field(default_factory=dict)
    annotations: dict[tuple[ResultId, str], AnnotationRow] = field(default_factory=dict)
    new_results: list[NewResult] = field(default_factory=list)
    new_quarantined: list[NewResult] = field(default_factory=list)
    new_annotations: dict[tuple[ResultId, str], NewAnnotation] = field(default_factory=dict)

    def settle(self, push: Push) -> Settled | RequestRefused:
        """Decide on everything a push holds."""
        refused = self._refusal(push)
        if refused is not None:
            return refused
        settled = self._settle_results(push)
        for row in push.request.annotations:
            self._merge(row, push.device, (push.device.alias, push.request.epoch))
        return settled

    def annotate(self, change: Annotate) -> AnnotationRow:
        """Put a clinician's words in; return the row as it is then."""
        empty = Register("", 0)
        held = self.annotations.get((change.target, change.author)) or AnnotationRow(
            target=change.target, author=change.author, rhythm=empty, comment=empty
        )
        seen = max(self.last_hlc, held.rhythm.hlc, held.comment.hlc)
        self.last_hlc = now = hlc.tick(seen, change.now_ms)
        row = AnnotationRow(
            target=change.target,
            author=change.author,
            rhythm=held.rhythm if change.rhythm is None else Register(change.rhythm, now),
            comment=held.comment if change.comment is None else Register(change.comment, now),
        )
        return self._merge(row, change.device, None)

    def _refusal(self, push: Push) -> RequestRefused | None:
        cursor, request = push.request.cursor, push.request
        if (cursor.shard_epoch, cursor.commit_seq) > (self.shard_epoch, self.commit_seq):
            return Conflict("the device has read further than this server goes", "enrol anew", code="cursor_ahead")
        acknowledged = self.acknowledged.get((push.device.alias, request.epoch), 0)
        gap = bool(push.rows) and push.rows[0].row.counter > acknowledged + 1
        if gap and cursor.shard_epoch == self.shard_epoch:
            return Conflict(
                f"results {acknowledged + 1} to {push.rows[0].row.counter - 1} were never pushed",
                "push from the first unacknowledged one",
                code="counter_gap",
            )
        return None

    def _settle_results(self, push: Push) -> Settled:
        run = (push.device.alias, push.request.epoch)
        acknowledged = self.acknowledged.get(run, 0)
        if not push.rows or push.rows[0].row.counter > acknowledged + 1:
            return Settled(acknowledged, ())
        verdicts = []
        for pushed in push.rows:
            code, reason = self._settle_row(push.device, ResultId(*run, pushed.row.counter), pushed, acknowledged)
            if code is not VerdictCode.ACCEPTED:
                verdicts.append(RowVerdict(pushed.row.counter, code, reason))
        last = push.rows[-1].row.counter
        self.acknowledged[run] = max(acknowledged, last)
        return Settled(last, tuple(verdicts))

    def _settle_row(
        self, device: Device, result: ResultId, pushed: PushedRow, acknowledged: int
    ) -> tuple[VerdictCode, int]:
        stored = self.shares.get(result)
        if stored is not None:
            same = stored == pushed.share
            return (
                (VerdictCode.DUPLICATE, RejectReason.NONE)
                if same
                else (VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
            )
        if result in self.quarantined:
            return VerdictCode.QUARANTINED, self.quarantined[result]
        if pushed.fault in _QUARANTINED_REASONS and result.counter > acknowledged:
            self.quarantined[result] = pushed.fault
            self.new_quarantined.append(NewResult(result, device, pushed, 0))
            return VerdictCode.QUARANTINED, pushed.fault
        if pushed.fault is not RejectReason.NONE:
            return VerdictCode.REJECTED, pushed.fault
        if result.counter <= acknowledged:  # what was rejected for good does not come back as something else
            return VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED
        self.shares[result] = pushed.share
        self.digests[device.alias] = digests.add(self.digests.get(device.alias, digests.EMPTY), pushed.share)
        self.new_results.append(NewResult(result, device, pushed, self._next_seq()))
        return VerdictCode.ACCEPTED, RejectReason.NONE

    def _merge(self, row: AnnotationRow, device: Device, origin: tuple[int, int] | None) -> AnnotationRow:
        key = (row.target, row.author)
        held = self.annotations.get(key)
        merged = row if held is None else merge_annotation(held, row)
        if merged == held:
            return merged
        digest = self.digests.get(device.alias, digests.EMPTY)
        if held is not None:
            digest = digests.remove(digest, digests.annotation_sum(device.sync_key, held))
        self.digests[device.alias] = digests.add(digest, digests.annotation_sum(device.sync_key, merged))
        self.annotations[key] = merged
        self.new_annotations[key] = NewAnnotation(merged, device, self._next_seq(), origin if merged == row else None)
        return merged

    def _next_seq(self) -> int:
        self.commit_seq += 1
        return self.commit_seq


def row_fault(row: ResultRow, now_ms: int) -> RejectReason:
    """What is wrong with a row in itself; ranges of single fields are the codec's matter."""
    if (row.tier == 0) != (row.reason != 0):  # einthoven.results, invariant 1
        return RejectReason.OUT_OF_RANGE
    if row.started_at_ms > now_ms + limits.RESULT_AHEAD_MAX_MS:
        return RejectReason.CLOCK_SKEW
    return RejectReason.NONE


def rows_of(changes: Iterable[Push | Annotate]) -> int:
    """How many rows a batch writes at most."""
    return sum(
        len(change.rows) + len(change.request.annotations) if isinstance(change, Push) else 1 for change in changes
    )
