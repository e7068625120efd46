"""Answers to a repair that don't add up are refused whole; what the server lacks is read from those that do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.einthoven_protocol.repair_sides import OWNER, Side, annotation, note, result, superseded

from einthoven_protocol import riblt
from einthoven_protocol.errors import InconsistentExchange
from einthoven_protocol.messages import BucketKind, Digest, RepairRequest, RepairResponse, Run
from einthoven_protocol.repair_checks import absent_places, check_repair_response

BARE = RepairRequest(device_alias=OWNER, owner=OWNER, kind=BucketKind.RECORDS)
HELD = (Run(1, 1, 9),)


def asked(**fields: Any) -> RepairRequest:
    return RepairRequest(**{"device_alias": OWNER, "owner": OWNER, "kind": BucketKind.RECORDS} | fields)


SYMBOLS = asked(session=bytes(16), symbols=bytes(60))
RUNS = asked(wanted=(Run(1, 3, 6), Run(2, 1, 2)))
PAGE = asked(page=0)
WORDS = asked(kind=BucketKind.WORDS, page=0)
ALIEN = asked(owner=OWNER + 1, wanted=(Run(1, 1, 9),), page=0)


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (BARE, RepairResponse()),
        (BARE, RepairResponse(held=HELD, digest=Digest(9, 1))),
        (SYMBOLS, RepairResponse(decoded=1, differences=3, absent=(1, 2), results=(result(8),))),
        (SYMBOLS, RepairResponse(decoded=2, differences=99, held=HELD, digest=Digest(9, 1))),
        (SYMBOLS, RepairResponse(decoded=1, differences=900, annotations=(annotation(1),), more=True)),
        (RUNS, RepairResponse(results=(result(3), result(5), result(2, 2)), held=HELD, more=True)),
        (PAGE, RepairResponse(annotations=(annotation(1), annotation(1, "p-2")))),
        (WORDS, RepairResponse(notes=(note(1), note(2)), superseded=(superseded(1),))),
        (asked(given=(result(1),)), RepairResponse(verdicts=(2,), held=HELD)),
    ],
)
def test_what_adds_up_is_taken(request_: RepairRequest, response: RepairResponse) -> None:
    check_repair_response(request_, response)


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (SYMBOLS, RepairResponse(decoded=0)),
        (SYMBOLS, RepairResponse(decoded=3)),
        (BARE, RepairResponse(decoded=1)),
        (SYMBOLS, RepairResponse(decoded=2, absent=(1,))),
        (BARE, RepairResponse(absent=(1,))),
        (SYMBOLS, RepairResponse(decoded=1, differences=2, absent=(2, 1))),
        (SYMBOLS, RepairResponse(decoded=1, differences=2, absent=(1, 1))),
        (SYMBOLS, RepairResponse(decoded=1, differences=1, absent=(1, 2))),
        (SYMBOLS, RepairResponse(decoded=1, differences=99, absent=tuple(range(11)))),
        (BARE, RepairResponse(results=(result(1),))),
        (RUNS, RepairResponse(results=(result(7),))),
        (RUNS, RepairResponse(results=(result(3, 2),))),
        (RUNS, RepairResponse(results=(result(4), result(3)))),
        (RUNS, RepairResponse(results=(result(4), result(4)))),
        (ALIEN, RepairResponse(results=(result(4),))),
        (ALIEN, RepairResponse(annotations=(annotation(4),))),
        (asked(kind=BucketKind.WORDS, owner=OWNER + 1, page=0), RepairResponse(notes=(note(4),))),
        (asked(kind=BucketKind.WORDS, owner=OWNER + 1, page=0), RepairResponse(superseded=(superseded(4),))),
        (WORDS, RepairResponse(annotations=(annotation(4),))),
        (asked(kind=BucketKind.WORDS, wanted=(Run(1, 1, 9),)), RepairResponse(results=(result(4),))),
        (PAGE, RepairResponse(notes=(note(4),))),
        (PAGE, RepairResponse(annotations=(annotation(2), annotation(1)))),
        (PAGE, RepairResponse(annotations=(annotation(1), annotation(1)))),
        (WORDS, RepairResponse(notes=(note(2), note(1)))),
        (RUNS, RepairResponse(annotations=(annotation(4),))),
        (asked(given=(result(1),)), RepairResponse()),
        (BARE, RepairResponse(verdicts=(0,))),
        (PAGE, RepairResponse(more=True)),
        (asked(page=5), RepairResponse(annotations=(annotation(1),), more=True)),
        (BARE, RepairResponse(held=(Run(2, 1, 1), Run(1, 1, 1)))),
        (BARE, RepairResponse(held=(Run(1, 1, 1), Run(1, 3, 4)))),
    ],
)
def test_what_does_not_add_up_is_refused(request_: RepairRequest, response: RepairResponse) -> None:
    with pytest.raises(InconsistentExchange, match="nothing was applied"):
        check_repair_response(request_, response)


@pytest.mark.parametrize("request_", [BARE, SYMBOLS])
def test_a_bucket_may_hold_words_and_no_result(request_: RepairRequest) -> None:
    check_repair_response(request_, RepairResponse(decoded=2 if request_ is SYMBOLS else 0, digest=Digest(1, 1)))


# ---- what the server lacks ---------------------------------------------------------------------------------------

DEVICE = Side.of([result(c) for c in range(1, 11)], [result(1, 2)], [annotation(c) for c in (2, 4, 6, 8)])


def lacking(request: RepairRequest, response: RepairResponse, side: Side = DEVICE) -> list[int]:
    places: list[int] = absent_places(request, response, side.shares(), side.ids(), side.others()).tolist()
    return places


def test_absent_items_are_rows() -> None:
    items = riblt.items(bytes(16), DEVICE.shares()).tolist()
    response = RepairResponse(decoded=1, differences=3, absent=tuple(sorted((items[3], items[12], 5))))
    assert lacking(SYMBOLS, response) == [3, 12]


def test_results_outside_of_what_is_held_are_lacking() -> None:
    assert lacking(BARE, RepairResponse(held=(Run(1, 2, 9),))) == [0, 9, 10]
    assert lacking(SYMBOLS, RepairResponse(decoded=2, held=(Run(1, 1, 10), Run(2, 1, 1)))) == []
    # Decoded symbols say it all by themselves, and of words nothing is said this way.
    assert lacking(SYMBOLS, RepairResponse(decoded=1)) == []
    words = Side.of([note(1)])
    assert lacking(asked(kind=BucketKind.WORDS), RepairResponse(), words) == []


ALL = (Run(1, 1, 99), Run(2, 1, 9))


def test_results_of_a_run_that_are_not_named_are_lacking() -> None:
    named = RepairResponse(held=ALL, results=(result(3), result(5)))
    assert lacking(RUNS, named) == [3, 5, 10]


def test_of_an_answer_that_is_cut_only_the_beginning_counts() -> None:
    cut = RepairResponse(held=ALL, results=(result(3), result(5)), more=True)
    assert lacking(RUNS, cut) == [3]
    # Other rows come behind all results: so those are whole.
    others = RepairResponse(held=ALL, results=(result(3), result(5)), annotations=(annotation(2),), more=True)
    assert lacking(asked(wanted=RUNS.wanted, page=0), others) == [3, 5, 10]


@pytest.mark.parametrize(
    ("page", "named", "more", "expected"),
    [
        (0, (), False, [2, 4, 6, 8]),
        (0, (2, 8), False, [4, 6]),
        (0, (2, 6), True, [4]),
        (1, (4, 8), False, [6]),
        (1, (4,), False, [6, 8]),
        (1, (3, 5), True, [4]),
        (5, (), False, []),
    ],
)
def test_other_rows_of_a_page_that_are_not_named_are_lacking(
    page: int, named: tuple[int, ...], more: bool, expected: list[int]
) -> None:
    response = RepairResponse(held=ALL, annotations=tuple(map(annotation, named)), more=more)
    others = [place - 11 for place in lacking(asked(page=page), response)]
    assert [DEVICE.others()[place].target.counter for place in others] == expected  # type: ignore[union-attr]


def test_an_edited_annotation_is_not_lacking() -> None:
    response = RepairResponse(held=ALL, annotations=tuple(annotation(c, comment="new") for c in (2, 4, 6, 8)))
    assert lacking(PAGE, response) == []


def test_a_store_that_is_empty_lacks_nothing() -> None:
    assert lacking(PAGE, RepairResponse(held=ALL, annotations=(annotation(1),)), Side.of()) == []
    assert absent_places(BARE, RepairResponse(), np.empty((0, 16), np.uint8), np.empty((0, 2), np.int64)).tolist() == []
