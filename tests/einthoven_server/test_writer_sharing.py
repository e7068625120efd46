"""The writer's queue shared between devices, tenants and people, on the store in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.einthoven_server.site import ManualClock

from einthoven_protocol.messages import Cursor, ExchangeRequest
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import Busy
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store_memory import MemoryChangeStore
from einthoven_server.records.changes import NO_ROWS, Push, WriteNote
from einthoven_server.records.commits import Committed
from einthoven_server.records.writer import Writer

EVENT = Event(0, "somebody", "x", "p", "allowed")
CALLER_MAX = limits.WRITER_QUEUE_MAX // 16


@pytest.fixture
def store() -> MemoryChangeStore:
    return MemoryChangeStore()


def device(store: MemoryChangeStore, alias: int, tenant: str = "t") -> Device:
    made = Device(
        device_id=f"device-{alias}",
        alias=alias,
        patient_id="p",
        public_key=bytes(32),
        sync_key=bytes(32),
        revoked=False,
        patient_key=PatientKey(tenant, "p", 1, bytes(32)),
    )
    store.enrol(made)
    return made


def push(sender: Device, nonce: str) -> Push:
    request = ExchangeRequest(device_alias=sender.alias, epoch=1, cursor=Cursor(0, 0))
    return Push(sender, request, NO_ROWS, nonce, 2**50, EVENT, 0)


async def put(writer: Writer, sender: Device, count: int) -> list[asyncio.Task[object]]:
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(writer.push(push(sender, f"{sender.alias}-{n}"))) for n in range(count)
    ]
    await asyncio.sleep(0)
    return tasks


def refused(tasks: list[asyncio.Task[object]]) -> int:
    return sum(1 for task in tasks if task.done() and isinstance(task.exception(), Busy))


async def test_a_device_holds_its_share_and_no_more_and_another_is_let_in(store: MemoryChangeStore) -> None:
    writer = Writer(store, ManualClock())
    greedy, modest = device(store, 1), device(store, 2)
    many = await put(writer, greedy, CALLER_MAX + 5)
    assert refused(many) == 5
    one = await put(writer, modest, 1)
    assert (refused(one), writer.waiting) == (0, CALLER_MAX + 1)
    async with writer.running():
        await asyncio.gather(*one)
    assert writer.waiting == 0
    assert sum(1 for task in many if task.exception() is None) == CALLER_MAX
    await asyncio.gather(*many, return_exceptions=True)


async def test_a_tenant_leaves_room_for_another(store: MemoryChangeStore) -> None:
    writer = Writer(store, ManualClock(), queue_max=40)
    crowd = [device(store, alias) for alias in range(1, 21)]
    tasks = [task for sender in crowd for task in await put(writer, sender, 2)]
    assert refused(tasks) == 10
    guest = await put(writer, device(store, 99, tenant="u"), 2)
    assert refused(guest) == 0
    async with writer.running():
        await asyncio.gather(*tasks, *guest, return_exceptions=True)


async def test_a_person_has_a_share_of_their_own(store: MemoryChangeStore) -> None:
    writer = Writer(store, ManualClock(), queue_max=8)
    sender = device(store, 1)
    tasks = await put(writer, sender, 3)
    assert refused(tasks) == 1

    def note(actor: str) -> WriteNote:
        return WriteNote("p", sender.patient_key, "a", 0, "x", EVENT._replace(actor=actor), 0)

    notes = [asyncio.create_task(writer.note(note(actor))) for actor in ("doctor", "doctor", "doctor", "nurse")]
    await asyncio.sleep(0)
    assert [task.done() for task in notes] == [False, False, True, False]
    assert isinstance(notes[2].exception(), Busy)
    async with writer.running():
        await asyncio.gather(*notes, *tasks, return_exceptions=True)


async def test_a_batch_that_wrote_is_told_of_and_one_that_did_not_is_not(store: MemoryChangeStore) -> None:
    told: list[Committed] = []
    writer = Writer(store, ManualClock(), on_commit=told.append)
    sender = device(store, 1)
    async with writer.running():
        await asyncio.gather(*await put(writer, sender, 1))
        assert told == []
        await writer.note(WriteNote("p", sender.patient_key, "a", 0, "x", EVENT, 0))
    assert told == [Committed(0, 1, frozenset({("p", 0)}))]


async def test_a_stopped_writer_takes_nothing_on_until_it_runs_again(store: MemoryChangeStore) -> None:
    writer = Writer(store, ManualClock())
    sender = device(store, 1)
    async with writer.running():
        pass
    with pytest.raises(Busy, match="stops"):
        await writer.push(push(sender, "late"))
    async with writer.running():
        await writer.push(push(replace(sender), "again"))
