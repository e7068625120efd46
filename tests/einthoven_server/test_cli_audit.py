"""`einthoven-server audit ...` as an operator runs it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from tests.einthoven_server.site import ManualClock, running_site

from einthoven_server.cli import main
from einthoven_server.database import connected
from einthoven_server.postgres_embedded import running


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["einthoven-server", "audit", *arguments])
    status = 0
    try:
        main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    return (status, *capsys.readouterr())


async def used(data: Path, url: str) -> tuple[str, str]:
    """A server that was used: a clinician has read a patient's results."""
    async with running_site(data, url, ManualClock(), None) as site:
        patient = await site.new_patient()
        principal, clinician = await site.new_principal("clinician")
        await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)
        await site.send("GET", f"/v1/patients/{uuid.uuid4()}/results", token=clinician)
        await site.send("GET", f"/v1/patients/{patient}/results", token=clinician)
    return patient, principal


async def execute(url: str, sql: str) -> None:
    async with connected(url) as database:
        await database.fetch(sql)


def test_verify_checkpoint_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with running(data) as url:
        patient, principal = asyncio.run(used(data, url))
        given = ("--data", str(data), "--database-url", url)

        status, note, _ = call(capsys, monkeypatch, "checkpoint", *given)
        assert (status, note.split("\n")[1]) == (0, "8")
        kept = tmp_path / "kept"
        kept.write_text(note, encoding="utf-8")
        status, out, _ = call(capsys, monkeypatch, "verify", *given, "--checkpoint", str(kept), "--json")
        assert (status, json.loads(out)) == (0, {"entries": 8, "intact": True, "checkpoints": 3})

        status, out, _ = call(capsys, monkeypatch, "report", *given, "--patient", patient, "--json")
        found = json.loads(out)
        assert (status, found["intact"]) == (0, True)
        assert [(one["operation"], one["role"], one["purpose"]) for one in found["accesses"]] == [
            ("patient.create", "admin", "HSYSADMIN"),
            ("care_team.assign", "admin", "HSYSADMIN"),
            ("results.list", "clinician", "TREAT"),
            ("results.list", "clinician", "TREAT"),
        ]
        assert {one["actor"]: one["allowed"] for one in found["actors"]}[principal] == 2
        status, out, _ = call(capsys, monkeypatch, "report", *given, "--patient", patient, "--quick", "--json")
        assert (status, json.loads(out)) == (0, {**found, "intact": None})
        status, out, _ = call(capsys, monkeypatch, "report", *given, "--patient", patient)
        assert status == 0
        assert out.count("results.list") == 2
        status, out, _ = call(capsys, monkeypatch, "report", *given, "--patient", patient, "--until", "2001-01-01")
        assert "0 entries" in out

        asyncio.run(execute(url, "UPDATE audit_entry SET actor = 'nobody' WHERE seq = 5"))
        status, _, err = call(capsys, monkeypatch, "verify", *given)
        assert status == 3
        assert "audit entry 5 was altered" in err
        # A report on a log that does not hold says so, and has what was before.
        status, out, err = call(capsys, monkeypatch, "report", *given, "--patient", patient, "--json")
        found = json.loads(out)
        assert (status, found["intact"], len(found["accesses"])) == (3, False, 2)
        assert "entry 5" in found["problem"]
        # Entry 5 is not the patient's: who reads only theirs does not notice, and does not say that all holds.
        status, out, _ = call(capsys, monkeypatch, "report", *given, "--patient", patient, "--quick", "--json")
        assert (status, json.loads(out)["intact"]) == (0, None)
        asyncio.run(execute(url, "UPDATE audit_entry SET purpose = 'x' WHERE seq = 8"))
        status, out, _ = call(capsys, monkeypatch, "report", *given, "--patient", patient, "--quick", "--json")
        assert status == 3
        assert "audit entry 8 was altered" in json.loads(out)["problem"]
        status, _, err = call(capsys, monkeypatch, "verify", *given, "--checkpoint", str(tmp_path / "absent"))
        assert status == 1
        for command in (["verify"], ["checkpoint"], ["report", "--patient", patient]):
            status, _, err = call(capsys, monkeypatch, *command, *given, "--key-service", "none://of-these/key")
            assert (status, err.count("\n")) == (2, 1)
