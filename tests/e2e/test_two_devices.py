"""Two devices of one patient and the real server: what one says, the other hears; what differs is mended."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from tests.contracts.conftest import window
from tests.e2e.conftest import Admin

from einthoven import (
    FileKeyProvider,
    LineOpened,
    SignalsSent,
    SqlCipherStore,
    Synced,
    WatchEvent,
    Woken,
    annotate,
    enroll,
    sync,
    watch,
)
from einthoven.identity import load_identity
from einthoven.noting import add_note, delete_note, list_notes, note_name
from einthoven.ports import Store
from einthoven.results import RiskTier
from einthoven.store_memory import MemoryStore
from einthoven.transport_https import HttpsTransport
from einthoven_protocol import codec
from einthoven_protocol.limits import MAX_TIME_MS
from einthoven_protocol.messages import Capability, ExchangeRequest

PATIENCE_S = 30


def open_store(home: Path) -> SqlCipherStore:
    return SqlCipherStore.open(home / "store.db", FileKeyProvider(home / "store.key", create=True))


def write(store: Store, count: int, first_seed: int = 0, urgent: frozenset[int] = frozenset()) -> None:
    """Keep results without signal."""
    rows = [window(seed)[0] for seed in range(first_seed, first_seed + count)]
    store.append_results([replace(row, tier=RiskTier.URGENT) if n in urgent else row for n, row in enumerate(rows)])


@dataclass
class Pair:
    """Two enrolled devices."""

    patient: str
    first: SqlCipherStore
    second: SqlCipherStore


@pytest.fixture
async def pair(admin: Admin, tmp_path: Path) -> AsyncIterator[Pair]:
    patient = await admin.patient()
    async with AsyncExitStack() as stack:
        stores = [stack.enter_context(open_store(tmp_path / name)) for name in ("first", "second")]
        for store in stores:
            await enroll(store, await admin.code(patient))
        yield Pair(patient, *stores)


async def test_a_thousand_results_of_one_are_on_the_other_and_both_sides_are_equal(pair: Pair) -> None:
    write(pair.first, 1_000)
    up = await sync(pair.first)
    assert (up.results_up, up.state.last_digest_equal) == (1_000, True)
    down = await sync(pair.second)
    assert (down.results_down, down.state.last_digest_equal, down.repair_round_trips) == (1_000, True, 0)
    alias = load_identity(pair.first).device_alias
    mine = [(row.started_at_ms, row.counter) for row in pair.first.results(limit=2_000)]
    theirs = pair.second.replicas(0, MAX_TIME_MS, limit=2_000)
    assert [(one.row.started_at_ms, one.row.counter) for one in theirs] == mine
    assert {one.device_alias for one in theirs} == {alias}
    again = await sync(pair.second)
    assert (again.round_trips, again.results_down, again.state.last_digest_equal) == (1, 0, True)
    assert pair.second.check().sound


async def test_of_two_words_that_met_one_wins_on_both_and_the_other_stays_visible(pair: Pair) -> None:
    write(pair.first, 2)
    await sync(pair.first)
    await sync(pair.second)
    owner = load_identity(pair.first).device_alias
    annotate(pair.first, 2, comment="felt dizzy")
    annotate(pair.second, 2, epoch=1, device_alias=owner, comment="felt fine")
    for store in (pair.first, pair.second, pair.first):
        report = await sync(store)
        assert report.state.last_digest_equal is True
        assert report.state.waiting == 0
    for store in (pair.first, pair.second):
        (row,) = store.annotations()
        (loser,) = store.superseded()
        assert (row.author, row.comment.value) == (pair.patient, "felt fine")
        assert (loser.target, loser.author, loser.value) == (row.target, pair.patient, "felt dizzy")
        assert (loser.hlc, loser.value) < (row.comment.hlc, row.comment.value)


async def test_a_note_goes_to_the_other_device_and_vanishes_there_too(pair: Pair) -> None:
    note = add_note(pair.first, "slept badly")
    kept = add_note(pair.first, "slept well")
    assert (await sync(pair.first)).notes_up == 2
    report = await sync(pair.second)
    assert (report.notes_down, report.state.last_digest_equal) == (2, True)
    assert list_notes(pair.second, 0, MAX_TIME_MS) == list_notes(pair.first, 0, MAX_TIME_MS)
    delete_note(pair.first, note_name(note))
    assert (await sync(pair.first)).state.last_digest_equal is True
    report = await sync(pair.second)
    assert (report.tombstones_down, report.state.last_digest_equal) == (1, True)
    assert list_notes(pair.second, 0, MAX_TIME_MS) == [kept]
    assert list_notes(pair.first, 0, MAX_TIME_MS) == [kept]


async def test_an_urgent_result_overtakes_a_backlog(pair: Pair) -> None:
    await sync(pair.first)
    write(pair.first, 900, urgent=frozenset({870}))
    requests: list[ExchangeRequest] = []
    transport = OldServer(load_identity(pair.first), requests, strip=False)
    report = await sync(pair.first, transport=transport, max_results=100)
    await transport.close()
    assert [row.counter for row in requests[0].alerts] == [871]
    assert (report.results_up, report.alerts_up, report.refused) == (900, 1, 0)
    assert report.state.last_digest_equal is True
    assert (await sync(pair.second)).results_down == 900


class OldServer(HttpsTransport):
    """The way to the server as it was: a request says nothing of capabilities, so the answer has none."""

    def __init__(self, identity: object, requests: list[ExchangeRequest], *, strip: bool = True) -> None:
        super().__init__(identity)  # type: ignore[arg-type]
        self._requests = requests
        self._strip = strip

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        request = codec.decode_request(body)
        self._requests.append(request)
        if self._strip:
            body = codec.encode_request(msgspec.structs.replace(request, capabilities=0, owners_known=0))
        return await super().post(path, body, headers)


async def test_a_server_of_before_gets_what_it_always_got_and_a_new_one_the_rest(pair: Pair) -> None:
    write(pair.first, 30)
    note = add_note(pair.first, "slept badly")
    annotate(pair.first, 2, comment="felt dizzy")
    requests: list[ExchangeRequest] = []
    old = OldServer(load_identity(pair.first), requests)
    report = await sync(pair.first, transport=old)
    await old.close()
    assert (report.results_up, report.annotations_up, report.state.capabilities) == (30, 1, 0)
    assert (report.state.waiting, report.state.waiting_notes) == (1, 1)
    assert report.state.last_digest_equal is True
    for request in requests:
        assert (request.notes, request.deletions, request.alerts, request.annotation_bases) == ((), (), (), ())
    upgraded = await sync(pair.first)
    assert upgraded.state.capabilities & Capability.FEED
    assert (upgraded.notes_up, upgraded.state.waiting, upgraded.state.last_digest_equal) == (1, 0, True)
    await sync(pair.second)
    assert list_notes(pair.second, 0, MAX_TIME_MS) == [note]


@pytest.mark.parametrize("lost", [100, 600])
async def test_rows_that_vanished_here_and_there_are_mended(admin: Admin, pair: Pair, lost: int) -> None:
    """In a store that can be made to forget; what it lost was acknowledged, so no cursor and no mark brings it back."""
    write(pair.first, 1_000)
    await sync(pair.first)
    forgetful = MemoryStore()
    await enroll(forgetful, await admin.code(pair.patient))
    write(forgetful, 50, first_seed=5_000)
    assert (await sync(forgetful)).state.last_digest_equal is True
    replicas = forgetful._books.replicas
    step = len(replicas) // lost
    for name in sorted(replicas)[: lost * step : step]:
        del replicas[name]
    assert len(forgetful.replicas(0, MAX_TIME_MS, limit=2_000)) == 1_000 - lost
    report = await sync(forgetful)
    assert report.state.last_digest_equal is True
    assert len(forgetful.replicas(0, MAX_TIME_MS, limit=2_000)) == 1_000
    if lost == 100:
        assert report.repair_round_trips <= 3
    assert (await sync(forgetful)).round_trips == 1


async def test_a_watching_device_is_woken_by_the_other_and_stops_when_told(pair: Pair, tmp_path: Path) -> None:
    pair.first.close()
    command = [sys.executable, "-m", "einthoven.cli", "sync", "--watch", "--home", str(tmp_path / "first")]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said = await lines_until(process.stdout, "listening")
        assert any("synced:" in line for line in said)
        add_note(pair.second, "slept badly")
        await sync(pair.second)
        said = await lines_until(process.stdout, "1 note")
        assert any("woken" in line for line in said)
        assert not any("slept" in line for line in said)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    with open_store(tmp_path / "first") as store:
        assert [note.text for note in list_notes(store, 0, MAX_TIME_MS)] == ["slept badly"]


async def test_a_watched_store_sends_its_raw_signals_last(pair: Pair) -> None:
    for seed in range(4):
        pair.first.append_window(*window(seed, n_samples=100_000))
    stop, events = asyncio.Event(), list[WatchEvent]()

    def take(event: WatchEvent) -> None:
        events.append(event)
        if isinstance(event, SignalsSent):
            stop.set()

    await asyncio.wait_for(watch(pair.first, stop=stop, take=take), PATIENCE_S)
    kinds = [type(event) for event in events if not isinstance(event, LineOpened | Woken)]
    assert kinds[0] is Synced
    assert kinds[-1] is SignalsSent
    assert pair.first.stats().unacknowledged_segments < 4


async def lines_until(stream: asyncio.StreamReader, word: str) -> list[str]:
    """What is said up to the line with a word in it."""
    said: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while not said or word not in said[-1]:
            line = (await stream.readline()).decode()
            assert line, said
            said.append(line)
    return said
