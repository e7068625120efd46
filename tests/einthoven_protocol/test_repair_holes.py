"""Holes in the counters: found where they are, and only believed where the counts agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.einthoven_protocol.repair_sides import Side, mend, result

from einthoven_protocol import limits
from einthoven_protocol.messages import Run
from einthoven_protocol.repair_holes import MAX_PER_LACKING, runs_missing

RESULTS = tuple(result(counter) for counter in range(1, 3_001))
ENDS = (Run(1, 11, limits.MAX_COUNTER), Run(4, 4, limits.MAX_COUNTER))


def ids(*some: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(sorted(some), np.int64).reshape(-1, 2)


TWO_EPOCHS = ids(*((1, counter) for counter in (1, 2, 5, 6, 10)), (4, 3))
HOLES = (Run(1, 3, 4), Run(1, 7, 9), Run(4, 1, 2))


@pytest.mark.parametrize(
    ("n_lacking", "runs"),
    [
        (-1, ()),
        (0, ()),
        (3, ()),  # seven holes for three rows: most of them are there for good
        (4, HOLES),
        (7, HOLES),
        (8, tuple(sorted((*HOLES, *ENDS)))),
    ],
)
def test_holes_are_asked_for_where_they_may_be_what_is_lacking(n_lacking: int, runs: tuple[Run, ...]) -> None:
    assert runs_missing(TWO_EPOCHS, n_lacking) == runs


def test_without_a_hole_nothing_is_guessed() -> None:
    assert runs_missing(ids((1, 1), (1, 2)), 5) == ()
    assert runs_missing(ids(), 5) == ()


def test_an_epoch_that_is_full_has_no_end_to_ask_for() -> None:
    full = ids((1, 1), (1, 3), (2, limits.MAX_COUNTER))
    assert runs_missing(full, limits.MAX_COUNTER + 10)[-1] == Run(2, 1, limits.MAX_COUNTER - 1)


@given(st.sets(st.tuples(st.integers(1, 3), st.integers(1, 30))), st.integers(-5, 100))
def test_holes_and_what_is_held_share_nothing_and_leave_nothing_out(held: set[tuple[int, int]], n_lacking: int) -> None:
    runs = runs_missing(ids(*held), n_lacking)
    lasts = {epoch: max(counter for e, counter in held if e == epoch) for epoch, _ in held}
    named = {(run.epoch, counter) for run in runs for counter in range(run.first, min(run.last, lasts[run.epoch]) + 1)}
    every = {(epoch, counter) for epoch, last in lasts.items() for counter in range(1, last + 1)}
    holes = every - held
    assert list(runs) == sorted(runs)
    if 0 < len(holes) <= MAX_PER_LACKING * n_lacking:
        assert named == holes
    else:
        assert not runs


def test_scattered_holes_take_one_round_trip_and_no_symbols() -> None:
    device, server = Side.of(row for row in RESULTS if row.row.counter % 30), Side.of(RESULTS)
    done = mend(device, server, looks_for_holes=True)
    ((request, response),) = done.pairs
    assert done.settled
    assert device.rows == server.rows
    assert not request.symbols
    assert request.wanted[-1] == Run(1, 3_000, limits.MAX_COUNTER)  # fewer holes than rows: the end belongs to them
    assert len(response.results) == len(request.wanted) == 100


def test_holes_that_explain_only_a_part_are_followed_by_symbols() -> None:
    device = Side.of(row for row in RESULTS if row.row.counter not in {50, 60})
    server = Side.of(RESULTS[:9], RESULTS[10:])
    server.take([result(n, epoch=3) for n in range(1, 9)])
    done = mend(device, server, gives=False, looks_for_holes=True)
    assert done.settled
    assert device.rows == server.rows
    assert [bool(request.symbols) for request, _ in done.pairs] == [False, True]


def test_holes_on_both_sides_waste_at_most_one_request() -> None:
    refused = {5, 700, 701}
    device = Side.of(row for row in RESULTS if row.row.counter not in {*refused, 20, 21})
    server = Side.of(row for row in RESULTS if row.row.counter not in refused)
    done = mend(device, server, looks_for_holes=True)
    assert done.settled
    assert device.rows == server.rows
    assert len(done.pairs) == 1
