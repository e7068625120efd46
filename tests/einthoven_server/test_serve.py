"""The command as an operator runs it: start, stop, kill -9, and every refusal in one line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from tests.einthoven_server.site import ManualClock, Site, running_site
from typer.testing import CliRunner

from einthoven.account import load_account
from einthoven_server import audit_commands, cli, tls
from einthoven_server.cli import app, main
from einthoven_server.errors import AddressUnavailable, AuditTampered, DataFolderBusy, EnvelopeRefused, KeyUnavailable
from einthoven_server.postgres_embedded import _workers
from einthoven_server.private_files import held
from einthoven_server.serve import Ready, Settings, opened, serve, serving

COMMAND = [sys.executable, "-m", "einthoven_server"]


class Process:
    """A server process on a data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ready_file = data.parent / "ready.json"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, str]:
        self.ready_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [*COMMAND, "all", "--data", str(self.data), "--port", "0", "--ready-file", str(self.ready_file), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not self.ready_file.exists():
            assert self.process.poll() is None, "it ended at once"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return json.loads(self.ready_file.read_text())

    def end(self, number: int) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "data")
    yield process
    if process.process is not None and process.process.poll() is None:
        process.end(signal.SIGTERM)
    for worker in _workers(tmp_path / "data" / "postgres"):
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGQUIT)


def site_of(ready: dict[str, str], data: Path, http: aiohttp.ClientSession) -> Site:
    admin = load_account(data / "admin-key.json")
    return Site(ready["url"], Path(ready["ca_file"]).read_text(), "", ManualClock(), http, admin)


def client(ready: dict[str, str]) -> aiohttp.ClientSession:
    context = tls.client_context(Path(ready["ca_file"]).read_text())
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), auto_decompress=False)


async def test_no_acknowledged_row_is_lost_by_kill_9(process: Process) -> None:
    ready = await asyncio.to_thread(process.start)
    async with client(ready) as http:
        site = site_of(ready, process.data, http)
        device = await site.new_device()
        acknowledged = 0
        for first in range(1, 101, 10):
            acknowledged = (await device.exchange(device.rows(first, 10))).acknowledged
        pending = asyncio.create_task(device.post(device.request(device.rows(101, 10))))
        await asyncio.sleep(0.005)
        process.end(signal.SIGKILL)
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
    assert _workers(process.data / "postgres"), "PostgreSQL was to be left over"
    ready = await asyncio.to_thread(process.start)
    async with client(ready) as http:
        device.site = site_of(ready, process.data, http)
        response = await device.exchange()
        assert response.acknowledged >= acknowledged == 100
        assert response.digest.count == response.acknowledged
        again = await device.exchange(device.rows(1, 110))
        assert (again.acknowledged, again.digest.count) == (110, 110)
    assert (await asyncio.to_thread(process.end, signal.SIGTERM))[0] == 0
    verify = [*COMMAND, "audit", "verify", "--data", str(process.data), "--json"]
    verified = await asyncio.to_thread(subprocess.run, verify, capture_output=True, check=True)
    assert json.loads(verified.stdout)["entries"] >= 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stopping_is_graceful_and_leaves_nothing_running(process: Process, number: int) -> None:
    ready = await asyncio.to_thread(process.start)
    assert ready.keys() == {"url", "ca_file", "pid"}
    assert process.process is not None
    assert ready["pid"] == process.process.pid
    async with client(ready) as http:
        assert (await site_of(ready, process.data, http).send("GET", "/readyz")).status == 200
    status, out = await asyncio.to_thread(process.end, number)
    assert status == 0
    assert json.loads(out) == ready
    assert not process.ready_file.exists()
    assert not _workers(process.data / "postgres")
    modes = {path.name: path.stat().st_mode & 0o777 for path in process.data.iterdir()}
    assert (modes.pop("postgres"), modes.pop("signals")) == (0o700, 0o700)
    assert set(modes.values()) == {0o600}
    assert process.data.stat().st_mode & 0o777 == 0o700


# ---- in this process ----------------------------------------------------------------------------------------------


def test_serve_runs_until_a_signal_and_tells_when_it_is_ready(tmp_path: Path) -> None:
    told: list[Ready] = []
    ready_file = tmp_path / "ready.json"

    def on_ready(ready: Ready) -> None:
        told.append(ready)
        assert json.loads(ready_file.read_text())["url"] == ready.url
        os.kill(os.getpid(), signal.SIGTERM)

    serve(Settings(tmp_path / "data", host="localhost", port=0, ready_file=ready_file), on_ready)
    assert told[0].url.startswith("https://localhost:")
    assert not ready_file.exists()
    assert audit_commands.verify(tmp_path / "data", None).entries == 0


