"""The whole path over real TLS: enrol, record, lose the server, sync, annotate, pull, read as FHIR."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.conftest import Admin

from einthoven import FileKeyProvider, SimulatedSource, SqlCipherStore, analyze, annotate, enroll, load_model, sync
from einthoven.cli import main
from einthoven.errors import CertificateMismatch, CodeInvalid, DeviceRefused, ServerUnreachable
from einthoven.identity import IDENTITY_SETTING, load_identity
from einthoven_demo.server_process import ServerProcess


def open_store(home: Path) -> SqlCipherStore:
    return SqlCipherStore.open(home / "store.db", FileKeyProvider(home / "store.key", create=True))


async def enrolled_with_results(admin: Admin, home: Path, patient_id: str | None = None) -> SqlCipherStore:
    store = open_store(home)
    await enroll(store, await admin.code(patient_id))
    await asyncio.to_thread(analyze, load_model(), store, SimulatedSource.demo())
    return store


async def test_results_go_up_in_one_round_trip_and_both_sides_agree(admin: Admin, home: Path) -> None:
    with await enrolled_with_results(admin, home) as store:
        n = store.stats().results
        report = await sync(store)
        assert (report.round_trips, report.results_up, report.state.waiting) == (1, n, 0)
        assert report.state.last_digest_equal is True
        assert report.state.digest.count == n
        again = await sync(store)
        assert (again.round_trips, again.results_up) == (1, 0)
        assert again.state.digest == report.state.digest


async def test_an_annotation_comes_down_and_the_digests_stay_equal(admin: Admin, home: Path) -> None:
    patient = await admin.patient()
    clinician = await admin.clinician(patient)
    with await enrolled_with_results(admin, home, patient) as store:
        await sync(store)
        _, listed = await admin.call("GET", f"/v1/patients/{patient}/results", token=clinician)
        target = listed["results"][3]
        status, _ = await admin.call(
            "PUT", f"/v1/results/{target['id']}/annotation", {"rhythm": "A", "comment": "agreed"}, token=clinician
        )
        assert status == 200
        report = await sync(store)
        assert report.annotations_down == 1
        assert report.state.last_digest_equal is True
        (row,) = store.annotations()
        assert (row.target.counter, row.rhythm.value, row.comment.value) == (target["counter"], "A", "agreed")
        status, assessment = await admin.call(
            "GET", f"/fhir/R4/RiskAssessment/{target['risk_assessment_id']}", token=clinician
        )
        assert (status, assessment["resourceType"]) == (200, "RiskAssessment")


async def test_a_patients_note_goes_up_and_meets_the_clinicians(admin: Admin, home: Path) -> None:
    patient = await admin.patient()
    clinician = await admin.clinician(patient)
    with await enrolled_with_results(admin, home, patient) as store:
        annotate(store, 2, comment="felt dizzy")
        annotate(store, 2, rhythm="A")
        report = await sync(store)
        # The words follow the result that they speak of.
        assert (report.round_trips, report.annotations_up, report.state.waiting) == (2, 1, 0)
        _, listed = await admin.call("GET", f"/v1/patients/{patient}/results", token=clinician)
        (noted,) = listed["results"][1]["annotations"]
        assert (noted["comment"], noted["rhythm"]) == ("felt dizzy", "A")
        target = listed["results"][1]["id"]
        await admin.call("PUT", f"/v1/results/{target}/annotation", {"comment": "call me"}, token=clinician)
        report = await sync(store)
        assert report.state.last_digest_equal is True
        assert sorted(row.comment.value for row in store.annotations()) == ["call me", "felt dizzy"]


async def test_offline_loses_nothing(tmp_path: Path, home: Path) -> None:
    with ServerProcess(tmp_path / "cloud" / "data") as server:
        server.start()
        with await enrolled_with_results(Admin(server), home) as store:
            waiting = store.sync_state().waiting
            server.kill()
            with pytest.raises(ServerUnreachable, match="nothing is lost"):
                await sync(store)
            assert store.sync_state().waiting == waiting
            await asyncio.to_thread(server.start)
            report = await sync(store)
            assert (report.round_trips, report.results_up, report.state.waiting) == (1, waiting, 0)
            assert report.state.last_digest_equal is True


async def test_a_server_killed_after_an_exchange_kept_it(tmp_path: Path, home: Path) -> None:
    with ServerProcess(tmp_path / "cloud" / "data") as server:
        server.start()
        with await enrolled_with_results(Admin(server), home) as store:
            before = await sync(store)
            server.kill()
            await asyncio.to_thread(server.start)
            after = await sync(store)
            assert after.state.last_digest_equal is True
            assert after.state.digest == before.state.digest


async def test_a_used_code_is_refused_and_the_store_stays_unenrolled(admin: Admin, tmp_path: Path) -> None:
    code = await admin.code()
    with open_store(tmp_path / "first") as first:
        await enroll(first, code)
    with open_store(tmp_path / "second") as second:
        with pytest.raises(CodeInvalid, match="new code"):
            await enroll(second, code)
        assert second.setting(IDENTITY_SETTING) is None


async def test_an_enrolment_that_was_cut_off_is_finished_with_the_same_code(admin: Admin, home: Path) -> None:
    """The server's answer was lost: the same key with the same code gets the same device again."""
    code = await admin.code()
    with open_store(home) as store:
        first = await enroll(store, code)
        store.put_setting("pending_signing_key", first.signing_key)
        store.put_setting(IDENTITY_SETTING, b"")
        again = await enroll(store, code)
        assert again.device_id == first.device_id


