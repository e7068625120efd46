"""Own results of a run of counters, read at once as the bytes that they are.

A sync takes up to ten thousand results out of the file twice, to send them and to count them as held. One by one, most
of that time goes into making rows of bytes. Here SQLite strings the columns together, and the tags of all are held to
what is there. It deliberately gives nothing where anything is unusual: who asks then reads row by row, which leaves out
what is damaged and says so.

Invariants:
    1. A run that is given out is without holes, and each of its rows is the one that was written there: its tag was
       checked. Whatever SQLite made of the columns, rows in another order or of another length would fail that.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from einthoven.sqlcipher_row_reading import RowReader
from einthoven.store_run_tags import holds_run
from einthoven.store_schema import position_of
from einthoven_protocol.canonical_results import packed_results_of
from einthoven_protocol.limits import DIGEST_BYTES
from einthoven_protocol.packed_results import RESULT_ROW_BYTES, ResultRows

_RUN = """SELECT count(*), min(position), max(position), json_group_array(started_at_ms),
    CAST(group_concat(body, '') AS BLOB), CAST(group_concat(segment_digest, '') AS BLOB),
    CAST(group_concat(tag, '') AS BLOB)
    FROM (SELECT * FROM result WHERE position BETWEEN ? AND ? ORDER BY position)"""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Results of one epoch under consecutive counters.

    Attributes:
        first_counter: Of the first.
        rows: The results, unmade.
        segment_octets: Their segments' digests, one after the other.
    """

    first_counter: int
    rows: ResultRows
    segment_octets: bytes

    def segment_digests(self) -> tuple[bytes, ...]:
        """One for each result, 32 bytes."""
        octets = self.segment_octets
        return tuple(octets[at : at + DIGEST_BYTES] for at in range(0, len(octets), DIGEST_BYTES))


def stored_run(rows: RowReader, epoch: int, first_counter: int, last_counter: int) -> StoredRun | None:
    """Return the results of a range of counters that are here, if they are an unbroken run from its beginning.

    Args:
        rows: Reads.
        epoch: Their epoch.
        first_counter: First of the range.
        last_counter: Last of the range; the run may end before it.

    Returns:
        The run; ``None`` if there is none, a hole is in it, a row is damaged, or one has further columns.
    """
    first = position_of(epoch, first_counter)
    n_rows, lowest, highest, times, bodies, segments, tags = rows.connection.execute(
        _RUN, (first, position_of(epoch, last_counter))
    ).fetchone()
    if not n_rows or lowest != first or highest != first + n_rows - 1:
        return None
    if len(bodies) != n_rows * RESULT_ROW_BYTES or len(segments) != n_rows * DIGEST_BYTES:
        return None
    results = packed_results_of(bodies)
    if results is None or results.fields["started_at_ms"].tolist() != msgspec.json.decode(times):
        return None
    # A run of tags of another length is another one.
    if not holds_run(rows.tags, first, segments, results, tags, rows.give_way):
        return None
    return StoredRun(first_counter, results, segments)
