"""When an exchange may run: more urgent is never later, a failure never hurried, and no wait without an end."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.sync_policy import (
    ALERT_WAIT_MAX_S,
    BACKOFF_BASE_S,
    BACKOFF_CAP_S,
    MIN_PUSH_RESULTS,
    WAIT_MAX_S,
    Lane,
    Standing,
    Surroundings,
    backoff_s,
    listens,
    push_results,
    signals_allowed,
    wait_s,
)
from einthoven_protocol.limits import MAX_RESULTS_PER_EXCHANGE

NOW_S = 1_000_000.0
PLUGGED = Surroundings()
LOW = Surroundings(battery_percent=12)
CRITICAL = Surroundings(battery_percent=3)

chances = st.floats(0, 1, exclude_max=True)
instants = st.floats(0, 2 * NOW_S)
lanes = st.sampled_from(Lane)
surroundings = st.builds(
    Surroundings,
    battery_percent=st.none() | st.floats(0, 100),
    charging=st.booleans(),
    metered=st.booleans(),
)
standings = st.builds(
    Standing,
    exchanged_at_s=st.none() | instants,
    failed_at_s=st.none() | instants,
    failures=st.integers(0, 10_000),
    retry_after_s=st.floats(-10, 10**7),
    chance=chances,
    min_interval_s=st.floats(0, 10**6),
)


def at_most(sooner: float | None, later: float | None) -> bool:
    return later is None or (sooner is not None and sooner <= later)


@given(st.tuples(lanes, lanes), surroundings, standings, instants)
def test_what_is_more_urgent_never_waits_longer(
    pair: tuple[Lane, Lane], around: Surroundings, standing: Standing, now_s: float
) -> None:
    less, more = sorted(pair)
    assert at_most(wait_s(more, around, standing, now_s), wait_s(less, around, standing, now_s))


@given(lanes, surroundings, standings, instants, st.floats(0, 100))
def test_a_device_that_is_better_supplied_never_waits_longer(
    lane: Lane, around: Surroundings, standing: Standing, now_s: float, more_percent: float
) -> None:
    waits = wait_s(lane, around, standing, now_s)
    betters = [dataclasses.replace(around, charging=True), dataclasses.replace(around, metered=False)]
    if around.battery_percent is not None:
        fuller = max(around.battery_percent, more_percent)
        betters.append(dataclasses.replace(around, battery_percent=fuller))
    for better in betters:
        assert at_most(wait_s(lane, better, standing, now_s), waits)


@given(lanes, surroundings, standings, instants)
def test_every_wait_has_an_end_and_none_is_negative(
    lane: Lane, around: Surroundings, standing: Standing, now_s: float
) -> None:
    waits = wait_s(lane, around, standing, now_s)
    assert waits is None or 0 <= waits <= WAIT_MAX_S


@given(surroundings, standings, instants)
def test_an_alert_always_goes_and_soon(around: Surroundings, standing: Standing, now_s: float) -> None:
    waits = wait_s(Lane.ALERT, around, standing, now_s)
    assert waits is not None
    assert waits <= ALERT_WAIT_MAX_S
    if not standing.failures:
        assert waits == 0


@given(
    st.sampled_from([lane for lane in Lane if lane is not Lane.ALERT]),
    surroundings,
    st.floats(0, WAIT_MAX_S),
    st.integers(1, 100),
    chances,
)
def test_the_server_is_never_asked_again_before_it_said(
    lane: Lane, around: Surroundings, retry_after_s: float, failures: int, chance: float
) -> None:
    standing = Standing(failed_at_s=NOW_S, failures=failures, retry_after_s=retry_after_s, chance=chance)
    assert at_most(retry_after_s, wait_s(lane, around, standing, NOW_S))


@given(surroundings, st.integers(0, int(WAIT_MAX_S)), st.integers(0, int(WAIT_MAX_S)))
def test_who_has_nothing_to_push_keeps_the_servers_interval(
    around: Surroundings, min_interval_s: int, elapsed_s: int
) -> None:
    standing = Standing(exchanged_at_s=NOW_S, min_interval_s=min_interval_s)
    for lane in (Lane.POLL, Lane.NEWS, Lane.SIGNAL):
        assert at_most(min_interval_s - elapsed_s, wait_s(lane, around, standing, NOW_S + elapsed_s))
    pushing = wait_s(Lane.RESULT, around, standing, NOW_S + elapsed_s)
    assert pushing == wait_s(Lane.RESULT, around, Standing(exchanged_at_s=NOW_S), NOW_S + elapsed_s)


@given(lanes, surroundings, standings, instants)
def test_waiting_as_told_is_enough(lane: Lane, around: Surroundings, standing: Standing, now_s: float) -> None:
    """Asked again after its own answer, and of a clock that did not go back, it says go."""
    standing = dataclasses.replace(standing, retry_after_s=min(standing.retry_after_s, 3_600.0), min_interval_s=60.0)
    moments = [moment for moment in (standing.exchanged_at_s, standing.failed_at_s) if moment is not None]
    now_s = max([now_s, *moments])
    waits = wait_s(lane, around, standing, now_s)
    if waits is not None:
        assert wait_s(lane, around, standing, now_s + waits + 1e-6) == pytest.approx(0, abs=1e-3)


@given(st.integers(-5, 10_000), chances)
def test_backoff_is_full_jitter_of_a_capped_doubling(failures: int, chance: float) -> None:
    waits = backoff_s(failures, chance)
    if failures < 1:
        assert waits == 0
        return
    assert waits == pytest.approx(chance * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures - 1, 40)))


@given(st.integers(-5, 10_000))
def test_pushes_shrink_with_failures_but_not_to_nothing(failures: int) -> None:
    size = push_results(failures)
    assert MIN_PUSH_RESULTS <= size <= MAX_RESULTS_PER_EXCHANGE
    assert push_results(failures + 1) <= size
    assert push_results(0) == MAX_RESULTS_PER_EXCHANGE


@pytest.mark.parametrize(
    ("around", "lane", "expected_s"),
    [
        (PLUGGED, Lane.RESULT, 2),
        (PLUGGED, Lane.POLL, 300),
        (Surroundings(battery_percent=80), Lane.RESULT, 60),
        (Surroundings(battery_percent=80, charging=True), Lane.RESULT, 2),
        (Surroundings(metered=True), Lane.RESULT, 300),
        (Surroundings(metered=True), Lane.SIGNAL, 3_600),
        (LOW, Lane.RESULT, 900),
        (LOW, Lane.SIGNAL, 7_200),
        (CRITICAL, Lane.RESULT, None),
        (CRITICAL, Lane.POLL, None),
        (CRITICAL, Lane.ALERT, 0),
        (Surroundings(battery_percent=3, charging=True), Lane.NEWS, 2),
    ],
)
def test_how_long_after_an_exchange(around: Surroundings, lane: Lane, expected_s: float | None) -> None:
    assert wait_s(lane, around, Standing(exchanged_at_s=NOW_S), NOW_S) == expected_s


def test_a_clock_that_was_set_back_does_not_hold_up_for_longer_than_it_would_anyway() -> None:
    assert wait_s(Lane.RESULT, PLUGGED, Standing(exchanged_at_s=NOW_S), 0.0) == 2


@pytest.mark.parametrize(
    ("around", "signals", "line"),
    [
        (PLUGGED, True, True),
        (Surroundings(battery_percent=50), True, True),
        (Surroundings(metered=True), False, True),
        (LOW, False, False),
        (CRITICAL, False, False),
        (dataclasses.replace(LOW, charging=True), True, True),
    ],
)
def test_signals_and_the_line_are_for_those_who_can_afford_them(
    around: Surroundings, signals: bool, line: bool
) -> None:
    assert (signals_allowed(around), listens(around)) == (signals, line)
