"""What may be dropped, and in which order, also under a clock that was wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.retention import (
    MAX_UNWITNESSED_MS,
    Droppable,
    check_ceiling,
    credible_now,
    over_age,
    over_size,
    to_make_room,
)

YEAR_MS = 365 * 24 * 3600 * 1000
NOW_MS = 1_700_000_000_000

rows = st.lists(
    st.tuples(st.integers(-9, 9), st.integers(0, 50), st.booleans()).map(
        lambda fields: (NOW_MS + 1_000 * fields[0], fields[1], fields[2])
    ),
    max_size=12,
).map(lambda fields: [Droppable(key, *rest) for key, rest in enumerate(fields)])


def held(*starts_ms: int, acknowledged: bool = True) -> list[Droppable]:
    return [Droppable(key, start_ms, 10, acknowledged) for key, start_ms in enumerate(starts_ms)]


def keys(dropped: list[Droppable]) -> list[int]:
    return [row.key for row in dropped]


def test_what_is_older_goes_and_what_is_as_old_stays() -> None:
    assert keys(over_age(held(10, 20, 30), 10, 31)) == [0, 1]
    assert keys(over_age(held(10, 20, 30), 10, 30)) == [0]
    assert keys(over_age(held(10, 20, 30), 0, 30)) == [0, 1]
    assert over_age(held(10, 20, 30), None, 2**60) == []


def test_it_reads_no_further_than_it_must() -> None:
    def endless() -> object:
        yield from held(10, 20)
        yield Droppable(2, 1_000, 10, True)
        raise AssertionError("read too far")

    assert keys(over_age(endless(), 100, 1_000)) == [0, 1]  # type: ignore[arg-type]


def test_a_row_of_the_future_goes_when_one_written_after_it_does() -> None:
    assert keys(over_age(held(10, YEAR_MS, 20), 5, 100)) == [0, 1, 2]
    assert keys(over_age(held(10, YEAR_MS), 5, 100)) == [0]
    assert keys(over_age(held(10, YEAR_MS, 99), 5, 100)) == [0]


def test_a_row_stamped_too_early_stays_with_its_younger_neighbours() -> None:
    assert keys(over_age(held(10, 98, 11, 99), 5, 100)) == [0]


@given(rows, st.integers(0, 9_000))
def test_by_age_only_what_is_acknowledged_goes_and_a_beginning_of_it(of: list[Droppable], max_age_ms: int) -> None:
    dropped = over_age(of, max_age_ms, NOW_MS)

    assert all(row.acknowledged for row in dropped)
    acknowledged = [row for row in of if row.acknowledged]
    assert dropped == acknowledged[: len(dropped)]
    young = [row for row in of if NOW_MS - max_age_ms <= row.started_at_ms <= NOW_MS]
    assert not set(keys(dropped)) & set(keys(young))


@given(rows, st.integers(0, 200))
def test_by_size_what_is_left_fits_or_is_on_no_server(of: list[Droppable], max_bytes: int) -> None:
    dropped = over_size(of, max_bytes)

    left = [row for row in of if row not in dropped]
    assert all(row.acknowledged for row in dropped)
    assert sum(row.stored_bytes for row in left) <= max_bytes or not any(row.acknowledged for row in left)
    if dropped:
        assert sum(row.stored_bytes for row in [*left, dropped[-1]]) > max_bytes
    assert over_size(of, None) == []


@given(rows, st.integers(-5, 300))
def test_to_make_room_the_servers_goes_first_and_no_more_than_needed(of: list[Droppable], wanted: int) -> None:
    dropped = to_make_room(of, wanted)

    order = [row for row in of if row.acknowledged] + [row for row in of if not row.acknowledged]
    assert dropped == order[: len(dropped)]
    assert sum(row.stored_bytes for row in dropped) >= wanted or dropped == order
    if dropped:
        assert sum(row.stored_bytes for row in dropped[:-1]) < wanted


def test_a_clock_is_believed_a_week_beyond_what_is_known_of_it() -> None:
    assert credible_now(NOW_MS, last_exchange_ms=NOW_MS - 5, newest_ms=0) == NOW_MS
    assert credible_now(NOW_MS + YEAR_MS, last_exchange_ms=NOW_MS, newest_ms=None) == NOW_MS + MAX_UNWITNESSED_MS
    assert credible_now(NOW_MS + YEAR_MS, last_exchange_ms=None, newest_ms=NOW_MS) == NOW_MS + MAX_UNWITNESSED_MS
    assert credible_now(NOW_MS - YEAR_MS, last_exchange_ms=NOW_MS, newest_ms=NOW_MS) == NOW_MS - YEAR_MS
    assert credible_now(NOW_MS, last_exchange_ms=None, newest_ms=None) == NOW_MS
    assert credible_now(NOW_MS + YEAR_MS, last_exchange_ms=NOW_MS, newest_ms=NOW_MS + YEAR_MS) < NOW_MS + YEAR_MS


def test_limits_below_nothing_are_refused() -> None:
    for call in (lambda: over_age([], -1, 0), lambda: over_size([], -1), lambda: check_ceiling(-1)):
        with pytest.raises(ValueError, match="negative"):
            call()
