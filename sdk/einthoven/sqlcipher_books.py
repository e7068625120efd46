"""The lines that say where an encrypted store stands with its server, and the digest that runs along with them.

Reads, and computes sums; what is written because of them is in ``sqlcipher_settling`` and ``sqlcipher_exchange``. It
deliberately decides nothing.

Invariants:
    1. The running digest is that of what ``store_rules`` R5 names: whoever changes that set adds to it or removes from
       it; a change of sync key or device alias computes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from einthoven.errors import StoreDamaged
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.store_schema import epoch_and_counter, position_of
from einthoven_protocol import digests
from einthoven_protocol.canonical import decode_annotation_row, decode_result_row
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import AnnotationRow, Cursor, Digest, ResultRow


class EpochLine(NamedTuple):
    """A row of table ``epoch``."""

    epoch: int
    last_counter: int
    acknowledged: int
    first_kept: int


class SyncLine(NamedTuple):
    """The row of table ``sync``."""

    only_line: int
    epoch: int
    cursor_shard_epoch: int
    cursor_commit_seq: int
    digest_count: int
    digest_total: bytes
    digest_key: bytes | None
    digest_device_alias: int | None
    last_exchange_ms: int | None
    last_digest_equal: int | None

    @property
    def cursor(self) -> Cursor:
        """How far the feed was read."""
        return Cursor(self.cursor_shard_epoch, self.cursor_commit_seq)

    @property
    def digest(self) -> Digest:
        """Over what the server is known to hold."""
        return Digest(self.digest_count, int.from_bytes(self.digest_total, "big"))


class AnnotationLine(NamedTuple):
    """A row of table ``annotation``."""

    device_alias: int
    epoch: int
    counter: int
    author: str
    local_body: bytes
    known_body: bytes | None
    own: int


class RunningDigest:
    """The digest while it changes, and what it is keyed with.

    Attributes:
        digest: As it is now.
        key: Sync key.
        device_alias: Alias of this device.
    """

    def __init__(self, digest: Digest, key: bytes, device_alias: int) -> None:
        self.digest = digest
        self.key = key
        self.device_alias = device_alias

    def add_result(self, epoch: int, row: ResultRow) -> None:
        """Count a result in."""
        self.digest = digests.add(self.digest, digests.result_sum(self.key, self.device_alias, epoch, row))

    def remove_result(self, epoch: int, row: ResultRow) -> None:
        """Count a result out."""
        self.digest = digests.remove(self.digest, digests.result_sum(self.key, self.device_alias, epoch, row))

    def add_annotation(self, row: AnnotationRow) -> None:
        """Count an annotation in."""
        self.digest = digests.add(self.digest, digests.annotation_sum(self.key, row))

    def remove_annotation(self, row: AnnotationRow) -> None:
        """Count an annotation out."""
        self.digest = digests.remove(self.digest, digests.annotation_sum(self.key, row))

    def total_bytes(self) -> bytes:
        """The sum as it is stored."""
        return self.digest.total.to_bytes(SUM_BYTES, "big")


def sync_line(rows: RowReader) -> SyncLine:
    """Where the store stands.

    Raises:
        StoreDamaged: The line is not what was written.
    """
    row = rows.get("sync", (1,))
    if row is None:
        raise StoreDamaged("the store has lost its place in the sync", "run a repair of the store")
    return SyncLine(*row)


def epoch_lines(rows: RowReader) -> list[EpochLine]:
    """All epochs, the oldest first."""
    return [EpochLine(*row) for row in rows.select("epoch", "ORDER BY epoch")]


def results_above(rows: RowReader, line: EpochLine, last_counter: int, limit: int = -1) -> Iterator[Row]:
    """Results above an epoch's mark, up to a counter, in order: (position, started_at_ms, body, segment_digest)."""
    return results_in(rows, line.epoch, line.acknowledged + 1, last_counter, limit)


def results_in(rows: RowReader, epoch: int, first_counter: int, last_counter: int, limit: int = -1) -> Iterator[Row]:
    """Results of a range of counters, in order; a negative limit is none."""
    return rows.select(
        "result",
        "WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?",
        (position_of(epoch, first_counter), position_of(epoch, last_counter), limit),
    )


def refused_places(rows: RowReader) -> set[tuple[int, int]]:
    """(epoch, counter) of the results that the server does not hold although the mark passed them."""
    return {(row[0], row[1]) for row in rows.select("refusal")}


def running_digest(rows: RowReader, line: SyncLine, key: bytes, device_alias: int) -> RunningDigest:
    """The stored digest, computed anew if it was keyed with something else."""
    if (line.digest_key, line.digest_device_alias) == (key, device_alias):
        return RunningDigest(line.digest, key, device_alias)
    running = RunningDigest(digests.EMPTY, key, device_alias)
    refused = refused_places(rows)
    for epoch in epoch_lines(rows):
        for position, _, body, _ in results_in(rows, epoch.epoch, 1, epoch.acknowledged):
            if epoch_and_counter(position) not in refused:
                running.add_result(epoch.epoch, decode_result_row(body))
    for row in rows.select("annotation", "WHERE known_body IS NOT NULL"):
        known = AnnotationLine(*row).known_body
        if known is not None:
            running.add_annotation(decode_annotation_row(known))
    return running
