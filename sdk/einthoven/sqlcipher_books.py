"""The lines that say where an encrypted store stands with its server.

Reads only; what is written because of them is in ``sqlcipher_settling`` and its neighbours. It deliberately decides
nothing, and leaves digests to ``sqlcipher_buckets``.

Invariants:
    1. A line that is given out is the one that was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from einthoven.errors import StoreDamaged
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.store_schema import position_of
from einthoven_protocol.messages import Cursor, Digest, ServerLimits


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


class LinkLine(NamedTuple):
    """The row of table ``link``."""

    only_line: int = 1
    capabilities: int = 0
    max_results: int = 0
    max_annotations: int = 0
    min_interval_s: int = 0
    rebaseline: int = 0
    owners_asked: int = 0
    history: int = 0
    server_count: int | None = None
    server_total: bytes | None = None

    @property
    def limits(self) -> ServerLimits:
        """What the server asked for last."""
        return ServerLimits(
            max_results=self.max_results,
            max_annotations=self.max_annotations,
            min_interval_s=self.min_interval_s,
        )


class NoteLog(NamedTuple):
    """A row of table ``note_log``."""

    epoch: int
    last_counter: int = 0
    acknowledged: int = 0


FRESH_LINK: Final = LinkLine()
"""The line of a store that never spoke to its server."""


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


def link_line(rows: RowReader) -> LinkLine:
    """What the server said last; nothing, where the line is lost."""
    row = rows.get("link", (1,))
    return FRESH_LINK if row is None else LinkLine(*row)


def note_logs(rows: RowReader) -> list[NoteLog]:
    """Logs of notes of all epochs that have one, the oldest first."""
    return [NoteLog(*row) for row in rows.select("note_log", "ORDER BY epoch")]


def note_log(rows: RowReader, epoch: int) -> NoteLog:
    """The log of notes of an epoch; an empty one, where there is none."""
    row = rows.get("note_log", (epoch,))
    return NoteLog(epoch) if row is None else NoteLog(*row)
