"""The audit chain: one entry a request, and every change to it is found (attacks 35, 36)."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven_server.site import Site

from einthoven.errors import ServerBusy
from einthoven_server.audit.chain import FIRST_PREVIOUS, Entry, Event, Verifier, link
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import AuditTampered
from einthoven_server.identity.tenancy import ensure_tenancy
from einthoven_server.key_service_file import FileKeyService

KEY = bytes(range(32))
EVENTS = [Event(1_000 + n, f"actor-{n}", "results.list", "patient", "allowed") for n in range(5)]


def verify(entries: list[Entry], head: tuple[int, bytes] | None = None, key: bytes = KEY) -> int:
    verifier = Verifier(key)
    for entry in entries:
        verifier.check(entry)
    verifier.check_head(*(head or (entries[-1].seq, entries[-1].mac)))
    return verifier.seq


def chain() -> list[Entry]:
    return link(KEY, 0, FIRST_PREVIOUS, EVENTS)


def test_a_whole_chain_verifies_also_when_made_in_parts() -> None:
    first = link(KEY, 0, FIRST_PREVIOUS, EVENTS[:2])
    assert first + link(KEY, 2, first[-1].mac, EVENTS[2:]) == chain()
    assert verify(chain()) == 5


@pytest.mark.parametrize("field", Event._fields)
@pytest.mark.parametrize("place", range(5))
def test_every_altered_field_is_found_and_named(field: str, place: int) -> None:
    entries = chain()
    changed = entries[place].event._replace(**{field: 0 if field == "at_ms" else "forged"})
    entries[place] = entries[place]._replace(event=changed)
    with pytest.raises(AuditTampered, match=f"entry {place + 1} was altered"):
        verify(entries)


@pytest.mark.parametrize("place", range(4))
def test_a_removed_entry_is_named(place: int) -> None:
    entries = chain()
    del entries[place]
    with pytest.raises(AuditTampered, match=f"entry {place + 1} is missing"):
        verify(entries)


def test_a_cut_end_is_named_while_the_head_tells_of_it() -> None:
    entries = chain()
    with pytest.raises(AuditTampered, match="entry 4 is missing"):
        verify(entries[:3], (5, entries[-1].mac))
    with pytest.raises(AuditTampered, match="head was altered"):
        verify(entries, (5, bytes(32)))
    with pytest.raises(AuditTampered, match="head was altered"):
        verify(entries, (4, entries[3].mac))


def test_reordered_and_renumbered_entries_are_found() -> None:
    entries = chain()
    entries[1], entries[2] = entries[2]._replace(seq=2), entries[1]._replace(seq=3)
    with pytest.raises(AuditTampered, match="entry 2 was altered"):
        verify(entries)


def test_who_has_no_key_can_not_make_a_chain() -> None:
    forged = link(bytes(32), 0, FIRST_PREVIOUS, EVENTS)
    with pytest.raises(AuditTampered, match="entry 1 was altered"):
        verify(forged)


@given(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.text(max_size=4))
def test_moving_text_between_fields_changes_the_mac(a: str, b: str, c: str, d: str) -> None:
    (one,) = link(KEY, 0, FIRST_PREVIOUS, [Event(0, a, b, c, d)])
    (two,) = link(KEY, 0, FIRST_PREVIOUS, [Event(0, a + b, "", c, d)])
    assert (one.mac == two.mac) == (b == "")


# ---- in the database ----------------------------------------------------------------------------------------------


@pytest.fixture
async def log(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    key_service = FileKeyService(tmp_path_factory.mktemp("keys") / "kek")
    tenancy = await ensure_tenancy(database, key_service, 0, tenant=str(uuid.uuid4()))
    log = AuditLog(database, tenancy.scope, tenancy.audit_key)
    for event in EVENTS:
        await log.record(event)
    return log


def scope_of(log: AuditLog) -> Scope:
    return log._scope


async def test_a_log_that_nobody_touched_verifies(log: AuditLog) -> None:
    assert (await log.verify()).entries == 5


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE audit_entry SET outcome = 'allowed!' WHERE tenant = $1 AND seq = 3", "entry 3 was altered"),
        ("UPDATE audit_entry SET actor = 'x' WHERE tenant = $1 AND seq >= 2", "entry 2 was altered"),
        ("DELETE FROM audit_entry WHERE tenant = $1 AND seq = 4", "entry 4 is missing"),
        ("DELETE FROM audit_entry WHERE tenant = $1 AND seq = 5", "entry 5 is missing"),
        ("DELETE FROM audit_entry WHERE tenant = $1", "entry 1 is missing"),
        ("DELETE FROM audit_head WHERE tenant = $1", "head is missing"),
        ("UPDATE audit_head SET mac = decode(repeat('00', 32), 'hex') WHERE tenant = $1", "head was altered"),
        (
            "UPDATE audit_entry SET seq = CASE seq WHEN 2 THEN -3 WHEN 3 THEN 2 ELSE seq END WHERE tenant = $1;"
            "UPDATE audit_entry SET seq = 3 WHERE tenant = $1 AND seq = -3",
            "entry 2 was altered",
        ),
    ],
)
async def test_what_the_databases_owner_does_is_found(
    log: AuditLog, connection: Connection, sql: str, named: str
) -> None:
    for statement in sql.split(";"):
        await connection.execute(statement, scope_of(log).tenant)
    with pytest.raises(AuditTampered, match=named):
        await log.verify()


async def entries(site: Site, connection: Connection) -> list[tuple[str, str, str, str]]:
    """Entries of what was asked for with a token; getting one has its own."""
    rows = await connection.fetch(
        "SELECT actor, operation, patient, outcome FROM audit_entry "
        "WHERE tenant = $1 AND operation <> 'token.issue' ORDER BY seq",
        site.tenant,
    )
    return [tuple(row) for row in rows]  # type: ignore[misc]


async def test_every_request_leaves_one_entry_allowed_or_refused(site: Site, connection: Connection) -> None:
    device = await site.new_device()
    principal, clinician = await site.new_principal("clinician")
    admin = (await entries(site, connection))[0][0]
    patient, device_id = device.identity.patient_id, device.identity.device_id
    result = f"{device.alias}-1-1"
    await device.exchange(device.rows(1, 1))
    await device.post(b"garbage")
    await device.post(device.request(device.rows(7, 1)))
    await site.send("PUT", f"/v1/results/{result}/annotation", token=clinician, json={"comment": "x"})
    await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)
    await site.send("GET", f"/v1/patients/{patient}/results", token=site.admin)
    await site.send("GET", f"/v1/patients/{patient}/results")
    await site.send("GET", f"/v1/patients/{uuid.uuid4()}/results", token=clinician)
    await site.send("GET", f"/fhir/R4/RiskAssessment?subject=Patient/{patient}", token=clinician)
    await site.send("GET", f"/fhir/R4/Observation/{uuid.uuid4()}", token=clinician)
    await site.send("POST", f"/v1/devices/{device_id}/revoke", token=site.admin)
    assert await entries(site, connection) == [
        (admin, "patient.create", patient, "allowed"),
        (admin, "enrolment_code.create", patient, "allowed"),
        (device_id, "device.enrol", patient, "allowed"),
        (admin, "principal.create", "", "allowed"),
        (admin, "care_team.assign", patient, "allowed"),
        (device_id, "device.exchange", patient, "allowed"),
        (device_id, "device.exchange", patient, "unsupported_version"),
        (device_id, "device.exchange", patient, "counter_gap"),
        (principal, "result.annotate", patient, "allowed"),
        (principal, "results.list", patient, "allowed"),
        (admin, "results.list", "", "forbidden"),
        ("-", "results.list", "", "unauthorized"),
        (principal, "results.list", "", "not_found"),
        (principal, "fhir.search", patient, "allowed"),
        (principal, "fhir.read", "", "not_found"),
        (admin, "device.revoke", patient, "allowed"),
    ]


async def test_notes_and_documents_leave_one_entry_a_request(site: Site, connection: Connection) -> None:
    patient = await site.new_patient()
    principal, clinician = await site.new_principal("clinician")
    before = await entries(site, connection)
    admin, base = before[0][0], f"/v1/patients/{patient}"
    note = await site.send("POST", f"{base}/notes", token=clinician, json={"text": "x"})
    await site.send("GET", f"{base}/notes", token=clinician)
    await site.send("GET", f"{base}/notes", token=site.admin)
    await site.send("POST", f"{base}/notes", token=clinician, json={"text": ""})
    await site.send("DELETE", f"{base}/notes/0-1-999", token=clinician)
    await site.send("DELETE", f"{base}/notes/{note.json['id']}", token=clinician)
    for token, body in ((site.admin, "1"), (site.admin, "1"), (site.admin, "{"), (clinician, "2"), (None, "2")):
        await site.send(
            "PUT",
            f"{base}/documents/settings/a",
            token=token,
            data=body,
            headers={"Content-Type": "application/json"},
        )
    await site.send("GET", "/v1/documents", token=clinician)
    assert (await entries(site, connection))[len(before) :] == [
        (principal, "note.add", patient, "allowed"),
        (principal, "notes.list", patient, "allowed"),
        (admin, "notes.list", "", "forbidden"),
        (principal, "note.add", patient, "malformed"),
        (principal, "note.delete", patient, "not_found"),
        (principal, "note.delete", patient, "allowed"),
        (admin, "patient_document.put", patient, "allowed"),
        (admin, "patient_document.put", patient, "allowed"),
        (admin, "patient_document.put", patient, "malformed"),
        (principal, "patient_document.put", "", "forbidden"),
        ("-", "patient_document.put", "", "unauthorized"),
        (principal, "documents.list", "", "allowed"),
    ]


async def test_what_needs_no_patient_leaves_none(site: Site, connection: Connection) -> None:
    for path in ("/livez", "/readyz", "/v1/ca", "/nowhere"):
        await site.send("GET", path)
    assert await entries(site, connection) == []


async def test_when_it_can_not_be_written_nothing_is_answered(site: Site, connection: Connection) -> None:
    device = await site.new_device()
    await device.exchange(device.rows(1, 1))
    _, clinician = await site.new_principal("clinician")
    path = f"/v1/patients/{device.identity.patient_id}/results"
    await site.authorization(clinician).headers(site.http, "GET", path)  # a token, while there is an audit log
    await connection.execute(
        "ALTER TABLE audit_entry ADD CONSTRAINT sink_down CHECK (tenant <> '" + site.tenant + "') NOT VALID"
    )
    try:
        answer = await site.send("GET", path, token=clinician)
        assert (answer.status, answer.error) == (503, "audit_unavailable")
        refused = await device.post(device.request(device.rows(2, 1)))
        assert (refused.status, refused.error) == (503, "audit_unavailable")
        assert (await site.send("POST", "/v1/patients", token=site.admin)).status == 503
        with pytest.raises(ServerBusy):
            await site.send("GET", path, token=site.admin.named(clinician.client_id))
    finally:
        await connection.execute("ALTER TABLE audit_entry DROP CONSTRAINT sink_down")
    # Nothing of the refused write stayed, and the device goes on where it was.
    assert (await device.exchange(device.rows(2, 1))).verdicts == ()
