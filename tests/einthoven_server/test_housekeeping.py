"""What is done now and then: tombstones that all devices have read, and nonces that expired."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.einthoven_server.site import ManualClock, Site

from einthoven_protocol.messages import Capability, NoteRow, RowKind, Tombstone
from einthoven_server import limits
from einthoven_server.database import Connection
from einthoven_server.errors import Busy
from einthoven_server.records.change_store_memory import MemoryChangeStore
from einthoven_server.records.housekeeping import Housekeeping
from einthoven_server.records.result_months import month_of, part_name
from einthoven_server.serve import parts_of


async def count(connection: Connection, table: str, tenant: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant = $1", tenant))


async def test_tombstones_that_all_have_read_go_and_expired_nonces_with_them(
    site: Site, connection: Connection, data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    device = await site.new_device()
    note = NoteRow(device_alias=device.alias, epoch=1, counter=1, author=device.identity.device_id, at_ms=1, text="x")
    await device.exchange(notes=(note,), capabilities=Capability.FEED)
    gone = Tombstone(RowKind.NOTE, device.alias, 1, 1)
    await device.exchange(deletions=(gone,), capabilities=Capability.FEED)
    assert await count(connection, "tombstone", site.tenant) == 1
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        house = Housekeeping(parts.changes, parts.identities, clock, months=parts.months)
        for _ in range(2):  # what an exchange brings is read when the next one says so
            await device.exchange(capabilities=Capability.FEED)
        assert await house.round() == 1
        assert await house.round() == 0
        fed = "SELECT count(*) FROM tombstone WHERE tenant = $1 AND NOT collected"
        assert await connection.fetchval(fed, site.tenant) == 0
        assert await count(connection, "tombstone", site.tenant) == 1  # the name of what must not come back
        assert await count(connection, "request_nonce", site.tenant) > 0
        clock.offset_ms += 2 * limits.SIGNATURE_AGE_MAX_MS
        await house.round()
        assert await count(connection, "request_nonce", site.tenant) == 0
        part = part_name(month_of(clock.now_ms()) + limits.RESULT_MONTHS_AHEAD)
        assert await connection.fetchval("SELECT relispartition FROM pg_class WHERE relname = $1", part)


class Away(MemoryChangeStore):
    """A store that does not answer at first."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0
        self.back = asyncio.Event()

    async def collect_tombstones(self, now_ms: int) -> int:
        self.rounds += 1
        if self.rounds == 1:
            raise Busy("away", "wait", 1)
        self.back.set()
        return await super().collect_tombstones(now_ms)


async def test_a_round_without_a_database_is_followed_by_another(
    site: Site, data_folder: Path, database_url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Away()
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        house = Housekeeping(store, parts.identities, clock, interval_s=0.001)
        async with house.running(), asyncio.timeout(10):
            await store.back.wait()
    assert "housekeeping" in caplog.text
