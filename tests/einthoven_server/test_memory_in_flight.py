"""The budget of requests under way: what is lent adds up, what does not fit is refused, and all of it comes back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol.limits import (
    MAX_ALERTS_PER_EXCHANGE,
    MAX_ANNOTATIONS_PER_EXCHANGE,
    MAX_NOTES_PER_EXCHANGE,
    MAX_REQUEST_BYTES,
    MAX_RESULTS_PER_EXCHANGE,
)
from einthoven_server import limits
from einthoven_server.errors import Busy
from einthoven_server.memory_in_flight import Budget, lends, loan_of


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 150)), max_size=30))
def test_loans_never_add_up_to_more_than_the_budget(steps: list[tuple[int, int]]) -> None:
    budget = Budget(most_bytes=100, light_bytes=10, heavy_share=Fraction(4, 5))
    held = [0, 0, 0, 0]
    with budget.loan() as a, budget.loan() as b, budget.loan() as c, budget.loan() as d:
        for who, size in steps:
            rest = sum(held) - held[who]
            fits = size <= held[who] or rest + size <= (100 if size <= 10 else 80)
            try:
                (a, b, c, d)[who].resize(size)
            except Busy:
                assert not fits
            else:
                assert fits
                held[who] = size
            assert budget.lent_bytes == sum(held) <= 100
    assert budget.lent_bytes == 0


def test_heavy_loans_keep_no_light_one_out() -> None:
    budget = Budget(most_bytes=100, light_bytes=10, heavy_share=Fraction(4, 5))
    with budget.loan() as heavy, budget.loan() as light:
        heavy.take(40)
        heavy.take(40)
        with pytest.raises(Busy) as refused:
            heavy.take(1)
        assert refused.value.retry_after_s > 0
        light.take(10)
        with pytest.raises(Busy):
            light.take(1)
        assert budget.lent_bytes == 90


async def test_a_request_gives_its_loan_back_however_it_ends() -> None:
    budget = Budget()
    lent = []

    async def handler(request: web.Request) -> web.Response:
        loan_of(request).take(1_000)
        lent.append(budget.lent_bytes)
        if len(lent) == 2:
            raise Busy("no", "later", 1)
        return web.Response()

    await lends(budget)(make_mocked_request("POST", "/"), handler)
    with pytest.raises(Busy):
        await lends(budget)(make_mocked_request("POST", "/"), handler)
    assert (lent, budget.lent_bytes) == ([1_000, 1_000], 0)
    # An application that runs alone lends to each request by itself.
    with pytest.raises(Busy):
        loan_of(make_mocked_request("POST", "/")).take(limits.IN_FLIGHT_MAX_BYTES + 1)


def test_the_largest_lawful_message_fits_beside_others() -> None:
    rows = MAX_RESULTS_PER_EXCHANGE + MAX_ALERTS_PER_EXCHANGE
    words = MAX_ANNOTATIONS_PER_EXCHANGE + MAX_NOTES_PER_EXCHANGE
    largest = MAX_REQUEST_BYTES + rows * limits.ROW_IN_FLIGHT_BYTES + words * limits.WORD_IN_FLIGHT_BYTES
    assert 4 * largest <= limits.IN_FLIGHT_MAX_BYTES * limits.IN_FLIGHT_HEAVY_SHARE
