"""Keys are rotated while a server serves; whatever is killed in between, everything opens (attacks 32, 33)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.einthoven_server.site import Device, ManualClock, Site, running_site

from einthoven.account import Account
from einthoven_protocol.messages import ResultId, Superseded
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import (
    Busy,
    DataFolderBusy,
    EnvelopeRefused,
    KeyServiceUnavailable,
    KeyUnavailable,
    NotFound,
)
from einthoven_server.fhir.consents import shown
from einthoven_server.identity.break_glass import BreakGlass
from einthoven_server.identity.consent import Agreement, Consent
from einthoven_server.key_service_file import FileKeyService, file_version
from einthoven_server.key_services.probe import KeyServiceProbe
from einthoven_server.patient_keys import PatientKeys, hold_version
from einthoven_server.records import sealing
from einthoven_server.records.changes import WriteNote
from einthoven_server.rotation.patients import PatientRotation
from einthoven_server.rotation.tables import SEALED, WRAPPED
from einthoven_server.rotation.wrapping import Rewrapping
from einthoven_server.serve import parts_of
from einthoven_server.signals.signal_store_obstore import open_signal_store
from einthoven_server.tenant_database import open_tenant
from einthoven_server.vault.opening import open_vault
from einthoven_server.vault.port import KeptKey, Vault

GRACE_S = limits.KEYS_CHECK_INTERVAL_S + 0.3


@pytest.fixture
def keys_folder(tmp_path: Path, data_folder: Path) -> Path:
    """A data folder whose key file is this test's own; the rest is made anew in it."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
async def site(keys_folder: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Site]:
    async with running_site(keys_folder, database_url, clock, str(uuid.uuid4())) as site:
        yield site


@dataclass
class Operator:
    """Who rotates, beside the server."""

    database: Database
    scope: Scope
    file: FileKeyService
    vault: Vault
    rewrapping: Rewrapping
    patients: PatientRotation

    async def versions(self, patient_id: str) -> list[tuple[int, bool]]:
        rows = await self.database.fetch(
            "SELECT key_version, seals FROM patient_key WHERE tenant = $1 AND patient_id = $2 ORDER BY 1",
            self.scope.tenant,
            patient_id,
        )
        return [(row[0], row[1]) for row in rows]


@asynccontextmanager
async def operating(
    folder: Path, database_url: str, tenant: str, grace_s: float = GRACE_S, **more: Any
) -> AsyncIterator[Operator]:
    clock, file = ManualClock(), FileKeyService(folder / "key-encryption-key")
    async with (
        open_tenant(database_url, file, clock, tenant) as (database, owner, tenancy),
        open_vault(None, folder, owner, tenancy.scope) as vault,
    ):
        audit = AuditLog(database, tenancy.scope, tenancy.audit_key)
        signals = await open_signal_store(None, folder)
        yield Operator(
            database,
            tenancy.scope,
            file,
            vault,
            Rewrapping(database, vault, tenancy.scope, file, audit, clock),
            PatientRotation(database, vault, tenancy.scope, file, signals, audit, clock, grace_s=grace_s, **more),
        )


@pytest.fixture
async def operator(site: Site, keys_folder: Path, database_url: str) -> AsyncIterator[Operator]:
    async with operating(keys_folder, database_url, site.tenant) as operator:
        yield operator


async def filled(site: Site) -> tuple[Device, Account]:
    """A patient with results, words, notes, documents, and an emergency access."""
    device = await site.new_device()
    _, clinician = await site.new_principal("clinician")
    await device.exchange(device.rows(1, 20), annotations=(device.note(1, "of the device"),))
    base = f"/v1/patients/{device.identity.patient_id}"
    answers = [
        await site.send("PUT", f"/v1/results/{device.alias}-1-1/annotation", token=clinician, json={"comment": "c"}),
        await site.send("POST", f"{base}/notes", token=clinician, json={"text": "a diary"}),
        await site.send("PUT", f"{base}/documents/consents/research", token=site.admin, json={"research": True}),
    ]
    agreed = shown(Consent("", device.identity.patient_id, 1, True, 0, Agreement(True, "2026-11-23")))
    del agreed["id"], agreed["meta"]
    given = await site.send("POST", "/fhir/R4/Consent", token=clinician, json=agreed)
    assert given.status == 201, given.body
    _, stranger = await site.new_principal("clinician", treats=False)
    answers.append(
        await site.send(
            "POST", f"{base}/break-glass", token=stranger, json={"reason": "emergency", "text": "found on the floor"}
        )
    )
    assert [answer.status for answer in answers] == [200, 201, 200, 201]
    return device, clinician


