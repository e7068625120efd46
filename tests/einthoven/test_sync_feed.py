"""The engine against a server of the present version: lanes, what comes down, differences mended, progress."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from tests.contracts.conftest import window
from tests.einthoven.feed_server import FeedServer
from tests.einthoven.test_syncing import IDENTITY, NOW, SYNC_KEY, HonestServer, ScriptedTransport

from einthoven.clock import FixedClock
from einthoven.errors import ServerUnreachable, SyncError
from einthoven.identity import save_identity
from einthoven.noting import add_note, delete_note, note_name
from einthoven.result_rows import to_row
from einthoven.results import RiskTier
from einthoven.store_memory import MemoryStore
from einthoven.sync_report import Purpose, SyncProgress, SyncReport
from einthoven.syncing import sync
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Capability,
    ExchangeRequest,
    ExchangeResponse,
    NoteRow,
    Register,
    RejectReason,
    ResultId,
    ResultRow,
    RowVerdict,
    ServerLimits,
    VerdictCode,
)

OTHER = 8
KEYS = {7: SYNC_KEY, OTHER: b"o" * 32}
CLOCK = FixedClock(NOW)


def a_device(n: int = 0, urgent: frozenset[int] = frozenset()) -> MemoryStore:
    store = MemoryStore()
    for seed in range(n):
        result, segment = window(seed)
        tier = RiskTier.URGENT if seed in urgent else result.tier
        store.append_window(replace(result, tier=tier), segment)
    save_identity(store, IDENTITY, SYNC_KEY)
    return store


def a_row(counter: int) -> ResultRow:
    return msgspec.structs.replace(to_row(window(10_000 + counter)[0]), counter=counter)


def a_server(n_others: int = 0, **more: object) -> FeedServer:
    server = FeedServer(dict(KEYS), **more)  # type: ignore[arg-type]
    for counter in range(1, n_others + 1):
        server.put(OTHER, 1, a_row(counter))
    return server


async def run(store: MemoryStore, server: FeedServer, **more: object) -> SyncReport:
    return await sync(store, transport=server, clock=CLOCK, **more)  # type: ignore[arg-type]


async def test_results_of_another_device_come_down_and_both_sides_are_equal() -> None:
    store, server = a_device(3), a_server(1_000)
    report = await run(store, server)
    assert (report.results_up, report.results_down, report.state.last_digest_equal) == (3, 1_000, True)
    assert len(store.replicas(0, NOW * 2, limit=2_000)) == 1_000
    again = await run(store, server)
    assert (again.round_trips, again.results_down, again.repair_round_trips) == (1, 0, 0)
    assert [one.purpose for one in again.traffic] == [Purpose.NEWS]


async def test_a_device_that_took_anothers_place_is_asked_about_in_the_same_sync() -> None:
    """As many owners as before, so the server does not say of its own accord that there is another."""
    store, server = a_device(), a_server()
    await run(store, server)
    server.keys = {7: SYNC_KEY, 9: b"n" * 32}
    server.put(9, 1, a_row(1))
    report = await run(store, server)
    assert (report.round_trips, report.results_down, report.state.last_digest_equal) == (2, 1, True)
    assert [one.device_alias for one in store.replicas(0, NOW * 2)] == [9]


async def test_what_does_not_fit_one_answer_comes_in_pages() -> None:
    store, server = a_device(), a_server(95, page=10)
    report = await run(store, server)
    assert (report.results_down, report.round_trips) == (95, 10)
    assert report.state.last_digest_equal is True


async def test_an_urgent_result_behind_a_backlog_is_in_the_first_request_that_pushes() -> None:
    store, server = a_device(300, urgent=frozenset({250})), a_server()
    report = await run(store, server, max_results=100)
    greeting, first, *others = server.exchanges
    assert (greeting.results, greeting.alerts) == ((), ())
    assert [row.counter for row in first.alerts] == [251]
    assert len(first.results) == 100
    assert all(not request.alerts for request in others)
    assert (report.results_up, report.alerts_up, report.state.waiting) == (300, 1, 0)
    for seed in range(300, 500):
        result, segment = window(seed)
        store.append_window(replace(result, tier=RiskTier.URGENT if seed == 499 else result.tier), segment)
    server.exchanges.clear()
    await run(store, server, max_results=100)
    assert [row.counter for row in server.exchanges[0].alerts] == [500], "a server that is known needs no greeting"


class HoldsAnother(FeedServer):
    """Holds another row under the device's first counter of epoch 1; and its second answer takes its time."""

    store: MemoryStore

    def exchange(self, request: ExchangeRequest) -> ExchangeResponse:
        if len(self.exchanges) == 2:
            result, segment = window(77)
            self.store.append_window(replace(result, tier=RiskTier.URGENT), segment)
        if request.epoch != 1 or not request.results:
            return super().exchange(request)
        answer = super().exchange(msgspec.structs.replace(request, results=(), seals=()))
        conflict = RowVerdict(1, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
        return msgspec.structs.replace(answer, acknowledged=1, verdicts=(conflict,))


async def test_what_is_urgent_does_not_wait_until_all_was_heard() -> None:
    """Of the closed epoch nothing is pushed before (R7); of the current one everything (R14)."""
    store, server = a_device(1), HoldsAnother(dict(KEYS), page=10)
    server.store = store
    for counter in range(1, 36):
        server.put(OTHER, 1, a_row(counter))

    report = await run(store, server)

    refused, reading, next_page, *_ = server.exchanges
    assert (refused.epoch, len(refused.results), reading.results) == (1, 1, ())
    assert reading.epoch == next_page.epoch == report.state.epoch != 1
    assert [row.tier for row in next_page.results] == [RiskTier.URGENT]
    assert (report.forked, report.state.waiting, report.state.last_digest_equal) == (True, 0, True)


async def test_the_servers_limits_are_kept_from_the_next_request_on() -> None:
    store, server = a_device(50), a_server(limits=ServerLimits(max_results=20))
    await run(store, server, max_results=10)
    for seed in range(50, 95):
        store.append_window(*window(seed))
    server.exchanges.clear()
    await run(store, server)
    assert [len(request.results) for request in server.exchanges] == [20, 20, 5]


async def test_notes_go_up_come_down_and_vanish() -> None:
    store, server = a_device(), a_server()
    theirs = NoteRow(device_alias=OTHER, epoch=1, counter=1, author="p", at_ms=NOW, text="from the other phone")
    server.put(OTHER, 1, theirs)
    mine = add_note(store, "slept badly", clock=CLOCK)
    report = await run(store, server)
    assert (report.notes_up, report.notes_down, report.state.waiting) == (1, 1, 0)
    assert {note.text for note in store.notes(0, NOW * 2)} == {"slept badly", "from the other phone"}
    assert server.exchanges[0].notes == (), "a server that was never met may not know notes"
    delete_note(store, note_name(mine))
    report = await run(store, server)
    assert (report.deletions_up, report.state.last_digest_equal) == (1, True)
    assert [note.text for note in store.notes(0, NOW * 2)] == ["from the other phone"]


async def test_a_server_of_before_gets_no_notes_and_is_asked_no_more_often_for_it() -> None:
    store = a_device(2)
    add_note(store, "slept badly", clock=CLOCK)
    transport = ScriptedTransport(HonestServer())
    report = await sync(store, transport=transport, clock=CLOCK)
    assert (report.round_trips, report.results_up, report.notes_up) == (1, 2, 0)
    assert (report.state.waiting, report.state.waiting_notes, report.state.capabilities) == (1, 1, 0)
    assert report.state.last_digest_equal is True
    later = await sync(store, transport=a_server_that_holds(store), clock=CLOCK)
    assert (later.notes_up, later.state.waiting) == (1, 0)


def a_server_that_holds(store: MemoryStore) -> FeedServer:
    server = a_server()
    for result in store.results():
        server.put(7, 1, to_row(result))
    server.commit_seq = 10
    return server


DAMAGE = [frozenset({5}), frozenset({5, 50, 99}), frozenset(range(1, 80))]


@pytest.mark.parametrize("lost", DAMAGE, ids=len)
async def test_what_the_server_lost_is_given_back(lost: frozenset[int]) -> None:
    store, server = a_device(100), a_server()
    await run(store, server)
    for counter in lost:
        server.lose(7, 1, counter)
    report = await run(store, server)
    assert (report.state.last_digest_equal, report.state.waiting_given) == (True, 0)
    assert report.repaired_rows >= len(lost)
    assert server.digest(7, BucketKind.RECORDS).count == 100
    assert report.round_trips == report.repair_round_trips + 1  # nothing waits after it, so nothing is asked again
    assert len({request.session for request in server.repairs if request.session}) == sum(
        bool(request.session) for request in server.repairs
    )


@pytest.mark.parametrize("hidden", DAMAGE, ids=len)
async def test_what_was_lost_here_comes_down_again(hidden: frozenset[int]) -> None:
    """Rows that the feed never brings, because the cursor is past them."""
    store, server = a_device(), a_server(100)
    await run(store, server)
    for counter in hidden:
        row = server.rows[1, OTHER, 1, counter]
        server.rows[1, OTHER, 1, counter + 1_000] = (row[0], OTHER, a_row(counter + 1_000))
        server.lose(OTHER, 1, counter)
    report = await run(store, server)
    assert report.state.last_digest_equal is True
    held = {one.row.counter for one in store.replicas(0, NOW * 2, limit=500)}
    assert held == {counter for kind, _, _, counter, *_ in server.rows}  # type: ignore[misc]
    if len(hidden) < 30:
        assert report.repair_round_trips <= 3


async def test_words_that_the_server_lost_wait_again_and_go_up() -> None:
    store, server = a_device(3), a_server()
    await run(store, server)
    words = a_word()
    store.annotate(words)
    await run(store, server)
    (name,) = [name for name in server.rows if len(name) == 5]
    del server.rows[name]
    report = await run(store, server)
    assert report.annotations_up == 1
    assert report.state.last_digest_equal is True
    assert server.rows[name][2] == words


async def test_a_bucket_that_can_not_be_mended_is_named_without_content() -> None:
    store, server = a_device(3), a_server(3, lied={OTHER: 1})
    with pytest.raises(SyncError, match="results and annotations of device 8 are not the same") as caught:
        await run(store, server)
    assert "window" not in str(caught.value)
    assert store.sync_state().waiting == 0, "what was exchanged stays"
    assert len(server.repairs) < 40


async def test_a_server_that_can_not_repair_is_told_of_by_the_report() -> None:
    store, server = a_device(3), a_server(lied={7: 1}, capabilities=Capability.FEED)
    report = await run(store, server)
    assert report.state.last_digest_equal is False
    assert server.repairs == []


async def test_a_repair_that_is_cut_off_is_done_again() -> None:
    store, server = a_device(100), a_server()
    await run(store, server)
    for counter in (5, 50, 99):
        server.lose(7, 1, counter)
    server.unreachable_after = len(server.exchanges) + 2
    with pytest.raises(ServerUnreachable):
        await run(store, server)
    server.unreachable_after = None
    assert (await run(store, server)).state.last_digest_equal is True
    assert server.digest(7, BucketKind.RECORDS).count == 100


async def test_an_answer_to_a_repair_that_does_not_add_up_is_not_taken_over() -> None:
    store, server = a_device(3), a_server()
    await run(store, server)
    server.lose(7, 1, 2)

    class Garbled(FeedServer):
        async def post(self, path: str, body: bytes, headers: object) -> bytes:
            raw = await server.post(path, body, {})
            return raw if path.endswith("exchange") else b"\x01\x04\x00garbage"

    with pytest.raises(SyncError, match="not taken over"):
        await run(store, Garbled(dict(KEYS)))
    assert store.sync_state().waiting_given == 0


async def test_who_has_to_rebaseline_compares_before_it_speaks() -> None:
    store, server = a_device(3), a_server(5)
    await run(store, server)
    server.lose(OTHER, 1, 3)
    store.annotate(a_word())
    store.append_window(*window(77))
    server.exchanges.clear()
    server.put(OTHER, 1, a_row(9))
    say_it_once(server)
    report = await run(store, server)
    assert report.state.last_digest_equal is True
    assert report.state.rebaseline is False
    assert report.state.waiting == 0
    assert {one.row.counter for one in store.replicas(0, NOW * 2)} == {1, 2, 4, 5, 9}
    # What was written before the server said so went with that request; all else waited for the comparison.
    told = next(place for place, request in enumerate(server.exchanges) if request.results)
    assert [bool(request.annotations) for request in server.exchanges[told + 1 :]].count(True) <= 1


async def test_who_knows_that_it_has_to_rebaseline_pushes_words_only_after_the_comparison() -> None:
    store, server = a_device(3), a_server(5, page=2)
    await run(store, server)
    server.lose(OTHER, 1, 3)
    server.put(OTHER, 1, a_row(9))
    server.put(OTHER, 1, a_row(10))
    server.put(OTHER, 1, a_row(11))
    say_it_once(server)
    seen = []

    def write(progress: SyncProgress) -> None:
        seen.append((len(server.exchanges), len(server.repairs)))
        if len(seen) == 1:
            store.annotate(a_word())

    await run(store, server, progress=write)
    first_words = next(place for place, request in enumerate(server.exchanges) if request.annotations)
    repaired_after = next(exchanges for exchanges, repairs in seen if repairs)
    assert first_words >= repaired_after
    assert store.sync_state().waiting == 0


def a_word() -> AnnotationRow:
    return AnnotationRow(
        target=ResultId(7, 1, 2), author="p", rhythm=Register("A", 5 << 16), comment=Register("dizzy", 5 << 16)
    )


def say_it_once(server: FeedServer) -> None:
    """The server says once that what came down has to be compared."""
    answer, said = server.exchange, []

    def once(request: ExchangeRequest) -> ExchangeResponse:
        response = answer(request)
        said.append(True)
        return msgspec.structs.replace(response, rebaseline=len(said) == 1)

    server.exchange = once  # type: ignore[method-assign]


async def test_progress_goes_up_to_its_total() -> None:
    seen: list[SyncProgress] = []
    store, server = a_device(250), a_server(95, page=10)
    report = await run(store, server, max_results=100, progress=seen.append)
    assert len(seen) == report.round_trips
    assert [one.rows_done for one in seen] == sorted(one.rows_done for one in seen)
    assert all(one.rows_done <= one.rows_total for one in seen)
    assert (seen[-1].rows_done, seen[-1].rows_total) == (345, 345)
    assert seen[0].rows_total == 345, "what is left is known from the first answer on"


async def test_traffic_adds_up() -> None:
    store, server = a_device(100), a_server(10)
    add_note(store, "slept badly", clock=CLOCK)
    await run(store, server)
    server.lose(7, 1, 3)
    add_note(store, "slept well", clock=CLOCK)
    report = await run(store, server)
    assert {one.purpose for one in report.traffic} >= {Purpose.WORDS, Purpose.REPAIR}
    assert sum(one.bytes_up for one in report.traffic) == report.bytes_up
    assert sum(one.bytes_down for one in report.traffic) == report.bytes_down
    assert sum(one.round_trips for one in report.traffic) == report.round_trips
