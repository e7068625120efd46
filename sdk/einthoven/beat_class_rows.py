"""Beats in a row, and which of those before a beat it is compared with. Pure.

Two memories: the ``NEAR`` beats just before, and ``FAR`` more, every ``STRIDE``-th of the last minutes, which still
know the usual rhythm and complex when a run has lasted long enough to fill the near ones. It deliberately knows no
class: what is usual is what looks alike most often.

Invariants:
    1. Which beats a beat is compared with depends on its number in the recording alone.
    2. Every value is an integer; products of unit complexes are below 2**24, so exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_class_waves as waves
from einthoven.beat_class_waves import LAGS, QRS, Described

NEAR: Final = 24
"""Beats just before a beat that it is compared with."""
FAR: Final = 16
STRIDE: Final = 16
"""Every 16th beat is kept longer: ``FAR`` of them reach back 256 beats, three to four minutes."""
ALIKE: Final = 920_000
"""Two complexes are alike from this product of unit complexes on: correlation 0.92."""

# Columns of ``Rows.numbers`` after those of ``beat_class_waves``.
TICKS, RR, SCORE, KNOWN, USUAL_RR = range(waves.NUMBERS, waves.NUMBERS + 5)
"""R peak; ticks since the beat before, 0 where unknown; the detector's score; 1, or 0 for what stands before the first
beat; upper median of the last ``NEAR`` intervals, 0 without any."""
NUMBERS: Final = waves.NUMBERS + 5

_CENTRE = slice(0, QRS)  # the first lag is 0
_BACK = np.arange(-NEAR, 0)


@dataclass(frozen=True, slots=True)
class Rows:
    """Beats in the order of time.

    Attributes:
        waves: float32 [m, WAVE].
        units: float32 [m, LAGS * QRS].
        numbers: float64 [m, NUMBERS].
        near: float32 [m, NEAR], best product of unit complexes with the beats just before, the earliest first.
        far: float32 [m, FAR], with those that are kept longer, the earliest first.
    """

    waves: NDArray[np.float32]
    units: NDArray[np.float32]
    numbers: NDArray[np.float64]
    near: NDArray[np.float32]
    far: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.waves)

    def part(self, which: slice | NDArray[np.int64]) -> Rows:
        """Some of the rows."""
        return Rows(self.waves[which], self.units[which], self.numbers[which], self.near[which], self.far[which])


def joined(first: Rows, second: Rows) -> Rows:
    """One after the other."""
    pairs = [(first.waves, second.waves), (first.units, second.units)]
    more = [(first.near, second.near), (first.far, second.far)]
    (wave, unit), (near, far) = ([np.concatenate(pair) for pair in some] for some in (pairs, more))
    return Rows(wave, unit, np.concatenate([first.numbers, second.numbers]), near, far)


def nothing_before(n: int) -> Rows:
    """Rows to begin with, known to be none."""
    return Rows(
        np.zeros((n, waves.WAVE), np.float32),
        np.zeros((n, len(LAGS) * QRS), np.float32),
        np.zeros((n, NUMBERS)),
        np.zeros((n, NEAR), np.float32),
        np.zeros((n, FAR), np.float32),
    )


def far_index(first_number: int, n: int) -> NDArray[np.int64]:
    """Where the kept beats of beats ``first_number`` ... are: int64 [n, FAR], in the list that ``kept`` makes."""
    # Beats 0, STRIDE, 2 * STRIDE ... are kept; the list begins with the FAR ones before `first_number`.
    before = -(-np.arange(first_number, first_number + n) // STRIDE) - -(-first_number // STRIDE)
    return before[:, None] + np.arange(FAR)


def kept(rows: Rows, first_number: int) -> Rows:
    """Those of the rows, numbered from ``first_number``, that are kept longer."""
    return rows.part(slice(-first_number % STRIDE, None, STRIDE))


def place(
    rows: Rows, far: Rows, described: Described, beats: NDArray[np.int64], first_number: int
) -> tuple[Rows, Rows]:
    """Put beats after others, with what needs a look at those before.

    Args:
        rows: The last ``NEAR`` beats or more.
        far: The last ``FAR`` beats that are kept longer.
        described: The new beats.
        beats: int64 [k, 3]: R peak in ticks, ticks since the beat before or 0, the detector's score.
        first_number: Number in the recording of the first new beat.

    Returns:
        All rows, and ``far`` with the new ones that are kept.
    """
    n, m = len(beats), len(rows)
    numbers = np.ones((n, NUMBERS))
    numbers[:, : waves.NUMBERS] = described.numbers
    numbers[:, TICKS : SCORE + 1] = beats
    intervals = np.concatenate([rows.numbers[m - NEAR + 1 :, RR], numbers[:, RR]])
    ordered = np.sort(np.lib.stride_tricks.sliding_window_view(intervals, NEAR), axis=1)
    unknown = (ordered == 0).sum(axis=1)
    numbers[:, USUAL_RR] = ordered[np.arange(n), (NEAR + unknown) // 2 - (unknown == NEAR)]
    units = np.concatenate([rows.units[m - NEAR :, _CENTRE], described.units[:, _CENTRE]])
    own = described.units.reshape(n, len(LAGS), QRS)
    near = _best(own, units[np.arange(n)[:, None] + (NEAR + _BACK)])
    fresh = Rows(described.waves, described.units, numbers, near, np.zeros((n, FAR), np.float32))
    all_kept = joined(far, kept(fresh, first_number))
    chosen = all_kept.units[:, _CENTRE][far_index(first_number, n)]
    fresh.far[:] = _best(own, chosen)
    all_kept.far[FAR:] = kept(fresh, first_number).far
    return joined(rows, fresh), all_kept


def _best(own: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest product over the lags: [k, LAGS, QRS] and [k, w, QRS] to [k, w]."""
    return np.asarray(np.matmul(own, others.transpose(0, 2, 1)).max(axis=1))


