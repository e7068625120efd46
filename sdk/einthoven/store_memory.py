"""A ``Store`` in memory: for tests and for trying things out, gone when the process ends.

It passes the same acceptance suite as ``store_sqlcipher`` and is its oracle, so it keeps its books the plain way:
where the other counts incrementally, this one computes anew from everything it holds, each time. It deliberately
encrypts nothing and is quadratic in places.

Invariants:
    1. Every method is all or nothing, and the store can be used from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from einthoven.errors import StoreIOError
from einthoven.ports import Pending, Segment, StoreStats, SyncState
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.segments import encode_segment, segment_digest
from einthoven.store_rules import (
    FIRST_EPOCH,
    SYNC_KEY_SETTING,
    annotation_row_bytes,
    begins_new_history,
    check_acknowledged,
    check_limit,
    check_setting,
    check_window,
    checked_sync_key,
    next_cursor,
    refused_verdicts,
    result_row_bytes,
)
from einthoven_protocol import digests
from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE, MAX_RESULTS_PER_EXCHANGE
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    ResultId,
    RowVerdict,
)

_Key = tuple[ResultId, str]


class MemoryStore:
    """The in-memory ``Store``.

    Attributes:
        max_windows: Windows it takes before it says that the disk is full; ``None`` for no end. May be changed, as
            a person may free space.
    """

    def __init__(self, *, max_windows: int | None = None) -> None:
        self.max_windows = max_windows
        self._lock = threading.RLock()
        self._closed = False
        self._results: list[WindowResult] = []
        self._segments: dict[bytes, Segment] = {}
        self._settings: dict[str, bytes] = {}
        self._local: dict[_Key, AnnotationRow] = {}
        self._known: dict[_Key, AnnotationRow] = {}
        self._own: set[_Key] = set()
        self._refused: dict[int, RowVerdict] = {}
        self._acknowledged = 0
        self._cursor = Cursor(0, 0)
        self._digest: Digest = digests.EMPTY
        self._last_exchange_ms: int | None = None
        self._last_digest_equal: bool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append_window(self, result: WindowResult, segment: Segment) -> WindowResult:
        """See ``Store``."""
        return self.append_windows([(result, segment)])[0]

    def append_windows(self, windows: Sequence[tuple[WindowResult, Segment]]) -> list[WindowResult]:
        """Keep several verdicts and their signals, all or none.

        Raises:
            ValueError: One of the verdicts does not belong to its segment.
        """
        with self._open():
            stored = []
            for counter, (result, segment) in enumerate(windows, len(self._results) + 1):
                check_window(result, segment)
                stored.append(replace(result, counter=counter))
                result_row_bytes(stored[-1])
            if self.max_windows is not None and len(self._results) + len(stored) > self.max_windows:
                raise StoreIOError("the disk is full", "free some space, then try again")
            for _, segment in windows:
                self._keep(segment)
            self._results += stored
            return stored

    def results(self, *, first_counter: int = 1, limit: int = 1_000) -> Sequence[WindowResult]:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            return self._results[max(first_counter, 1) - 1 :][:limit]

    def result(self, counter: int) -> WindowResult | None:
        """See ``Store``."""
        with self._open():
            return self._results[counter - 1] if 1 <= counter <= len(self._results) else None

    def segment(self, digest: bytes) -> Segment | None:
        """See ``Store``."""
        with self._open():
            return self._segments.get(digest)

    def annotate(self, row: AnnotationRow) -> AnnotationRow:
        """See ``Store``."""
        annotation_row_bytes(row)
        with self._open():
            key = (row.target, row.author)
            self._own.add(key)
            self._local[key] = _merged(self._local.get(key), row)
            return self._local[key]

    def annotations(self, target: ResultId | None = None) -> Sequence[AnnotationRow]:
        """See ``Store``."""
        with self._open():
            return [row for key, row in sorted(self._local.items()) if target in (None, key[0])]

    def pending(self, *, limit: int) -> Pending:
        """See ``Store``."""
        check_limit(limit)
        with self._open():
            results = self._results[self._acknowledged :][: min(limit, MAX_RESULTS_PER_EXCHANGE)]
            return Pending(
                results=tuple(to_row(result) for result in results),
                segment_digests=tuple(result.segment_digest for result in results),
                annotations=tuple(self._waiting_annotations()[: min(limit, MAX_ANNOTATIONS_PER_EXCHANGE)]),
            )

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        """See ``Store`` and the rules of ``store_rules``.

        Raises:
            NotEnrolled: There is no sync key.
            SyncError: The server holds results of this device that are not here.
        """
        with self._open():
            key = checked_sync_key(self._settings.get(SYNC_KEY_SETTING))
            check_acknowledged(response, len(self._results) if request.epoch == FIRST_EPOCH else None)
            for row in (*request.annotations, *response.annotations):
                annotation_row_bytes(row)
            if begins_new_history(self._cursor, response):
                self._acknowledged = min(self._acknowledged, response.acknowledged)
                self._refused = {
                    counter: was for counter, was in self._refused.items() if counter <= self._acknowledged
                }
                self._known.clear()
            for counter, verdict in refused_verdicts(response).items():
                if self._acknowledged < counter <= response.acknowledged:
                    self._refused[counter] = verdict
            self._acknowledged = max(self._acknowledged, response.acknowledged)
            for row in (*request.annotations, *response.annotations):
                name = (row.target, row.author)
                self._known[name] = _merged(self._known.get(name), row)
                self._local[name] = _merged(self._local.get(name), self._known[name])
            self._cursor = next_cursor(self._cursor, request, response)
            self._digest = self._digest_from_scratch(key, request.device_alias)
            self._last_exchange_ms = at_ms
            self._last_digest_equal = self._digest == response.digest
            return self.sync_state()

    def sync_state(self) -> SyncState:
        """See ``Store``."""
        with self._open():
            return SyncState(
                epoch=FIRST_EPOCH,
                acknowledged=self._acknowledged,
                cursor=self._cursor,
                digest=self._digest,
                waiting=len(self._results) - self._acknowledged + len(self._waiting_annotations()),
                refused=tuple(self._refused[counter] for counter in sorted(self._refused)),
                last_exchange_ms=self._last_exchange_ms,
                last_digest_equal=self._last_digest_equal,
            )

    def setting(self, name: str) -> bytes | None:
        """See ``Store``."""
        check_setting(name)
        with self._open():
            return self._settings.get(name)

    def put_setting(self, name: str, value: bytes) -> None:
        """See ``Store``.

        Raises:
            ValueError: Name or value is over its limit.
        """
        check_setting(name, value)
        with self._open():
            self._settings[name] = bytes(value)

    def stats(self) -> StoreStats:
        """See ``Store``; there is no file."""
        with self._open():
            return StoreStats(
                results=len(self._results),
                annotations=len(self._local),
                segments=len(self._segments),
                segment_bytes=sum(len(encode_segment(segment)) for segment in self._segments.values()),
                file_bytes=0,
            )

    def close(self) -> None:
        """See ``Store``."""
        self._closed = True

    def _open(self) -> threading.RLock:
        if self._closed:
            raise ValueError("the store is closed")
        return self._lock

    def _keep(self, segment: Segment) -> None:
        samples_uv = np.array(segment.samples_uv, dtype=np.int32)
        samples_uv.flags.writeable = False
        kept = Segment(segment.sampling_rate_hz, samples_uv)
        self._segments.setdefault(segment_digest(kept), kept)

    def _waiting_annotations(self) -> list[AnnotationRow]:
        return [row for name, row in sorted(self._local.items()) if name in self._own and self._known.get(name) != row]

    def _digest_from_scratch(self, key: bytes, device_alias: int) -> Digest:
        digest = digests.EMPTY
        for result in self._results[: self._acknowledged]:
            if result.counter not in self._refused:
                value = digests.result_sum(key, device_alias, FIRST_EPOCH, to_row(result))
                digest = digests.add(digest, value)
        for row in self._known.values():
            digest = digests.add(digest, digests.annotation_sum(key, row))
        return digest


def _merged(mine: AnnotationRow | None, theirs: AnnotationRow) -> AnnotationRow:
    return theirs if mine is None else merge_annotation(mine, theirs)
