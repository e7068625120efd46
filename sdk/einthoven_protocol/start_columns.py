"""Starts of results as their distance from a line over the counters: results' columns 21 and 22.

A recording cuts a window every so many seconds, so a start follows from its counter but for gaps. Neighbours show that
by themselves (delta coding); rows picked from all over a recording only this way. It deliberately takes no part in what
a start is: any starts go through unchanged, some in more bytes than without it.

Invariants:
    1. ``lift_from_line(counters, *lay_on_line(counters, starts)) == starts``, where a step was found.
    2. Integers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits

MAX_STEP_MS: Final = limits.MAX_DURATION_MS
"""Longest step from one counter to the next, ms."""
OFFSET_RANGE: Final = (-MAX_STEP_MS * limits.MAX_COUNTER, limits.MAX_TIME_MS)
"""Least and greatest distance from the line, ms; both fit a signed 64-bit integer."""


def lay_on_line(
    counters: Sequence[int] | NDArray[np.int64], starts_ms: Sequence[int] | NDArray[np.int64]
) -> tuple[int, NDArray[np.int64]]:
    """Return the usual step in ms, and for each row its start less its counter's place on the line.

    Args:
        counters: Of the rows, checked by the caller.
        starts_ms: Their starts, checked likewise.

    Returns:
        Step 0 and nothing where there is none: fewer than two rows, or starts that do not follow the counters.
    """
    counter, start = np.asarray(counters, np.int64), np.asarray(starts_ms, np.int64)
    apart = np.diff(counter)
    moved = apart > 0
    if not moved.any():
        return 0, np.zeros(0, np.int64)
    step_ms = int(np.median(np.diff(start)[moved] // apart[moved]))
    if not 1 <= step_ms <= MAX_STEP_MS:
        return 0, np.zeros(0, np.int64)
    return step_ms, start - step_ms * counter


def lift_from_line(
    counters: Sequence[int] | NDArray[np.int64], step_ms: int, offsets_ms: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the starts in ms of rows that ``lay_on_line`` laid there; their range is the caller's to check."""
    return np.asarray(offsets_ms, np.int64) + step_ms * np.asarray(counters, np.int64)