async def everything(site: Site, device: Device, clinician: Account) -> list[Any]:
    """All that can be read of a patient, through the server; the device's exchange as well."""
    base = f"/v1/patients/{device.identity.patient_id}"
    found = []
    for path in ("results", "notes", "documents"):
        answer = await site.send("GET", f"{base}/{path}", token=clinician)
        assert answer.status == 200, answer.body
        found.append(answer.json)
    path = f"/fhir/R4/Consent?patient={device.identity.patient_id}"
    answer = await site.send("GET", path, token=clinician)
    assert (answer.status, answer.json["total"]) == (200, 1)
    found.append(answer.json)
    accesses = (await site.send("GET", "/v1/break-glass", token=site.admin)).json["accesses"]
    found.append([one for one in accesses if one["patient_id"] == device.identity.patient_id])
    assert [one["text"] for one in found[-1]] == ["found on the floor"]
    answer = await device.post(device.request())
    assert answer.status == 200, answer.body
    return found


async def sealed_with(connection: Connection, tenant: str, patient_id: str) -> set[int]:
    found = set()
    for column in SEALED:
        rows = await connection.fetch(
            f"SELECT DISTINCT key_version FROM {column.table} WHERE shard = $1 AND tenant = $2 AND {column.of_patient}",
            0,
            tenant,
            patient_id,
        )
        found |= {row[0] for row in rows}
    return found


async def test_every_table_of_sealed_values_and_wrapped_keys_is_listed(connection: Connection, site: Site) -> None:
    async def columns(pattern: str) -> set[tuple[str, str]]:
        rows = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE column_name LIKE $1 "
            "AND table_schema = 'public' "
            "AND table_name NOT SIMILAR TO 'result_row_(first|other|[0-9_]+)|vault\\_%|%former'",
            pattern,
        )
        return {(row[0], row[1]) for row in rows}

    versioned = {table for table, _ in await columns(r"key\_version")}
    # A principal's counts replacements of its public keys; a tenant's key is itself.
    assert {column.table for column in SEALED} == versioned - {"patient_key", "principal", "tenant_key"}
    assert await columns(r"%\_sealed") <= {(column.table, column.column) for column in SEALED}
    assert {column.table for column in WRAPPED} == {table for table, _ in await columns(r"wrapping\_round")}
    assert {(column.table, column.column) for column in WRAPPED} == await columns("%wrapped")


# ---- the key-encryption key ---------------------------------------------------------------------------------------


async def test_the_key_encryption_key_is_rotated_while_a_server_serves(site: Site, operator: Operator) -> None:
    device, clinician = await filled(site)
    before = await everything(site, device, clinician)
    assert await operator.file.make_version() == 2
    assert await operator.rewrapping.run() == 3  # the patient's, the audit log's, and what signs access tokens
    assert {file_version(one) for one in await operator.rewrapping.stored()} == {2}
    assert await everything(site, device, clinician) == before
    # What the server makes from now on, it wraps with the new version.
    fresh = await site.new_device()
    assert {file_version(one) for one in await operator.rewrapping.stored()} == {2}
    await fresh.exchange(fresh.rows(1, 1))


async def test_a_former_version_is_not_forgotten_while_a_key_needs_it(
    site: Site, operator: Operator, keys_folder: Path
) -> None:
    device, clinician = await filled(site)
    before = await everything(site, device, clinician)
    path = keys_folder / "key-encryption-key"
    await operator.file.make_version()
    stored = {file_version(one) for one in await operator.rewrapping.stored()}
    with pytest.raises(KeyUnavailable, match="still wrapped"):
        await operator.file.forget_former(stored)
    await operator.rewrapping.run()
    stored = {file_version(one) for one in await operator.rewrapping.stored()}
    with pytest.raises(KeyUnavailable, match="just now"):
        await operator.file.forget_former(stored)
    long_ago = path.stat().st_mtime - limits.KEY_FILE_FORGET_AFTER_S - 1
    os.utime(path, (long_ago, long_ago))
    assert await operator.file.forget_former(stored) == 2
    assert path.read_text().startswith("2 ")
    assert path.read_text().count("\n") == 1
    assert path.stat().st_mode & 0o777 == 0o600
    async with parts_of(keys_folder, str(site_url(operator)), site.clock, site.tenant) as parts:
        assert (await parts.audit.verify()).entries > 0
        assert await parts.signing_keys.held()
    assert await everything(site, device, clinician) == before


