"""What an operator does at a terminal about accounts, with no server and beside one that serves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import asyncpg
from tests.einthoven_server import test_serve
from tests.einthoven_server.people import Person
from tests.einthoven_server.site import ManualClock, running_site

command = test_serve.command


def test_an_account_is_made_and_reset_with_no_server_and_beside_one(
    tmp_path: Path, database_url: str, command: Any
) -> None:
    name = f"t{uuid.uuid4().hex}"

    async def make() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(make())
    url, data = database_url.replace("/postgres?", f"/{name}?"), tmp_path / "data"
    where = ("--data", str(data), "--database-url", url)
    status, out, err = command("account", "add", *where, "--role", "admin", "--name", "Ada.Admin", "--json")
    assert status == 0, err
    made = json.loads(out)
    for words in (
        ("--role", "admin", "--name", "ada.admin"),
        ("--role", "service", "--name", "a.service"),
        ("--role", "patient", "--name", "a.patient"),
        ("--role", "admin", "--name", "a b"),
        ("--role", "patient", "--name", "a.patient", "--patient", str(uuid.uuid4())),
    ):
        status, _, err = command("account", "add", *where, *words)
        assert status != 0
        assert "Traceback" not in err
    assert command("account", "reset", *where, "nobody")[0] == 1
    (listed,) = json.loads(command("account", "list", *where, "--json")[1])["accounts"]
    assert (listed["account_id"], listed["name"], listed["ready"]) == (made["account_id"], "ada.admin", False)
    assert "invited until" in command("account", "list", *where)[1].replace("\n", " ")

    async def use() -> None:
        clock = ManualClock()
        clock.stop()
        async with running_site(data, url, clock, None) as site:
            person = Person(site, made["account_id"], "ada.admin", made["code"])
            assert (await person.open()).status == 200
            assert (await person.accept()).status == 200
            assert (await person.ask("/v1/accounts")).status == 200
            reset = await asyncio.to_thread(run_apart, data, url)
            assert (await person.ask("/v1/accounts")).status == 401
            person.code = reset
            assert (await person.open()).status == 200

    asyncio.run(use())


def run_apart(data: Path, url: str) -> str:
    """The command in a process of its own, beside the server."""
    words = (sys.executable, "-m", "einthoven_server", "account", "reset", "--data", str(data), "--database-url", url)
    done = subprocess.run((*words, "ada.admin", "--json"), capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["code"])