@pytest.mark.parametrize("text", ["", "hello", "EIN1.", "EIN1.AAAA", "EIN1." + "A" * 5000, "EIN2.AAAA"])
async def test_what_is_no_code_is_said_to_be_none(home: Path, text: str) -> None:
    with open_store(home) as store, pytest.raises(CodeInvalid):
        await enroll(store, text)


async def test_a_server_other_than_the_codes_gets_no_secret(admin: Admin, tmp_path: Path, home: Path) -> None:
    """Same address, other authority: the fingerprint in the code does not match."""
    from einthoven_protocol.enrolment import EnrolmentCode, format_code, parse_code

    code = parse_code(await admin.code())
    forged = EnrolmentCode(url=code.url, secret=code.secret, ca_sha256=bytes(32))
    with open_store(home) as store:
        with pytest.raises(CertificateMismatch, match="do not go on"):
            await enroll(store, format_code(forged))
        assert store.setting(IDENTITY_SETTING) is None
        assert (await enroll(store, format_code(code))).device_alias > 0, "the secret was not used up"


async def test_an_impostor_at_the_servers_address_gets_nothing(admin: Admin, tmp_path: Path, home: Path) -> None:
    with (
        await enrolled_with_results(admin, home) as store,
        ServerProcess(tmp_path / "impostor" / "data") as impostor,
    ):
        await asyncio.to_thread(impostor.start)
        identity = msgspec.structs.replace(load_identity(store), url=impostor.url)
        store.put_setting(IDENTITY_SETTING, msgspec.msgpack.encode(identity))
        with pytest.raises(CertificateMismatch):
            await sync(store)
        assert store.sync_state().acknowledged == 0


async def test_a_revoked_device_is_refused_at_once(admin: Admin, home: Path) -> None:
    with await enrolled_with_results(admin, home) as store:
        await sync(store)
        status, _ = await admin.call("POST", f"/v1/devices/{load_identity(store).device_id}/revoke", {})
        assert status in {200, 204}
        with pytest.raises(DeviceRefused):
            await sync(store)


async def test_a_clock_that_is_off_is_named(admin: Admin, home: Path) -> None:
    from einthoven.clock import FixedClock, SystemClock

    with await enrolled_with_results(admin, home) as store:
        ahead = FixedClock(SystemClock().now_ms() + 365 * 86_400_000)
        with pytest.raises(DeviceRefused, match="clock"):
            await sync(store, clock=ahead)
        assert (await sync(store)).state.last_digest_equal is True


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    status = main([*map(str, arguments), "--json"])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    return json.loads(shown.out)


def test_the_command_line_walks_the_same_path(
    admin: Admin, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ecg = tmp_path / "ecg.csv"
    source = SimulatedSource.demo()
    samples = next(iter(source.chunks()))[: int(31 * source.sampling_rate_hz)]
    rate = float(source.sampling_rate_hz)
    ecg.write_text(f"# sampling_rate_hz={rate:g}\n# unit=uV\n" + "\n".join(map(str, samples.tolist())) + "\n")
    enrolled = run(capsys, "enroll", asyncio.run(admin.code()), "--home", home)
    assert set(enrolled) == {"device_id", "device_alias", "server"}
    n = len(run(capsys, "analyze", ecg, "--home", home)["windows"])
    synced = run(capsys, "sync", "--home", home)
    assert (synced["results_up"], synced["state"]["digests_equal"]) == (n, True)
    status = run(capsys, "status", "--home", home)
    assert status["device"]["device_id"] == enrolled["device_id"]
    assert status["sync"]["waiting"] == 0
    for command in ("sync", "status"):
        assert main([command, "--home", str(home)]) == 0
        assert "equal on both sides" in capsys.readouterr().out


@pytest.mark.parametrize("trouble", ["unreachable", "refused"])
def test_the_command_line_says_in_one_line_what_is_wrong(
    admin: Admin, home: Path, capsys: pytest.CaptureFixture[str], trouble: str
) -> None:
    run(capsys, "enroll", asyncio.run(admin.code()), "--home", home)
    with open_store(home) as store:
        identity = load_identity(store)
        if trouble == "unreachable":
            moved = msgspec.structs.replace(identity, url="https://127.0.0.1:9")
            store.put_setting(IDENTITY_SETTING, msgspec.msgpack.encode(moved))
    if trouble == "refused":
        asyncio.run(admin.call("POST", f"/v1/devices/{identity.device_id}/revoke", {}))
    assert main(["sync", "--home", str(home)]) == 7
    err = capsys.readouterr().err
    assert err.startswith("einthoven: ")
    assert err.count("\n") == 1
