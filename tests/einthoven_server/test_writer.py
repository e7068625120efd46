"""The group-commit writer: bounded, fair to the innocent, and done with what it took on when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.einthoven_server.site import ManualClock, Site

from einthoven_protocol.messages import Cursor, ExchangeRequest
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import Busy, EnvelopeRefused, Unauthorized
from einthoven_server.identity.callers import Device
from einthoven_server.identity.store import IdentityStore
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.change_store_postgres import PostgresChangeStore
from einthoven_server.records.changes import NO_ROWS, Push
from einthoven_server.records.writer import Writer
from einthoven_server.vault.sqlite import SqliteVault


class RefusingLog(AuditLog):
    """An audit log that can't write one actor's events."""

    async def append(self, connection: Connection, events: Sequence[Event]) -> None:
        if any(event.actor == "poison" for event in events):
            raise ValueError("can't write this one")


@pytest.fixture
async def device(site: Site, database: Database, scope: Scope, data_folder: Path, vault: SqliteVault) -> Device:
    keys = PatientKeys(database, vault, FileKeyService(data_folder / "key-encryption-key"), scope)
    identities = IdentityStore(database, scope, keys, AuditLog(database, scope, bytes(32)))
    found = await identities.device((await site.new_device()).identity.device_id)
    assert found is not None
    return found


def push(device: Device, nonce: str, actor: str = "device") -> Push:
    request = ExchangeRequest(device_alias=device.alias, epoch=1, cursor=Cursor(0, 0))
    return Push(device, request, NO_ROWS, nonce, 2**50, Event(0, actor, "x", "", "allowed"), 0)


async def test_a_full_queue_refuses_and_says_when_to_come_back(
    database: Database, scope: Scope, device: Device
) -> None:
    writer = Writer(
        PostgresChangeStore(database, scope, RefusingLog(database, scope, bytes(32))), ManualClock(), queue_max=2
    )
    waiting = [asyncio.create_task(writer.push(push(device, f"nonce-{n}"))) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="waiting") as refused:
        await writer.push(push(device, "one-too-many"))
    assert refused.value.retry_after_s >= 1
    async with writer.running():
        await asyncio.gather(*waiting)


async def test_stopping_finishes_what_was_taken_on(database: Database, scope: Scope, device: Device) -> None:
    writer = Writer(PostgresChangeStore(database, scope, RefusingLog(database, scope, bytes(32))), ManualClock())
    waiting = [asyncio.create_task(writer.push(push(device, f"nonce-{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    async with writer.running():
        pass
    assert all(task.done() and task.exception() is None for task in waiting)


async def test_one_that_fails_does_not_take_the_others_with_it(
    database: Database, scope: Scope, device: Device
) -> None:
    writer = Writer(PostgresChangeStore(database, scope, RefusingLog(database, scope, bytes(32))), ManualClock())
    actors = ["device", "device", "poison", "device"]
    waiting = [asyncio.create_task(writer.push(push(device, f"n-{n}", actor))) for n, actor in enumerate(actors)]
    await asyncio.sleep(0)
    async with writer.running():
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, False, True, False]


async def test_a_database_that_is_gone_is_busy_for_all(database: Database, scope: Scope, device: Device) -> None:
    writer = Writer(
        PostgresChangeStore(database, replace_shard(scope), RefusingLog(database, scope, bytes(32))), ManualClock()
    )
    async with writer.running():
        with pytest.raises(TypeError):  # a shard that is not there: a mistake of ours, told to who waits
            await writer.push(push(device, "nonce"))
        again = asyncio.create_task(writer.push(push(replace(device), "nonce")))
        with pytest.raises(TypeError):
            await again


def replace_shard(scope: Scope) -> Scope:
    return scope._replace(shard=77)


async def test_a_device_revoked_since_it_was_let_in_is_refused_by_the_transaction(
    database: Database, scope: Scope, device: Device
) -> None:
    writer = Writer(PostgresChangeStore(database, scope, RefusingLog(database, scope, bytes(32))), ManualClock())
    await database.fetch("UPDATE device SET revoked_at_ms = 1 WHERE tenant = $1", scope.tenant)
    async with writer.running():
        with pytest.raises(Unauthorized) as refused:
            await writer.push(push(device, "nonce"))
    assert refused.value.code == "device_revoked"


async def test_a_patient_without_a_key_can_not_be_read(
    database: Database, scope: Scope, data_folder: Path, vault: SqliteVault
) -> None:
    keys = PatientKeys(database, vault, FileKeyService(data_folder / "key-encryption-key"), scope)
    with pytest.raises(EnvelopeRefused, match="gone"):
        await keys.get("nobody")


async def test_only_so_many_keys_are_kept_in_memory(
    database: Database, scope: Scope, site: Site, data_folder: Path, vault: SqliteVault
) -> None:
    patients = [await site.new_patient() for _ in range(3)]
    keys = PatientKeys(database, vault, FileKeyService(data_folder / "key-encryption-key"), scope, cached_max=2)
    first = await keys.get(patients[0])
    assert await keys.get(patients[0]) is first
    for patient in patients[1:]:
        await keys.get(patient)
    again = await keys.get(patients[0])
    assert again is not first
    assert again.open(first.seal(b"x", "t", "c", "r"), "t", "c", "r") == b"x"
