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
    AnnotationVerdict,
    BucketDigest,
    BucketKind,
    Cursor,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    NoteRow,
    Owner,
    RejectReason,
    ResultId,
    ResultRow,
    RowKind,
    RowVerdict,
    Superseded,
    Tombstone,
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


def test_5_changes_with_a_cursor_that_stood_still(push: ExchangeRequest, an_annotation: AnnotationRow) -> None:
    for response in (answer(annotations=(an_annotation,)), answer(more=True)):
        with pytest.raises(InconsistentExchange, match="stood still"):
            check_response(push, response)


NOTE = NoteRow(device_alias=7, epoch=1, counter=4, author="p-1", at_ms=0, text="dizzy")
RESULT = ResultId(9, 2, 5)
LOSER = Superseded(RESULT, "p-1", 1, 3, "A")
GONE = Tombstone(RowKind.NOTE, 9, 2, 4)
DOCUMENT = Document(name="settings/x", version=1, issued_at_ms=0, body=b"{}", signature=b"s")
WORDS = BucketDigest(7, BucketKind.WORDS, 1, 5)


@pytest.fixture
def fed(device_results: Callable[[int], tuple[ResultRow, ...]]) -> dict[str, Any]:
    """A row of each table that the feed has."""
    return {
        "results": IdentifiedResult(device_alias=9, epoch=2, row=device_results(1)[0]),
        "notes": NOTE,
        "superseded": LOSER,
        "tombstones": GONE,
        "documents": DOCUMENT,
    }


def test_2_notes_are_held_to_the_same(push: ExchangeRequest) -> None:
    push = msgspec.structs.replace(push, notes=(NOTE, msgspec.structs.replace(NOTE, counter=5)))
    for mark in (3, 4, 5):
        check_response(push, answer(notes_acknowledged=mark))
    with pytest.raises(InconsistentExchange, match="notes that were not pushed"):
        check_response(push, answer(notes_acknowledged=6))
    with pytest.raises(InconsistentExchange, match="forgot notes"):
        check_response(push, answer(notes_acknowledged=2))
    check_response(push, answer(notes_acknowledged=0, acknowledged=0, cursor=Cursor(4, 0)))


def test_4_refusals_of_what_was_pushed(push: ExchangeRequest, an_annotation: AnnotationRow) -> None:
    deletion = Tombstone(RowKind.NOTE, 7, 1, 40)
    push = msgspec.structs.replace(push, notes=(NOTE,), annotations=(an_annotation,), deletions=(deletion,))
    target = an_annotation.target
    annotation = AnnotationVerdict(
        RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, an_annotation.author, 5
    )
    note = AnnotationVerdict(RowKind.NOTE, 7, 1, 4, "", RejectReason.CONFLICTS_WITH_STORED)
    gone = AnnotationVerdict(RowKind.NOTE, 7, 1, 40, "", RejectReason.NOT_ALLOWED)
    check_response(push, answer(notes_acknowledged=4, refused=(annotation, note, gone)))
    for refused, mark in (
        ((msgspec.structs.replace(annotation, author="p-9"),), 4),
        ((msgspec.structs.replace(note, counter=5),), 4),
        ((msgspec.structs.replace(gone, kind=RowKind.ANNOTATION),), 4),
        ((note,), 3),  # not settled
        ((gone, gone), 4),
    ):
        with pytest.raises(InconsistentExchange, match="refused what was not pushed"):
            check_response(push, answer(notes_acknowledged=mark, refused=refused))


def test_5_rows_of_any_kind_with_a_cursor_that_stood_still(push: ExchangeRequest, fed: dict[str, Any]) -> None:
    for name, row in fed.items():
        check_response(push, answer(cursor=Cursor(3, 101), **{name: (row,)}))
        with pytest.raises(InconsistentExchange, match="stood still"):
            check_response(push, answer(**{name: (row,)}))


def test_5_owners_and_digests_need_no_cursor(push: ExchangeRequest) -> None:
    check_response(push, answer(owners=(Owner(7, bytes(32)),), digests=(WORDS,), rebaseline=True))


def test_6_rows_of_any_kind_that_come_twice(push: ExchangeRequest, fed: dict[str, Any]) -> None:
    for name, row in (fed | {"owners": Owner(7, bytes(32)), "digests": WORDS}).items():
        with pytest.raises(InconsistentExchange, match="twice"):
            check_response(push, answer(cursor=Cursor(3, 101), **{name: (row, row)}))


def test_6_the_own_digest_of_records_comes_once(push: ExchangeRequest) -> None:
    with pytest.raises(InconsistentExchange, match="a digest twice"):
        check_response(push, answer(digests=(BucketDigest(7, BucketKind.RECORDS, 1, 5),)))
    check_response(push, answer(digests=(BucketDigest(9, BucketKind.RECORDS, 1, 5),)))


def test_6_a_document_of_the_patient_may_be_named_as_one_of_the_tenant(push: ExchangeRequest) -> None:
    other = msgspec.structs.replace(DOCUMENT, signature=b"t")
    check_response(push, answer(cursor=Cursor(3, 101), documents=(DOCUMENT, other)))


def test_6_an_annotation_that_comes_twice(push: ExchangeRequest, an_annotation: AnnotationRow) -> None:
    with pytest.raises(InconsistentExchange, match="twice"):
        check_response(push, answer(cursor=Cursor(3, 101), annotations=(an_annotation, an_annotation)))


@given(request=..., response=..., same_place=st.booleans())
def test_nothing_else_is_raised(request: ExchangeRequest, response: ExchangeResponse, same_place: bool) -> None:
    if same_place:
        response = msgspec.structs.replace(response, cursor=request.cursor)
    with contextlib.suppress(InconsistentExchange):
        check_response(request, response)
