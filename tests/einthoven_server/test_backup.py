"""Backups: what was committed comes back, nobody who was erased does (attack 34), and nothing that was altered."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.einthoven_server.site import Device, ManualClock, Site, running_site
from tests.einthoven_server.test_rotation import filled

from einthoven_server.audit.chain import Event
from einthoven_server.backup import sealed
from einthoven_server.database import Connection
from einthoven_server.errors import BackupRefused, DataFolderUnsafe, KeyUnavailable
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.serve import opened, parts_of
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.signal_store_obstore import open_signal_store

CHANGED = {"shard_head", "audit_head", "audit_entry", "audit_node", "audit_checkpoint", "tenant", "tenant_key"}
"""What a restore goes on with; ``tenant_key`` is compared but for nothing: it is made on first use."""

CHILD = """
import os, signal, sys
from einthoven_server.backup.sealed import SealedBackup
from einthoven_server.cli import main

left = [int(sys.argv.pop(1))]
put, get = SealedBackup.put, SealedBackup.get

def counting(method):
    async def step(self, number, *more):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await method(self, number, *more)
    return step

SealedBackup.put, SealedBackup.get = counting(put), counting(get)
main()
"""


async def command(*arguments: str, kill_at: int = 0) -> tuple[int, Any]:
    """Run ``einthoven-server``; return its status and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        str(kill_at),
        *arguments,
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    status = process.returncode
    assert status is not None
    return status, msgspec.json.decode(out) if status == 0 else errors.decode()


@asynccontextmanager
async def serving_on(folder: Path, clock: ManualClock) -> AsyncIterator[tuple[Site, Connection]]:
    """A server with a PostgreSQL of its own."""
    holding = opened(folder, None)
    url = await asyncio.to_thread(holding.__enter__)
    try:
        connection = await asyncpg.connect(url)
        tenant = None
        if await connection.fetchval("SELECT to_regclass('tenant') IS NOT NULL"):
            tenant = await connection.fetchval("SELECT tenant FROM tenant")
        async with running_site(folder, url, clock, tenant) as site:
            site.tenant = await connection.fetchval("SELECT tenant FROM tenant")
            yield site, connection
        await connection.close()
    finally:
        await asyncio.to_thread(holding.__exit__, None, None, None)


async def contents(connection: Connection) -> dict[str, list[str]]:
    """Every row of every table that a backup has and a restore leaves as it is."""
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    return {
        name: sorted(row[0] for row in await connection.fetch(f"SELECT one::text FROM {name} AS one"))
        for (name,) in tables
        if name not in CHANGED
    }


def new_folder(parent: Path, name: str, key_of: Path | None = None) -> Path:
    folder = parent / name
    folder.mkdir(mode=0o700)
    if key_of is not None:
        shutil.copy2(key_of / "key-encryption-key", folder)
    return folder


async def with_a_name(site: Site, patient: str, number: str) -> None:
    body = {"resourceType": "Patient", "id": patient, "identifier": [{"system": "urn:c", "value": number}]}
    answer = await site.send("PUT", f"/fhir/R4/Patient/{patient}", token=site.admin, json=body)
    assert answer.status == 200, answer.body


async def with_a_chunk(connection: Connection, folder: Path, device: Device) -> str:
    tenant, chunk, patient = device.site.tenant, secrets.token_bytes(32), device.identity.patient_id
    name = f"{tenant}/{patient}/{device.alias}/{chunk.hex()}"
    await (await open_signal_store(None, folder)).put(name, b"sealed samples")
    await connection.execute(
        "INSERT INTO signal_chunk VALUES (0, $1, $2, $3, $4, 7, 1, 0)", tenant, device.alias, chunk, patient
    )
    return name


async def found(site: Site, number: str) -> list[str]:
    answer = await site.send("GET", f"/fhir/R4/Patient?identifier=urn:c|{number}", token=site.admin)
    return [entry["resource"]["id"] for entry in answer.json.get("entry", [])]


