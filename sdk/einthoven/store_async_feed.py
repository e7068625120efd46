"""What ``AsyncStore`` passes on beyond the store's own results and words; a part of that class, apart for its length.

It deliberately adds no behaviour of its own.

Invariants:
    1. As in ``store_async``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from einthoven.ports import Shares, Store, SyncState, WaitingSegment
from einthoven_protocol.messages import (
    Document,
    IdentifiedResult,
    NoteRow,
    Owner,
    RepairRequest,
    RepairResponse,
    ResultId,
    Run,
    Superseded,
    Tombstone,
)

_Value = TypeVar("_Value")


class AsyncFeed:
    """Notes, deletions, what came down, repairs, and signals to upload."""

    async def add_note(self, author: str, text: str, *, at_ms: int) -> NoteRow:
        """See ``Store``."""
        return await self._write(lambda store: store.add_note(author, text, at_ms=at_ms))

    async def say_former_notes(self, author: str) -> int:
        """See ``Store``."""
        return await self._write(lambda store: store.say_former_notes(author))

    async def delete(self, row: Tombstone) -> None:
        """See ``Store``."""
        await self._write(lambda store: store.delete(row))

    async def apply_repair(self, request: RepairRequest, response: RepairResponse, *, at_ms: int) -> SyncState:
        """See ``Store``."""
        return await self._write(lambda store: store.apply_repair(request, response, at_ms=at_ms))

    async def to_give(self, *, limit: int) -> tuple[tuple[IdentifiedResult, ...], tuple[bytes, ...]]:
        """See ``Store``; holds what was written before."""
        return await self._write(lambda store: store.to_give(limit=limit))

    async def shares(self, owner: int, kind: int) -> Shares:
        """See ``Store``; holds what was written before."""
        return await self._write(lambda store: store.shares(owner, kind))

    async def notes(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[NoteRow]:
        """See ``Store``."""
        return await self._read(lambda store: store.notes(first_ms, last_ms, limit=limit))

    async def superseded(self, target: ResultId | None = None) -> Sequence[Superseded]:
        """See ``Store``."""
        return await self._read(lambda store: store.superseded(target))

    async def documents(self) -> Sequence[Document]:
        """See ``Store``."""
        return await self._read(lambda store: store.documents())

    async def owners(self) -> Sequence[Owner]:
        """See ``Store``."""
        return await self._read(lambda store: store.owners())

    async def replicas(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[IdentifiedResult]:
        """See ``Store``."""
        return await self._read(lambda store: store.replicas(first_ms, last_ms, limit=limit))

    async def replica(self, target: ResultId) -> IdentifiedResult | None:
        """See ``Store``."""
        return await self._read(lambda store: store.replica(target))

    async def segments_to_send(
        self, *, limit_bytes: int, skip: Collection[bytes] = frozenset()
    ) -> Sequence[WaitingSegment]:
        """See ``Store``."""
        return await self._read(lambda store: store.segments_to_send(limit_bytes=limit_bytes, skip=skip))

    async def sealed_run(self, run: Run) -> Sequence[tuple[bytes, bytes]]:
        """See ``Store``."""
        return await self._read(lambda store: store.sealed_run(run))

    async def _write(self, work: Callable[[Store], _Value]) -> _Value:
        raise NotImplementedError

    async def _read(self, work: Callable[[Store], _Value]) -> _Value:
        raise NotImplementedError
