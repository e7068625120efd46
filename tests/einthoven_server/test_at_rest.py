"""The database's files hold no plain text, and its rows can't be moved about (attacks 29, 32)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.einthoven_server.site import Device, Site

from einthoven_protocol.codec import encode_result_row
from einthoven_server.database import Connection
from einthoven_server.vault.port import all_keys
from einthoven_server.vault.sqlite import SqliteVault

CANARY = "canary-7f3a-holds-no-tune"


async def test_no_file_of_the_server_holds_what_was_said(
    site: Site, connection: Connection, data_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = await site.new_device()
    _, clinician = await site.new_principal("clinician")
    rows = device.rows(1, 3)
    await device.exchange(rows, annotations=(device.note(1, f"{CANARY} of the device"),))
    path = f"/v1/results/{device.alias}-1-2/annotation"
    assert (await site.send("PUT", path, token=clinician, json={"comment": f"{CANARY} of the clinic"})).status == 200
    base = f"/v1/patients/{device.identity.patient_id}"
    note = await site.send("POST", f"{base}/notes", token=clinician, json={"text": f"{CANARY} of the diary"})
    consent = await site.send(
        "PUT",
        f"{base}/documents/consents/research",
        token=site.admin,
        data=f'"{CANARY} of the consent"',
        headers={"Content-Type": "application/json"},
    )
    assert (note.status, consent.status) == (201, 200)
    await connection.execute("CHECKPOINT")
    shown = await site.authorization(clinician).headers(site.http, "GET", path)
    secrets = {
        "a comment": CANARY.encode(),
        "a row": encode_result_row(rows[0])[1:],
        "a model digest": rows[0].model_digest,
        "a sync key": device.identity.sync_key,
        "an access token": shown["Authorization"].removeprefix("DPoP ").encode(),
    }
    assert search(data_folder, secrets) > 20_000_000, "the folder that was searched holds no database"
    assert CANARY not in caplog.text


def search(folder: Path, secrets: dict[str, bytes]) -> int:
    """Look into every file: tables, write-ahead log, temporary files, PostgreSQL's own log."""
    searched = 0
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            searched += len(content)
            for what, secret in secrets.items():
                assert secret not in content, f"{what} in {file.name}"
    return searched


def test_the_search_itself_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "wal").write_bytes(bytes(100) + CANARY.encode() + bytes(100))
    with pytest.raises(AssertionError, match="a comment in wal"):
        search(tmp_path, {"a comment": CANARY.encode()})


async def two_devices(site: Site) -> tuple[Device, Device]:
    first, second = await site.new_device(), await site.new_device()
    for device in (first, second):
        await device.exchange(device.rows(1, 2), annotations=(device.note(1, "one"), device.note(2, "two")))
    return first, second


@pytest.mark.parametrize("table", ["result_row", "annotation"])
@pytest.mark.parametrize("other_patient", [False, True])
async def test_a_ciphertext_moved_to_another_row_is_refused(
    site: Site, connection: Connection, table: str, other_patient: bool
) -> None:
    first, second = await two_devices(site)
    _, clinician = await site.new_principal("clinician")
    source = (second.alias, 1) if other_patient else (first.alias, 2)
    sealed = await connection.fetchval(
        f"SELECT row_sealed FROM {table} WHERE tenant = $1 AND device_alias = $2 AND counter = $3", site.tenant, *source
    )
    await connection.execute(
        f"UPDATE {table} SET row_sealed = $3 WHERE tenant = $1 AND device_alias = $2 AND counter = 1",
        site.tenant,
        first.alias,
        sealed,
    )
    path = f"/v1/patients/{first.identity.patient_id}/results"
    answer = await site.send("GET", path, token=clinician)
    assert (answer.status, answer.error) == (500, "internal")
    assert b"one" not in answer.body
    # The other patient's are not held up by it.
    other = await site.send("GET", f"/v1/patients/{second.identity.patient_id}/results", token=clinician)
    assert other.status == 200


async def test_a_sync_key_moved_to_another_device_is_refused(site: Site, connection: Connection) -> None:
    first, second = await two_devices(site)
    await connection.execute(
        "UPDATE device SET sync_key_sealed = other.sync_key_sealed FROM device AS other WHERE device.tenant = $1 "
        "AND device.device_alias = $2 AND other.tenant = $1 AND other.device_alias = $3",
        site.tenant,
        first.alias,
        second.alias,
    )
    assert (await first.post(first.request())).status == 500
    assert (await second.post(second.request())).status == 200


async def test_a_patients_data_key_is_kept_wrapped_and_bound(site: Site, vault: SqliteVault) -> None:
    first, second = await two_devices(site)
    wrapped = [key async for key in all_keys(vault)]
    assert len({key.wrapped for key in wrapped}) == 2
    assert {key.patient_id for key in wrapped} == {first.identity.patient_id, second.identity.patient_id}