@pytest.mark.timeout(900)
async def test_attack_34_a_restore_has_what_was_committed_and_nobody_who_was_erased(
    tmp_path: Path, clock: ManualClock
) -> None:
    folder, place = new_folder(tmp_path, "data"), f"file://{tmp_path / 'place'}"
    async with serving_on(folder, clock) as (site, connection):
        device, clinician = await filled(site)
        lost, _ = await filled(site)
        patient, gone = device.identity.patient_id, lost.identity.patient_id
        await with_a_name(site, patient, "7")
        await with_a_name(site, gone, "8")
        chunks = [await with_a_chunk(connection, folder, one) for one in (device, lost)]
        before = (await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)).json
        status, done = await command("backup", "--data", str(folder), "--to", place)
        assert status == 0, done
        assert (done["n_keys"], done["n_signals"]) == (2, 2)
        as_of_then = await contents(connection)
        epoch = await connection.fetchval("SELECT shard_epoch FROM shard_head")
        status, second = await command("backup", "--data", str(folder), "--to", place)
        assert (status, second["n_keys"]) == (0, 0)
        # The server goes on: what it acknowledges now is in no backup.
        await device.exchange(device.rows(21, 5))
        # Nothing of a patient, nor any key, lies there in the clear, or wrapped in a piece.
        wrapped = b"".join(one.read_bytes() for one in (tmp_path / "place" / "vault").rglob("*") if one.is_file())
        pieces = b"".join(one.read_bytes() for one in (tmp_path / "place" / "backups").rglob("0*") if one.is_file())
        assert wrapped
        assert gone.encode() not in pieces
        # ---- before anybody is erased: exactly what was committed
        copy = new_folder(tmp_path, "copy", folder)
        status, done = await command("restore", "--data", str(copy), "--from", place)
        assert status == 0, done
        assert (done["n_patients"], done["n_erased"], done["backup_id"]) == (2, 0, second["backup_id"])
        with pytest.raises(DataFolderUnsafe, match="not empty"):
            raise_for(await command("restore", "--data", str(copy), "--from", place))
        # ---- erased
        answer = await site.send("POST", f"/v1/patients/{gone}/erase", token=site.admin)
        assert answer.status == 202
        await asyncio.sleep(0.5)  # the round that it woke
        assert not list((tmp_path / "place").glob(f"vault/*/{gone}/*"))
        assert not list((tmp_path / "place").glob(f"signals/*/{gone}/*/*"))
    async with serving_on(copy, clock) as (site, connection):
        assert await contents(connection) == as_of_then
        assert await connection.fetchval("SELECT shard_epoch FROM shard_head") > epoch
        answer = await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)
        assert answer.json == before
        assert await found(site, "7") == [patient]
        assert await found(site, "8") == [gone]
        for name in chunks:
            assert (copy / "signals" / name).read_bytes() == b"sealed samples"
    later = new_folder(tmp_path, "later", folder)
    began = time.perf_counter()
    status, done = await command("restore", "--data", str(later), "--from", place)
    print(f"restore of {done['n_rows']} rows: {time.perf_counter() - began:.1f} s")
    assert (status, done["n_patients"], done["n_erased"]) == (0, 1, 1)
    async with serving_on(later, clock) as (site, connection):
        answer = await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)
        assert answer.json == before
        assert (await site.send("GET", f"/v1/patients/{gone}/results", token=clinician)).status == 404
        assert (await found(site, "7"), await found(site, "8")) == ([patient], [])
        for table in ("patient", "result_row", "note", "annotation", "document", "patient_key", "signal_chunk"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table} WHERE patient_id = $1", gone) == 0, table
        assert not list((later / "signals").glob(f"*/{gone}/*/*"))
        # Devices: one hears of a new history and gives again what the backup lacks, the other is told to erase.
        device.site = lost.site = site
        answer = await device.post(device.request())
        assert answer.status == 200, answer.body
        assert (await device.exchange(())).cursor.shard_epoch > epoch
        given = await device.exchange(device.rows(21, 5))
        assert given.acknowledged == 25
        assert (await lost.post(lost.request())).error == "patient_erased"
        operations = await connection.fetch("SELECT operation FROM audit_entry ORDER BY seq")
        assert "backup.restore" in [row[0] for row in operations]
    status, held = await command("audit", "verify", "--data", str(later))
    assert (status, held["intact"]) == (0, True)
    assert held["checkpoints"] >= 1
    assert (later / "vault.db").stat().st_mode & 0o777 == 0o600
    assert (later / "ca.key").read_bytes() == (folder / "ca.key").read_bytes()


async def read_piece(folder: Path, store: SignalStore, which: tuple[str, str], name: str) -> None:
    backup, _ = await sealed.opened(store, FileKeyService(folder / "key-encryption-key"), *which)
    if name != "manifest":
        await backup.get(int(name))


def raise_for(outcome: tuple[int, Any]) -> None:
    """What a command refused, as the error that it is."""
    status, said = outcome
    if status == 2:
        raise DataFolderUnsafe(said, "")
    if status:
        raise BackupRefused(said, "")


