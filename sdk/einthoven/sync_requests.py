"""What a device says to its server: requests built from what waits, sealed and signed. Pure but for the cryptography.

It deliberately reads no store and sends nothing; what waits, and in which order, is the store's to say (``Pending``).

Invariants:
    1. A server gets nothing that it has not said it understands: before ``Capability.FEED`` was announced, a request
       holds what the first version held, results and this device's own words on them.
    2. A request is within the protocol's limits and within those that the server announced.
    3. Every result that travels is covered by a seal, a run of alerts by one of its own.
    4. While what came down is still to be compared (``SyncState.rebaseline``), nothing is pushed that speaks of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from einthoven.identity import Identity
from einthoven.ports import Pending, SyncState
from einthoven_protocol import limits, merkle
from einthoven_protocol.canonical import encode_result_rows
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Capability,
    ExchangeRequest,
    IdentifiedResult,
    RepairRequest,
    ResultRow,
    Seal,
)

CAPABILITIES: Final = Capability(
    Capability.FEED | Capability.REPAIR | Capability.SIGNALS | Capability.WAKE | Capability.PACKED | Capability.POWERS
)
"""What this version can do; announced with every exchange."""


def understands(state: SyncState, capability: Capability) -> bool:
    """Whether the server announced this when it last answered."""
    return bool(state.capabilities & capability)


def push_size(state: SyncState, at_most: int = limits.MAX_RESULTS_PER_EXCHANGE) -> int:
    """Return how many results the next push takes at most."""
    return max(1, min(at_most, limits.MAX_RESULTS_PER_EXCHANGE, state.limits.max_results or at_most))


def build_request(identity: Identity, state: SyncState, pending: Pending) -> ExchangeRequest:
    """Return the message that pushes what of ``pending`` the server takes now, its results sealed.

    A server that was never heard of yet, while an urgent result stands behind what one push carries, is greeted first
    with nothing: it then says whether it takes that one ahead.
    """
    feeds = understands(state, Capability.FEED)
    greeting = state.last_exchange_ms is None and bool(pending.alerts)
    results = () if greeting else pending.results
    digests = () if greeting else pending.segment_digests
    alerts = pending.alerts[: limits.MAX_ALERTS_PER_EXCHANGE] if feeds else ()
    words = () if state.rebaseline else _words(identity, state, pending)
    seals = [_seal(identity, pending.epoch, results, digests)] if results else []
    for run, segments in _runs(alerts, pending.alert_segment_digests):
        seals.append(_seal(identity, pending.epoch, run, segments))
    return ExchangeRequest(
        device_alias=identity.device_alias,
        epoch=pending.epoch,
        cursor=state.cursor,
        capabilities=CAPABILITIES,
        owners_known=state.owners,
        results=results,
        annotations=tuple(row for row, _ in words),
        annotation_bases=tuple(base for _, base in words) if feeds and pending.annotation_bases else (),
        seals=tuple(seals),
        alerts=alerts,
        notes=pending.notes[: limits.MAX_NOTES_PER_EXCHANGE] if feeds else (),
        deletions=pending.deletions[: limits.MAX_DELETIONS_PER_EXCHANGE] if feeds and not state.rebaseline else (),
    )


def carries(request: ExchangeRequest) -> bool:
    """Whether a request pushes anything."""
    return bool(request.results or request.annotations or request.alerts or request.notes or request.deletions)


def build_given(
    identity: Identity, given: tuple[IdentifiedResult, ...], segment_digests: tuple[bytes, ...]
) -> RepairRequest:
    """Return the message that gives the server results back that it lost, signed."""
    segments_root = merkle.tree_hash(list(segment_digests))
    return RepairRequest(
        device_alias=identity.device_alias,
        owner=identity.device_alias,
        kind=BucketKind.RECORDS,
        given=given,
        segments_root=segments_root,
        signature=identity.sign(merkle.given_message(identity.device_alias, given, segments_root)),
    )


def _words(identity: Identity, state: SyncState, pending: Pending) -> list[tuple[AnnotationRow, tuple[int, int]]]:
    """Annotations that the server takes, each with its bases."""
    bases = pending.annotation_bases or ((0, 0),) * len(pending.annotations)
    words = list(zip(pending.annotations, bases, strict=True))
    if not understands(state, Capability.FEED):
        words = [(row, base) for row, base in words if _is_of_first_version(identity, row)]
    at_most = state.limits.max_annotations or limits.MAX_ANNOTATIONS_PER_EXCHANGE
    return words[: min(at_most, limits.MAX_ANNOTATIONS_PER_EXCHANGE)]


def _is_of_first_version(identity: Identity, row: AnnotationRow) -> bool:
    """Whether a server of the first version takes this annotation; it refuses the whole exchange for any other."""
    return (row.author, row.target.device_alias) == (identity.device_id, identity.device_alias)


def _runs(
    rows: Sequence[ResultRow], segments: Sequence[bytes]
) -> Iterator[tuple[tuple[ResultRow, ...], tuple[bytes, ...]]]:
    """Split rows, counters ascending, where counters are left out."""
    first = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[place].counter != rows[place - 1].counter + 1:
            yield tuple(rows[first:place]), tuple(segments[first:place])
            first = place


def _seal(identity: Identity, epoch: int, rows: Sequence[ResultRow], segments: Sequence[bytes]) -> Seal:
    results_root = merkle.tree_hash(encode_result_rows(rows))
    segments_root = merkle.tree_hash(list(segments))
    first, last = rows[0].counter, rows[-1].counter
    message = merkle.seal_message(identity.device_alias, epoch, first, last, results_root, segments_root)
    return Seal(
        epoch=epoch,
        first_counter=first,
        last_counter=last,
        results_root=results_root,
        segments_root=segments_root,
        signature=identity.sign(message),
    )
