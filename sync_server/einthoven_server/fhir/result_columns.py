"""What a search asks of a patient's results, as columns: when, by which device, and what came out. Pure.

The database holds results sealed, so no index of its own can find one by its date. These columns are opened once, kept
in memory like the data keys, and brought up to date from the change feed (``result_index``).

It deliberately holds no signal, no probability and no name: a page's rows are read and opened when it is rendered.

Invariants:
    1. Rows lie in order of (started_at_ms, device_alias, epoch, counter), each once.
    2. ``selected`` is in that order; ``page`` cuts it so that pages that follow each other neither repeat nor leave out
       a result that was there all the while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.messages import IdentifiedResult, ResultId
from einthoven_protocol.packed_results import IdentifiedResults
from einthoven_server.fhir.search_parameters import Place, Search
from einthoven_server.fhir.search_values import DateRange

COLUMNS: Final = np.dtype(
    [
        ("started_at_ms", "i8"),
        ("duration_ms", "u4"),
        ("device_alias", "u4"),
        ("epoch", "u4"),
        ("counter", "u4"),
        ("rhythm", "u1"),
        ("reason", "u1"),
    ]
)
_KEYS: Final = ("counter", "epoch", "device_alias", "started_at_ms")
"""The last one counts first, as ``lexsort`` has it."""
Mask = NDArray[np.bool_]


class ResultColumns:
    """A patient's results, in order of time.

    Args:
        rows: Structured array [n] of ``COLUMNS``, in any order.
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: NDArray[np.void] | None = None) -> None:
        self._rows = np.zeros(0, COLUMNS) if rows is None else _ordered(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_bytes(self) -> int:
        """Memory it takes."""
        return self._rows.nbytes

    def changed(self, new: Sequence[NDArray[np.void]], gone: Iterable[ResultId]) -> ResultColumns:
        """The same with further results, without those that were deleted."""
        rows = np.concatenate((self._rows, *new)) if new else self._rows
        names = {(one.device_alias, one.epoch, one.counter) for one in gone}
        if names:
            held = rows[["device_alias", "epoch", "counter"]].tolist()
            rows = rows[np.fromiter((name not in names for name in held), np.bool_, len(held))]
        return ResultColumns(rows)

    def every(self) -> Mask:
        """All of them, to be narrowed."""
        return np.ones(len(self._rows), np.bool_)

    def of_date(self, asked: DateRange) -> Mask:
        """Those whose window fits a date."""
        begin = self._rows["started_at_ms"]
        return fits(asked, begin, begin + self._rows["duration_ms"].astype(np.int64))

    def ended_at(self, asked: DateRange) -> Mask:
        """Those whose end, a moment, fits a date."""
        end = self._rows["started_at_ms"] + self._rows["duration_ms"].astype(np.int64)
        return fits(asked, end, end + 1)

    def named(self, results: Iterable[ResultId]) -> Mask:
        """Those of these identities."""
        mask = np.zeros(len(self._rows), np.bool_)
        for result in results:
            mask |= (
                (self._rows["device_alias"] == result.device_alias)
                & (self._rows["epoch"] == result.epoch)
                & (self._rows["counter"] == result.counter)
            )
        return mask

    def of_devices(self, aliases: Iterable[int]) -> Mask:
        """Those that these devices made."""
        return np.isin(self._rows["device_alias"], np.array(list(aliases), "u4"))

    def conclusive(self) -> Mask:
        """Those with a verdict."""
        found: Mask = self._rows["reason"] == 0
        return found

    def of_rhythms(self, rhythms: Iterable[int]) -> Mask:
        """Those with a verdict that is one of these."""
        return self.conclusive() & np.isin(self._rows["rhythm"], np.array(list(rhythms), "u1"))

    def page(self, mask: Mask, search: Search, count: int) -> list[Place]:
        """The next ``count`` of those in ``mask``, in the order of the search."""
        selected = np.flatnonzero(mask)
        if search.descending:
            upto = len(selected) if search.after is None else int(np.searchsorted(selected, self._at(search.after)))
            selected = selected[max(0, upto - count) : upto][::-1]
        else:
            begin = 0 if search.after is None else int(np.searchsorted(selected, self._behind(search.after)))
            selected = selected[begin : begin + count]
        rows = self._rows[selected]
        return [Place(*row) for row in rows[["started_at_ms", "device_alias", "epoch", "counter"]].tolist()]

    def _at(self, place: Place) -> int:
        """Where ``place`` stands, or would."""
        begin, end = (int(np.searchsorted(self._rows["started_at_ms"], place[0], side)) for side in ("left", "right"))
        alike = self._rows[begin:end][["device_alias", "epoch", "counter"]].tolist()
        before: int = sum(name < place[1:] for name in alike)
        return begin + before

    def _behind(self, place: Place) -> int:
        at = self._at(place)
        same = at < len(self._rows) and (
            self._rows[at][["started_at_ms", "device_alias", "epoch", "counter"]].item() == tuple(place)
        )
        return at + same


def fits(asked: DateRange, begin: NDArray[np.int64], end: NDArray[np.int64]) -> Mask:
    """Which stretches of time fit a date, as R4 compares them (search.html#prefix).

    Args:
        asked: The date.
        begin: int64 [n], ms since 1970.
        end: int64 [n], behind them.
    """
    within: Mask = (begin >= asked.begin_ms) & (end <= asked.end_ms)
    found: dict[str, Mask] = {
        "eq": within,
        "ne": ~within,
        "gt": end > asked.end_ms,
        "ge": within | (end > asked.end_ms),
        "lt": begin < asked.begin_ms,
        "le": within | (begin < asked.begin_ms),
        "sa": begin >= asked.end_ms,
        "eb": end <= asked.begin_ms,
    }
    return found[asked.prefix]


def columns_of(results: Sequence[IdentifiedResult]) -> NDArray[np.void]:
    """Opened results as columns."""
    columns = np.zeros(len(results), COLUMNS)
    if isinstance(results, IdentifiedResults):
        columns["device_alias"], columns["epoch"] = results.aliases, results.epochs
        for name in ("started_at_ms", "duration_ms", "counter", "rhythm", "reason"):
            columns[name] = results.rows.fields[name]
        return columns
    for place, result in enumerate(results):
        row = result.row
        columns[place] = (
            row.started_at_ms,
            row.duration_ms,
            result.device_alias,
            result.epoch,
            row.counter,
            row.rhythm,
            row.reason,
        )
    return columns


def _ordered(rows: NDArray[np.void]) -> NDArray[np.void]:
    order = np.lexsort([rows[name] for name in _KEYS])
    return rows if np.array_equal(order, np.arange(len(rows))) else rows[order]
