"""What an operator does at a terminal about clients and signing keys; and what became of a database of before."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.einthoven_server import test_migration_0002, test_serve
from tests.einthoven_server.site import ManualClock, running_site

from einthoven.account import Account
from einthoven_server.database import Database
from einthoven_server.errors import KeyUnavailable
from einthoven_server.identity.admin_key import read_admin_key
from einthoven_server.migrations import migrate, steps

fresh, command = test_migration_0002.fresh, test_serve.command


def test_a_client_is_added_and_keys_rotated_while_the_server_is_stopped(
    tmp_path: Path, database_url: str, command: Any
) -> None:
    name = f"t{uuid.uuid4().hex}"

    async def make() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(make())
    url, data = database_url.replace("/postgres?", f"/{name}?"), tmp_path / "data"
    account, jwks = Account(), tmp_path / "jwks.json"
    jwks.write_text(json.dumps(account.public_jwks()))
    where = ("--data", str(data), "--database-url", url)
    status, out, err = command("client", "add", *where, "--role", "clinician", "--jwks", str(jwks), "--json")
    assert status == 0, err
    clinician = account.named(json.loads(out)["client_id"])
    first = json.loads(command("keys", "rotate-signing", *where, "--json")[1])["kid"]
    second = json.loads(command("keys", "rotate-signing", *where, "--at-once", "--json")[1])["kid"]
    assert first != second

    async def use() -> None:
        async with running_site(data, url, ManualClock(), None) as site:
            assert (await site.send("GET", "/v1/documents", token=clinician)).status == 200
            keys = (await site.send("GET", "/.well-known/jwks.json")).json["keys"]
            assert [key["kid"] for key in keys] == [second]

    asyncio.run(use())
    for words in (
        ("--role", "patient", "--jwks", str(jwks)),
        ("--role", "admin", "--bearer", "--jwks", str(jwks)),
        ("--role", "admin", "--jwks", str(tmp_path / "none")),
    ):
        assert command("client", "add", *where, *words)[0] != 0
    jwks.write_text('{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    status, _, err = command("client", "add", *where, "--role", "admin", "--jwks", str(jwks))
    assert status != 0
    assert "Traceback" not in err


async def test_principals_of_before_stay_and_their_tokens_do_not(fresh: Database) -> None:
    await migrate(fresh, steps()[:5])
    await fresh.fetch("INSERT INTO principal VALUES (0, 't', 'p', 'clinician', 'hash', 1, NULL)")
    await migrate(fresh)
    (row,) = await fresh.fetch("SELECT * FROM principal")
    assert "token_hash" not in dict(row)
    assert (row["principal_id"], row["role"], json.loads(row["jwks"])) == ("p", "clinician", {"keys": []})


@pytest.mark.parametrize("content", [b"", b"{}", b'{"client_id": "a", "d": "AA"}', b"\xff"])
def test_a_damaged_admin_key_stops_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin-key.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnavailable):
        read_admin_key(path)


def test_the_admin_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "admin-key.json"
    assert read_admin_key(path) == read_admin_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
