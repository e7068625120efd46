"""Known bugs, put between two ports, to see that the simulator finds them: one that can't fail proves nothing.

Each is what somebody could write in earnest. It deliberately changes no code: a bug is a store, or a change store, that
does one thing wrong and hands all else on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec

from einthoven.ports import Pending, Store, SyncState
from einthoven_protocol.messages import AnnotationRow, ExchangeRequest, ExchangeResponse
from einthoven_server.records.change_store import (
    ChangeBatch,
    ChangeStore,
    FedRow,
    FeedQuestion,
    NewAnnotation,
    Written,
)

_Value = TypeVar("_Value")


class Planted(NamedTuple):
    """Where a bug sits.

    Attributes:
        device: Puts it before a device's store.
        server: Puts it before the server's rows.
    """

    device: Callable[[Store], Store] = lambda store: store
    server: Callable[[ChangeStore], ChangeStore] = lambda changes: changes


NOTHING_PLANTED: Final = Planted()


# ---- on the device ----


class _Handing:
    """Hands everything on."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


class _ForgetsItsMark(_Handing):
    """Takes over what came down, and not that what it pushed was taken."""

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        forgotten = msgspec.structs.replace(request, results=(), seals=(), alerts=())
        kept = msgspec.structs.replace(response, verdicts=(), acknowledged=0)
        return cast("SyncState", self._behind.apply_exchange(forgotten, kept, at_ms=at_ms))


class _PrefersTheLowerTime(_Handing):
    """Keeps words of others only where it has none: the first write wins, not the last."""

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        held = {(row.target, row.author) for row in self._behind.annotations()}
        kept = tuple(row for row in response.annotations if (row.target, row.author) not in held)
        return cast(
            "SyncState",
            self._behind.apply_exchange(request, msgspec.structs.replace(response, annotations=kept), at_ms=at_ms),
        )


class _DropsAlerts(_Handing):
    """Sends nothing ahead."""

    def pending(self, *, limit: int, current: bool = False) -> Pending:
        waiting: Pending = self._behind.pending(limit=limit, current=current)
        return replace(waiting, alerts=(), alert_segment_digests=())


class _IgnoresTombstones(_Handing):
    """Keeps what was deleted elsewhere."""

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        kept = msgspec.structs.replace(response, tombstones=())
        return cast("SyncState", self._behind.apply_exchange(request, kept, at_ms=at_ms))


# ---- on the server ----


class _OtherBatch:
    """Hands every call of a batch on."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


class _OtherBatches(_Handing):
    """A change store whose batches are wrapped."""

    def __init__(self, behind: ChangeStore, wrap: Callable[[ChangeBatch], object]) -> None:
        super().__init__(behind)
        self._wrap = wrap

    async def commit(self, work: Callable[[ChangeBatch], Awaitable[_Value]]) -> _Value:
        behind: ChangeStore = self._behind
        return await behind.commit(lambda batch: work(cast("ChangeBatch", self._wrap(batch))))


class _AcknowledgesUnstored(_OtherBatch):
    """Every third result is acknowledged, and not written."""

    async def write(self, written: Written) -> None:
        written.results = [new.chosen([seq % 3 > 0 for seq in new.seqs]) for new in written.results]
        await self._behind.write(written)


class _SkipsARow(_OtherBatch):
    """The feed leaves documents out, which no digest covers."""

    async def feed(self, asked: Sequence[FeedQuestion], limits: Mapping[str, int]) -> list[list[FedRow]]:
        found: list[list[FedRow]] = await self._behind.feed(asked, limits)
        return [[row for row in rows if row.kind != "documents"] for rows in found]


class _ForgetsLosers(_OtherBatch):
    """What was overtaken is not kept."""

    async def write(self, written: Written) -> None:
        written.superseded.clear()
        await self._behind.write(written)


class _KeepsTheFirstWords(_OtherBatch):
    """Writes words only where there were none."""

    def __init__(self, behind: Any) -> None:
        super().__init__(behind)
        self._held: dict[Any, AnnotationRow] = {}

    async def load(self, wanted: Any) -> Any:
        held = await self._behind.load(wanted)
        self._held = dict(held.annotations)
        return held

    async def write(self, written: Written) -> None:
        kept: dict[Any, NewAnnotation] = {
            name: new for name, new in written.annotations.items() if name not in self._held
        }
        written.annotations = kept
        await self._behind.write(written)


class _CommitsInPieces(_Handing):
    """Not all or nothing: what a batch wrote stays when the process dies before the batch is done."""

    async def commit(self, work: Callable[[ChangeBatch], Awaitable[_Value]]) -> _Value:
        behind: ChangeStore = self._behind
        pieces: list[Written] = []

        async def kept(batch: ChangeBatch) -> _Value:
            return await work(cast("ChangeBatch", _Noting(batch, pieces)))

        try:
            return await behind.commit(kept)
        except BaseException:
            for piece in pieces:
                await behind.commit(lambda batch, piece=piece: _results_only(batch, piece))  # type: ignore[misc]
            raise


class _Noting(_OtherBatch):
    def __init__(self, behind: Any, pieces: list[Written]) -> None:
        super().__init__(behind)
        self._pieces = pieces

    async def write(self, written: Written) -> None:
        self._pieces.append(written)
        await self._behind.write(written)


async def _results_only(batch: ChangeBatch, written: Written) -> None:
    await batch.head()
    await batch.write(Written(commit_seq=written.commit_seq, results=written.results, marks=written.marks))


def _on_device(kind: Callable[[Any], object]) -> Planted:
    return Planted(device=lambda store: cast("Store", kind(store)))


def _on_server(kind: Callable[[Any], object]) -> Planted:
    return Planted(server=lambda changes: cast("ChangeStore", _OtherBatches(changes, kind)))


BUGS: Final[Mapping[str, Planted]] = {
    "the device forgets its mark": _on_device(_ForgetsItsMark),
    "the device prefers the lower time": _on_device(_PrefersTheLowerTime),
    "the device sends nothing ahead": _on_device(_DropsAlerts),
    "the device ignores tombstones": _on_device(_IgnoresTombstones),
    "the server acknowledges before it stores": _on_server(_AcknowledgesUnstored),
    "the feed skips rows": _on_server(_SkipsARow),
    "the server forgets losers": _on_server(_ForgetsLosers),
    "the server keeps the first words": _on_server(_KeepsTheFirstWords),
    "the server commits in pieces": Planted(server=lambda changes: cast("ChangeStore", _CommitsInPieces(changes))),
}
"""Every one must be found."""