@pytest.mark.timeout(900)
async def test_an_altered_backup_is_refused_and_a_cut_short_one_is_none(tmp_path: Path, clock: ManualClock) -> None:
    folder, root = new_folder(tmp_path, "data"), tmp_path / "place"
    place = f"file://{root}"
    async with serving_on(folder, clock) as (site, _):
        await filled(site)
        for kill_at in (1, 3):
            status, _ = await command("backup", "--data", str(folder), "--to", place, kill_at=kill_at)
            assert status == -signal.SIGKILL
        store = await open_signal_store(place, folder)
        assert await sealed.names(store) == []
        copy = new_folder(tmp_path, "none", folder)
        with pytest.raises(BackupRefused, match="no backup"):
            raise_for(await command("restore", "--data", str(copy), "--from", place))
        status, done = await command("backup", "--data", str(folder), "--to", place)
        assert status == 0, done
        tenant, backup_id = (await sealed.names(store))[0]
        backup, manifest = await sealed.opened(store, FileKeyService(folder / "key-encryption-key"), tenant, backup_id)
        n_pieces = sum(table.n_pieces for table in manifest.tables)
        for name in ("00000000", f"{n_pieces - 1:08}", "manifest"):
            path = root / "backups" / tenant / backup_id / name
            whole = path.read_bytes()
            path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
            with pytest.raises(BackupRefused):
                await read_piece(folder, store, (tenant, backup_id), name)
            path.write_bytes(whole)
        # A piece in another's place, and one that is missing.
        first, last = [root / "backups" / tenant / backup_id / f"{number:08}" for number in (0, n_pieces - 1)]
        whole = first.read_bytes()
        first.write_bytes(last.read_bytes())
        with pytest.raises(BackupRefused, match="altered"):
            await backup.get(0)
        first.unlink()
        copy = new_folder(tmp_path, "altered", folder)
        with pytest.raises(BackupRefused, match="missing"):
            raise_for(await command("restore", "--data", str(copy), "--from", place))
        first.write_bytes(whole)
        # Nobody serves what was cut short; run again, it is whole. Killed at any piece as well.
        with pytest.raises(DataFolderUnsafe, match="cut short"), opened(copy, None):
            pass
        for kill_at in (1, n_pieces // 2, n_pieces):
            status, said = await command("restore", "--data", str(copy), "--from", place, kill_at=kill_at)
            assert status == -signal.SIGKILL, said
        status, done = await command("restore", "--data", str(copy), "--from", place)
        assert status == 0, done
        # Another key, and a mirror that lost one.
        stranger = new_folder(tmp_path, "stranger")
        async with serving_on(new_folder(tmp_path, "another"), clock):
            shutil.copy2(tmp_path / "another" / "key-encryption-key", stranger)
        with pytest.raises(BackupRefused, match="not under this key"):
            raise_for(await command("restore", "--data", str(stranger), "--from", place))
        shutil.rmtree(root / "vault")
        with pytest.raises(BackupRefused, match="lacks the keys of 1 patients"):
            raise_for(await command("restore", "--data", str(new_folder(tmp_path, "keyless", folder)), "--from", place))


@pytest.mark.timeout(900)
async def test_a_backup_from_before_a_rotation_can_still_be_read(tmp_path: Path, clock: ManualClock) -> None:
    folder, place = new_folder(tmp_path, "data"), f"file://{tmp_path / 'place'}"
    async with serving_on(folder, clock) as (site, _):
        device, clinician = await filled(site)
        patient = device.identity.patient_id
        before = (await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)).json
    for arguments in (
        ("backup", "--to", place),
        ("keys", "rotate-patient", patient),
        ("keys", "rotate"),
    ):
        status, done = await command(*arguments, "--data", str(folder))
        assert status == 0, done
    copy = new_folder(tmp_path, "copy", folder)
    status, done = await command("restore", "--data", str(copy), "--from", place)
    assert status == 0, done
    async with serving_on(copy, clock) as (site, _):
        assert (await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)).json == before


@pytest.mark.timeout(900)
async def test_a_database_of_ones_own_is_backed_up_without_the_vault_beside_it(
    tmp_path: Path, database_url: str, clock: ManualClock
) -> None:
    names = [f"backup_{secrets.token_hex(4)}" for _ in range(3)]
    connection = await asyncpg.connect(database_url)
    for name in names:
        await connection.execute(f"CREATE DATABASE {name}")
    first, second, apart = [database_url.replace("/postgres?", f"/{name}?") for name in names]
    folder, place = new_folder(tmp_path, "data"), f"file://{tmp_path / 'place'}"
    patient = str(uuid.uuid4())
    async with parts_of(folder, first, clock, vault_url=first, moves=True) as parts:
        await parts.identities.create_patient(patient, 0, Event(0, "a", "patient.create", patient, "allowed"))
        key = await parts.keys.get(patient)
        tenant = parts.scope.tenant
    for _ in range(2):  # the vault's tables are there by now
        status, done = await command("backup", "--data", str(folder), "--database-url", first, "--to", place)
        assert status == 0, done
    store = await open_signal_store(place, folder)
    _, manifest = await sealed.opened(
        store, FileKeyService(folder / "key-encryption-key"), *(await sealed.names(store))[-1]
    )
    assert not [table.name for table in manifest.tables if table.name.startswith("vault")]
    assert {"patient", "patient_key", "result_row"} <= {table.name for table in manifest.tables}
    copy = new_folder(tmp_path, "copy", folder)
    arguments = ("--data", str(copy), "--database-url", second, "--vault-url", apart, "--from", place)
    status, done = await command("restore", *arguments)
    assert status == 0, done
    assert not (copy / "vault.db").exists()
    async with parts_of(copy, second, clock, tenant, vault_url=apart, moves=True) as parts:
        again = await parts.keys.get(patient)
        assert again.open(key.seal(b"x", "t", "c", "r"), "t", "c", "r") == b"x"
    with pytest.raises(KeyUnavailable, match="not the vault"):
        async with parts_of(copy, second, clock, tenant, vault_url=second, moves=True):
            pass
    # Not over what is there.
    status, said = await command(
        "restore", "--data", str(new_folder(tmp_path, "more", folder)), "--database-url", first, "--from", place
    )
    assert (status, "has this tenant already" in said) == (1, True)
    for name in names:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()
