"""Which signals wait to be uploaded, and what proves them, read over one connection.

It deliberately decodes no signal: whoever receives one checks it against its digest, and what is damaged here is found
by its page's tag.

Invariants:
    1. A signal is given with the first result that it belongs to and that the server holds; none is given without.
    2. A signal that is not what was written is reported and left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from einthoven.ports import WaitingSegment
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_signals import read_signal
from einthoven.store_schema import epoch_and_counter, position_of
from einthoven.store_values import DamageReason
from einthoven_protocol.messages import Run

_WAITING: Final = """
SELECT segment.id, min(result.position) FROM segment
JOIN result ON result.started_at_ms = segment.started_at_ms AND result.segment_digest = segment.digest
JOIN epoch ON epoch.epoch = result.position >> 32
WHERE NOT segment.acknowledged AND result.position & 4294967295 <= epoch.acknowledged AND NOT EXISTS (
    SELECT 1 FROM refusal WHERE refusal.epoch = epoch.epoch AND refusal.counter = result.position & 4294967295
) AND NOT EXISTS (SELECT 1 FROM to_give WHERE to_give.position = result.position)
GROUP BY segment.id ORDER BY segment.id
"""


def segments_to_send(rows: RowReader, limit_bytes: int, skip: Collection[bytes]) -> list[WaitingSegment]:
    """Signals that the server lacks, of results that it holds; oldest first, and one however long it is."""
    waiting: list[WaitingSegment] = []
    total_bytes = 0
    for number, position in rows.connection.execute(_WAITING).fetchall():
        row = rows.find("segment", "WHERE id = ?", (number,))
        if row is None or row[1] in skip:
            continue
        if waiting and total_bytes + row[5] > limit_bytes:
            break
        stored = read_signal(rows, row[4], row[5])
        if stored is None:
            rows.damaged("segment", row, DamageReason.ROW_UNREADABLE)
            continue
        waiting.append(WaitingSegment(*epoch_and_counter(position), row[1], stored))
        total_bytes += len(stored)
    return waiting


def sealed_run(rows: RowReader, run: Run) -> Sequence[tuple[bytes, bytes]]:
    """Canonical bytes and signal's digest of every result of a run; none if one is not here as it was written."""
    places = (position_of(run.epoch, run.first), position_of(run.epoch, run.last))
    found = rows.select("result", "WHERE position BETWEEN ? AND ? ORDER BY position", places)
    sealed = [(bytes(row[2]), bytes(row[3])) for row in found]
    return sealed if len(sealed) == run.last - run.first + 1 else []