def site_url(operator: Operator) -> str:
    return str(operator.database._pool._connect_args[0])


async def test_a_round_that_was_cut_short_is_gone_on_with(site: Site, operator: Operator) -> None:
    devices = [await filled(site) for _ in range(3)]
    await operator.file.make_version()
    number = await operator.rewrapping.rounds.begin()
    await operator.rewrapping.batch(number)  # the tenant's own
    assert {file_version(one) for one in await operator.rewrapping.stored()} == {1, 2}
    for device, clinician in devices:
        await everything(site, device, clinician)
    assert await operator.rewrapping.rounds.unfinished() == number
    assert await operator.rewrapping.run() == 4  # the patients', and what signs access tokens
    assert await operator.rewrapping.rounds.unfinished() is None
    assert await operator.rewrapping.rounds.begin() == number + 1


async def test_a_wrapped_key_put_in_anothers_place_stops_the_rotation(site: Site, operator: Operator) -> None:
    """Attack 32: a key-encryption key's rotation must not launder a swapped key."""
    first, second = await site.new_patient(), await site.new_patient()
    swapped = (await operator.vault.keys(second))[1]
    await operator.vault.erase(first)
    await operator.vault.keep([KeptKey(first, 1, swapped)])
    with pytest.raises(EnvelopeRefused):
        await operator.rewrapping.run()


async def test_two_commands_make_no_version_at_once(tmp_path: Path) -> None:
    file = FileKeyService(tmp_path / "kek")
    done = await asyncio.gather(*(file.make_version() for _ in range(8)), return_exceptions=True)
    made = [one for one in done if isinstance(one, int)]
    assert all(isinstance(one, int | DataFolderBusy) for one in done)
    assert sorted(made) == list(range(2, 2 + len(made)))
    assert len((tmp_path / "kek").read_text().splitlines()) == 1 + len(made)


# ---- a patient's key ----------------------------------------------------------------------------------------------


async def test_a_patient_gets_a_new_key_while_its_devices_go_on(
    site: Site, operator: Operator, connection: Connection
) -> None:
    device, clinician = await filled(site)
    patient, other = device.identity.patient_id, (await filled(site))[0].identity.patient_id
    before = await everything(site, device, clinician)
    statuses: list[int] = []
    stopping = asyncio.Event()

    async def go_on() -> None:
        counter = 21
        while not stopping.is_set():
            answer = await device.post(device.request(device.rows(counter, 1)))
            statuses.append(answer.status)
            counter += answer.status == 200
            statuses.append((await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)).status)
            await asyncio.sleep(0.05)

    going = asyncio.create_task(go_on())
    await operator.patients.rotate([patient])
    await asyncio.sleep(0.2)
    stopping.set()
    await going
    assert set(statuses) == {200}
    assert len(statuses) > 20
    assert await operator.versions(patient) == [(2, True)]
    assert await sealed_with(connection, site.tenant, patient) == {2}
    assert await operator.versions(other) == [(1, True)]
    after = await everything(site, device, clinician)
    assert after[1:] == before[1:]
    assert after[0]["results"][:20] == before[0]["results"]
    rows = await connection.fetch(
        "SELECT operation, patient, role, purpose FROM audit_entry WHERE tenant = $1 AND actor = 'operator'",
        site.tenant,
    )
    assert [tuple(row) for row in rows] == [("patient_key.rotate", patient, "operator", "HSYSADMIN")]


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_rotation_may_end_after_any_step(
    site: Site, operator: Operator, connection: Connection, steps: int
) -> None:
    device, clinician = await filled(site)
    patient = device.identity.patient_id
    before = await everything(site, device, clinician)
    await operator.patients.announce(patient)
    if steps > 1:
        await asyncio.sleep(GRACE_S)
        await operator.patients.let_seal(patient)
    if steps > 2:
        await asyncio.sleep(GRACE_S)
        response = await device.exchange(device.rows(21, 5))
        assert response.acknowledged == 25
        assert await sealed_with(connection, site.tenant, patient) == {1, 2}
    now = await everything(site, device, clinician)
    assert now[1:] == before[1:]
    assert len(await operator.versions(patient)) == 2
    await operator.patients.rotate([patient])
    assert await operator.versions(patient) == [(2, True)]
    assert await sealed_with(connection, site.tenant, patient) == {2}
    assert await everything(site, device, clinician) == now


