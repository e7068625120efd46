"""Everything of a patient in one archive: what is in it, for whom, and how much memory it takes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tracemalloc
import uuid
import zipfile
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import edfio
import msgspec
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fhir.resources.R4B.bundle import Bundle
from tests.einthoven_server.signal_site import SignalDevice, SignalSite, make_segment
from tests.einthoven_server.site import ManualClock, Site

from einthoven.account import Account
from einthoven.edf_writing import MAX_BDF_UV
from einthoven.ports import MISSING_UV, Segment
from einthoven.source_edf import EdfSource
from einthoven_protocol.messages import ResultId
from einthoven_server import limits
from einthoven_server.assembly import Parts
from einthoven_server.audit.trail import Trail
from einthoven_server.database import Connection
from einthoven_server.errors import Busy, NotFound
from einthoven_server.identity.access import Access
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.permissions import Operation, Relation, Role
from einthoven_server.privacy.export_content import ExportContent, ExportParts, ExportUnderWay
from einthoven_server.privacy.patient_export import PatientExport
from einthoven_server.privacy.signal_files import SignalFiles, fits
from einthoven_server.privacy.zip_stream import ZipStream
from einthoven_server.records.waveforms import Waveform
from einthoven_server.serve import parts_of
from einthoven_server.signals.receiving import SignalReceiver
from einthoven_server.signals.signal_store_obstore import open_signal_store
from einthoven_server.signals.waveforms import StoredWaveforms

WINDOW_MS = 30_000


@pytest.fixture
async def parts(data_folder: Path, database_url: str, clock: ManualClock, site: Site) -> AsyncIterator[Parts]:
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        yield parts


@pytest.fixture
async def device(site: Site, parts: Parts) -> SignalDevice:
    """A device with results, three of which have signals."""
    shared: dict[str, Any] = {
        name: getattr(site, name) for name, field in Site.__dataclass_fields__.items() if field.init
    }
    scope = parts.identities._scope
    signals = SignalSite(**shared, database=parts.database, scope=scope, identities=parts.identities, audit=parts.audit)
    return await signals.new_signal_device()


async def uploaded(device: SignalDevice, segments: list[Segment]) -> None:
    run = await device.push(device.record(1, segments))
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel)).status == 204


async def exported(site: Site, patient: str, token: Account) -> zipfile.ZipFile:
    answer = await site.send("GET", f"/v1/patients/{patient}/export", token=token)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.body))
    assert archive.testzip() is None
    return archive


async def test_all_that_is_kept_of_a_patient_is_in_it(site: Site, device: SignalDevice, connection: Connection) -> None:
    patient = device.identity.patient_id
    full = [make_segment(seed, 30 * 128) for seed in range(3)]
    loud = Segment(Fraction(128), np.array([MAX_BDF_UV + 1, 0], np.int32))
    await uploaded(device, [*full, loud])
    _, clinician = await site.new_principal("clinician")
    _, account = await site.new_principal("patient", patient=patient)
    await site.send("POST", f"/v1/patients/{patient}/notes", token=clinician, json={"text": "felt dizzy"})
    await site.send("PUT", f"/v1/patients/{patient}/documents/settings/theirs", token=site.admin, json={"a": 1})
    said = {"comment": "looks fine"}
    await site.send("PUT", f"/v1/results/{device.alias}-1-1/annotation", token=clinician, json=said)
    archive = await exported(site, patient, account)
    bundle = msgspec.json.decode(archive.read("bundle.json"))
    Bundle.model_validate(bundle)
    kinds = [one["resource"]["resourceType"] for one in bundle["entry"]]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        **{"Patient": 1, "Device": 1, "Observation": 4, "RiskAssessment": 4, "DiagnosticReport": 4, "Provenance": 4}
    }
    assert b"looks fine" in archive.read("bundle.json")
    assert [one["text"] for one in msgspec.json.decode(archive.read("notes.json"))["notes"]] == ["felt dizzy"]
    assert msgspec.json.decode(archive.read("documents.json"))["documents"][0]["body"] == {"a": 1}
    assert len(msgspec.json.decode(archive.read("care-team.json"))["members"]) == 1
    manifest = msgspec.json.decode(archive.read("manifest.json"))
    (file,) = manifest["signals"]
    assert (file["first"], file["last"]) == (f"{device.alias}-1-1", f"{device.alias}-1-3")
    for one in manifest["entries"]:
        octets = archive.read(one["name"])
        assert (len(octets), hashlib.sha256(octets).hexdigest()) == (one["n_bytes"], one["sha256"])
    assert {one["name"] for one in manifest["entries"]} | {"manifest.json"} == set(archive.namelist())
    samples = edfio.read_edf(io.BytesIO(archive.read(file["name"]))).signals[0].data
    assert np.array_equal(np.round(samples).astype(int), np.concatenate([one.samples_uv for one in full]))
    (unfit,) = archive.read("signals-as-fhir.ndjson").splitlines()
    assert msgspec.json.decode(unfit)["identifier"][0]["value"].endswith("-4")
    rows = await connection.fetch(
        "SELECT patient, outcome FROM audit_entry WHERE tenant = $1 AND operation = 'patient.export'", site.tenant
    )
    assert [tuple(row) for row in rows] == [(patient, "allowed")]


async def test_it_shows_each_role_the_fields_that_it_sees(site: Site, device: SignalDevice) -> None:
    patient = device.identity.patient_id
    await device.with_signals(1)
    _, clinician = await site.new_principal("clinician")
    _, account = await site.new_principal("patient", patient=patient)
    for token, expected in ((clinician, True), (account, False)):
        bundle = (await exported(site, patient, token)).read("bundle.json")
        assert (b'"activity"' in bundle) is expected


async def test_only_the_patient_and_the_care_team_get_it(site: Site, device: SignalDevice) -> None:
    patient, unknown = device.identity.patient_id, str(uuid.uuid4())
    _, stranger = await site.new_principal("clinician", treats=False)
    _, other = await site.new_principal("patient", patient=await site.new_patient())
    for token in (stranger, other):
        answers = [await site.send("GET", f"/v1/patients/{one}/export", token=token) for one in (patient, unknown)]
        assert [one.status for one in answers] == [404, 404]
        assert answers[0].body == answers[1].body
    _, service = await site.new_principal("service")
    for token in (site.admin, service):
        assert (await site.send("GET", f"/v1/patients/{patient}/export", token=token)).status == 403


async def test_who_loses_the_patient_meanwhile_gets_no_further_page(
    site: Site, device: SignalDevice, parts: Parts, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PATIENT_EXPORT_READ_ROWS", 1)
    patient = device.identity.patient_id
    await device.with_signals(3)
    principal, _ = await site.new_principal("clinician")
    catalog = SignalReceiver(parts.signals, parts.uploads, await open_signal_store(None, data_folder), parts.keys)
    waveforms = StoredWaveforms(parts.signals, catalog)
    shared = (parts.fhir, parts.records, parts.words, waveforms, parts.care_teams, parts.break_glass)
    export = ExportContent(ExportParts(*shared), "https://x")
    trail, asks = Trail("patient.export", parts.clock), Principal(principal, Role.CLINICIAN)
    how = (Operation.EXPORT_PATIENT, Relation.CARE_TEAM, patient, trail, parts.clock)
    archive = ExportUnderWay(Access(parts.relations, asks, *how), ZipStream(site.clock.now_ms()))
    pieces = export.pieces(archive)
    for _ in range(4):  # the patient, the device, two kinds of the first result
        await anext(pieces)
    await site.send("DELETE", f"/v1/patients/{patient}/care-team/{principal}", token=site.admin)
    with pytest.raises(NotFound):
        async for _ in pieces:
            pass
    assert archive.entries == []


async def test_only_so_many_at_once(site: Site, device: SignalDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    _, clinician = await site.new_principal("clinician")
    monkeypatch.setattr(limits, "PATIENT_EXPORTS_AT_ONCE", 0)
    answer = await site.send("GET", f"/v1/patients/{device.identity.patient_id}/export", token=clinician)
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)


def window(seed: int, rate: Fraction = Fraction(128), n: int = 3840) -> Waveform:
    segment = make_segment(seed, n)
    return Waveform(rate, segment.samples_uv, segment.samples_uv == MISSING_UV)


def files_of(windows: list[tuple[ResultId, int, Waveform]]) -> list[Any]:
    files = SignalFiles()
    made = [files.add(*one) for one in windows] + [files.finish()]
    return [one for one in made if one is not None]


@pytest.mark.parametrize(
    ("second", "names"),
    [
        ((ResultId(1, 1, 2), WINDOW_MS, window(2)), ["1-1-1-2"]),
        ((ResultId(1, 1, 2), WINDOW_MS + 90, window(2)), ["1-1-1-2"]),
        ((ResultId(1, 1, 2), 10 * WINDOW_MS, window(2)), ["1-1-1-2"]),
        ((ResultId(1, 1, 2), WINDOW_MS - 5_000, window(2)), ["1-1-1-1", "1-1-2-2"]),
        ((ResultId(1, 2, 1), WINDOW_MS, window(2)), ["1-1-1-1", "1-2-1-1"]),
        ((ResultId(2, 1, 2), WINDOW_MS, window(2)), ["1-1-1-1", "2-1-2-2"]),
        ((ResultId(1, 1, 2), WINDOW_MS, window(2, Fraction(250))), ["1-1-1-1", "1-1-2-2"]),
    ],
)
def test_which_windows_share_a_file(second: tuple[ResultId, int, Waveform], names: list[str]) -> None:
    made = files_of([(ResultId(1, 1, 1), 0, window(1)), second])
    assert [one.name for one in made] == [f"signals/{name}.edf" for name in names]


def test_a_file_takes_so_many_and_keeps_every_sample() -> None:
    count = limits.PATIENT_EXPORT_FILE_RESULTS + 1
    windows = [(ResultId(1, 1, at + 1), WINDOW_MS * at, window(at)) for at in range(count)]
    first, second = files_of(windows)
    assert (first.last.counter, second.first.counter) == (count - 1, count)
    data = edfio.read_edf(io.BytesIO(first.octets)).signals[0].data
    assert np.array_equal(np.round(data).astype(int), np.concatenate([one[2].samples_uv for one in windows[:-1]]))


@pytest.mark.parametrize(("pause_h", "n_files"), [(11, 1), (13, 2), (7 * 24, 2)])
def test_a_file_can_be_read_again_however_far_apart_its_windows_are(pause_h: int, n_files: int, tmp_path: Path) -> None:
    starts_ms = [0, WINDOW_MS, 2 * WINDOW_MS + pause_h * 3_600_000]
    made = files_of([(ResultId(1, 1, at + 1), start, window(at)) for at, start in enumerate(starts_ms)])
    assert len(made) == n_files
    read = 0
    for number, one in enumerate(made):
        path = tmp_path / f"{number}.edf"
        path.write_bytes(one.octets)
        read += sum(int((chunk != MISSING_UV).sum()) for chunk in EdfSource.open(path).chunks())
    assert read == 3 * 3840


async def test_a_client_that_stops_reading_gives_up_its_place() -> None:
    export, ended = PatientExport(None, None, None, stall_s=0.3), asyncio.Event()  # type: ignore[arg-type]

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await export._write(response, bytes(1024 * 1024))
        except Busy:
            ended.set()
            raise

    app = web.Application()
    app.add_routes([web.get("/", endless)])
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await reader.readline()  # and nothing after that
        async with asyncio.timeout(20):
            await ended.wait()
        writer.transport.abort()


def test_what_was_never_received_makes_no_file_and_is_told_as_fhir() -> None:
    silent = np.full(3840, MISSING_UV, np.int32)
    assert files_of([(ResultId(1, 1, 1), 0, Waveform(Fraction(128), silent, silent == MISSING_UV))]) == []
    assert not fits(Waveform(Fraction(128), silent, silent == MISSING_UV))
    assert not fits(Waveform(Fraction(128), np.array([MAX_BDF_UV + 1], np.int32), np.array([False])))


@pytest.mark.parametrize(
    "name", ["../x.edf", "/etc/x.edf", "signals/../x.edf", "a\\b.edf", "A.edf", "x", "x.edf\n", ""]
)
def test_an_entry_has_a_safe_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ZipStream(1_700_000_000_000).entry(name)


def test_no_name_is_there_twice_and_memory_does_not_grow_with_what_was_written() -> None:
    archive, block = ZipStream(1_700_000_000_000), np.random.default_rng(1).bytes(1 << 20)
    n_bytes, peaks = 0, []
    tracemalloc.start()
    try:
        for number in range(40):
            with archive.entry(f"signals/{number}.edf") as entry:
                entry.write(block)
                n_bytes += len(archive.take())
            n_bytes += len(archive.take())
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert n_bytes > 40_000_000
    assert peaks[-1] < 8_000_000
    with pytest.raises(ValueError, match="name"):
        archive.entry("signals/1.edf")
    assert archive.finish()
