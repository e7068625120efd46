"""The samples that were placed last, to tell a packet that came twice from one that is new. Pure.

It deliberately knows no time: where a packet seems to begin is the caller's claim, and what it says is compared.

Invariants:
    1. At most twice ``keep`` samples are kept.
    2. A packet is called a copy only if every sample that was received at its place is equal.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import MISSING_UV

MIN_SHIFTED_MATCH: Final = 8
"""Samples that must be equal before a packet is taken for a copy at another place than its stamp's."""


class Overlap(Enum):
    """What a packet is that begins in the past."""

    COPY = "copy"  # its samples are there already
    LATE = "late"  # its place was given up as missing
    CONFLICT = "conflict"  # other samples are in its place, or nobody knows


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a packet is, and how many of its first samples lie in the past."""

    overlap: Overlap
    past: int


class PlacedSamples:
    """A bounded tail of the placed samples.

    Args:
        keep: Samples to keep.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._chunks: deque[NDArray[np.int32]] = deque()
        self._kept = 0

    def append(self, samples_uv: NDArray[np.int32]) -> None:
        """Remember what was placed, int32 [n]."""
        tail = samples_uv
        if len(tail) > self._keep:
            tail = tail[-self._keep :].copy()  # a view would keep all of it
        self._chunks.append(tail)
        self._kept += len(tail)
        while self._kept - len(self._chunks[0]) >= self._keep:
            self._kept -= len(self._chunks.popleft())

    def compare(self, samples_uv: NDArray[np.int32], past: int, slack: int) -> Comparison:
        """Compare a packet that seems to begin ``past`` samples before the next place, give or take ``slack``.

        Args:
            samples_uv: int32 [n].
            past: Samples, positive.
            slack: Samples that the stamp may be off; a copy is looked for so far to either side, nearest first.
        """
        tail = np.concatenate(self._chunks) if self._chunks else np.empty(0, np.int32)
        if len(self._chunks) > 1:
            self._chunks = deque([tail])
        for shift in range(slack + 1):
            for begin in {past - shift, past + shift}:
                if 0 < begin <= len(tail) and _is_copy(tail[len(tail) - begin :], samples_uv, moved=bool(shift)):
                    return Comparison(Overlap.COPY, min(begin, len(samples_uv)))
        if past > len(tail):
            return Comparison(Overlap.CONFLICT, min(past, len(samples_uv)))
        there = tail[len(tail) - past :][: len(samples_uv)]
        late = 2 * int((there == MISSING_UV).sum()) >= len(there)
        return Comparison(Overlap.LATE if late else Overlap.CONFLICT, len(there))


def _is_copy(there: NDArray[np.int32], samples_uv: NDArray[np.int32], *, moved: bool) -> bool:
    """Whether a packet says what is there already, wherever that was received."""
    n = min(len(there), len(samples_uv))
    received = there[:n] != MISSING_UV
    matched = int(received.sum())
    if not matched or (moved and matched < MIN_SHIFTED_MATCH):
        return False
    return bool((there[:n][received] == samples_uv[:n][received]).all())
