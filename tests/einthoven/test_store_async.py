"""The asynchronous store: nobody is blocked, nothing accepted is lost, and there is an end to what is accepted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.conftest import window

from einthoven.errors import NotEnrolled, StoreBusy, StoreIOError
from einthoven.keys import StaticKeyProvider
from einthoven.ports import Segment
from einthoven.results import WindowResult
from einthoven.store_async import AsyncStore
from einthoven.store_memory import MemoryStore
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction, BeatRun, RetentionPolicy
from einthoven_protocol.messages import (
    AnnotationRow,
    ExchangeRequest,
    ExchangeResponse,
    Register,
    RepairRequest,
    RepairResponse,
    ResultId,
    RowKind,
    Run,
    Tombstone,
)

WAIT_S = 20.0


class GatedStore(MemoryStore):
    """A ``Store`` on a disk that is stuck until the gate opens; says which thread called it, and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.calls: list[tuple[str, str]] = []

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        self._wait(f"append {result.started_at_ms}")
        return super().append_window(result, segment, beats)

    def results(self, *, first_counter: int = 1, limit: int = 1_000) -> list[WindowResult]:
        self._wait("results")
        return list(super().results(first_counter=first_counter, limit=limit))

    def close(self) -> None:
        self.calls.append(("close", threading.current_thread().name))
        super().close()

    def _wait(self, name: str) -> None:
        self.calls.append((name, threading.current_thread().name))
        assert self.gate.wait(WAIT_S), "nobody opened the gate"


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_the_event_loop_goes_on_while_a_write_and_a_reading_wait_for_the_disk() -> None:
    store = GatedStore()
    async with AsyncStore(store) as front:
        write = asyncio.create_task(front.append_window(*window(1)))
        reading = asyncio.create_task(front.results())
        await until(lambda: len(store.calls) == 2)
        ticks = 0
        for _ in range(50):
            await asyncio.sleep(0)
            ticks += 1
        assert not write.done()
        assert not reading.done()
        store.gate.set()
        assert (await write).counter == 1
        await reading
    assert ticks == 50
    assert threading.current_thread().name not in {thread for _, thread in store.calls}


async def test_a_reading_does_not_wait_for_the_writes() -> None:
    store = GatedStore()
    async with AsyncStore(store) as front:
        write = asyncio.create_task(front.append_window(*window(1)))
        await until(lambda: len(store.calls) == 1)
        assert await asyncio.wait_for(front.setting("identity"), WAIT_S) is None
        assert not write.done()
        store.gate.set()
        await write


def test_a_user_interface_gets_a_future_at_once() -> None:
    store = GatedStore()
    front = AsyncStore(store)
    answered = threading.Event()

    future = front.submit(lambda inner: inner.append_window(*window(1)))
    future.add_done_callback(lambda _: answered.set())
    reading = front.submit_reading(lambda inner: inner.stats())

    assert reading.result(WAIT_S).results == 0
    assert not future.done()
    store.gate.set()
    assert future.result(WAIT_S).counter == 1
    assert answered.wait(WAIT_S)
    front.submit_close().result(WAIT_S)


async def test_writes_keep_their_order() -> None:
    store = MemoryStore()
    async with AsyncStore(store) as front:
        stored = await asyncio.gather(*(front.append_window(*window(seed)) for seed in range(40)))

    assert [result.counter for result in stored] == list(range(1, 41))
    assert [result.started_at_ms for result in stored] == sorted(result.started_at_ms for result in stored)


async def test_a_write_outlives_the_task_that_awaits_it() -> None:
    store = GatedStore()
    async with AsyncStore(store) as front:
        first = asyncio.create_task(front.append_window(*window(1)))
        queued = asyncio.create_task(front.append_window(*window(2)))
        await until(lambda: len(store.calls) == 1)
        for task in (first, queued):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        store.gate.set()
        assert len((await front.pending(limit=9)).results) == 2


