"""The queue in front of the writer: bounded, shared, and in turns."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server.records.fair_queue import FairQueue, Full


def filled(*entries: tuple[str, str, int], max_waiting: int = 100) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue(max_waiting)
    for tenant, caller, item in entries:
        assert queue.put(tenant, caller, item) is None
    return queue


def test_a_caller_with_many_waits_behind_one_with_one() -> None:
    queue = filled(("t", "many", 1), ("t", "many", 2), ("t", "many", 3), ("t", "one", 9))
    assert [queue.take() for _ in range(4)] == [1, 9, 2, 3]


def test_tenants_take_turns_however_many_callers_they_have() -> None:
    queue = filled(("big", "a", 1), ("big", "b", 2), ("big", "c", 3), ("small", "d", 4), ("small", "d", 5))
    assert [queue.take() for _ in range(5)] == [1, 4, 2, 5, 3]


def test_no_caller_no_tenant_and_nobody_at_all_holds_more_than_its_share() -> None:
    queue: FairQueue[int] = FairQueue(16, tenant_share=Fraction(1, 2), caller_share=Fraction(1, 4))
    assert [queue.put("t", "greedy", n) for n in range(6)] == [None] * 4 + [Full.CALLER] * 2
    assert [queue.put("t", f"c{n}", n) for n in range(6)] == [None] * 4 + [Full.TENANT] * 2
    assert [queue.put("u", f"c{n}", n) for n in range(8)] == [None] * 8
    assert queue.put("v", "late", 1) is Full.QUEUE
    assert len(queue) == 16
    queue.take()
    assert queue.put("v", "late", 1) is None


def test_a_short_queue_still_lets_a_caller_wait() -> None:
    queue: FairQueue[int] = FairQueue(2)
    assert [queue.put("t", "a", n) for n in range(3)] == [None, None, Full.QUEUE]


def test_nothing_is_no_item() -> None:
    with pytest.raises(LookupError):
        FairQueue[int](3).take()


@given(st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("tu"), st.sampled_from("abc"))), max_size=80))
def test_it_keeps_what_it_took_in_each_callers_order_and_within_its_bounds(steps: list[tuple[str, str] | None]) -> None:
    queue: FairQueue[tuple[str, str, int]] = FairQueue(12, caller_share=Fraction(1, 3))
    inside: list[tuple[str, str, int]] = []
    for number, step in enumerate(steps):
        if step is None:
            if inside:
                taken = queue.take()
                mine = [item for item in inside if item[:2] == taken[:2]]
                assert taken == mine[0]
                inside.remove(taken)
        else:
            item = (*step, number)
            refused = queue.put(*step, item)
            of_caller = sum(1 for held in inside if held[:2] == step)
            of_tenant = sum(1 for held in inside if held[0] == step[0])
            assert (refused is None) == (len(inside) < 12 and of_caller < 4 and of_tenant < 9)
            if refused is None:
                inside.append(item)
        assert len(queue) == len(inside)
    rest = [queue.take() for _ in range(len(queue))]
    assert sorted(rest) == sorted(inside)
