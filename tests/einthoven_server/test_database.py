"""Transactions that are retried, and the steps of the database's shape."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from einthoven_server import limits
from einthoven_server.database import Connection, Database, connected
from einthoven_server.errors import Busy, DatabaseUnavailable, SchemaTooNew
from einthoven_server.migrations import Step, migrate, steps


@pytest.fixture
async def fresh(database_url: str, connection: Connection) -> AsyncIterator[Database]:
    """An empty database of its own."""
    name = f"t{uuid.uuid4().hex}"
    await connection.execute(f"CREATE DATABASE {name}")
    async with connected(database_url.replace("/postgres?", f"/{name}?")) as database:
        yield database
    await connection.execute(f"DROP DATABASE {name}")


async def test_a_serialization_failure_is_retried_until_it_works(fresh: Database) -> None:
    await fresh.fetch("CREATE TABLE counter (n int)")
    await fresh.fetch("INSERT INTO counter VALUES (0)")
    tries = 0

    async def increment(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        n = await connection.fetchval("SELECT n FROM counter")
        await asyncio.sleep(0.02)
        await connection.execute("UPDATE counter SET n = $1", n + 1)

    await asyncio.gather(*(fresh.transact(increment) for _ in range(3)))
    assert (await fresh.fetch("SELECT n FROM counter"))[0]["n"] == 3
    assert tries > 3


async def test_a_deadlock_is_retried(fresh: Database) -> None:
    await fresh.fetch("CREATE TABLE pair (id int, n int)")
    await fresh.fetch("INSERT INTO pair VALUES (1, 0), (2, 0)")

    async def touch(connection: Connection, order: tuple[int, int]) -> None:
        await connection.execute("SET LOCAL deadlock_timeout = '20ms'")
        for place in order:
            await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", place)
            await asyncio.sleep(0.05)

    await asyncio.gather(
        fresh.transact(lambda connection: touch(connection, (1, 2))),
        fresh.transact(lambda connection: touch(connection, (2, 1))),
    )
    assert [row["n"] for row in await fresh.fetch("SELECT n FROM pair")] == [2, 2]


async def test_retries_end(fresh: Database) -> None:
    tries = 0

    async def never(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        raise asyncpg.SerializationError("could not serialize")

    with pytest.raises(Busy, match="contended") as refused:
        await fresh.transact(never)
    assert tries == limits.TRANSACTION_ATTEMPTS_MAX
    assert refused.value.retry_after_s > 0


async def test_another_error_is_not_retried_and_undoes_everything(fresh: Database) -> None:
    await fresh.fetch("CREATE TABLE t (n int PRIMARY KEY)")

    async def twice(connection: Connection) -> None:
        await connection.execute("INSERT INTO t VALUES (1)")
        await connection.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(asyncpg.UniqueViolationError):
        await fresh.transact(twice)
    assert await fresh.fetchrow("SELECT * FROM t") is None


async def test_an_argument_that_does_not_fit_is_a_mistake_and_not_busy(fresh: Database) -> None:
    with pytest.raises(asyncpg.DataError, match="argument"):
        await fresh.fetch("SELECT $1::int", 2**40)


async def test_a_lost_connection_is_busy_and_the_next_one_works(fresh: Database) -> None:
    async def suicide(connection: Connection) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Busy, match="does not answer"):
        await fresh.transact(suicide)
    await fresh.ping()


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hunter2@127.0.0.1:1/x", "not a url", "postgresql://u:hunter2@/x?host=/nonexistent"],
)
async def test_no_database_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        async with connected(url):
            pass
    assert "hunter2" not in str(refused.value)


async def test_the_steps_apply_once_and_in_order(fresh: Database) -> None:
    versions = [step.version for step in steps()]
    assert versions == sorted(set(versions))
    assert await migrate(fresh) == versions[-1]
    assert await migrate(fresh) == versions[-1]


async def test_two_servers_may_start_at_once(fresh: Database) -> None:
    outcomes = await asyncio.gather(*(migrate(fresh) for _ in range(3)), return_exceptions=True)
    assert steps()[-1].version in outcomes
    assert await migrate(fresh) == steps()[-1].version


async def test_a_failed_step_leaves_what_was_there(fresh: Database) -> None:
    good = Step(1, "0001_a.sql", "CREATE TABLE a (n int)")
    await migrate(fresh, [good])
    with pytest.raises(DatabaseUnavailable, match="up to date"):
        await migrate(fresh, [good, Step(2, "0002_b.sql", "CREATE TABLE b (n int); SELECT * FROM nowhere")])
    assert await fresh.fetchrow("SELECT 1 FROM pg_tables WHERE tablename = 'b'") is None
    assert await migrate(fresh, [good, Step(2, "0002_b.sql", "CREATE TABLE b (n int)")]) == 2


async def test_a_newer_or_different_database_is_left_alone(fresh: Database) -> None:
    one, two = Step(1, "0001_a.sql", "SELECT 1"), Step(2, "0002_b.sql", "SELECT 1")
    await migrate(fresh, [one, two])
    with pytest.raises(SchemaTooNew):
        await migrate(fresh, [one])
    with pytest.raises(SchemaTooNew):
        await migrate(fresh, [one, two._replace(sql="SELECT 2")])


async def test_every_unique_constraint_begins_with_the_shard(fresh: Database) -> None:
    """What a distributed PostgreSQL asks for; `schema_step` is the one table that is not data."""
    await migrate(fresh)
    rows = await fresh.fetch(
        "SELECT conrelid::regclass::text AS named, (SELECT array_agg(attname ORDER BY place) "
        "FROM unnest(conkey) WITH ORDINALITY AS k(number, place) JOIN pg_attribute "
        "ON attrelid = conrelid AND attnum = number)::text[] AS columns "
        "FROM pg_constraint WHERE contype IN ('p', 'u') AND connamespace = 'public'::regnamespace"
    )
    assert len(rows) > 10
    for row in rows:
        if row["named"] == "shard_head":
            assert row["columns"] == ["shard"]
        elif row["named"] != "schema_step":
            assert row["columns"][:2] == ["shard", "tenant"], row["named"]
    assert await fresh.fetchrow("SELECT 1 FROM pg_sequences") is None