async def test_all_patients_get_one_new_key_each_also_in_two_goes(site: Site, operator: Operator) -> None:
    patients = [await site.new_patient() for _ in range(4)]
    number = await operator.patients.rounds.begin()
    await operator.patients.rotate(patients[:2], number)
    assert await operator.patients.rotate_all() == 2
    for patient in patients:
        assert await operator.versions(patient) == [(2, True)]
    assert await operator.patients.rotate_all() == 4
    for patient in patients:
        assert await operator.versions(patient) == [(3, True)]


async def test_a_value_in_anothers_place_stops_the_rotation_and_nothing_is_removed(
    site: Site, operator: Operator, connection: Connection
) -> None:
    """Attack 32: resealing must not launder what was swapped."""
    device, _ = await filled(site)
    patient = device.identity.patient_id
    sealed = await connection.fetchval(
        "SELECT row_sealed FROM result_row WHERE tenant = $1 AND counter = 7", site.tenant
    )
    await connection.execute(
        "UPDATE result_row SET row_sealed = $2 WHERE tenant = $1 AND counter = 8", site.tenant, sealed
    )
    with pytest.raises(EnvelopeRefused):
        await operator.patients.rotate([patient])
    assert await operator.versions(patient) == [(1, True), (2, True)]


async def test_a_value_of_the_new_version_in_another_row_is_refused(
    site: Site, operator: Operator, connection: Connection
) -> None:
    device, clinician = await filled(site)
    patient = device.identity.patient_id
    await operator.patients.rotate([patient])
    sealed = await connection.fetchval(
        "SELECT row_sealed FROM result_row WHERE tenant = $1 AND counter = 7", site.tenant
    )
    # Nor does it pass for one of another version.
    for forged in (sealed, b"\x01" + sealed[5:], sealed[:4] + b"\x03" + sealed[5:]):
        await connection.execute(
            "UPDATE result_row SET row_sealed = $2 WHERE tenant = $1 AND counter = 8", site.tenant, forged
        )
        assert (await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)).status == 500


async def test_who_seals_with_a_version_that_is_gone_is_refused(
    site: Site, operator: Operator, keys_folder: Path
) -> None:
    """A request that was let in before, and comes to its write after all: it is sent again, and nothing is lost."""
    device, _ = await filled(site)
    patient = device.identity.patient_id
    stale = await PatientKeys(operator.database, operator.vault, operator.file, operator.scope).get(patient)
    await operator.patients.rotate([patient])
    with pytest.raises(Busy) as refused:
        await operator.database.transact(lambda connection: hold_version(connection, operator.scope, stale))
    assert refused.value.code == "key_rotated"


async def test_an_emergency_access_is_not_sealed_with_a_version_that_is_gone(
    site: Site, operator: Operator, keys_folder: Path, database_url: str
) -> None:
    patient = await site.new_patient()
    event = Event(at_ms=0, actor="c", operation="break_glass.open", patient=patient, outcome="allowed")
    async with parts_of(keys_folder, database_url, site.clock, site.tenant) as parts:
        standing_still = PatientKeys(
            parts.database, operator.vault, operator.file, operator.scope, elapsed_s=lambda: 0.0
        )
        accesses = BreakGlass(parts.database, operator.scope, standing_still, parts.audit)
        await accesses.open(patient, "c", "emergency", "before", 1, event)
        await operator.patients.rotate([patient])
        with pytest.raises(Busy) as refused:
            await accesses.open(patient, "c", "emergency", "late", 2, event)
        assert refused.value.code == "key_rotated"
        assert [one.text for one in await parts.break_glass.newest(patient, None, 9)] == ["before"]


