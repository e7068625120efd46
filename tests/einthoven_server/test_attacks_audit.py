"""Attacks 35 and 36: what the database's owner does to the audit log is found and named; without it nothing is done."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.einthoven_server.site import ManualClock, Site

from einthoven_protocol.messages import Capability
from einthoven_server import limits
from einthoven_server.audit.chain import Event, link, seal_of
from einthoven_server.audit.checkpoint_keeper import FILE_NAME, CheckpointKeeper
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.merkle import Frontier, leaf_hash
from einthoven_server.certificates import DocumentSigner
from einthoven_server.database import Connection, Database
from einthoven_server.errors import AuditTampered, Busy, CheckpointRefused
from einthoven_server.identity.tenancy import ensure_tenancy
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.records.checkpoint_publisher import DOCUMENT_NAME, CheckpointPublisher
from einthoven_server.serve import parts_of


def events(count: int, first: int = 0) -> list[Event]:
    return [
        Event(
            1_000 + n, f"actor-{n}", "results.list", f"p{n % 7}", "allowed", "clinician", "result", "", "TREAT", ("q",)
        )
        for n in range(first, first + count)
    ]


def unclaimed(events: list[Event]) -> list[tuple[Event, None]]:
    return [(event, None) for event in events]


class Logged:
    """A log of 600 entries, signed at 300 and 600, and its data folder."""

    def __init__(self, database: Database, folder: Path, log: AuditLog, key: bytes) -> None:
        self.database, self.folder, self.log, self.key = database, folder, log, key
        self.keeper = CheckpointKeeper(log, folder)
        self.tenant = log.scope.tenant

    async def verify(self, *files: Path) -> int:
        return (await self.log.verify(await self.keeper.known(*files))).entries


@pytest.fixture
async def logged(database: Database, tmp_path: Path) -> Logged:
    tenancy = await ensure_tenancy(database, FileKeyService(tmp_path / "kek"), 0, tenant=str(uuid.uuid4()))
    found = Logged(database, tmp_path, AuditLog(database, tenancy.scope, tenancy.audit_key), tenancy.audit_key)
    for half in range(2):
        await found.log.record_all(unclaimed(events(300, 300 * half)))
        await found.keeper.make(half)
    return found


async def test_35_a_log_that_nobody_touched_agrees_with_all_its_checkpoints(logged: Logged) -> None:
    assert await logged.verify() == 600
    assert len(await logged.keeper.known()) == 4  # two in the file, two in the database


FORGERIES = {
    "edited": ("UPDATE audit_entry SET outcome = 'forbidden' WHERE tenant = $1 AND seq = 411", "entry 411 was altered"),
    "role": ("UPDATE audit_entry SET role = 'admin' WHERE tenant = $1 AND seq = 5", "entry 5 was altered"),
    "resource": ("UPDATE audit_entry SET resource_id = 'x' WHERE tenant = $1 AND seq = 6", "entry 6 was altered"),
    "purpose": ("UPDATE audit_entry SET purpose = 'BTG' WHERE tenant = $1 AND seq = 7", "entry 7 was altered"),
    "concerned": ("UPDATE audit_entry SET others = '' WHERE tenant = $1 AND seq = 8", "entry 8 was altered"),
    "form": ("UPDATE audit_entry SET form = 1 WHERE tenant = $1 AND seq = 9", "entry 9 was altered"),
    "no form": ("UPDATE audit_entry SET form = 77 WHERE tenant = $1 AND seq = 9", "entry 9 was altered"),
    "removed": ("DELETE FROM audit_entry WHERE tenant = $1 AND seq = 256", "entry 256 is missing"),
    "cut off": ("DELETE FROM audit_entry WHERE tenant = $1 AND seq > 590", "entry 591 is missing"),
    "moved": (
        "UPDATE audit_entry SET seq = -seq WHERE tenant = $1 AND seq IN (20, 21);"
        "UPDATE audit_entry SET seq = 41 + seq WHERE tenant = $1 AND seq < 0",
        "entry 20 was altered",
    ),
    "emptied": ("DELETE FROM audit_entry WHERE tenant = $1", "entry 1 is missing"),
    "node": ("UPDATE audit_node SET hash = mac FROM audit_head AS h WHERE h.tenant = $1 AND audit_node.tenant = $1",
             "tree over audit entries 1 to 256 was altered"),
    "no node": ("DELETE FROM audit_node WHERE tenant = $1", "tree over audit entries 1 to 256 was altered"),
    "frontier": ("UPDATE audit_head SET frontier = set_byte(frontier, 3, 7) WHERE tenant = $1", "head was altered"),
    "seal": ("UPDATE audit_head SET seal = mac WHERE tenant = $1", "head was altered"),
    "checkpoint": ("UPDATE audit_checkpoint SET note = replace(note, '300', '301') WHERE tenant = $1", "checkpoint in"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_35_each_forgery_is_found_and_named(logged: Logged, connection: Connection, forgery: str) -> None:
    sql, named = FORGERIES[forgery]
    for statement in sql.split(";"):
        await connection.execute(statement, logged.tenant)
    with pytest.raises(AuditTampered, match=named):
        await logged.verify()


async def rolled_back(logged: Logged, connection: Connection, size: int) -> None:
    """Make the database what it was at ``size`` entries, as a backup would: everything in it agrees."""
    await connection.execute("DELETE FROM audit_entry WHERE tenant = $1 AND seq > $2", logged.tenant, size)
    await connection.execute("DELETE FROM audit_checkpoint WHERE tenant = $1 AND size > $2", logged.tenant, size)
    await connection.execute(
        "DELETE FROM audit_node WHERE tenant = $1 AND (position + 1) << level > $2", logged.tenant, size
    )
    frontier = Frontier()
    for entry in link(logged.key, 0, bytes(32), events(size)):
        frontier.append(leaf_hash(entry.leaf))
        last = entry.mac
    edge = frontier.to_bytes()
    await connection.execute(
        "UPDATE audit_head SET seq = $2, mac = $3, tree_size = $2, frontier = $4, seal = $5 WHERE tenant = $1",
        logged.tenant, size, last, edge, seal_of(logged.key, size, last, edge),
    )  # fmt: skip


async def test_35_an_end_cut_off_with_its_head_is_found_by_the_file(logged: Logged, connection: Connection) -> None:
    await rolled_back(logged, connection, 450)
    assert (await logged.log.verify()).entries == 450  # in itself it holds
    with pytest.raises(AuditTampered, match="entry 451 is missing, as a checkpoint in audit-checkpoints knows of 600"):
        await logged.verify()
    # And nothing is signed over it, nor is it once it has grown past what was signed.
    with pytest.raises(AuditTampered, match="not what it was when 600"):
        await logged.keeper.make(9)
    await logged.log.record_all(unclaimed(events(200, 5_000)))
    with pytest.raises(AuditTampered, match="not what it was when 600"):
        await logged.keeper.make(9)
    with pytest.raises(AuditTampered, match="entry of 301 to 600 is not the one that a checkpoint"):
        await logged.verify()


async def test_35_and_by_a_checkpoint_that_somebody_else_kept(
    logged: Logged, connection: Connection, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.write_text(await logged.keeper.make(2), encoding="utf-8")
    (logged.folder / FILE_NAME).unlink()
    await rolled_back(logged, connection, 300)
    assert await logged.verify() == 300
    with pytest.raises(AuditTampered, match="entry 301 is missing, as the checkpoint that was given knows of 600"):
        await logged.verify(kept)
    # The form in which devices have it says the same.
    kept.write_text(json.dumps({"checkpoint": kept.read_text(encoding="utf-8")}), encoding="utf-8")
    with pytest.raises(AuditTampered, match="entry 301 is missing"):
        await logged.verify(kept)


async def test_35_who_has_the_chains_key_as_well_is_found_by_checkpoints(
    logged: Logged, connection: Connection
) -> None:
    changed = [one._replace(outcome="forbidden") if n == 399 else one for n, one in enumerate(events(600))]
    for table in ("audit_entry", "audit_node"):
        await connection.execute(f"DELETE FROM {table} WHERE tenant = $1", logged.tenant)
    await connection.execute(
        "UPDATE audit_head SET seq = 0, mac = $2, tree_size = 0, frontier = '', seal = '' WHERE tenant = $1",
        logged.tenant, bytes(32),
    )  # fmt: skip
    await logged.log.record_all(unclaimed(changed))
    assert (await logged.log.verify()).entries == 600
    with pytest.raises(AuditTampered, match="entry of 301 to 600 is not the one"):
        await logged.verify()


async def test_35_a_head_that_was_moved_takes_no_more_entries(logged: Logged, connection: Connection) -> None:
    row = await connection.fetchrow("SELECT mac FROM audit_entry WHERE tenant = $1 AND seq = 500", logged.tenant)
    await connection.execute(
        "UPDATE audit_head SET seq = 500, tree_size = 500, mac = $2 WHERE tenant = $1", logged.tenant, row["mac"]
    )
    with pytest.raises(Busy):
        await logged.log.record(events(1)[0])
    assert await logged.log.prepare() == 0


@pytest.mark.parametrize("change", ["size", "root", "signature", "origin", "other key", "garbage", "long", "absent"])
async def test_35_a_forged_checkpoint_is_refused(logged: Logged, tmp_path: Path, change: str) -> None:
    note, kept = await logged.keeper.make(2), tmp_path / "kept"
    lines = note.split("\n")
    if change == "size":
        lines[1] = "601"
    elif change == "root":
        lines[2] = lines[2][::-1].replace("=", "") + "="
    elif change == "signature":
        lines[4] = lines[4][:-6] + "AAAA=="
    elif change == "origin":
        lines[0] = lines[0] + "x"
    elif change == "other key":
        (logged.folder / "audit-key").unlink()
        logged.keeper = CheckpointKeeper(logged.log, logged.folder)
        (logged.folder / FILE_NAME).unlink()
        await logged.database.fetch("DELETE FROM audit_checkpoint WHERE tenant = $1", logged.tenant)
    elif change == "garbage":
        lines = ["\0\xff"]
    elif change == "long":
        lines = ["x" * 10_000]
    if change != "absent":
        kept.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(CheckpointRefused):
        await logged.verify(kept)


async def test_a_torn_end_of_the_file_hides_no_later_checkpoint(logged: Logged) -> None:
    file = logged.folder / FILE_NAME
    octets = file.read_bytes()
    file.write_bytes(octets[:-30])
    await logged.log.record_all(unclaimed(events(1, 600)))
    note = await logged.keeper.make(3)
    assert file.read_text("utf-8").endswith(note)
    assert [state.size for state in await logged.keeper.known()].count(601) == 2
    assert await logged.verify() == 601


async def test_entries_of_before_keep_their_bytes_and_are_put_into_the_tree(
    database: Database, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenancy = await ensure_tenancy(database, FileKeyService(tmp_path / "kek"), 0, tenant=str(uuid.uuid4()))
    log, key, scope = AuditLog(database, tenancy.scope, tenancy.audit_key), tenancy.audit_key, tenancy.scope
    # As the version before wrote them.
    import hashlib
    import hmac

    previous, written = bytes(32), []
    for seq in range(1, 601):
        texts = (b"actor", b"results.list", b"p", b"allowed")
        content = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
        message = previous + seq.to_bytes(8, "big") + (1_000).to_bytes(8, "big", signed=True) + content
        mac = hmac.digest(key, message, hashlib.sha256)
        written.append((*scope, seq, 1_000, "actor", "results.list", "p", "allowed", previous, mac))
        previous = mac
    await connection.executemany(
        "INSERT INTO audit_entry (shard, tenant, seq, at_ms, actor, operation, patient, outcome, previous, mac) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        written,
    )
    await connection.execute("UPDATE audit_head SET seq = 600, mac = $2 WHERE tenant = $1", scope.tenant, previous)
    with pytest.raises(Busy):  # nothing is written before they are in
        await log.record(events(1)[0])
    monkeypatch.setattr(limits, "AUDIT_VERIFY_PAGE_ROWS", 256)
    assert await log.prepare() == 600
    assert await log.prepare() == 0
    await log.record_all(unclaimed(events(3)))
    assert (await log.verify()).entries == 603
    await connection.execute("UPDATE audit_entry SET role = 'admin' WHERE tenant = $1 AND seq = 17", scope.tenant)
    with pytest.raises(AuditTampered, match="entry 17 was altered"):
        await log.verify()


# ---- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def publisher(
    site: Site, data_folder: Path, database_url: str, clock: ManualClock
) -> AsyncIterator[CheckpointPublisher]:
    from cryptography.hazmat.primitives.asymmetric import ec

    async with parts_of(data_folder, database_url, clock, site.tenant) as parts, parts.writer.running():
        signer = DocumentSigner(ec.generate_private_key(ec.SECP256R1()))
        yield CheckpointPublisher(parts.checkpoints, parts.words, parts.writer, signer, site.tenant)


async def test_35_devices_hold_the_last_checkpoint(
    site: Site, publisher: CheckpointPublisher, clock: ManualClock, tmp_path: Path, data_folder: Path, database_url: str
) -> None:
    clock.stop()
    device = await site.new_device()
    assert await publisher.round(clock.now_ms())
    (document,) = (await device.exchange(capabilities=Capability.FEED)).documents
    assert (document.name, document.version) == (DOCUMENT_NAME, 1)
    kept = tmp_path / "kept"
    kept.write_bytes(document.body)
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        (given,) = [one for one in await parts.checkpoints.known(kept) if one.place.endswith("given")]
        assert given.size == 4  # the admin's token, patient, code, enrolment
        await parts.audit.verify([given])
    # Not again within the hour, and after it only if something but this was added.
    assert not await publisher.round(clock.now_ms() + limits.AUDIT_CHECKPOINT_INTERVAL_MS - 1)
    assert await publisher.round(clock.now_ms() + limits.AUDIT_CHECKPOINT_INTERVAL_MS)  # the exchange was
    assert not await publisher.round(clock.now_ms() + 3 * limits.AUDIT_CHECKPOINT_INTERVAL_MS)
    (document,) = (await device.exchange(capabilities=Capability.FEED)).documents
    assert document.version == 2


async def test_a_log_that_was_turned_back_is_published_to_nobody(
    site: Site, publisher: CheckpointPublisher, clock: ManualClock, connection: Connection, caplog: Any
) -> None:
    clock.stop()
    for _ in range(3):
        await site.new_patient()
    assert await publisher.round(clock.now_ms())
    await site.new_patient()
    await connection.execute("UPDATE audit_head SET seal = '\\x00' WHERE tenant = $1", site.tenant)
    assert not await publisher.round(clock.now_ms() + limits.AUDIT_CHECKPOINT_INTERVAL_MS)
    assert "no checkpoint of the audit log was signed" in caplog.text


async def test_36_when_the_sink_is_down_reads_and_writes_of_patient_data_fail_closed(
    site: Site, connection: Connection
) -> None:
    device = await site.new_device()
    await device.exchange(device.rows(1, 1))
    _, clinician = await site.new_principal("clinician")
    patient = device.identity.patient_id
    observation = (await site.send("GET", f"/fhir/R4/RiskAssessment?subject=Patient/{patient}", token=clinician)).json
    risk = observation["entry"][0]["resource"]["id"]
    head = await connection.fetchrow("SELECT * FROM audit_head WHERE tenant = $1", site.tenant)
    count = await connection.fetchval("SELECT count(*) FROM audit_entry WHERE tenant = $1", site.tenant)
    await connection.execute("DELETE FROM audit_head WHERE tenant = $1", site.tenant)
    try:
        reads = [f"/v1/patients/{patient}/results", f"/fhir/R4/RiskAssessment/{risk}", f"/v1/patients/{patient}/notes"]
        answers = await asyncio.gather(*(site.send("GET", path, token=clinician) for path in reads))
        assert [answer.status for answer in answers] == [503, 503, 503]
        assert not any(b"931" in answer.body or patient.encode() in answer.body for answer in answers)
        assert (await device.post(device.request(device.rows(2, 1)))).status == 503
        assert (await site.send("POST", "/v1/patients", token=site.admin)).status == 503
        note = await site.send("POST", f"/v1/patients/{patient}/notes", token=clinician, json={"text": "x"})
        assert note.status == 503
    finally:
        await connection.execute("INSERT INTO audit_head VALUES ($1, $2, $3, $4, $5, $6, $7)", *head.values())
    assert await connection.fetchval("SELECT count(*) FROM audit_entry WHERE tenant = $1", site.tenant) == count
    assert (await device.exchange(device.rows(2, 1))).verdicts == ()
    assert (await site.send("GET", reads[0], token=clinician)).status == 200


async def test_proofs_over_http_verify_against_the_signed_checkpoint(
    site: Site, data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    import base64

    from einthoven_server.audit.merkle import verify_consistency, verify_inclusion

    for _ in range(5):
        await site.new_patient()
    first = (await site.send("GET", "/v1/audit/checkpoint", token=site.admin)).json
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        assert first["verifier"] == parts.checkpoints.verifier.text
        old = parts.checkpoints.verifier.open(first["checkpoint"])
        await site.new_patient()
        new = parts.checkpoints.verifier.open(await parts.checkpoints.make(clock.now_ms()))
    path = f"/v1/audit/proof?from={old.size}&to={new.size}"
    grown = (await site.send("GET", path, token=site.admin)).json
    hashes = [base64.b64decode(one) for one in grown["hashes"]]
    assert verify_consistency(old.size, new.size, old.root, new.root, hashes)
    within = (await site.send("GET", f"/v1/audit/proof?entry=2&size={new.size}", token=site.admin)).json
    hashes = [base64.b64decode(one) for one in within["hashes"]]
    assert verify_inclusion(base64.b64decode(within["leaf"]), 1, new.size, hashes, new.root)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400), ("entry=1", 400), ("entry=1&size=1&from=1", 400), ("entry=0&size=1", 400), ("entry=x&size=1", 400),
        ("entry=1&entry=1&size=1", 400), ("from=1&to=99999999", 404), ("entry=2&size=1", 404), ("x=1", 400),
        ("from=2&to=1", 404),
    ],
)  # fmt: skip
async def test_what_no_proof_can_answer_is_refused(site: Site, query: str, status: int) -> None:
    await site.new_patient()
    assert (await site.send("GET", f"/v1/audit/proof?{query}", token=site.admin)).status == status