@dataclass(frozen=True, slots=True)
class Crowd:
    """Beats that some beats are compared with.

    Attributes:
        rows: Where they are found.
        index: int64 [k, w] into ``rows``, the earliest first.
        likeness: float32 [k, w], best product of the unit complexes.
        known: bool [k, w], false for what stands before the first beat.
        dominant: bool [k, w], those that look like the one that most look like; of equals the latest decides.
    """

    rows: Rows
    index: NDArray[np.int64]
    likeness: NDArray[np.float32]
    known: NDArray[np.bool_]
    dominant: NDArray[np.bool_]

    def column(self, column: int) -> NDArray[np.float64]:
        """A number of each, float64 [k, w]."""
        return np.asarray(self.rows.numbers[:, column][self.index])


def crowd(rows: Rows, index: NDArray[np.int64], likeness: NDArray[np.float32], among: NDArray[np.float32]) -> Crowd:
    """Find the dominant ones among beats.

    Args:
        rows: Where they are found.
        index: int64 [k, w] into ``rows``.
        likeness: float32 [k, w], with the beats that are compared with them.
        among: float32 [m, w], likeness of each of ``rows`` with the w before it.
    """
    width = index.shape[1]
    known = rows.numbers[:, KNOWN][index] > 0
    # Of the beats a and b of a window, a after b, the likeness is in a's row, a - b from its end.
    alike = among >= ALIKE
    later, earlier = np.tril_indices(width, -1)
    flat = alike.reshape(-1)[(index * width)[:, later] + (width - (later - earlier))]
    pairs = np.zeros((len(index), width, width), np.bool_)
    pairs[:, later, earlier] = flat
    pairs[:, earlier, later] = flat
    density = pairs.view(np.int8).sum(axis=1, dtype=np.int8)
    density[~known] = -1
    chief = width - 1 - density[:, ::-1].argmax(axis=1)
    every = np.arange(len(index))
    dominant = pairs[every, chief]
    dominant[every, chief] = True
    return Crowd(rows, index, likeness, known, dominant & known)
