"""Requests, rows and digests for the Store port's acceptance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from einthoven.ports import Segment, Store
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven_protocol import digests
from einthoven_protocol.messages import (
    AnnotationRow,
    Digest,
    ExchangeRequest,
    Register,
    RejectReason,
    ResultId,
    RowVerdict,
    VerdictCode,
)

MakeWindow = Callable[..., tuple[WindowResult, Segment]]
SYNC_KEY = b"k" * 32
ALIAS = 7


def annotation(
    counter: int = 1, author: str = "p1", comment: str = "seen", hlc: int = 10, epoch: int = 1
) -> AnnotationRow:
    return AnnotationRow(
        target=ResultId(ALIAS, epoch, counter),
        author=author,
        rhythm=Register("A", hlc),
        comment=Register(comment, hlc),
    )


def push(store: Store, limit: int = 100) -> ExchangeRequest:
    waiting, state = store.pending(limit=limit), store.sync_state()
    return ExchangeRequest(
        device_alias=ALIAS,
        epoch=waiting.epoch,
        results=waiting.results,
        annotations=waiting.annotations,
        cursor=state.cursor,
    )


def push_together(store: Store, *annotations: AnnotationRow) -> ExchangeRequest:
    """Everything that waits, and words on it in the same request, as a version before R9 sent it."""
    request = push(store)
    return msgspec.structs.replace(request, annotations=(*request.annotations, *annotations))


def question(store: Store, epoch: int | None = None) -> ExchangeRequest:
    """An exchange that pushes nothing."""
    state = store.sync_state()
    return ExchangeRequest(device_alias=ALIAS, epoch=state.epoch if epoch is None else epoch, cursor=state.cursor)


def filled(store: Store, make_window: MakeWindow, count: int, first_seed: int = 0) -> list[WindowResult]:
    store.put_setting("sync_key", SYNC_KEY)
    return [store.append_window(*make_window(seed)) for seed in range(first_seed, first_seed + count)]


def conflicts(*counters: int) -> tuple[RowVerdict, ...]:
    """What a server says of counters that it holds another row under."""
    return tuple(RowVerdict(counter, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED) for counter in counters)


def digest_of(
    results: Iterable[WindowResult], annotations: Iterable[AnnotationRow] = (), epoch: int = 1, key: bytes = SYNC_KEY
) -> Digest:
    digest = digests.EMPTY
    for result in results:
        digest = digests.add(digest, digests.result_sum(key, ALIAS, epoch, to_row(result)))
    for row in annotations:
        digest = digests.add(digest, digests.annotation_sum(key, row))
    return digest


def plus(one: Digest, other: Digest) -> Digest:
    return Digest(one.count + other.count, (one.total + other.total) % 2**128)
