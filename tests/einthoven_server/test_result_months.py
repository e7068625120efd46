"""Results lie apart by month, if the database can; nobody who writes or reads notices."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.shards import Shard, postgres_shard

from einthoven_protocol.messages import BucketKind, RejectReason, Run, VerdictCode
from einthoven_server import limits
from einthoven_server.database import Connection, Database, Scope, connected
from einthoven_server.migrations import migrate, steps, was_applied
from einthoven_server.records import feed_statements, result_months
from einthoven_server.records.change_store import Bucket, Snapshot
from einthoven_server.records.columns import columns_of
from einthoven_server.records.result_months import ResultMonths, first_sequence, month_of, part_name

SHARD = Scope(0, "t")
_FEED_TYPES = "int, text, int[], int[], int[], bigint[], text[], bigint, bigint, bigint, bigint, bigint, bigint, bigint"


def ms(year: int, month: int, day: int = 15) -> int:
    return int(dt.datetime(year, month, day, tzinfo=dt.UTC).timestamp() * 1000)


NOVEMBER, DECEMBER, JANUARY = ms(2026, 11), ms(2026, 12), ms(2027, 1)


@pytest.fixture
async def fresh(database_url: str, connection: Connection) -> AsyncIterator[Database]:
    """An empty database of its own."""
    name = f"t{uuid.uuid4().hex}"
    await connection.execute(f"CREATE DATABASE {name}")
    async with connected(database_url.replace("/postgres?", f"/{name}?")) as database:
        yield database
    await connection.execute(f"DROP DATABASE {name}")


@pytest.fixture
async def shard(fresh: Database) -> AsyncIterator[Shard]:
    await migrate(fresh)
    async with postgres_shard(fresh) as shard:
        yield shard


async def parts(database: Database) -> dict[str, int]:
    """Rows by part."""
    rows = await database.fetch("SELECT tableoid::regclass::text AS part, count(*) AS n FROM result_row GROUP BY 1")
    return {row["part"]: row["n"] for row in rows}


async def tables(database: Database) -> set[str]:
    rows = await database.fetch("SELECT relid::regclass::text AS name FROM pg_partition_tree('result_row')")
    return {row["name"] for row in rows} - {"result_row", "result_row_first", "result_row_other"}


async def head(database: Database) -> int:
    row = await database.fetchrow("SELECT commit_seq FROM shard_head WHERE shard = 0")
    assert row is not None
    return int(row["commit_seq"])


@given(st.integers(0, 4_000_000_000_000), st.integers(0, 4_000_000_000_000))
def test_sequences_of_months_are_in_the_order_of_the_months(one_ms: int, other_ms: int) -> None:
    one, other = sorted((one_ms, other_ms))
    assert month_of(one) <= month_of(other)
    assert first_sequence(month_of(one)) <= first_sequence(month_of(other))
    assert (part_name(month_of(one)) == part_name(month_of(other))) is (month_of(one) == month_of(other))
    day = dt.datetime.fromtimestamp(one / 1000, dt.UTC)
    assert part_name(month_of(one)) == f"result_row_{day:%Y_%m}"
    assert 0 <= first_sequence(month_of(one)) < 2**63


async def test_a_new_database_begins_with_one_part_and_turns_the_page_when_the_month_ends(
    shard: Shard, fresh: Database
) -> None:
    phone = await shard.new_phone()
    await phone.exchange(phone.rows(1, 3))
    months = ResultMonths(fresh, SHARD)
    assert await months.keep(NOVEMBER)
    assert await tables(fresh) == {"result_row_2026_12", "result_row_2027_01"}
    assert await head(fresh) == 3  # the month of installation goes on as it began
    await phone.exchange(phone.rows(4, 1))
    assert await months.keep(DECEMBER)
    assert await head(fresh) == first_sequence(month_of(DECEMBER))
    assert await tables(fresh) == {"result_row_2026_12", "result_row_2027_01", "result_row_2027_02"}
    await phone.exchange(phone.rows(5, 2))
    assert await parts(fresh) == {"result_row_first": 4, "result_row_2026_12": 2}
    assert await months.keep(NOVEMBER)
    assert await ResultMonths(fresh, SHARD).keep(NOVEMBER)  # a clock that was put back turns nothing back
    assert await head(fresh) == first_sequence(month_of(DECEMBER)) + 2


async def test_months_in_which_nothing_ran_are_left_out(shard: Shard, fresh: Database) -> None:
    phone = await shard.new_phone()
    assert await ResultMonths(fresh, SHARD).keep(NOVEMBER)
    assert await ResultMonths(fresh, SHARD).keep(ms(2029, 2))
    await phone.exchange(phone.rows(1, 2))
    assert await parts(fresh) == {"result_row_2029_02": 2}
    assert "result_row_2027_02" not in await tables(fresh)


async def test_what_was_stored_in_one_month_is_known_in_the_next(shard: Shard, fresh: Database) -> None:
    phone = await shard.new_phone()
    other = await shard.new_phone(phone.device.patient_key)
    months = ResultMonths(fresh, SHARD)
    await months.keep(NOVEMBER)
    pushed = phone.request(phone.rows(1, 3))
    await phone.send(pushed)
    ahead = phone.rows(9, 1, tier=3)
    await phone.exchange(alerts=ahead)
    await other.catch_up()
    for now_ms in (DECEMBER, JANUARY):
        await months.keep(now_ms)
        again = await phone.send(pushed)
        assert {verdict.code for verdict in again.verdicts} == {VerdictCode.DUPLICATE}
        changed = await phone.exchange(phone.rows(1, 3, duration_ms=29_000))
        assert {(one.code, one.reason) for one in changed.verdicts} == {
            (VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
        }
    in_turn = await phone.exchange(phone.rows(4, 5) + ahead)
    assert [(one.counter, one.code) for one in in_turn.verdicts] == [(9, VerdictCode.DUPLICATE)]
    assert in_turn.acknowledged == 9
    assert await parts(fresh) == {"result_row_first": 4, "result_row_2027_01": 5}
    await other.catch_up()
    other.check()
    assert len(other.results) == 9
    bucket = Bucket(other.device, phone.alias, BucketKind.RECORDS)

    async def compare(snapshot: Snapshot) -> tuple[int, int, int]:
        shares, runs = await snapshot.shares(bucket), await snapshot.runs(bucket, [Run(1, 2, 8)], 100)
        rows = await snapshot.rows(bucket, [(1, 3), (1, 9)], ())
        return len(shares.results), len(runs), len(rows.results)

    assert await shard.store.read(compare) == (9, 7, 2)


async def test_two_servers_make_a_part_once(shard: Shard, fresh: Database) -> None:
    for now_ms in (NOVEMBER, DECEMBER):
        several = [ResultMonths(fresh, SHARD) for _ in range(3)]
        await asyncio.gather(*(months.keep(now_ms) for months in several))
        assert all([await months.keep(now_ms) for months in several])
    assert len(await tables(fresh)) == 1 + limits.RESULT_MONTHS_AHEAD


async def test_a_busy_table_is_left_for_later(shard: Shard, fresh: Database, caplog: pytest.LogCaptureFixture) -> None:
    phone = await shard.new_phone()
    months = ResultMonths(fresh, SHARD)
    assert await months.keep(NOVEMBER)
    held = asyncio.Event()
    go_on = asyncio.Event()

    async def lock(connection: Connection) -> None:
        await connection.execute("LOCK TABLE result_row_other IN ACCESS SHARE MODE")
        held.set()
        await go_on.wait()

    locked = asyncio.create_task(fresh.transact(lock))
    await held.wait()
    assert not await months.keep(DECEMBER)
    assert "result_row_2027_02 can't be made now (LockNotAvailableError)" in caplog.text
    await phone.exchange(phone.rows(1, 1))
    assert await parts(fresh) == {"result_row_first": 1}
    go_on.set()
    await locked
    assert await months.keep(DECEMBER)


async def test_a_month_that_has_rows_elsewhere_is_not_begun(
    shard: Shard, fresh: Database, caplog: pytest.LogCaptureFixture
) -> None:
    phone = await shard.new_phone()
    months = ResultMonths(fresh, SHARD)
    await months.keep(NOVEMBER)
    far = month_of(ms(2030, 5))
    await fresh.fetch("UPDATE shard_head SET commit_seq = $1 WHERE shard = 0", first_sequence(far))
    await phone.exchange(phone.rows(1, 1))
    assert await parts(fresh) == {"result_row_other": 1}
    assert not await months.keep(ms(2030, 5))
    assert "CheckViolationError" in caplog.text
    await phone.exchange(phone.rows(2, 1))
    assert await parts(fresh) == {"result_row_other": 2}
    phone.check()


async def test_without_partitions_results_are_one_table(fresh: Database) -> None:
    assert await migrate(fresh, partitions=False) == await migrate(fresh, partitions=True) == steps()[-1].version
    assert not await was_applied(fresh, result_months.STEP)
    async with postgres_shard(fresh) as shard:
        phone = await shard.new_phone()
        assert await ResultMonths(fresh, SHARD).keep(DECEMBER)
        await phone.exchange(phone.rows(1, 2))
        phone.check()
    kind = await fresh.fetchrow("SELECT relkind::text AS kind FROM pg_class WHERE relname = 'result_row'")
    assert kind is not None
    assert kind["kind"] == "r"


async def test_a_database_of_before_keeps_its_rows_and_what_went_ahead_is_known(fresh: Database) -> None:
    await migrate(fresh, steps()[:3])
    async with postgres_shard(fresh) as before:
        # The tables of today are not there yet: rows as an older version left them.
        phone = await before.new_phone()
        await fresh.fetch("INSERT INTO device_progress VALUES (0, $1, $2, 1, 3, 0)", before.tenant, phone.alias)
        await fresh.fetch(
            "INSERT INTO result_row SELECT 0, $1, $2, 1, n, 'p', 'sealed', 1, decode(repeat('00', 16), 'hex'), n "
            "FROM unnest(ARRAY[1, 2, 3, 9]) AS n",
            before.tenant,
            phone.alias,
        )
        await fresh.fetch(
            "INSERT INTO tombstone VALUES (0, $1, 1, $2, 2, 7, '', 'p', 0, 10, 1, true)", before.tenant, phone.alias
        )
    await migrate(fresh)
    ahead = await fresh.fetch("SELECT device_alias, epoch, highest FROM result_ahead ORDER BY epoch")
    assert [tuple(row) for row in ahead] == [(phone.alias, 1, 9), (phone.alias, 2, 7)]
    assert await parts(fresh) == {"result_row_first": 4}


def opened(plan: dict[str, Any]) -> tuple[set[str], int]:
    """Parts of results that a plan opens, and how many it was spared."""
    names, spared = {plan.get("Relation Name", "")}, int(plan.get("Subplans Removed", 0))
    for child in plan.get("Plans", []):
        more, less = opened(child)
        names, spared = names | more, spared + less
    return {name for name in names if name.startswith("result_row")}, spared


async def test_a_feed_opens_the_months_since_its_cursor(shard: Shard, fresh: Database) -> None:
    phone = await shard.new_phone()
    months = ResultMonths(fresh, SHARD)
    for number, now_ms in enumerate((NOVEMBER, DECEMBER, JANUARY)):
        await months.keep(now_ms)
        await phone.exchange(phone.rows(1 + number, 1))

    async def explain(since: int) -> tuple[set[str], int]:
        asked = (*columns_of([(0, 9, 1, since, phone.device.patient_id)], 5), *[9] * 6, since)
        values = ", ".join(literal(value) for value in (0, shard.tenant, *asked))

        async def work(connection: Connection) -> Any:
            await connection.execute("SET LOCAL plan_cache_mode = 'force_generic_plan'")
            await connection.execute(f"PREPARE asked({_FEED_TYPES}) AS {feed_statements.FEED_BY_MONTH}")
            plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked({values})")
            await connection.execute("DEALLOCATE asked")
            return plan

        return opened(json.loads(await fresh.transact(work))[0]["Plan"])

    everything, none = await explain(0)
    assert len(everything) == 2 + 4
    assert none == 0
    recent, spared = await explain(first_sequence(month_of(JANUARY)))
    assert {"result_row_first", "result_row_2026_12"}.isdisjoint(recent)
    assert "result_row_2027_01" in recent
    assert spared == 2


def literal(value: object) -> str:
    if isinstance(value, list):
        return "ARRAY[" + ", ".join(literal(one) for one in value) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value)
