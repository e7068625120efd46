"""What a server answers to a repair: which of a bucket's rows to send, and which the other side has too much.

Pure: from the bucket's shares and ids to places in it. It deliberately loads no row, stores nothing that was given, and
keeps nothing between two requests.

A bucket's *canonical order*, in which its rows have their places:
    RECORDS  results by (epoch, counter); then annotations by (epoch, counter, author)
    WORDS    notes by (epoch, counter); then superseded writes by (epoch, counter, author, field, hlc, value)
Text orders by code points.

Invariants:
    1. Results come before other rows, so an answer that is cut short covers a known beginning of what was wanted.
    2. At most ``limits.MAX_RESULTS_PER_EXCHANGE`` results and ``max_others(kind)`` other rows are chosen.
    3. A request raises ``ProtocolError``, or gets an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits, power_sums
from einthoven_protocol.messages import BucketKind, RepairRequest, Run
from einthoven_protocol.riblt import Decoded, decode, items
from einthoven_protocol.strata import difference

NOT_ASKED: Final = 0
DECODED: Final = 1
UNDECODED: Final = 2

SERVED_SHARE: Final = 2
"""Of ``limits.MAX_POWERS_WORK``, what a server does all the same: a device goes by counts that may be of before."""
_EPOCH_SHIFT: Final = 32


@dataclass(frozen=True, slots=True)
class Selection:
    """What to answer, but for the rows themselves.

    Attributes:
        decoded: As in ``RepairResponse``.
        absent: As there.
        rows: int64 [k], places of the rows to send, ascending.
        more: As there.
        differences: As there.
        held: As there.
    """

    decoded: int
    absent: tuple[int, ...]
    rows: NDArray[np.int64]
    more: bool
    differences: int
    held: tuple[Run, ...]


def select(request: RepairRequest, shares: NDArray[np.uint8], result_ids: NDArray[np.int64]) -> Selection:
    """Choose what to answer.

    Args:
        request: What was asked, checked by ``repair_codec``.
        shares: uint8 [n, 16], big-endian: of all rows of the bucket that the server holds, in canonical order, after
            what was given is stored.
        result_ids: int64 [n_results, 2]: epoch and counter of the results, which are the first of the rows.

    Raises:
        ProtocolError: The symbols or the sketch are none.
        ValueError: The ids are not in order, or more than the shares.
    """
    keys = _ordered_keys(result_ids)
    if len(keys) > len(shares):
        raise ValueError("a bucket has no more results than rows")
    chosen = np.zeros(len(shares), np.bool_)
    chosen[: len(keys)] = _within(keys, request.wanted)
    if request.page >= 0:
        chosen[len(keys) + request.page :] = True
    decoded, absent, differences = NOT_ASKED, (), 0
    if request.symbols or request.powers:
        found = differences_between(request, shares)
        if found is not None:
            chosen[found.own_only] = True
            decoded, absent = DECODED, tuple(found.foreign.tolist())
            differences = len(found.own_only) + len(absent)
        else:
            decoded = UNDECODED
            if request.sketch:
                differences = difference(items(request.session, shares), request.sketch)
    rows, more = _cut(np.flatnonzero(chosen).astype(np.int64), len(keys), max_others(request.kind))
    held = () if decoded == DECODED else runs_held(result_ids)
    return Selection(decoded, absent, rows, more, differences, held)


def differences_between(request: RepairRequest, own_shares: NDArray[np.uint8]) -> Decoded | None:
    """Return where the own rows and those of the request differ, ``None`` if what came does not suffice.

    Raises:
        ProtocolError: The symbols or power sums are none.
        ValueError: The session is not 16 bytes long.
    """
    own_items = items(request.session, own_shares)
    if request.symbols:
        return decode(request.session, own_items, request.symbols)
    if len(own_items) * len(request.powers) > SERVED_SHARE * limits.MAX_POWERS_WORK * power_sums.POWER_BYTES:
        return None
    return power_sums.decode(own_items, request.powers)


def max_others(kind: int) -> int:
    """How many rows that are no results one answer holds."""
    if kind == BucketKind.RECORDS:
        return limits.MAX_ANNOTATIONS_PER_EXCHANGE
    return min(limits.MAX_NOTES_PER_EXCHANGE, limits.MAX_SUPERSEDED_PER_EXCHANGE)


def runs_held(result_ids: NDArray[np.int64]) -> tuple[Run, ...]:
    """Return first and last counter of each epoch.

    Args:
        result_ids: int64 [n, 2], epoch and counter, in order.
    """
    epochs, firsts = np.unique(result_ids[:, 0], return_index=True)
    lasts = np.concatenate((firsts[1:], [len(result_ids)]))[: len(firsts)] - 1
    counters = result_ids[:, 1]
    return tuple(map(Run, epochs.tolist(), counters[firsts].tolist(), counters[lasts].tolist()))


def runs_of(ids: Iterable[tuple[int, int]]) -> tuple[Run, ...]:
    """Return the fewest runs that hold exactly these (epoch, counter), in order."""
    runs: list[Run] = []
    for epoch, counter in sorted(set(ids)):
        if runs and runs[-1].epoch == epoch and runs[-1].last == counter - 1:
            runs[-1] = Run(epoch, runs[-1].first, counter)
        else:
            runs.append(Run(epoch, counter, counter))
    return tuple(runs)


def _ordered_keys(result_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = (result_ids[:, 0] << _EPOCH_SHIFT) + result_ids[:, 1]
    if (keys[1:] <= keys[:-1]).any():
        raise ValueError("results come in the order of epoch and counter, each once")
    return keys


def _within(keys: NDArray[np.int64], wanted: Sequence[Run]) -> NDArray[np.bool_]:
    """Tell which keys lie within one of the runs."""
    bounds = np.array([(run.epoch, run.first, run.last) for run in wanted], np.int64).reshape(-1, 3)
    epochs = bounds[:, 0] << _EPOCH_SHIFT
    depth = np.zeros(len(keys) + 1, np.int64)
    np.add.at(depth, np.searchsorted(keys, epochs + bounds[:, 1], side="left"), 1)
    np.add.at(depth, np.searchsorted(keys, epochs + bounds[:, 2], side="right"), -1)
    return depth.cumsum()[:-1] > 0


def _cut(rows: NDArray[np.int64], n_results: int, most_others: int) -> tuple[NDArray[np.int64], bool]:
    """Keep what one answer holds: results first, other rows only where all results fit."""
    n_chosen = int(np.searchsorted(rows, n_results))
    if n_chosen > limits.MAX_RESULTS_PER_EXCHANGE:
        return rows[: limits.MAX_RESULTS_PER_EXCHANGE], True
    return rows[: n_chosen + most_others], len(rows) > n_chosen + most_others
