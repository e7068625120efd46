"""The plan of a repair: whatever differs, it ends, with equal sets, in as few round trips as were promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.einthoven_protocol.repair_sides import (
    OWNER,
    Side,
    annotation,
    answer,
    mend,
    note,
    result,
    superseded,
)

from einthoven_protocol import limits, repair
from einthoven_protocol.errors import InconsistentExchange
from einthoven_protocol.messages import BucketKind, Digest, RepairRequest, RepairResponse, Run
from einthoven_protocol.repair import RepairPlan, Standing

RESULTS = tuple(result(counter) for counter in range(1, 3_001))


def standing(side: Side, session: bytes = bytes(16)) -> Standing:
    return Standing(side.shares(), side.digest(), session)


def assert_mended(device: Side, server: Side, settled: bool) -> None:
    assert settled
    assert device.rows == server.rows


def test_equal_digests_ask_nothing() -> None:
    done = mend(Side.of(RESULTS[:5]), Side.of(RESULTS[:5]))
    assert done.settled
    assert not done.pairs


def test_what_the_server_alone_has_takes_one_round_trip() -> None:
    device, server = Side.of(RESULTS[::2], RESULTS[1:2_900:2]), Side.of(RESULTS)
    done = mend(device, server)
    assert_mended(device, server, done.settled)
    assert len(done.pairs) == 1
    assert done.pairs[0][1].differences == 50


def test_scattered_differences_on_both_sides_take_three() -> None:
    lacks, lost = RESULTS[20:2_520:50], RESULTS[10:2_510:50]
    device = Side.of(row for row in RESULTS if row not in lacks)
    server = Side.of(row for row in RESULTS if row not in lost)
    done = mend(device, server, gives=False)
    assert_mended(device, server, done.settled)
    (first, undecoded), (second, decoded) = done.pairs
    assert len(first.symbols) == 24 * 6
    assert undecoded.decoded == 2
    assert 50 < undecoded.differences < 200
    assert len(second.symbols) > len(first.symbols)
    assert not second.sketch
    assert first.session != second.session
    assert decoded.differences == 100
    assert len(decoded.absent) == len(decoded.results) == 50


def test_power_sums_find_what_is_missing_on_both_sides_in_one() -> None:
    lacks, lost = RESULTS[20:2_520:50], RESULTS[10:2_510:50]
    device = Side.of(row for row in RESULTS if row not in lacks)
    server = Side.of(row for row in RESULTS if row not in lost)
    done = mend(device, server, gives=False, takes_powers=True)
    assert_mended(device, server, done.settled)
    ((request, response),) = done.pairs
    assert (len(request.powers), request.symbols, len(request.sketch)) == (128 * 4, b"", 80)
    assert (response.decoded, response.differences) == (1, 100)
    assert len(response.absent) == len(response.results) == 50


@pytest.mark.parametrize("n_differ", [160, 400])
def test_too_few_power_sums_are_followed_by_more_or_by_symbols(n_differ: int) -> None:
    lacks, lost = RESULTS[:n_differ:2], RESULTS[1:n_differ:2]
    device = Side.of(row for row in RESULTS if row not in lacks)
    server = Side.of(row for row in RESULTS if row not in lost)
    done = mend(device, server, gives=False, takes_powers=True)
    assert_mended(device, server, done.settled)
    (first, undecoded), *rest = done.pairs
    assert undecoded.decoded == 2
    assert 0.5 * n_differ < undecoded.differences < 2 * n_differ
    assert len(first.powers) == 4 * 128
    assert not rest[0][0].sketch
    more = [len(request.powers) // 4 for request, _ in rest]
    if n_differ == 160:
        assert 192 <= more[0] <= 256
    else:
        assert not any(more)
        assert all(request.symbols for request, _ in rest)
    assert len(done.pairs) <= 3


def test_power_sums_are_not_asked_for_where_they_are_too_much_work() -> None:
    plan = RepairPlan(OWNER, OWNER, BucketKind.RECORDS, Digest(limits.MAX_POWERS_WORK // 128 + 1, 5), takes_powers=True)
    few = Side.of(RESULTS[:10])
    large = Digest(limits.MAX_POWERS_WORK // 128, 7)
    request = plan.next(Standing(few.shares(), large, bytes(16)))
    assert request is not None
    assert request.symbols
    assert not request.powers


def test_what_lies_outside_of_all_the_server_holds_needs_no_symbols_to_be_seen() -> None:
    device, server = Side.of(RESULTS[:2_950]), Side.of(RESULTS[50:])
    done = mend(device, server, gives=False)
    assert_mended(device, server, done.settled)
    assert [response.differences for _, response in done.pairs][1:] == [50]
    assert done.pairs[0][1].held == (Run(1, 51, 3_000),)


def test_what_the_server_lost_is_given_last() -> None:
    device, server = Side.of(RESULTS[:20]), Side.of(RESULTS[4:24])
    done = mend(device, server)
    assert_mended(device, server, done.settled)
    assert device.rows.keys() >= Side.of(RESULTS[:24]).rows.keys()
    assert [len(request.given) for request, _ in done.pairs] == [0, 3, 1]
    assert all(not request.symbols for request, _ in done.pairs[1:])


def test_known_holes_are_fetched_by_runs_at_once() -> None:
    device, server = Side.of(RESULTS[:500], RESULTS[600:2_500]), Side.of(RESULTS)
    done = mend(device, server, missing=[Run(1, 2_501, 3_000), Run(1, 501, 600)])
    assert_mended(device, server, done.settled)
    ((request, response),) = done.pairs
    assert request.wanted == (Run(1, 501, 600), Run(1, 2_501, 3_000))
    assert not request.symbols
    assert len(response.results) == 600


def test_more_holes_than_one_request_holds() -> None:
    n_holes = 2 * limits.MAX_RUNS_PER_REPAIR + 10
    everything = [result(counter) for counter in range(1, 2 * n_holes + 1)]
    device, server = Side.of(everything[1::2]), Side.of(everything)
    missing = [Run(1, counter, counter) for counter in range(1, 2 * n_holes, 2)]
    done = mend(device, server, missing=missing)
    assert_mended(device, server, done.settled)
    assert [len(request.wanted) for request, _ in done.pairs] == [2_000, 2_000, 10]


def test_a_hole_that_the_server_has_too_leaves_the_digests_to_decide() -> None:
    device, server = Side.of(RESULTS[:10]), Side.of(RESULTS[:10], RESULTS[12:14])
    done = mend(device, server, missing=[Run(1, 11, 12)])
    assert_mended(device, server, done.settled)
    assert [bool(request.symbols) for request, _ in done.pairs] == [False, True]


def test_too_many_differences_make_a_snapshot() -> None:
    words = [annotation(counter, comment="x") for counter in range(1, 1_201)]
    device = Side.of(RESULTS[:900], (result(5, epoch=9),), words[::3], [annotation(4, "p-2")])
    server = Side.of(RESULTS, (result(1, epoch=4), result(2, epoch=4)), words)
    done = mend(device, server, gives=False)
    assert_mended(device, server, done.settled)
    asked = [request for request, _ in done.pairs]
    assert not any(request.symbols for request in asked)
    # First which epochs there are, then all of them, then the rest of the other rows, page by page.
    assert (asked[0].wanted, asked[0].page) == ((), -1)
    assert done.pairs[0][1].held == (Run(1, 1, 3_000), Run(4, 1, 2))
    assert (asked[1].wanted, asked[1].page) == (done.pairs[0][1].held, 0)
    assert [request.page for request in asked[2:]] == [499, 998]


def test_a_snapshot_goes_on_behind_the_last_result() -> None:
    many = [result(counter, epoch) for epoch in (1, 2) for counter in range(1, 7_001)]
    device, server = Side.of(many[:100]), Side.of(many, [annotation(3)])
    done = mend(device, server)
    assert_mended(device, server, done.settled)
    assert [request.wanted for request, _ in done.pairs[1:]] == [
        (Run(1, 1, 7_000), Run(2, 1, 7_000)),
        (Run(2, 3_001, 7_000),),
    ]


def test_an_empty_device_and_an_empty_server() -> None:
    device, server = Side.of(), Side.of(RESULTS[:300])
    assert_mended(device, server, mend(device, server).settled)
    device, server = Side.of(RESULTS[:300]), Side.of()
    assert_mended(device, server, mend(device, server, gives=False).settled)
    assert not device.rows
    device, server = Side.of(RESULTS[:9]), Side.of()
    assert_mended(device, server, mend(device, server).settled)
    assert len(server.rows) == 9


def test_words_are_mended_like_records() -> None:
    notes = [note(counter) for counter in range(1, 351)]
    losers = [superseded(counter) for counter in range(1, 351)]
    for device, server in (
        (Side.of(notes[:-9], losers), Side.of(notes, losers[:-3])),
        (Side.of(), Side.of(notes, losers)),
        (Side.of(notes, losers), Side.of(notes[:100])),
    ):
        done = mend(device, server, BucketKind.WORDS)
        assert_mended(device, server, done.settled)
        assert not any(request.wanted or request.given for request, _ in done.pairs)


def test_more_differences_than_one_answer_holds() -> None:
    words = [annotation(counter) for counter in range(1, 1_001)]
    device, server = Side.of(RESULTS), Side.of(RESULTS, words)
    done = mend(device, server)
    assert_mended(device, server, done.settled)
    assert [response.more for _, response in done.pairs] == [True, False]


@given(
    n=st.integers(0, 60),
    lacks=st.sets(st.integers(0, 59)),
    lost=st.sets(st.integers(0, 59)),
    edited=st.sets(st.integers(0, 59), max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_any_two_sets_are_mended(n: int, lacks: set[int], lost: set[int], edited: set[int]) -> None:
    words = [annotation(counter + 1, comment="server" if counter in edited else "") for counter in range(n)]
    mine = [annotation(counter + 1) for counter in range(n)]
    device = Side.of([row for place, row in enumerate(RESULTS[:n]) if place not in lacks], mine)
    server = Side.of([row for place, row in enumerate(RESULTS[:n]) if place not in lost], words)
    done = mend(device, server)
    assert_mended(device, server, done.settled)
    assert len(done.pairs) <= 30


# ---- what can't be mended ----------------------------------------------------------------------------------------


def test_a_device_that_can_not_take_what_comes_gives_up() -> None:
    device, server = Side.of(RESULTS[:30]), Side.of(RESULTS[10:40])
    plan = RepairPlan(OWNER, OWNER, BucketKind.RECORDS, server.digest())
    asked: list[RepairRequest] = []
    decoded = 0
    while (request := plan.next(standing(device, len(asked).to_bytes(16, "big")))) is not None:
        asked.append(request)
        response = answer(server, request)
        decoded += response.decoded == 1
        plan.take(response)
    assert not plan.settled
    assert plan.round_trips == len(asked) <= repair.MAX_TRIES
    assert decoded == repair.MAX_FRUITLESS
    assert all(request.symbols for request in asked)


def test_a_server_that_contradicts_itself_is_left_after_a_snapshot() -> None:
    device, server = Side.of(RESULTS[:30]), Side.of(RESULTS[:31])
    plan = RepairPlan(OWNER, OWNER, BucketKind.RECORDS, Digest(31, 1))
    asked: list[RepairRequest] = []
    while (request := plan.next(standing(device, len(asked).to_bytes(16, "big")))) is not None:
        asked.append(request)
        response = structs.replace(answer(server, request), digest=Digest(31, 1))
        if request.symbols:
            response = structs.replace(response, decoded=2, absent=(), results=(), differences=1, held=(Run(1, 1, 31),))
        plan.take(response)
    assert not plan.settled
    assert plan.round_trips == len(asked) == 2 * repair.MAX_TRIES + 1
    assert sum(request.page >= 0 for request in asked) == 1


def test_a_server_that_never_decodes_leads_to_a_snapshot() -> None:
    device, server = Side.of(RESULTS[:300]), Side.of(RESULTS[1:300])
    plan = RepairPlan(OWNER, OWNER, BucketKind.RECORDS, server.digest())
    numbers = []
    while (request := plan.next(standing(device))) is not None:
        response = answer(server, request)
        if request.symbols:
            numbers.append(len(request.symbols) // 6)
            response = structs.replace(
                response, decoded=2, absent=(), results=(), differences=0, held=(Run(1, 2, 300),)
            )
        plan.take(response)
        if request.wanted:
            device.rows = dict(server.rows)
    assert plan.settled
    assert numbers == [26, 104, 416, 1_664, 6_656]


def test_symbols_end_at_their_limit() -> None:
    plan = RepairPlan(OWNER, OWNER, BucketKind.WORDS, Digest(40_000, 1))
    side = Standing(np.zeros((40_000, 16), np.uint8), Digest(40_000, 2), bytes(16))
    unable = RepairResponse(decoded=2, differences=11_900, digest=Digest(40_000, 1))
    numbers = []
    for _ in range(4):
        request = plan.next(side)
        assert request is not None
        numbers.append(len(request.symbols) // 6)
        if request.page >= 0:
            break
        plan.take(unable)
    assert numbers == [24, 16_384, 0]


def test_a_server_that_sends_for_ever_is_left() -> None:
    plan = RepairPlan(OWNER, OWNER, BucketKind.WORDS, Digest(900, 1))
    side = Standing(np.zeros((0, 16), np.uint8), Digest(0, 0), bytes(16))
    endless = tuple(note(counter) for counter in (1, 2))
    asked = 0
    while plan.next(side) is not None:
        asked += 1
        assert asked < 100
        plan.take(RepairResponse(notes=endless, more=True, digest=Digest(900, 1)))
    assert not plan.settled


def test_an_answer_comes_after_a_request_and_is_checked() -> None:
    plan = RepairPlan(OWNER, OWNER, BucketKind.RECORDS, Digest(2, 1))
    with pytest.raises(ValueError, match="after a request"):
        plan.take(RepairResponse())
    assert plan.next(standing(Side.of(RESULTS[:2]))) is not None
    with pytest.raises(InconsistentExchange):
        plan.take(RepairResponse())
