"""Does an answer to a repair add up with its request, and which rows does it say the server lacks?

The rules are those of docs/sync-repair-v1.md.

It deliberately changes nothing and knows no store: a caller applies a checked answer whole, or not at all. What to ask
next is ``repair``'s business.

Invariants of an answer, in the order they are checked:
    1. ``decoded`` is 0 exactly where neither symbols nor power sums went out; only where they were decoded are absent
       items named, each once, in order, and no more of them than there were symbols or sums, or than differences are
       claimed.
    2. Rows are of the owner and kind that were asked for, in canonical order, each once; and where nothing was decoded,
       within the runs and the page that were wanted.
    3. There is one verdict for each result that was given.
    4. ``more`` comes with rows: asking again always gets further.
    5. ``held`` names each epoch at most once; where it must come and the bucket is not empty, it is not empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.errors import InconsistentExchange
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    NoteRow,
    RepairRequest,
    RepairResponse,
    Run,
    Superseded,
)
from einthoven_protocol.power_sums import POWER_BYTES
from einthoven_protocol.repair_answer import DECODED, NOT_ASKED, UNDECODED
from einthoven_protocol.riblt import SYMBOL_BYTES, items

OtherRow: TypeAlias = AnnotationRow | NoteRow | Superseded
"""A row of a bucket that is no result."""
Place: TypeAlias = tuple[int | str, ...]

_EPOCH_SHIFT: Final = 32


def check_repair_response(request: RepairRequest, response: RepairResponse) -> None:
    """Refuse an answer that does not add up.

    Raises:
        InconsistentExchange: One of this module's invariants does not hold; nothing may be applied.
    """
    _check_decoded(request, response)
    _check_results(request, response)
    _check_others(request, response)
    if len(response.verdicts) != len(request.given):
        raise _inconsistent("gave another number of verdicts than it was given results")
    overlap = request.page > 0 and not request.wanted
    if response.more and len(response.results) + len(other_rows(response)) <= overlap:
        raise _inconsistent("said that there is more, but sent nothing")
    _check_held(response)


def other_rows(response: RepairResponse) -> tuple[OtherRow, ...]:
    """Return the rows of an answer that are no results, in canonical order."""
    return (*response.annotations, *response.notes, *response.superseded)


def place_of(row: OtherRow) -> Place:
    """Return what a row that is no result is ordered by within its bucket."""
    match row:
        case AnnotationRow():
            return (0, row.target.epoch, row.target.counter, row.author)
        case NoteRow():
            return (1, row.epoch, row.counter)
        case Superseded():
            return (2, row.target.epoch, row.target.counter, row.author, row.field, row.hlc, row.value)


def absent_places(
    request: RepairRequest,
    response: RepairResponse,
    shares: NDArray[np.uint8],
    result_ids: NDArray[np.int64],
    others: Sequence[OtherRow] = (),
) -> NDArray[np.int64]:
    """Return the places of the rows that the server says it does not hold.

    Args:
        request: What was asked.
        response: What was answered, checked.
        shares: uint8 [n, 16]: of the device's rows of the bucket, in canonical order.
        result_ids: int64 [n_results, 2]: epoch and counter of those that are results, which are the first.
        others: The rows behind them; needed only where ``request.page`` is not negative.

    Returns:
        int64 [k], ascending.
    """
    absent = np.zeros(len(shares), np.bool_)
    n_results = len(result_ids)
    if response.decoded == DECODED:
        absent |= np.isin(items(request.session, shares), np.array(response.absent, np.uint64))
    elif request.kind == BucketKind.RECORDS:
        absent[:n_results] |= ~_in_runs(result_ids, response.held)
    if request.wanted:
        absent[:n_results] |= _unnamed(request, response, result_ids)
    if request.page >= 0 and others:
        absent[n_results:] |= _unnamed_others(request, response, others)
    return np.flatnonzero(absent).astype(np.int64)


def _unnamed(request: RepairRequest, response: RepairResponse, result_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which results were wanted and are not in the answer, as far as it goes."""
    named = np.array([(row.epoch << _EPOCH_SHIFT) + row.row.counter for row in response.results], np.int64)
    keys = (result_ids[:, 0] << _EPOCH_SHIFT) + result_ids[:, 1]
    unnamed = _in_runs(result_ids, request.wanted) & ~np.isin(keys, named)
    if response.more and not other_rows(response):
        unnamed &= keys <= named.max(initial=0)
    return unnamed


