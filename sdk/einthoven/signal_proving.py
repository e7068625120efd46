"""The proof that signals belong to results: which of the server's seals cover them, and the hashes that lead there.

It deliberately sends nothing. A device does not remember what it once pushed together, so the server names its seals;
that it can't thereby be led to prove something else is seen by the server's own copy of the roots.

Invariants:
    1. A signal is proven by one seal, with the rows as they are here; where one of a seal's rows is missing here, that
       seal proves nothing.
    2. The trees of a seal are hashed once, however many chunks they prove.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

from einthoven.ports import Store
from einthoven_protocol.merkle_subsets import SubsetProver
from einthoven_protocol.messages import Run
from einthoven_protocol.signal_chunks import ChunkSegment
from einthoven_protocol.signal_parcels import SealProof

TREES_KEPT: Final = 4
"""Seals whose trees are kept: signals come in the order of their results, so old ones are not asked for again."""


class Proven(NamedTuple):
    """Signals that can be proven, in order, with their proofs; and those that can't."""

    segments: tuple[ChunkSegment, ...]
    proofs: tuple[SealProof, ...]
    unproven: tuple[ChunkSegment, ...]


class _Trees(NamedTuple):
    """A seal's trees, and the leaves of the second."""

    rows: SubsetProver
    segments: SubsetProver
    digests: Sequence[bytes]


class SignalProver:
    """Makes proofs from a store's rows.

    Args:
        store: Where the rows are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trees: OrderedDict[Run, _Trees | None] = OrderedDict()

    def prove(self, segments: Sequence[ChunkSegment], seals: Sequence[Run]) -> Proven:
        """Prove what can be proven.

        Args:
            segments: Signals of one chunk.
            seals: What the server named.
        """
        ordered = sorted(segments, key=lambda one: (one.epoch, one.counter))
        chosen: list[tuple[Run, ChunkSegment]] = []
        unproven = []
        seal: Run | None = None
        for segment in ordered:
            if seal is None or not self._covers(seal, segment):
                seal = next((other for other in seals if self._covers(other, segment)), None)
            if seal is None:
                unproven.append(segment)
            else:
                chosen.append((seal, segment))
        proofs = tuple(
            self._proof(run, [segment for _, segment in group]) for run, group in groupby(chosen, lambda pair: pair[0])
        )
        return Proven(tuple(segment for _, segment in chosen), proofs, tuple(unproven))

    def _covers(self, seal: Run, segment: ChunkSegment) -> bool:
        if seal.epoch != segment.epoch or not seal.first <= segment.counter <= seal.last:
            return False
        trees = self._trees_of(seal)
        return trees is not None and trees.digests[segment.counter - seal.first] == segment.digest

    def _proof(self, seal: Run, segments: Sequence[ChunkSegment]) -> SealProof:
        trees = self._trees_of(seal)
        if trees is None:
            raise AssertionError("a seal was chosen that proves nothing")
        positions = [segment.counter - seal.first for segment in segments]
        return SealProof(
            seal=seal,
            n_segments=len(segments),
            results=trees.rows.prove(positions),
            segments=trees.segments.prove(positions),
        )

    def _trees_of(self, seal: Run) -> _Trees | None:
        if seal not in self._trees:
            sealed = self._store.sealed_run(seal)
            digests = [digest for _, digest in sealed]
            rows = SubsetProver([row for row, _ in sealed])
            self._trees[seal] = _Trees(rows, SubsetProver(digests), digests) if sealed else None
            while len(self._trees) > TREES_KEPT:
                self._trees.popitem(last=False)
        return self._trees[seal]
