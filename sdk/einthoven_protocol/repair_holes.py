"""Results that are missing where an epoch counts on: a device sees such holes without asking where they are.

Counters of an epoch leave none out, so between the first and the last that a device holds, whatever is missing has a
name. To ask for it by that name takes two bytes; to find it by coded symbols, nine. It deliberately guesses only with
the counts of both sides before it, and sees nothing of rows that have no counter.

Invariants:
    1. What it returns lies in no run of results that the device holds.
    2. It returns nothing unless the server holds more rows, and there are at most ``MAX_PER_LACKING`` holes for each:
       some stay for good, of results that were refused or deleted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.messages import Run

MAX_PER_LACKING: Final = 2
"""Holes for each row that the server holds more: with more of them, symbols are cheaper and surer."""


def runs_missing(result_ids: NDArray[np.int64], n_lacking: int) -> tuple[Run, ...]:
    """Return the runs in which what the device lacks most likely lies, in order; none if that can't be said.

    Where there are fewer holes than rows are lacking, the ends of the epochs belong to them.

    Args:
        result_ids: int64 [n, 2]: epoch and counter of the device's results, in order, each once.
        n_lacking: By how many rows the server's count is above the device's.
    """
    if n_lacking <= 0 or not len(result_ids):
        return ()
    epochs, counters = result_ids[:, 0], result_ids[:, 1]
    begins = np.concatenate(([True], epochs[1:] != epochs[:-1]))
    before = np.where(begins, 0, np.concatenate(([0], counters[:-1])))
    n_holes = int((counters - before - 1).sum())
    if not 0 < n_holes <= MAX_PER_LACKING * n_lacking:
        return ()
    at = np.flatnonzero(counters - before > 1)
    runs = list(map(Run, epochs[at].tolist(), (before[at] + 1).tolist(), (counters[at] - 1).tolist()))
    if n_holes < n_lacking:
        ends = np.flatnonzero(np.concatenate((begins[1:], [True])))
        for epoch, last in result_ids[ends].tolist():
            if last < limits.MAX_COUNTER:
                runs.append(Run(epoch, last + 1, limits.MAX_COUNTER))
    return tuple(sorted(runs))
