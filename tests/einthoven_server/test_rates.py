"""Token buckets of devices and tenants, pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server import limits
from einthoven_server.identity.rates import BODY_BYTES, REQUESTS, WAKES, Cost, Rate, Rates

ONE = (Cost(REQUESTS, 1),)


def rates(burst: float = 3, per_s: float = 1, tenant_burst: float = 1_000, keys_max: int = 100) -> Rates:
    return Rates((Rate(REQUESTS, per_s, burst),), (Rate(REQUESTS, 10, tenant_burst),), keys_max)


def test_a_burst_is_taken_and_then_waits_for_its_refill() -> None:
    buckets = rates()
    assert [buckets.take("t", "d", ONE, 0) for _ in range(4)] == [0, 0, 0, 1]
    assert buckets.take("t", "d", ONE, 999) == 1
    assert buckets.take("t", "d", ONE, 1_000) == 0
    assert buckets.take("t", "d", ONE, 1_000) == 1


def test_one_device_does_not_take_from_another_nor_one_tenant_from_another() -> None:
    buckets = rates(burst=1)
    assert buckets.take("t", "a", ONE, 0) == 0
    assert buckets.take("t", "a", ONE, 0) == 1
    assert buckets.take("t", "b", ONE, 0) == 0
    assert buckets.take("u", "a", ONE, 0) == 0


def test_many_devices_together_are_held_to_their_tenants_rate() -> None:
    buckets = rates(tenant_burst=5)
    assert [buckets.take("t", f"d{n}", ONE, 0) for n in range(7)] == [0] * 5 + [1, 1]
    assert buckets.take("u", "d0", ONE, 0) == 0


def test_a_refused_request_takes_nothing_of_any_bucket() -> None:
    buckets = Rates((Rate(REQUESTS, 1, 2), Rate(BODY_BYTES, 1, 10)), ())
    assert buckets.take("t", "d", (Cost(REQUESTS, 1), Cost(BODY_BYTES, 10)), 0) == 0
    for _ in range(5):
        assert buckets.take("t", "d", (Cost(REQUESTS, 1), Cost(BODY_BYTES, 10)), 0) == 10
    assert buckets.take("t", "d", ONE, 0) == 0


def test_what_is_over_a_whole_burst_waits_for_a_full_bucket_and_then_goes() -> None:
    buckets = Rates((Rate(BODY_BYTES, 1, 10),), ())
    assert buckets.take("t", "d", (Cost(BODY_BYTES, 1),), 0) == 0
    assert buckets.take("t", "d", (Cost(BODY_BYTES, 500),), 0) == 1
    assert buckets.take("t", "d", (Cost(BODY_BYTES, 500),), 1_000) == 0


def test_nobody_is_told_to_stay_away_for_longer_than_the_limit() -> None:
    buckets = Rates((Rate(WAKES, 0.001, 1),), ())
    assert buckets.take("t", "d", (Cost(WAKES, 1),), 0) == 0
    assert buckets.take("t", "d", (Cost(WAKES, 1),), 0) == limits.RETRY_AFTER_MAX_S


def test_a_clock_that_goes_back_refills_nothing() -> None:
    buckets = rates(burst=1)
    assert buckets.take("t", "d", ONE, 10_000) == 0
    assert buckets.take("t", "d", ONE, 0) == 1
    assert buckets.take("t", "d", ONE, 10_999) == 1
    assert buckets.take("t", "d", ONE, 11_000) == 0


def test_buckets_are_bounded_and_the_longest_unused_goes_first() -> None:
    buckets = Rates((Rate(REQUESTS, 1, 1),), (), keys_max=2)
    for device in ("a", "b", "a", "c"):
        buckets.take("t", device, ONE, 0)
    assert len(buckets._buckets) == 2
    assert buckets.take("t", "a", ONE, 0) == 1  # kept, and empty
    assert buckets.take("t", "b", ONE, 0) == 0  # forgotten, so full


def test_what_has_no_rate_is_not_counted() -> None:
    assert all(rates(burst=1).take("t", "d", (Cost(WAKES, 1),), 0) == 0 for _ in range(5))


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 5)), min_size=1, max_size=40),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_in_any_time_at_most_a_burst_and_what_came_back_is_taken(
    steps: list[tuple[int, int]], burst: int, per_s: int
) -> None:
    buckets, now_ms, taken = Rates((Rate(BODY_BYTES, per_s, burst),), ()), 0, 0.0
    for pause_ms, amount in steps:
        now_ms += pause_ms
        if buckets.take("t", "d", (Cost(BODY_BYTES, amount),), now_ms) == 0:
            taken += min(amount, burst)
        assert taken <= burst + per_s * now_ms / 1000 + 1e-6


@given(st.integers(1, 20), st.integers(1, 5))
def test_who_comes_back_when_told_is_served(burst: int, per_s: int) -> None:
    buckets = Rates((Rate(REQUESTS, per_s, burst),), ())
    for _ in range(burst):
        assert buckets.take("t", "d", ONE, 0) == 0
    wait_s = buckets.take("t", "d", ONE, 0)
    assert wait_s >= 1
    assert buckets.take("t", "d", ONE, wait_s * 1000) == 0


@pytest.mark.parametrize("unit", [REQUESTS, BODY_BYTES, WAKES])
def test_a_device_is_held_to_every_unit_by_default(unit: str) -> None:
    buckets = Rates()
    seen = {buckets.take("t", "d", (Cost(unit, 1024 * 1024 if unit == BODY_BYTES else 1),), 0) for _ in range(700)}
    assert 0 in seen
    assert max(seen) >= 1