async def test_a_removal_waits_for_who_still_seals(site: Site, operator: Operator, connection: Connection) -> None:
    device, _ = await filled(site)
    patient = device.identity.patient_id
    stale = await PatientKeys(operator.database, operator.vault, operator.file, operator.scope).get(patient)
    await operator.patients.announce(patient)
    await operator.patients.let_seal(patient)
    transaction = connection.transaction()
    await transaction.start()
    await hold_version(connection, operator.scope, stale)
    removing = asyncio.create_task(operator.patients.reseal(patient))
    await asyncio.sleep(0.5)
    assert not removing.done()
    # What it sealed late is found.
    late = stale.seal(b"late", "signal_upload_piece", "piece_sealed", "late/0")
    await connection.execute(
        "INSERT INTO signal_upload VALUES (0, $1, 'late', $2, $3, 'x', 8, 4, 0)", site.tenant, device.alias, patient
    )
    await connection.execute("INSERT INTO signal_upload_piece VALUES (0, $1, 'late', 0, $2, 1)", site.tenant, late)
    await transaction.commit()
    await removing
    row = await connection.fetchrow("SELECT * FROM signal_upload_piece WHERE tenant = $1", site.tenant)
    fresh = await PatientKeys(operator.database, operator.vault, operator.file, operator.scope).get(patient)
    assert row["key_version"] == fresh.version == 2
    assert fresh.open(row["piece_sealed"], "signal_upload_piece", "piece_sealed", "late/0") == b"late"


async def test_signals_quarantined_and_overtaken_rows_are_resealed_as_well(
    site: Site, operator: Operator, connection: Connection, keys_folder: Path
) -> None:
    device, _ = await filled(site)
    patient, alias = device.identity.patient_id, device.alias
    keys = PatientKeys(operator.database, operator.vault, operator.file, operator.scope)
    former, store = await keys.get(patient), await open_signal_store(None, keys_folder)
    lost = Superseded(ResultId(alias, 1, 1), "author/with/slashes", 1, 1 << 40, "N")
    quarantined = sealing.seal_result(former, sealing.QUARANTINE, ResultId(alias, 1, 99), b"canonical")
    await connection.execute(
        "INSERT INTO quarantined_row VALUES (0, $1, $2, 1, 99, $3, $4, 1, 1, 0)",
        site.tenant,
        alias,
        patient,
        quarantined,
    )
    for commit_seq in (0, 1 << 50):
        share = commit_seq + 5
        await connection.execute(
            "INSERT INTO superseded_write VALUES (0, $1, $2, 1, 1, $3, 1, $4, $5, $6, $7, 1, $8)",
            site.tenant,
            alias,
            lost.author,
            lost.hlc,
            share.to_bytes(16, "big"),
            patient,
            sealing.seal_superseded(former, lost, share),
            commit_seq,
        )
    names = [bytes([number]) * 32 for number in (1, 2)]
    for chunk in names:
        sealed = former.seal(b"samples", "signal_chunk", "content", f"{alias}/{chunk.hex()}")
        await store.put(f"{site.tenant}/{patient}/{alias}/{chunk.hex()}", sealed)
        await connection.execute(
            "INSERT INTO signal_chunk VALUES (0, $1, $2, $3, $4, 7, 1, 0)", site.tenant, alias, chunk, patient
        )
    await operator.patients.announce(patient)
    await operator.patients.let_seal(patient)
    # As if a rotation had been killed between an object and its row.
    key = await PatientKeys(operator.database, operator.vault, operator.file, operator.scope).get(patient)
    sealed = key.seal(b"samples", "signal_chunk", "content", f"{alias}/{names[0].hex()}")
    await store.put(f"{site.tenant}/{patient}/{alias}/{names[0].hex()}", sealed)
    await operator.patients.rotate([patient])
    assert await sealed_with(connection, site.tenant, patient) == {2}
    only = await PatientKeys(operator.database, operator.vault, operator.file, operator.scope).get(patient)
    for chunk in names:
        content = await store.get(f"{site.tenant}/{patient}/{alias}/{chunk.hex()}")
        assert content is not None
        assert only.open(content, "signal_chunk", "content", f"{alias}/{chunk.hex()}") == b"samples"
    sealed = await connection.fetchval("SELECT row_sealed FROM quarantined_row WHERE tenant = $1", site.tenant)
    assert only.open(sealed, sealing.QUARANTINE, "row_sealed", f"{alias}/1/99/") == b"canonical"
    for row in await connection.fetch("SELECT * FROM superseded_write WHERE tenant = $1", site.tenant):
        named = (lost.target, lost.author, lost.field, lost.hlc, row["row_sum"], row["row_sealed"])
        assert sealing.open_superseded(only, *named) == lost


async def test_nobody_is_no_patient(operator: Operator) -> None:
    with pytest.raises(NotFound):
        await operator.patients.rotate(["nobody"])


