"""The server's Vault port: its acceptance suite, on every adapter; and how one is opened."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from einthoven_server import postgres_embedded
from einthoven_server.database import Connection, Database, Scope, connected
from einthoven_server.errors import Busy, KeyUnavailable
from einthoven_server.identity.tenancy import ensure_tenancy
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.migrations import migrate
from einthoven_server.vault.opening import move_former, open_vault
from einthoven_server.vault.port import BEGINNING, Indexed, KeptKey, Vault, all_keys
from einthoven_server.vault.postgres import open_database
from einthoven_server.vault.sqlite import NAME, SqliteVault, open_file


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vault")
    folder.chmod(0o700)
    with postgres_embedded.running(folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def vaults(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> AsyncIterator[list[Vault]]:
    """The vault of one tenant twice, as of two processes, and that of another tenant."""
    scope, other = Scope(0, str(uuid.uuid4())), Scope(0, str(uuid.uuid4()))
    if request.param == "sqlite":
        with closing(open_file(tmp_path / NAME)) as one, closing(open_file(tmp_path / NAME)) as two:
            yield [SqliteVault(one, scope.tenant), SqliteVault(two, scope.tenant), SqliteVault(two, other.tenant)]
        return
    async with (
        open_database(database_url, scope) as first,
        open_database(database_url, scope) as second,
        open_database(database_url, other) as third,
    ):
        yield [first, second, third]


async def test_keys_are_kept_and_never_replaced(vaults: list[Vault]) -> None:
    vault, same, other = vaults
    await vault.keep([KeptKey("p", 1, b"one"), KeptKey("q", 1, b"else")])
    await same.keep([KeptKey("p", 1, b"another"), KeptKey("p", 2, b"two")])
    assert await vault.keys("p") == {1: b"one", 2: b"two"}
    assert await same.keys("q") == {1: b"else"}
    assert await vault.keys("nobody") == {}
    assert await other.keys("p") == {}
    await same.forget_below("p", 2)
    assert await vault.keys("p") == {2: b"two"}


async def test_what_is_erased_is_gone_for_all_and_nobody_else(vaults: list[Vault]) -> None:
    vault, same, other = vaults
    for one in (vault, other):
        await one.keep([KeptKey("p", 1, b"1"), KeptKey("p", 2, b"2"), KeptKey("q", 1, b"3")])
        await one.index("p", 1, [("family", b"x")])
    await vault.erase("p")
    await vault.erase("p")
    assert await same.keys("p") == {}
    assert await same.find([("family", b"x")], None, 9) == []
    assert await same.keys("q") == {1: b"3"}
    assert await other.keys("p") == {1: b"1", 2: b"2"}
    assert await other.find([("family", b"x")], None, 9) == [Indexed("p", 1)]


async def test_all_keys_are_found_in_order_page_by_page(vaults: list[Vault]) -> None:
    vault, _, other = vaults
    keys = [KeptKey(f"p{n:03}", version, b"w") for n in range(30) for version in (1, 2)]
    await vault.keep(keys[::-1])
    await other.keep([KeptKey("p001", 7, b"w")])
    assert await vault.page(BEGINNING, 3) == keys[:3]
    assert await vault.page(("p001", 1), 3) == keys[3:6]
    assert [key async for key in all_keys(vault)] == keys


async def test_rewrapping_replaces_only_what_was_read(vaults: list[Vault]) -> None:
    vault, same, _ = vaults
    await vault.keep([KeptKey("p", 1, b"before"), KeptKey("q", 1, b"q")])
    (first, second) = sorted(await vault.to_rewrap(1, 9))
    await same.rewrap(first, b"after", 1)
    await vault.rewrap(first, b"late", 1)
    assert await vault.keys("p") == {1: b"after"}
    assert await vault.to_rewrap(1, 9) == [second]
    assert len(await vault.to_rewrap(2, 9)) == 2
    await vault.erase("q")
    await vault.rewrap(second, b"again", 1)  # brings nothing back
    assert await vault.keys("q") == {}


async def test_index_entries_are_of_a_version(vaults: list[Vault]) -> None:
    vault, same, other = vaults
    await vault.index("p", 1, [("family", b"a"), ("given", b"a"), ("given", b"b")])
    await vault.index("p", 2, [("family", b"c")])
    await vault.index("p", 2, [("family", b"d"), ("family", b"d")])
    await same.index("q", 5, [("family", b"d")])
    assert await vault.find([("family", b"c")], None, 9) == []
    assert set(await same.find([("family", b"d")], None, 9)) == {Indexed("p", 2), Indexed("q", 5)}
    assert await same.find([("family", b"d")], ["q", "z"], 9) == [Indexed("q", 5)]
    assert await same.find([("family", b"d")], [], 9) == []
    assert len(await same.find([("family", b"d"), ("given", b"a")], None, 2)) == 2
    assert set(await vault.find([("given", b"a"), ("given", b"b")], None, 9)) == {Indexed("p", 1)}
    assert await other.find([("family", b"d")], None, 9) == []
    await vault.prune_index("p", 2)
    assert await same.find([("given", b"a")], None, 9) == []
    assert set(await same.find([("family", b"d")], None, 9)) == {Indexed("p", 2), Indexed("q", 5)}


async def test_a_vault_keeps_its_mark(vaults: list[Vault]) -> None:
    vault, same, other = vaults
    assert await vault.mark("first") == "first"
    assert await same.mark("second") == "first"
    assert await other.mark("third") == "third"


# ---- the file -------------------------------------------------------------------------------------------------------


def names_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


async def test_the_file_is_private_and_what_was_removed_is_overwritten(tmp_path: Path) -> None:
    path, secret = tmp_path / NAME, b"a wrapped key, as long as one would be"
    with closing(open_file(path)) as file:
        vault = SqliteVault(file, "t")
        await vault.keep([KeptKey("p", 1, secret)])
        assert secret in path.read_bytes()
        await vault.erase("p")
        assert secret not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == [NAME]
    path.chmod(0o640)
    with pytest.raises(KeyUnavailable, match="other users"):
        open_file(path)


async def test_a_damaged_file_is_no_vault(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.touch(mode=0o600)
    path.write_bytes(b"no database, but longer than a header of one is" * 40)
    with pytest.raises(KeyUnavailable, match=r"vault\.db"):
        open_file(path)


async def test_a_file_is_not_closed_while_a_thread_is_at_it(tmp_path: Path) -> None:
    file, at_it = open_file(tmp_path / NAME), threading.Event()

    def slow() -> int:
        at_it.set()
        time.sleep(0.2)
        return 0

    file.create_function("slow", 0, slow)
    vault = SqliteVault(file, "t")
    asked = asyncio.create_task(vault._read("SELECT slow() FROM (VALUES (1), (2), (3))"))
    await asyncio.to_thread(at_it.wait)
    asked.cancel()  # who waited is gone; the thread is not
    with pytest.raises(asyncio.CancelledError):
        await asked
    began = time.perf_counter()
    file.close()
    assert time.perf_counter() - began > 0.3
    with pytest.raises(Busy):
        await vault.keys("p")


async def test_a_vault_that_does_not_answer_is_busy(tmp_path: Path) -> None:
    with closing(open_file(tmp_path / NAME)) as file, closing(sqlite3.connect(tmp_path / NAME)) as rival:
        file.execute("PRAGMA busy_timeout=10")
        rival.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Busy) as refused:
            await SqliteVault(file, "t").keys("p")
        assert refused.value.code == "vault_unavailable"


# ---- opening --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Database]:
    async with connected(database_url) as owner:
        await migrate(owner)
        yield owner


async def new_tenant(owner: Database, folder: Path) -> Scope:
    return (await ensure_tenancy(owner, FileKeyService(folder / "kek"), 0, tenant=str(uuid.uuid4()))).scope


async def test_a_database_goes_with_one_vault(tmp_path: Path, owner: Database, database_url: str) -> None:
    scope, elsewhere = await new_tenant(owner, tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for _ in range(2):
        async with open_vault(None, tmp_path, owner, scope) as vault:
            await vault.keep([KeptKey("p", 1, b"1")])
    for url in (None, database_url):
        with pytest.raises(KeyUnavailable, match="not the vault"):
            async with open_vault(url, elsewhere, owner, scope):
                pass


async def make_former(connection: Connection, *tenants: str) -> None:
    """The two tables as an earlier version left them, with two patients of each tenant."""
    await connection.execute(
        "CREATE TABLE patient_key_former (shard int, tenant text, patient_id text, key_version int, wrapped bytea);"
        "CREATE TABLE patient_blind_index_former (shard int, tenant text, name text, hashed bytea, patient_id text)"
    )
    for tenant in tenants:
        for patient in ("p", "q"):
            of = (0, tenant, patient)
            wrapped = f"{tenant}{patient}".encode()
            await connection.execute("INSERT INTO patient_key_former VALUES ($1, $2, $3, 1, $4)", *of, wrapped)
            await connection.execute(
                "INSERT INTO patient_demographics VALUES ($1, $2, $3, 4, 0, $4, 1)", *of, b"sealed"
            )
            for name in ("family", "given"):
                await connection.execute(
                    "INSERT INTO patient_blind_index_former VALUES ($1, $2, $4, $5, $3)", *of, name, b"h"
                )


async def test_what_an_earlier_version_kept_moves(tmp_path: Path, owner: Database) -> None:
    scopes = [await new_tenant(owner, tmp_path) for _ in range(2)]
    await owner.fetch("DROP TABLE IF EXISTS patient_key_former, patient_blind_index_former")
    await owner.transact(lambda connection: make_former(connection, *(scope.tenant for scope in scopes)))
    for scope, moves in zip(scopes, (2, 2), strict=True):
        with closing(open_file(tmp_path / NAME)) as file:
            vault = SqliteVault(file, scope.tenant)
            # As if a kill had come when the vault had them, and the database still did.
            await vault.keep([KeptKey("p", 1, f"{scope.tenant}p".encode())])
            assert await move_former(owner, scope, vault) == moves
            assert await move_former(owner, scope, vault) == 0
            assert await vault.keys("p") == {1: f"{scope.tenant}p".encode()}
            assert await vault.keys("q") == {1: f"{scope.tenant}q".encode()}
            assert set(await vault.find([("given", b"h")], None, 9)) == {Indexed("p", 4), Indexed("q", 4)}
        left = await owner.fetchrow(
            "SELECT to_regclass('patient_key_former'), to_regclass('patient_blind_index_former')"
        )
        # The tables go with the last tenant's rows.
        assert (left is not None and left[0] is None) is (scope is scopes[1])
