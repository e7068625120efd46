"""The server's side of a repair without HTTP, on the store in memory: bounds, threads, and what fails half way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.site import ManualClock, result_row

from einthoven_protocol import merkle
from einthoven_protocol.messages import (
    BucketKind,
    ExchangeRequest,
    IdentifiedResult,
    RepairRequest,
    Run,
    VerdictCode,
)
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import Busy, Malformed
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import Snapshot
from einthoven_server.records.change_store_memory import MemoryChangeStore
from einthoven_server.records.changes import Push, PushedRows
from einthoven_server.records.writer import Writer
from einthoven_server.sync.pushed_rows import given_rows
from einthoven_server.sync.repair_service import RepairService

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
EVENT = Event(0, "device", "device.repair", "p", "allowed")
T = TypeVar("T")


class SlowStore(MemoryChangeStore):
    """A store whose reads wait to be let go, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.reads_left: int | None = None

    async def read(self, work: Callable[[Snapshot], Awaitable[T]]) -> T:
        await self.open.wait()
        if self.reads_left is not None:
            self.reads_left -= 1
            if self.reads_left < 0:
                raise Busy("away", "wait", 1)
        return await super().read(work)


@pytest.fixture
async def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
async def writer(store: SlowStore) -> AsyncIterator[Writer]:
    writer = Writer(store, ManualClock())
    async with writer.running():
        yield writer


def device(store: SlowStore, alias: int = 1) -> Device:
    made = Device(
        device_id=f"device-{alias}",
        alias=alias,
        patient_id="p",
        public_key=KEY.public_key().public_bytes_raw(),
        sync_key=bytes(32),
        revoked=False,
        patient_key=PatientKey("t", "p", 1, bytes(32)),
    )
    store.enrol(made)
    return made


def asked(alias: int = 1, **changed: object) -> RepairRequest:
    request = {"device_alias": alias, "owner": alias, "kind": BucketKind.RECORDS, "wanted": (Run(1, 1, 2**31 - 1),)}
    return RepairRequest(**request | changed)  # type: ignore[arg-type]


def giving(count: int) -> RepairRequest:
    given = tuple(IdentifiedResult(device_alias=1, epoch=1, row=result_row(place + 1)) for place in range(count))
    root = merkle.tree_hash([place.to_bytes(32, "big") for place in range(count)])
    signature = KEY.sign(merkle.given_message(1, given, root))
    return asked(given=given, segments_root=root, signature=signature)


async def test_much_is_taken_and_compared_in_threads_and_comes_to_the_same(store: SlowStore, writer: Writer) -> None:
    service = RepairService(store, writer, ManualClock())
    count, sender = limits.THREAD_MIN_ROWS + 1, device(store)
    pushed = PushedRows.of(row for _, row in given_rows(store, sender, giving(count), 2**47 - 1))
    request = ExchangeRequest(device_alias=1, epoch=1, results=tuple(one.row for one in giving(count).given))
    await writer.push(Push(sender, request, pushed, "nonce", 2**50, EVENT, 2**47 - 1))
    response = await service.repair(sender, giving(count), EVENT)
    assert response.verdicts == (VerdictCode.DUPLICATE,) * count
    assert [found.row.counter for found in response.results] == list(range(1, count + 1))
    assert (response.digest.count, response.held) == (count, (Run(1, 1, count),))


async def test_what_was_given_is_entered_once_also_if_the_comparison_fails(store: SlowStore, writer: Writer) -> None:
    service, sender, taken = RepairService(store, writer, ManualClock()), device(store), []
    store.reads_left = 1
    with pytest.raises(Busy):
        await service.repair(sender, giving(1), EVENT, lambda: taken.append(True))
    assert (taken, list(store.events)) == ([True], [EVENT])
    with pytest.raises(Busy):
        await service.repair(sender, asked(), EVENT, lambda: taken.append(True))
    assert (taken, list(store.events)) == ([True], [EVENT])


async def test_symbols_that_are_none_are_malformed(store: SlowStore, writer: Writer) -> None:
    service = RepairService(store, writer, ManualClock())
    with pytest.raises(Malformed):
        await service.repair(device(store), asked(session=bytes(16), symbols=b"x"), EVENT)


async def test_only_so_many_are_under_way_or_wait(store: SlowStore, writer: Writer) -> None:
    service = RepairService(store, writer, ManualClock(), at_once=1, waiting_max=2)
    devices = [device(store, alias) for alias in (1, 2, 3, 4)]
    store.open.clear()
    tasks = [asyncio.create_task(service.repair(each, asked(each.alias), EVENT)) for each in devices[:3]]
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="too many") as refused:
        await service.repair(devices[3], asked(4), EVENT)
    assert refused.value.retry_after_s >= 1
    with pytest.raises(Busy, match="this device"):
        await service.repair(devices[1], asked(2), EVENT)
    tasks[2].cancel()  # who goes away leaves its place
    await asyncio.gather(tasks[2], return_exceptions=True)
    fourth = asyncio.create_task(service.repair(devices[3], asked(4), EVENT))
    await asyncio.sleep(0)
    store.open.set()
    assert [response.digest.count for response in await asyncio.gather(tasks[0], tasks[1], fourth)] == [0, 0, 0]
