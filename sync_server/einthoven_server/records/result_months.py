"""Results lie apart by the month in which they were committed: parts made ahead, and the page turned once a month.

A commit sequence tells its month: ``month << 38`` and on from there, months counted from January 1970. Turning the page
is raising the shard's head to the month's first sequence; it goes on from there by ones as ever, and a cursor
is what it was, a number that grows. So the feed's condition, later than the reader's cursor, is what tells PostgreSQL
which parts to open, and nothing that writes has to know of months at all.

It deliberately drops, detaches and moves nothing: a result that is gone without a tombstone is one that devices bring
again. It does nothing where the database has no partitions (ADR 22).

Invariants:
    1. The page is turned to a month whose part exists, never back, however the clock goes.
    2. What was committed before the first turn lies in ``result_row_first``, that is the month of installation and all
       that an older version wrote.
    3. Whoever fails here leaves everything writable: rows go on to where they went before.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from typing import Final

import asyncpg

from einthoven_server import limits, row_security
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.migrations import was_applied

STEP: Final = "0005_result_months.sql"
"""The migration that makes ``result_row`` a table of parts."""
SEQUENCE_BITS: Final = 38
"""Sequences of one month of a shard: 2.7e11, about 100,000 a second all month long. Should they not be enough, those
beyond are the next month's, and it begins with them."""
_MONTHS_A_YEAR: Final = 12
_FIRST_YEAR: Final = 1970

_HEAD: Final = "SELECT month FROM shard_head WHERE shard = $1"
_BEGIN: Final = "UPDATE shard_head SET month = $2 WHERE shard = $1 AND month IS NULL"
_TURN: Final = """
UPDATE shard_head SET commit_seq = greatest(commit_seq, $3::bigint), month = $2 WHERE shard = $1 AND month < $2
"""
_PARTS: Final = "SELECT relid::regclass::text AS name FROM pg_partition_tree('result_row') WHERE isleaf"
# Attached rather than made in place: that does not wait for those who read or write other parts.
_MAKE: Final = """
SET LOCAL lock_timeout = {lock_timeout_ms};
CREATE TABLE {name} (LIKE result_row);
ALTER TABLE {name} ADD CONSTRAINT {name}_pkey PRIMARY KEY (shard, tenant, device_alias, epoch, counter);
CREATE INDEX {name}_feed ON {name} (shard, tenant, patient_id, commit_seq);
{secured}
ALTER TABLE result_row ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end});
"""
_LATER = (
    asyncpg.DuplicateTableError,
    asyncpg.UniqueViolationError,
    asyncpg.LockNotAvailableError,
    asyncpg.CheckViolationError,
)
"""Another server is making the part, or the table is busy; or rows of that month lie in ``result_row_other``."""
_log = logging.getLogger("einthoven_server")


def month_of(at_ms: int) -> int:
    """The month of a time (UTC, ms since 1970), counted from January 1970."""
    day = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return (day.year - _FIRST_YEAR) * _MONTHS_A_YEAR + day.month - 1


def first_sequence(month: int) -> int:
    """Where a month's commit sequences begin."""
    return month << SEQUENCE_BITS


def part_name(month: int) -> str:
    """The table of a month's results, such as ``result_row_2026_11``."""
    year, before = divmod(month, _MONTHS_A_YEAR)
    return f"result_row_{_FIRST_YEAR + year}_{before + 1:02d}"


class ResultMonths:
    """Keeps one shard's months.

    Args:
        database: Open and migrated, as the owner of its tables.
        scope: Shard and tenant; a shard's months are all its tenants'.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._shard = scope.shard
        self._kept = -1

    async def keep(self, now_ms: int) -> bool:
        """Have parts for this month and some ahead, and let what comes lie in this month's.

        Args:
            now_ms: UTC, ms since 1970.

        Returns:
            Whether everything is as it should be; if not, the next call goes on.

        Raises:
            Busy: The database does not answer, or is contended.
        """
        month = month_of(now_ms)
        if month <= self._kept:
            return True
        if await was_applied(self._database, STEP):
            await self._database.fetch(_BEGIN, self._shard, month)
            head = await self._database.fetchrow(_HEAD, self._shard)
            there = {row["name"] for row in await self._database.fetch(_PARTS)}
            first = month if head is not None and head["month"] < month else month + 1
            for needed in range(first, month + 1 + limits.RESULT_MONTHS_AHEAD):
                if part_name(needed) not in there and not await self._make(needed):
                    return False
            await self._database.fetch(_TURN, self._shard, month, first_sequence(month))
        self._kept = month
        return True

    async def make(self, months: Sequence[int]) -> None:
        """Have parts for these months, in an empty database.

        Raises:
            Busy: The database does not answer, or is contended.
        """
        if not await was_applied(self._database, STEP):
            return
        there = {row["name"] for row in await self._database.fetch(_PARTS)}
        for month in months:
            if part_name(month) not in there:
                await self._make(month)

    async def _make(self, month: int) -> bool:
        name = part_name(month)
        sql = _MAKE.format(
            name=name,
            secured=row_security.secured(name),
            first=first_sequence(month),
            end=first_sequence(month + 1),
            lock_timeout_ms=limits.RESULT_MONTH_LOCK_TIMEOUT_MS,
        )

        async def work(connection: Connection) -> None:
            await connection.execute(sql)

        try:
            await self._database.transact(work)
        except _LATER as error:
            _log.warning("%s can't be made now (%s); it is tried again", name, type(error).__name__)
            return False
        return True
