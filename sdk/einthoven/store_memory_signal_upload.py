"""Which signals of ``MemoryStore`` wait to be uploaded, and what proves them, read from its books.

It deliberately changes no books.

Invariants:
    1. The same answers as ``sqlcipher_signal_upload`` gives.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from einthoven.ports import WaitingSegment
from einthoven.segments import encode_segment
from einthoven.store_memory_books import Books, Place
from einthoven.store_rules import result_row_bytes
from einthoven_protocol.messages import Run


def segments_to_send(books: Books, limit_bytes: int, skip: Collection[bytes]) -> list[WaitingSegment]:
    """Signals that the server lacks, of results that it holds; oldest first, and one however long it is."""
    places: dict[tuple[int, bytes], Place] = {}
    for epoch, result in books.held_by_server():
        # One that went ahead as an alert is uploaded in its turn.
        if result.counter <= books.acknowledged[epoch]:
            name, place = (result.started_at_ms, result.segment_digest), (epoch, result.counter)
            places[name] = min(place, places.get(name, place))
    waiting: list[WaitingSegment] = []
    total_bytes = 0
    for digest, kept in books.segments.items():
        found = places.get((kept.started_at_ms, digest))
        if found is None or kept.acknowledged or digest in skip:
            continue
        stored = encode_segment(kept.segment)
        if waiting and total_bytes + len(stored) > limit_bytes:
            break
        waiting.append(WaitingSegment(*found, digest, stored))
        total_bytes += len(stored)
    return waiting


def sealed_run(books: Books, run: Run) -> Sequence[tuple[bytes, bytes]]:
    """Canonical bytes and signal's digest of every result of a run; none if one is not here."""
    sealed = [
        (result_row_bytes(result), result.segment_digest)
        for counter in range(run.first, run.last + 1)
        if (result := books.results.get((run.epoch, counter))) is not None
    ]
    return sealed if len(sealed) == run.last - run.first + 1 else []
