"""A response that does not add up with its request is refused, one invariant at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol.errors import InconsistentExchange
from einthoven_protocol.exchange import check_response
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    ResultRow,
    RowVerdict,
)

AT = Cursor(3, 100)


@pytest.fixture
def push(device_results: Callable[[int], tuple[ResultRow, ...]]) -> ExchangeRequest:
    """Results 11 to 20, from cursor (3, 100)."""
    return ExchangeRequest(device_alias=7, epoch=1, results=device_results(20)[10:], cursor=AT)


def answer(**changes: Any) -> ExchangeResponse:
    return msgspec.structs.replace(ExchangeResponse(acknowledged=20, cursor=AT), **changes)


def test_answers_that_add_up(push: ExchangeRequest, an_annotation: AnnotationRow) -> None:
    for response in (
        answer(),
        answer(acknowledged=10),  # nothing taken yet: the server is busy
        answer(acknowledged=15, verdicts=(RowVerdict(12, 1, 0), RowVerdict(15, 2, 1))),
        answer(verdicts=tuple(RowVerdict(n, 3, 4) for n in range(11, 21))),
        answer(cursor=Cursor(3, 101), annotations=(an_annotation,), more=True),
        answer(cursor=Cursor(4, 0), acknowledged=0),  # another server took over, and asks for everything again
    ):
        check_response(push, response)


def test_without_a_push_the_server_says_what_it_holds() -> None:
    for acknowledged in (0, 1, 10**6):
        check_response(ExchangeRequest(device_alias=7, epoch=1), ExchangeResponse(acknowledged=acknowledged))


@pytest.mark.parametrize("cursor", [Cursor(3, 99), Cursor(2, 10**9), Cursor(0, 0)])
def test_1_a_cursor_that_goes_back(push: ExchangeRequest, cursor: Cursor) -> None:
    with pytest.raises(InconsistentExchange, match="cursor went back"):
        check_response(push, answer(cursor=cursor))


def test_2_acknowledged_beyond_the_push(push: ExchangeRequest) -> None:
    with pytest.raises(InconsistentExchange, match="not pushed"):
        check_response(push, answer(acknowledged=21))


@pytest.mark.parametrize("acknowledged", [0, 9])
def test_2_acknowledged_before_the_push(push: ExchangeRequest, acknowledged: int) -> None:
    with pytest.raises(InconsistentExchange, match="forgot"):
        check_response(push, answer(acknowledged=acknowledged))


@pytest.mark.parametrize(
    ("verdicts", "acknowledged"),
    [
        ((RowVerdict(10, 2, 1),), 20),  # before the push
        ((RowVerdict(21, 2, 1),), 20),  # after it
        ((RowVerdict(16, 2, 1),), 15),  # not settled
        ((RowVerdict(13, 2, 1), RowVerdict(12, 2, 1)), 20),  # out of order
        ((RowVerdict(12, 2, 1), RowVerdict(12, 3, 1)), 20),  # twice
    ],
)
def test_3_verdicts_on_rows_that_were_not_settled(
    push: ExchangeRequest, verdicts: tuple[RowVerdict, ...], acknowledged: int
) -> None:
    with pytest.raises(InconsistentExchange, match="verdict"):
        check_response(push, answer(verdicts=verdicts, acknowledged=acknowledged))


def test_3_a_verdict_without_a_push() -> None:
    with pytest.raises(InconsistentExchange, match="verdict"):
        check_response(
            ExchangeRequest(device_alias=7, epoch=1), ExchangeResponse(acknowledged=5, verdicts=(RowVerdict(3, 2, 1),))
        )


def test_4_changes_with_a_cursor_that_stood_still(push: ExchangeRequest, an_annotation: AnnotationRow) -> None:
    for response in (answer(annotations=(an_annotation,)), answer(more=True)):
        with pytest.raises(InconsistentExchange, match="stood still"):
            check_response(push, response)


def test_5_an_annotation_that_comes_twice(push: ExchangeRequest, an_annotation: AnnotationRow) -> None:
    with pytest.raises(InconsistentExchange, match="twice"):
        check_response(push, answer(cursor=Cursor(3, 101), annotations=(an_annotation, an_annotation)))


@given(request=..., response=..., same_place=st.booleans())
def test_nothing_else_is_raised(request: ExchangeRequest, response: ExchangeResponse, same_place: bool) -> None:
    if same_place:
        response = msgspec.structs.replace(response, cursor=request.cursor)
    with contextlib.suppress(InconsistentExchange):
        check_response(request, response)