async def test_what_a_process_knows_of_keys_is_a_second_old_at_most(site: Site, operator: Operator) -> None:
    patient, now_s = await site.new_patient(), 100.0
    keys = PatientKeys(operator.database, operator.vault, operator.file, operator.scope, elapsed_s=lambda: now_s)
    assert (await keys.get(patient)).version == 1
    await operator.patients.announce(patient)
    await operator.patients.let_seal(patient)
    now_s += limits.KEYS_CHECK_INTERVAL_S - 0.01
    assert (await keys.get(patient)).version == 1
    now_s += 0.02
    assert (await keys.get(patient)).version == 2


# ---- kill -9 (attack 33) ------------------------------------------------------------------------------------------

CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.einthoven_server.test_rotation import operating

async def main(folder, url, tenant, what, patient, kill_at):
    left = [int(kill_at)]

    async with operating(Path(folder), url, tenant, 0.0) as operator:
        database = operator.database
        transact, fetch = database.transact, database.fetch

        def step():
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        async def counted(work, **more):
            step()
            return await transact(work, **more)

        async def fetched(query, *arguments):
            if "UPDATE " in query:  # a statement is a transaction of its own
                step()
            return await fetch(query, *arguments)

        database.transact, database.fetch = counted, fetched
        if what == "patient":
            await operator.patients.rotate([patient])
        else:
            if await operator.rewrapping.rounds.unfinished() is None:
                await operator.file.make_version()
            await operator.rewrapping.run()
    print("done")

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["patient", "kek"])
async def test_attack_33_killed_at_every_step_everything_opens(
    site: Site, operator: Operator, connection: Connection, keys_folder: Path, database_url: str, what: str
) -> None:
    device, clinician = await filled(site)
    patient = device.identity.patient_id
    before = await everything(site, device, clinician)
    # One after the other on the same data: each goes on where the one before was killed, and is killed one step later.
    kill_at, finished = 1, False
    while not finished:
        command = [
            sys.executable,
            "-c",
            CHILD,
            str(keys_folder),
            database_url,
            site.tenant,
            what,
            patient,
            str(kill_at),
        ]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        finished = done.returncode == 0
        assert finished or done.returncode == -signal.SIGKILL, done.stderr
        await asyncio.sleep(GRACE_S)  # the children wait for nothing, and this server has what it knew
        assert await everything(site, device, clinician) == before, kill_at
        kill_at += 1
    assert kill_at > 4
    # With exactly one key in the end.
    versions = await operator.versions(patient)
    assert len(versions) == 1
    assert len({file_version(one) for one in await operator.rewrapping.stored()}) == 1
    if what == "patient":
        assert await sealed_with(connection, site.tenant, patient) == {versions[0][0]}


async def test_the_group_commit_refuses_what_was_sealed_with_a_version_that_is_gone(
    site: Site, operator: Operator, keys_folder: Path, database_url: str
) -> None:
    """A node that heard of nothing: its device is told to send again, and nothing of it is stored."""
    device, _ = await filled(site)
    async with parts_of(keys_folder, database_url, site.clock, site.tenant) as parts:
        known = await parts.identities.device(device.identity.device_id)
        assert known is not None
        await operator.patients.rotate([device.identity.patient_id])
        event = Event(at_ms=0, actor="operator", operation="note", patient=known.patient_id, outcome="allowed")
        stale = WriteNote(known.patient_id, known.patient_key, "a", 0, "late", event, 0)
        fresh = await PatientKeys(operator.database, operator.vault, operator.file, operator.scope).get(
            known.patient_id
        )
        # In one batch with others, also of the same patient, who do not suffer for it.
        changes = [stale, replace(stale, patient_key=fresh), replace(stale, text="again")]
        async with parts.writer.running():
            done = await asyncio.gather(*map(parts.writer.note, changes), return_exceptions=True)
    assert [getattr(one, "code", "written") for one in done] == ["key_rotated", "written", "key_rotated"]


async def test_ready_asks_the_key_service(site: Site, keys_folder: Path) -> None:
    assert (await site.send("GET", "/readyz")).status == 200
    probe = KeyServiceProbe(FileKeyService(keys_folder / "key-encryption-key"), elapsed_s=lambda: 0.0)
    await probe.check()
    broken = FileKeyService(keys_folder / "key-encryption-key")
    (keys_folder / "key-encryption-key").chmod(0o644)
    with pytest.raises(KeyServiceUnavailable):
        await KeyServiceProbe(broken).check()
    await probe.check()  # its answer still counts
