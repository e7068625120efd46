"""What the second scorer sees of a candidate: the candidates around it, on a line of time. Pure.

A P or T wave is told by the complex beside it, a weak beat by its being where the rhythm wants one and by its looking
like others. So for every slot of 62 ms in the 2.5 s before and the 0.6 s after a candidate it sees how sure the first
scorer is of what is there, how alike the two are, and how their heights compare. It deliberately knows no weights
(``beat_scorer``), and leaves out what the first scorer is sure is no complex.

Invariants:
    1. Every value is an integer in [-127, 127].
    2. The values of a candidate depend on those up to ``BACK`` samples before and ``AHEAD`` after it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_features import FEATURES as INPUTS
from einthoven.beat_features import LIMIT, OWN_HEIGHT, SHAPE

SLOT: Final = 8
"""Samples of a slot. Candidates are at least as far apart, so there is one in it at most."""
SLOTS_BACK: Final = 40
SLOTS_AHEAD: Final = 10
BACK: Final = SLOTS_BACK * SLOT
AHEAD: Final = SLOTS_AHEAD * SLOT
NEIGHBOURS_BACK: Final = 14
NEIGHBOURS_AHEAD: Final = 5
LEAST_LOGIT: Final = -6 * 256
"""Below this the first scorer is sure."""
LOGIT_SHIFT: Final = 5
"""A logit of 1 is 8 in a feature."""
PER_SLOT: Final = 3

_SHAPE_WIDTH = SHAPE.stop - SHAPE.start
_Z, _HEIGHT = _SHAPE_WIDTH, _SHAPE_WIDTH + 1
_SIZE = _HEIGHT + 2
SUMMARY: Final = _SIZE + 1
"""Integers kept of a candidate: its shape, its logit, its height on two scales, and its shape's squared length."""
# The columns of the logit and of the squared length are overwritten.
_SUMMARIZED = np.array([*range(SHAPE.start, SHAPE.stop), 0, OWN_HEIGHT, INPUTS - 1, 0])
_OFFSETS = np.concatenate([np.arange(-NEIGHBOURS_BACK, 0), np.arange(1, NEIGHBOURS_AHEAD + 1)])
_SLOTS = SLOTS_BACK + SLOTS_AHEAD
FEATURES: Final = PER_SLOT * _SLOTS + _SIZE
_SLOT_SHIFT = SLOT.bit_length() - 1
_NEVER = 2**60
_AFTER_ALL = np.array([_NEVER])


def summarize(first_features: NDArray[np.float32], logits: NDArray[np.int64]) -> NDArray[np.float32]:
    """Keep of candidates what they and their neighbours will need.

    Args:
        first_features: [k, FEATURES] from ``beat_features``.
        logits: int64 [k], from the first scorer.

    Returns:
        float32 [k, SUMMARY], integers.
    """
    rows = first_features.take(_SUMMARIZED, axis=1)
    rows[:, _Z] = np.minimum((logits - LEAST_LOGIT) >> LOGIT_SHIFT, LIMIT)
    shape = rows[:, :_SHAPE_WIDTH]
    rows[:, _SIZE] = np.maximum(np.einsum("ks,ks->k", shape, shape), 1)
    return rows


def nothing_before() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions [NEIGHBOURS_BACK] and rows to begin a list with, too long ago to be seen."""
    return np.full(NEIGHBOURS_BACK, -_NEVER), np.zeros((NEIGHBOURS_BACK, SUMMARY), np.float32)


def extract(positions: NDArray[np.int64], rows: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    """Describe candidates ``start`` to ``stop - 1`` of a list.

    Args:
        positions: int64 [m], ascending, at least ``SLOT`` apart, after ``nothing_before``.
        rows: float32 [m, SUMMARY] from ``summarize``, after ``nothing_before``.
        start: First to describe, at least ``NEIGHBOURS_BACK``.
        stop: One after the last.

    Returns:
        float32 [stop - start, FEATURES], integers in [-127, 127].
    """
    n = stop - start
    every = np.arange(n)[:, None]
    near = every + (_OFFSETS + start)
    np.minimum(near, len(positions), out=near)
    slot = np.concatenate([positions, _AFTER_ALL]).take(near)
    slot -= positions[start:stop, None]
    slot -= slot > 0
    slot >>= _SLOT_SHIFT
    slot += SLOTS_BACK
    # Read as unsigned, what is too long ago is too large as well; one slot more takes what is not seen.
    slot = np.minimum(slot.view(np.uint64), _SLOTS).view(np.int64)

    own = rows[start:stop]
    around = rows.take(near, axis=0, mode="clip")
    alike = np.matmul(around[:, :, :_SHAPE_WIDTH], own[:, :_SHAPE_WIDTH, None])[:, :, 0]
    alike *= 64  # exact: a shape's squared length is below 2**20
    ratio = np.empty((n, len(_OFFSETS), 2))
    # Quotients of integers below 2**26 in float64: the floor is that of the exact quotient.
    np.divide(alike, np.maximum(around[:, :, _SIZE], own[:, _SIZE, None]), out=ratio[:, :, 0], dtype=np.float64)
    np.divide(around[:, :, _HEIGHT] * 32, own[:, _HEIGHT, None], out=ratio[:, :, 1], dtype=np.float64)
    np.floor(ratio, out=ratio)
    line = np.zeros((n, _SLOTS + 1, PER_SLOT), np.float32)
    line[every, slot, 0] = around[:, :, _Z]
    line[every, slot, 1:] = np.minimum(ratio, LIMIT)
    return np.concatenate([line[:, :_SLOTS].reshape(n, -1), own[:, :_SIZE]], axis=1)