async def test_closing_waits_for_what_was_accepted_and_takes_on_nothing_more() -> None:
    store = GatedStore()
    front = AsyncStore(store)
    writes = [asyncio.create_task(front.append_window(*window(seed))) for seed in range(3)]
    await until(lambda: len(store.calls) == 1)

    closing = asyncio.create_task(front.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(ValueError, match="closed"):
        await front.append_window(*window(9))
    with pytest.raises(ValueError, match="closed"):
        await front.stats()
    store.gate.set()
    await closing

    assert [(await write).counter for write in writes] == [1, 2, 3]
    assert store.calls[-1][0] == "close"
    await front.close()
    assert [name for name, _ in store.calls].count("close") == 1


async def test_more_than_the_limit_is_refused_and_not_kept() -> None:
    store = GatedStore()
    async with AsyncStore(store, max_waiting_writes=2, max_waiting_readings=1) as front:
        writes = [asyncio.create_task(front.append_window(*window(seed))) for seed in range(2)]
        reading = asyncio.create_task(front.results())
        await until(lambda: len(store.calls) == 2)
        with pytest.raises(StoreBusy, match="wait"):
            await front.append_window(*window(9))
        with pytest.raises(StoreBusy):
            front.submit_reading(lambda inner: inner.stats())
        store.gate.set()
        await asyncio.gather(*writes, reading)
        assert (await front.append_window(*window(3))).counter == 3
        assert (await front.stats()).results == 3


async def test_errors_reach_who_awaits_and_the_next_write_goes_on() -> None:
    async with AsyncStore(MemoryStore(max_windows=1)) as front:
        result, segment = window(1)
        with pytest.raises(ValueError, match="segment_digest"):
            await front.append_window(replace(result, segment_digest=b"x" * 32), segment)
        with pytest.raises(NotEnrolled):
            await front.apply_exchange(
                ExchangeRequest(device_alias=1, epoch=1), ExchangeResponse(acknowledged=0), at_ms=1
            )
        assert (await front.append_window(result, segment)).counter == 1
        with pytest.raises(StoreIOError):
            await front.append_window(*window(2))


async def test_an_error_of_closing_reaches_who_closes() -> None:
    class Stuck(MemoryStore):
        def close(self) -> None:
            raise StoreIOError("the disk is gone", "bring it back")

    front = AsyncStore(Stuck())

    for _ in range(2):
        with pytest.raises(StoreIOError, match="gone"):
            await front.close()


async def test_every_method_of_the_port_can_be_awaited(tmp_path: Path) -> None:
    row = AnnotationRow(
        target=ResultId(7, 1, 1), author="me", rhythm=Register("A", 1), comment=Register("felt dizzy", 1)
    )
    policy = RetentionPolicy(signal_max_age_ms=1)
    inner = SqlCipherStore.open(tmp_path / "s.db", StaticKeyProvider(bytes(range(32))))
    async with AsyncStore(inner) as store:
        await store.put_setting("sync_key", b"k" * 32)
        (first,) = await store.append_windows([window(1)])
        assert await store.append_results([window(2)[0]]) == range(2, 3)
        beats = BeatRun(np.array([5, 900], np.int64), np.array([0, 2], np.uint8))
        await store.append_beats(beats)
        assert await store.beats(0, 2**50) == [beats]
        assert await store.result(1) == first
        assert [stored.result.counter for stored in await store.results_between(0, 2**50)] == [1, 2]
        assert await store.segment(first.segment_digest) is not None
        assert await store.acknowledge_segments([first.segment_digest]) == 1
        assert await store.annotate(row) == row
        assert list(await store.annotations()) == [row]
        pending = await store.pending(limit=10)
        request = ExchangeRequest(device_alias=7, epoch=1, results=pending.results, annotations=pending.annotations)
        state = await store.apply_exchange(
            request, ExchangeResponse(acknowledged=2), at_ms=first.started_at_ms + 10_000_000
        )
        assert state == await store.sync_state()
        report = await store.retain(policy, at_ms=first.started_at_ms + 10_000_000)
        assert report.segments == 1
        assert len(await store.take_events()) == 1
        assert (await store.check()).sound
        assert list(await store.quarantined()) == []
        entry = await store.record(AuditAction.VIEWED, "1", at_ms=5)
        assert (await store.audit_trail(first_seq=entry.seq)) == [entry]


async def test_what_came_with_version_1_1_is_passed_on() -> None:
    async with AsyncStore(MemoryStore()) as front:
        note = await front.add_note("p", "slept well", at_ms=5)
        name = Tombstone(RowKind.NOTE, note.device_alias, note.epoch, note.counter)
        request = RepairRequest(device_alias=7, owner=7, kind=1)
        assert await front.notes(0, 9) == [note]
        await front.delete(name)
        assert await front.notes(0, 9) == []
        assert (await front.apply_repair(request, RepairResponse(), at_ms=1)).waiting_notes == 1
        assert await front.to_give(limit=1) == ((), ())
        assert len((await front.shares(7, 1)).shares) == 0
        assert [await front.superseded(), await front.documents(), await front.owners()] == [[], [], []]
        assert [await front.replicas(0, 9), await front.replica(ResultId(7, 1, 1))] == [[], None]
        assert [await front.segments_to_send(limit_bytes=1), await front.sealed_run(Run(1, 1, 1))] == [[], []]
