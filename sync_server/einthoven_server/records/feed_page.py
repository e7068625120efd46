"""How much of the feed fits one answer. Pure.

Invariants:
    1. A page ends before the first row that does not fit, of whatever kind; nothing before its end is left out.
    2. At least one row fits, so that asking again always gets further.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from einthoven_protocol import limits as protocol
from einthoven_server import limits
from einthoven_server.records.change_store import FedRow

PAGE_ROWS: Final[Mapping[str, int]] = {
    "results": protocol.MAX_RESULTS_PER_EXCHANGE,
    "annotations": protocol.MAX_ANNOTATIONS_PER_EXCHANGE,
    "superseded": protocol.MAX_SUPERSEDED_PER_EXCHANGE,
    "notes": protocol.MAX_NOTES_PER_EXCHANGE,
    "tombstones": protocol.MAX_TOMBSTONES_PER_EXCHANGE,
    "documents": protocol.MAX_DOCUMENTS_PER_EXCHANGE,
}
"""Most rows of a kind in one answer."""


class Page(NamedTuple):
    """A page of the feed.

    Attributes:
        rows: In order of commit.
        end: All up to this commit sequence was given.
        more: Whether there is more.
    """

    rows: Sequence[FedRow]
    end: int
    more: bool


def rows_asked(askers: int) -> dict[str, int]:
    """Most rows of a kind for each of so many that ask in one batch, who share what a batch may read."""
    share = max(limits.FEED_ROWS_MIN, limits.FEED_BATCH_MAX_ROWS // max(1, askers))
    return {kind: min(rows, share) for kind, rows in PAGE_ROWS.items()}


def cut(rows: Sequence[FedRow], most: Mapping[str, int], end: int) -> Page:
    """The first page of what was found.

    Args:
        rows: In order of commit; of each kind one more than ``most`` if there is one.
        most: Most rows of a kind.
        end: Where the shard stands.
    """
    counts: Counter[str] = Counter()
    octets = 0
    for place, row in enumerate(rows):
        counts[row.kind] += 1
        octets += row.octets
        if counts[row.kind] > most[row.kind] or (place and octets > limits.FEED_PAGE_MAX_BYTES):
            return Page(rows[:place], row.commit_seq - 1, more=True)
    return Page(rows, end, more=False)
