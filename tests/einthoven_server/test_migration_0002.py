"""A database of before keeps its rows, and every feed is an index scan."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from einthoven_server.database import Connection, Database, connected
from einthoven_server.migrations import migrate, steps
from einthoven_server.records import feed_statements
from einthoven_server.records.columns import columns_of


@pytest.fixture
async def fresh(database_url: str, connection: Connection) -> AsyncIterator[Database]:
    """An empty database of its own."""
    name = f"t{uuid.uuid4().hex}"
    await connection.execute(f"CREATE DATABASE {name}")
    async with connected(database_url.replace("/postgres?", f"/{name}?")) as database:
        yield database
    await connection.execute(f"DROP DATABASE {name}")


async def test_what_was_there_stays(fresh: Database) -> None:
    await migrate(fresh, steps()[:1])
    await fresh.fetch(
        "INSERT INTO result_row SELECT 0, 't', 1, 1, n, 'p', 'sealed', 1, 'sum', n, gen_random_uuid(), "
        "gen_random_uuid() FROM generate_series(1, 3) AS n"
    )
    await fresh.fetch("INSERT INTO annotation VALUES (0, 't', 1, 1, 2, 'a', 'p', 'sealed', 1, 4, NULL, NULL)")
    await fresh.fetch("INSERT INTO device_digest VALUES (0, 't', 1, 4, 'total')")
    await fresh.fetch("INSERT INTO device_progress VALUES (0, 't', 1, 1, 3)")
    await migrate(fresh)
    rows = await fresh.fetch("SELECT counter, row_sealed, row_sum, commit_seq FROM result_row ORDER BY counter")
    assert [tuple(row) for row in rows] == [(n, b"sealed", b"sum", n) for n in (1, 2, 3)]
    assert tuple((await fresh.fetch("SELECT device_alias, kind, count, total FROM bucket_digest"))[0]) == (
        1,
        1,
        4,
        b"total",
    )
    assert tuple((await fresh.fetch("SELECT acknowledged, notes_acknowledged FROM device_progress"))[0]) == (3, 0)
    (annotation,) = await fresh.fetch("SELECT author, row_sum FROM annotation")
    assert tuple(annotation) == ("a", None)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


@pytest.mark.parametrize("partitions", [False, True])
async def test_every_feed_is_an_index_scan(fresh: Database, *, partitions: bool) -> None:
    await migrate(fresh, partitions=partitions)
    identity = "0, 't', n % 50 + 1, 1, n"
    patient = "'p' || n % 50"
    for table, columns in {
        "result_row": f"{identity}, {patient}, 'sealed', 1, 'sum', n",
        "annotation": f"{identity}, 'a', {patient}, 'sealed', 1, n, NULL, NULL, 'sum'",
        "note": f"{identity}, {patient}, 'sealed', 1, 'sum', n",
        "superseded_write": f"{identity}, 'a', 1, n, 'sum', {patient}, 'sealed', 1, n",
        "tombstone": f"0, 't', 1, n % 50 + 1, 1, n, '', {patient}, 0, n, 0, false",
        "document": f"0, 't', {patient}, 'd' || n, 1, 1, 'b', 1, 's', n",
    }.items():
        await fresh.fetch(f"INSERT INTO {table} SELECT {columns} FROM generate_series(1, 5000) AS n")
        await fresh.fetch(f"ANALYZE {table}")
    feed, least = (feed_statements.FEED_BY_MONTH, [4_000]) if partitions else (feed_statements.FEED, [])
    if partitions:  # or its part would be known to be empty, and read whole in no time
        columns = f"{identity}, {patient}, 'sealed', 1, 'sum', {2**50} + n"
        await fresh.fetch(f"INSERT INTO result_row SELECT {columns} FROM generate_series(1, 5000) AS n")
        await fresh.fetch("ANALYZE result_row")
    asked = columns_of([(0, 1, 1, 4_000, "p1")], 5)
    for query, most in ((feed, [501] * 6 + least), (feed_statements.OLD_FEED, [501])):
        explained = await fresh.fetch(f"EXPLAIN (FORMAT JSON) {query}", 0, "t", *asked, *most)
        found = nodes(json.loads(explained[0][0])[0]["Plan"])
        scans = [node for node in found if "Relation Name" in node or "Index Name" in node]
        assert len(scans) >= len(most)
        assert {"result_row_first", "result_row_other"} <= {scan["Relation Name"] for scan in scans} or not (
            partitions and query is feed
        )
        for scan in scans:
            if scan["Node Type"] in {"Index Scan", "Index Only Scan"}:
                assert scan["Index Name"] == f"{scan['Relation Name']}_feed"
                assert "commit_seq > asked.since" in scan["Index Cond"]
            else:
                assert scan["Node Type"] != "Seq Scan", scan["Relation Name"]
