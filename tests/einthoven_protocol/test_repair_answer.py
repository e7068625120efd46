"""What a server chooses to answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven_protocol import limits, power_sums, riblt, strata
from einthoven_protocol.errors import DecodeError, LimitExceeded
from einthoven_protocol.messages import BucketKind, RepairRequest, Run
from einthoven_protocol.repair_answer import (
    SERVED_SHARE,
    differences_between,
    max_others,
    runs_held,
    runs_of,
    select,
)

SESSION = bytes(range(16))
KEYS = st.tuples(st.integers(1, 3), st.integers(1, 12))


def request(**fields: object) -> RepairRequest:
    return RepairRequest(**{"device_alias": 7, "owner": 7, "kind": BucketKind.RECORDS} | fields)  # type: ignore[arg-type]


def shares(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, 16), np.uint8)


def ids(*keys: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(keys, np.int64).reshape(-1, 2)


@given(
    held=st.sets(KEYS),
    wanted=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)), max_size=5),
)
def test_runs_choose_the_results_within(held: set[tuple[int, int]], wanted: list[tuple[int, int, int]]) -> None:
    runs = tuple(Run(epoch, min(a, b), max(a, b)) for epoch, a, b in wanted)
    ordered = sorted(held)
    chosen = select(request(wanted=runs), shares(len(held) + 3), ids(*ordered))
    expected = [
        place
        for place, (epoch, counter) in enumerate(ordered)
        if any(run.epoch == epoch and run.first <= counter <= run.last for run in runs)
    ]
    assert chosen.rows.tolist() == expected
    assert (chosen.decoded, chosen.more, chosen.absent, chosen.differences) == (0, False, (), 0)


@pytest.mark.parametrize(("page", "expected"), [(-1, []), (0, [2, 3, 4]), (2, [4]), (3, []), (2**31 - 2, [])])
def test_a_page_chooses_the_other_rows_behind_it(page: int, expected: list[int]) -> None:
    assert select(request(page=page), shares(5), ids((1, 1), (1, 2))).rows.tolist() == expected


def test_symbols_choose_what_only_the_server_holds() -> None:
    held = shares(40)
    theirs = np.concatenate((held[5:], shares(60)[50:]))
    items = riblt.items(SESSION, theirs)
    symbols = riblt.encode(SESSION, items, 60)
    chosen = select(request(session=SESSION, symbols=symbols), held, ids(*((1, c) for c in range(1, 31))))
    assert (chosen.decoded, chosen.differences, chosen.held) == (1, 15, ())
    assert chosen.rows.tolist() == [0, 1, 2, 3, 4]
    assert chosen.absent == tuple(sorted(riblt.items(SESSION, shares(60)[50:]).tolist()))


def test_too_few_symbols_give_an_estimate_to_who_sent_a_sketch() -> None:
    items = riblt.items(SESSION, shares(2_000))
    few = riblt.encode(SESSION, items, 24)
    nothing = shares(0)
    plain = select(request(session=SESSION, symbols=few), nothing, ids())
    assert (plain.decoded, plain.differences, plain.absent) == (2, 0, ())
    sketched = select(request(session=SESSION, symbols=few, sketch=strata.sketch(items)), nothing, ids())
    assert sketched.decoded == 2
    assert 1_000 < sketched.differences < 4_000


@given(held=st.sets(KEYS))
def test_held_is_first_and_last_of_each_epoch(held: set[tuple[int, int]]) -> None:
    expected = [
        Run(epoch, min(c for e, c in held if e == epoch), max(c for e, c in held if e == epoch))
        for epoch in sorted({e for e, _ in held})
    ]
    assert list(runs_held(ids(*sorted(held)))) == expected
    assert list(select(request(), shares(len(held)), ids(*sorted(held))).held) == expected


@given(held=st.lists(KEYS))
def test_runs_of_are_the_fewest_that_hold_just_these(held: list[tuple[int, int]]) -> None:
    runs = runs_of(held)
    assert [(run.epoch, c) for run in runs for c in range(run.first, run.last + 1)] == sorted(set(held))
    assert all((run.epoch, run.last + 1) not in held for run in runs)


def test_an_answer_holds_results_first_and_no_more_than_it_may() -> None:
    n = limits.MAX_RESULTS_PER_EXCHANGE + 1
    many = np.zeros((n + 2, 16), np.uint8)
    some = ids(*((1, c) for c in range(1, n + 1)))
    cut = select(request(wanted=(Run(1, 1, n),), page=0), many, some)
    assert (len(cut.rows), cut.rows[-1], cut.more) == (n - 1, n - 2, True)
    whole = select(request(wanted=(Run(1, 2, n),), page=0), many, some)
    assert (len(whole.rows), whole.rows[-1], whole.more) == (n + 1, n + 1, False)


@pytest.mark.parametrize("kind", list(BucketKind))
def test_an_answer_holds_so_many_other_rows(kind: BucketKind) -> None:
    most = max_others(kind)
    assert most <= limits.MAX_ANNOTATIONS_PER_EXCHANGE
    exactly = select(request(kind=kind, page=0), shares(most), ids())
    assert (len(exactly.rows), exactly.more) == (most, False)
    cut = select(request(kind=kind, page=0), shares(most + 1), ids())
    assert (cut.rows.tolist(), cut.more) == (list(range(most)), True)


def test_symbols_that_are_none_are_refused() -> None:
    with pytest.raises(DecodeError):
        select(request(session=SESSION, symbols=bytes(7)), shares(3), ids())
    with pytest.raises(LimitExceeded):
        select(request(session=SESSION, symbols=bytes(limits.MAX_SYMBOLS_BYTES + 6)), shares(3), ids())


def test_a_caller_that_mixes_rows_up_is_told() -> None:
    for wrong in (ids((1, 2), (1, 1)), ids((1, 1), (1, 1)), ids((2, 1), (1, 2))):
        with pytest.raises(ValueError, match="order"):
            select(request(), shares(2), wrong)
    with pytest.raises(ValueError, match="no more results than rows"):
        select(request(), shares(1), ids((1, 1), (1, 2)))


def test_power_sums_that_are_too_much_work_are_left_undecoded() -> None:
    n_rows = SERVED_SHARE * limits.MAX_POWERS_WORK // power_sums.MAX_POWERS
    asked = request(session=SESSION, powers=bytes(limits.MAX_POWERS_BYTES))
    held = np.zeros((n_rows + 1, 16), np.uint8)
    assert differences_between(asked, held) is None
    equal = riblt.items(SESSION, held[:2])
    few = request(session=SESSION, powers=power_sums.encode(equal, 8))
    found = differences_between(few, held[:2])
    assert found is not None
    assert not len(found.own_only)
    assert not len(found.foreign)