def test_an_address_in_use_is_one_line_and_postgresql_is_stopped(tmp_path: Path, database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(tmp_path / "data", port=taken.getsockname()[1], database_url=database_url)
        with pytest.raises(AddressUnavailable, match="--port"):
            serve(settings, lambda ready: None)


async def test_a_wildcard_is_reached_as_localhost(tmp_path: Path, database_url: str) -> None:
    for host in ("0.0.0.0", "::1"):
        async with serving(Settings(tmp_path, host=host, port=0), database_url, ManualClock(), "wildcard") as ready:
            assert ready.url.startswith("https://localhost:" if host == "0.0.0.0" else "https://[::1]:")


async def test_a_key_of_another_folder_does_not_open_the_database(
    data_folder: Path, database_url: str, tmp_path: Path
) -> None:
    async with running_site(data_folder, database_url, ManualClock(), "keyed"):
        pass
    with pytest.raises(EnvelopeRefused, match="key"):
        async with running_site(tmp_path, database_url, ManualClock(), "keyed"):
            pass


def test_two_servers_do_not_share_a_folder(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    with held(tmp_path / "data"), pytest.raises(DataFolderBusy), opened(tmp_path / "data", database_url):
        pass


@pytest.mark.parametrize("name", ["key-encryption-key", "ca.key", "server.key", "admin-key.json", "postgres-password"])
def test_a_key_file_that_others_can_read_stops_the_start(tmp_path: Path, database_url: str, name: str) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / name).write_bytes(b"ab" * 32)
    (data / name).chmod(0o644)
    url = None if name == "postgres-password" else database_url
    with pytest.raises(KeyUnavailable, match=name):
        serve(Settings(data, port=0, database_url=url), lambda ready: None)


# ---- the command line ---------------------------------------------------------------------------------------------


def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["einthoven-server", *words])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    return lambda *words: run_main(monkeypatch, capsys, *words)


def test_a_refusal_is_one_line_and_a_status(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    tmp_path.chmod(0o755)
    status, out, err = command("all", "--data", str(tmp_path))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "chmod 700" in err


def test_no_database_at_the_url_is_one_line(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    url = "postgresql://u:hunter2@127.0.0.1:1/x"
    status, out, err = command("all", "--data", str(tmp_path / "d"), "--port", "0", "--database-url", url)
    assert (status, out) == (2, "")
    assert "hunter2" not in err
    assert err.count("\n") == 1


def test_the_log_is_verified_and_tampering_named(tmp_path: Path, command, database_url: str) -> None:  # type: ignore[no-untyped-def]
    # A database of its own, because `audit verify` looks at the first tenant.
    import asyncpg

    async def execute(statement: str, url: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute("CREATE DATABASE verified", database_url))
    url = database_url.replace("/postgres?", "/verified?")
    data = tmp_path / "data"
    data.mkdir(mode=0o700)

    async def use() -> None:
        async with running_site(data, url, ManualClock(), None) as site:
            for _ in range(3):
                await site.new_patient()

    asyncio.run(use())
    verify = ("audit", "verify", "--data", str(data), "--database-url", url)
    assert command(*verify, "--json")[:2] == (0, '{"entries":4,"intact":true,"checkpoints":0}\n')
    assert "4 audit entries, intact" in command(*verify)[1]
    asyncio.run(execute("UPDATE audit_entry SET actor = 'nobody' WHERE seq = 2", url))
    status, _, err = command(*verify)
    assert status == AuditTampered.exit_status == 3
    assert "entry 2 was altered" in err


def test_help_names_every_option() -> None:
    text = CliRunner().invoke(app, ["all", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
    for option in ("--data", "--host", "--port", "--database-url", "--ready-file", "--json"):
        assert option in text


def test_ctrl_c_before_it_runs_is_no_traceback(command) -> None:  # type: ignore[no-untyped-def]
    assert cli.app.info.name == "einthoven-server"
    status, _, err = command("no-such-command")
    assert status == 2
    assert "Traceback" not in err


# ---- keys, beside a running server --------------------------------------------------------------------------------


async def test_keys_are_rotated_by_command_beside_a_running_server_and_without_one(process: Process) -> None:
    ready = await asyncio.to_thread(process.start)
    where = ["--data", str(process.data), "--json"]

    async def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "keys", *arguments, *where]
        return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)

    async with client(ready) as http:
        site = site_of(ready, process.data, http)
        device = await site.new_device()
        await device.exchange(device.rows(1, 10))
        rotated = await keys("rotate")
        assert (rotated.returncode, json.loads(rotated.stdout)) == (0, {"wrapped": 3}), rotated.stderr
        assert (await device.exchange(device.rows(11, 1))).acknowledged == 11
        refused = await keys("forget-former")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert (await asyncio.to_thread(process.end, signal.SIGTERM))[0] == 0
    # Alone on the folder there is nobody to wait for.
    for arguments in (["rotate-patient", "--all"], ["rotate-patient", device.identity.patient_id]):
        rotated = await keys(*arguments)
        assert (rotated.returncode, json.loads(rotated.stdout)) == (0, {"patients": 1}), rotated.stderr
    assert (await keys("rotate-patient", "nobody")).returncode == 1
    assert (await keys("rotate-patient")).returncode == 2
    ready = await asyncio.to_thread(process.start)
    async with client(ready) as http:
        device.site = site_of(ready, process.data, http)
        response = await device.exchange(device.rows(12, 1))
        assert (response.acknowledged, response.digest.count) == (12, 12)