def _unnamed_others(request: RepairRequest, response: RepairResponse, others: Sequence[OtherRow]) -> NDArray[np.bool_]:
    """Tell which of the other rows lie in the page and are not in the answer.

    A page that does not begin at the beginning speaks of nothing before its first row, one that does not end at the
    end of nothing behind its last.
    """
    named = [place_of(row) for row in other_rows(response)]
    if not named and (request.page or response.more):
        return np.zeros(len(others), np.bool_)
    held = frozenset(named)
    places = [place_of(row) for row in others]
    return np.array(
        [
            place not in held and (not request.page or place > named[0]) and (not response.more or place < named[-1])
            for place in places
        ],
        np.bool_,
    )


def _in_runs(result_ids: NDArray[np.int64], runs: Sequence[Run]) -> NDArray[np.bool_]:
    inside = np.zeros(len(result_ids), np.bool_)
    epochs, counters = result_ids[:, 0], result_ids[:, 1]
    for run in runs:
        inside |= (epochs == run.epoch) & (counters >= run.first) & (counters <= run.last)
    return inside


def _check_decoded(request: RepairRequest, response: RepairResponse) -> None:
    compared = len(request.symbols) // SYMBOL_BYTES + len(request.powers) // POWER_BYTES
    if (response.decoded == NOT_ASKED) is bool(compared) or response.decoded not in (
        NOT_ASKED,
        DECODED,
        UNDECODED,
    ):
        raise _inconsistent("decoded what was not sent, or did not say whether it could")
    if response.absent and response.decoded != DECODED:
        raise _inconsistent("named absent rows without decoding")
    if any(later <= earlier for earlier, later in pairwise(response.absent)):
        raise _inconsistent("named absent rows twice or out of order")
    most = min(compared, response.differences)
    if response.decoded == DECODED and len(response.absent) > most:
        raise _inconsistent("named more absent rows than can be")


def _check_results(request: RepairRequest, response: RepairResponse) -> None:
    if response.results and request.kind != BucketKind.RECORDS:
        raise _inconsistent("sent results that were not asked for")
    if any(row.device_alias != request.owner for row in response.results):
        raise _inconsistent("sent results of somebody else")
    ids = [(row.epoch, row.row.counter) for row in response.results]
    if any(later <= earlier for earlier, later in pairwise(ids)):
        raise _inconsistent("sent results twice or out of order")
    if response.decoded != DECODED and not _in_runs(np.array(ids, np.int64).reshape(-1, 2), request.wanted).all():
        raise _inconsistent("sent results that were not asked for")


def _check_others(request: RepairRequest, response: RepairResponse) -> None:
    rows = other_rows(response)
    of_records = [isinstance(row, AnnotationRow) for row in rows]
    if any(kind != (request.kind == BucketKind.RECORDS) for kind in of_records):
        raise _inconsistent("sent rows of another bucket")
    if any(_owner_of(row) != request.owner for row in rows):
        raise _inconsistent("sent rows of somebody else")
    if any(place_of(later) <= place_of(earlier) for earlier, later in pairwise(rows)):
        raise _inconsistent("sent rows twice or out of order")
    if rows and response.decoded != DECODED and request.page < 0:
        raise _inconsistent("sent rows that were not asked for")


def _owner_of(row: OtherRow) -> int:
    return row.device_alias if isinstance(row, NoteRow) else row.target.device_alias


def _check_held(response: RepairResponse) -> None:
    if any(later.epoch <= earlier.epoch for earlier, later in pairwise(response.held)):
        raise _inconsistent("named an epoch twice or out of order")


def _inconsistent(what: str) -> InconsistentExchange:
    return InconsistentExchange(f"the server {what}; nothing was applied")
