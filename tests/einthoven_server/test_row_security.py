"""The second wall: what the application's role sees of a database, whatever statement is run (attack 19)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from tests.einthoven_server.site import ManualClock, Site, running_site

from einthoven_server import row_security
from einthoven_server.database import Connection, connected
from einthoven_server.errors import DatabaseUnavailable
from einthoven_server.migrations import migrate
from einthoven_server.records.result_months import month_of, part_name
from einthoven_server.row_security import POLICY, ROLE, TENANT_SETTING
from einthoven_server.serve import parts_of

_TABLES = """
SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
"""
NO_TENANT = {"schema_step", "shard_head"}
"""Tables that are nobody's: steps of the schema, and how far a shard has counted."""


@pytest.fixture
async def other_site(data_folder: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Site]:
    async with running_site(data_folder, database_url, clock, str(uuid.uuid4())) as site:
        yield site


async def tables_of(connection: Connection) -> list[str]:
    return [row["relname"] for row in await connection.fetch(_TABLES)]


async def with_rows(site: Site) -> None:
    device = await site.new_device()
    await device.exchange(device.rows(1, 3))


async def test_19_the_applications_role_without_a_tenant_sees_no_row(site: Site, connection: Connection) -> None:
    await with_rows(site)
    tables = set(await tables_of(connection)) - NO_TENANT
    held = [name for name in tables if await connection.fetchval(f"SELECT count(*) FROM {name}")]
    assert {"patient", "device", "result_row", "audit_entry", "principal"} <= set(held)
    for unset in (f"RESET {TENANT_SETTING}", f"SET {TENANT_SETTING} = ''"):
        await connection.execute(f"{unset}; SET ROLE {ROLE}")
        for name in sorted(tables):
            try:
                assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0, name
            except asyncpg.InsufficientPrivilegeError:
                assert name.startswith("result_row_"), name  # a part, to be reached through the whole only
        await connection.execute("RESET ROLE")


async def test_19_with_a_tenant_set_every_row_is_that_tenants(
    site: Site, other_site: Site, connection: Connection
) -> None:
    await with_rows(site)
    await with_rows(other_site)
    await connection.execute(f"SELECT set_config('{TENANT_SETTING}', '{site.tenant}', false)")
    tables = set(await tables_of(connection)) - NO_TENANT
    for name in sorted(tables):
        expected = await connection.fetchval(f"SELECT count(*) FROM {name} WHERE tenant = $1", site.tenant)
        await connection.execute(f"SET ROLE {ROLE}")
        if not name.startswith("result_row_"):
            found = await connection.fetch(f"SELECT tenant FROM {name}")
            assert [row["tenant"] for row in found] == [site.tenant] * expected, name
        await connection.execute("RESET ROLE")


async def test_19_nothing_is_written_removed_or_moved_for_another_tenant(
    site: Site, other_site: Site, connection: Connection
) -> None:
    await with_rows(other_site)
    await connection.execute(f"SELECT set_config('{TENANT_SETTING}', '{site.tenant}', false); SET ROLE {ROLE}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("INSERT INTO patient VALUES (0, $1, 'x', 0)", other_site.tenant)
    assert await connection.execute("DELETE FROM patient WHERE tenant = $1", other_site.tenant) == "DELETE 0"
    await connection.execute("INSERT INTO patient VALUES (0, $1, 'x', 0)", site.tenant)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("UPDATE patient SET tenant = $1 WHERE patient_id = 'x'", other_site.tenant)


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_entry SET actor = 'x'", "DELETE FROM audit_entry", "TRUNCATE audit_entry"]
)
async def test_the_audit_log_is_append_only_for_the_applications_role(
    site: Site, connection: Connection, statement: str
) -> None:
    await connection.execute(f"SELECT set_config('{TENANT_SETTING}', '{site.tenant}', false); SET ROLE {ROLE}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)


async def test_every_table_has_the_policy_or_is_nobodys(site: Site, connection: Connection) -> None:
    secured = {
        row["relname"]
        for row in await connection.fetch(
            "SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid WHERE polname = $1 "
            "AND relrowsecurity",
            POLICY,
        )
    }
    assert set(await tables_of(connection)) - secured == NO_TENANT
    assert await connection.fetchval("SELECT NOT rolsuper AND NOT rolbypassrls FROM pg_roles WHERE rolname = $1", ROLE)


async def test_parts_that_are_made_while_the_server_runs_are_behind_the_wall(
    site: Site, data_folder: Path, database_url: str, clock: ManualClock, connection: Connection
) -> None:
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        assert await parts.months.keep(clock.now_ms())
    name = part_name(month_of(clock.now_ms()) + 1)
    assert await connection.fetchval("SELECT relrowsecurity FROM pg_class WHERE relname = $1", name)


async def test_a_table_that_is_made_later_is_secured_by_the_next_start(
    database_url: str, connection: Connection
) -> None:
    name = f"later_{uuid.uuid4().hex}"
    await connection.execute(f"CREATE TABLE {name} (shard int, tenant text); INSERT INTO {name} VALUES (0, 'a')")
    try:
        async with connected(database_url) as owner:
            assert await row_security.secure(owner) == ROLE
        await connection.execute(f"SET ROLE {ROLE}")
        assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0
    finally:
        await connection.execute(f"RESET ROLE; DROP TABLE {name}")


async def test_every_connection_is_behind_it_also_when_it_was_used_before(
    site: Site, data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        await parts.database.fetch("SELECT set_config($1, 'another', false)", TENANT_SETTING)
        for _ in range(3):
            await row_security.check(parts.database, site.tenant)
        with pytest.raises(DatabaseUnavailable):
            await row_security.check(parts.database, "another")


async def test_a_role_above_the_wall_is_refused(database_url: str) -> None:
    async with connected(database_url) as owner:
        await owner.fetch(f"ALTER ROLE {ROLE} BYPASSRLS")
        try:
            with pytest.raises(DatabaseUnavailable, match="bypasses"):
                await row_security.secure(owner)
        finally:
            await owner.fetch(f"ALTER ROLE {ROLE} NOBYPASSRLS")


async def test_an_owner_who_may_make_no_roles_is_told_what_is_missing_and_then_has_it(
    database_url: str, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"plain_{uuid.uuid4().hex}"
    await connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'plain'")
    await connection.execute(f"CREATE DATABASE {user} OWNER {user}")
    url = f"postgresql://{user}:plain@/{user}?{database_url.partition('?')[2]}"
    try:
        async with connected(url) as owner:
            await migrate(owner)
            with caplog.at_level(logging.WARNING):
                assert await row_security.secure(owner) is None
            assert "GRANT einthoven_application TO" in caplog.text
            await connection.execute(f"GRANT {ROLE} TO {user}")
            assert await row_security.secure(owner) == ROLE
        settings = {"role": ROLE, TENANT_SETTING: "mine"}
        async with connected(url, settings=settings) as database:
            await row_security.check(database, "mine")
            assert await database.fetch("SELECT * FROM patient") == []
    finally:
        await connection.execute(f"DROP DATABASE {quote(user)} WITH (FORCE)")
        await connection.execute(f"DROP ROLE {user}")
