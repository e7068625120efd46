"""What a loaded server asks of its devices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE, MAX_RESULTS_PER_EXCHANGE
from einthoven_protocol.messages import ServerLimits
from einthoven_server import limits
from einthoven_server.sync.announced_limits import announced_limits

QUEUE_MAX = limits.WRITER_QUEUE_MAX


def test_an_idle_server_says_nothing() -> None:
    assert announced_limits(0, QUEUE_MAX) == ServerLimits()
    assert announced_limits(QUEUE_MAX // 8, QUEUE_MAX) == ServerLimits()


def test_a_full_one_asks_for_little_and_seldom_but_not_for_nothing() -> None:
    assert announced_limits(QUEUE_MAX, QUEUE_MAX) == ServerLimits(
        max_results=limits.ANNOUNCED_MIN_RESULTS,
        max_annotations=limits.ANNOUNCED_MIN_ANNOTATIONS,
        min_interval_s=limits.ANNOUNCED_MAX_INTERVAL_S,
    )


@given(st.integers(0, 2 * QUEUE_MAX), st.integers(0, 2 * QUEUE_MAX), st.integers(1, QUEUE_MAX))
def test_more_that_waits_never_makes_a_push_larger_or_an_interval_shorter(a: int, b: int, queue_max: int) -> None:
    less, more = (announced_limits(waiting, queue_max) for waiting in sorted((a, b)))
    assert less.min_interval_s <= more.min_interval_s <= limits.ANNOUNCED_MAX_INTERVAL_S
    # 0 says nothing, which is the most that the protocol takes.
    assert (less.max_results or MAX_RESULTS_PER_EXCHANGE) >= (more.max_results or MAX_RESULTS_PER_EXCHANGE)
    assert (less.max_annotations or MAX_ANNOTATIONS_PER_EXCHANGE) >= (
        more.max_annotations or MAX_ANNOTATIONS_PER_EXCHANGE
    )
