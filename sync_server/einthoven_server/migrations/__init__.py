"""The database's shape: numbered steps, forward only, each in one transaction.

It deliberately offers no way back: a step that proves wrong is followed by another.

Invariants:
    1. A released step never changes; its SHA-256 is kept in the database and checked.
    2. A database with steps this version does not know is left untouched.
    3. Two servers starting at once apply every step once (the version is the primary key; the loser starts over).
    4. A step that asks for declarative partitions is passed over for good where there are none: the database keeps
       that by the step's name.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

import asyncpg

from einthoven_server import limits
from einthoven_server.database import Connection, Database
from einthoven_server.errors import Busy, DatabaseUnavailable, SchemaTooNew

_PARTITIONS_ONLY: Final = "-- Only with declarative partitions\n"
_PASSED_OVER: Final = "passed over: "
_PARTITIONS_SINCE: Final = 14_00_00
"""``server_version_num`` of the oldest PostgreSQL that is supported; what is used of partitions came with 12."""
# What is compatible with PostgreSQL and places rows by itself says so in its version, or is an extension.
_PROBE: Final = """
SELECT version() LIKE 'PostgreSQL %' AND version() NOT LIKE '%-YB-%'
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE extname = 'citus')
"""


class Step(NamedTuple):
    """One step: its number, its file's name and its SQL."""

    version: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the SQL, hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def needs_partitions(self) -> bool:
        """Whether it makes sense only where tables can be partitioned."""
        return self.sql.startswith(_PARTITIONS_ONLY)


def steps() -> list[Step]:
    """All steps that ship, in order."""
    files = sorted(file.name for file in resources.files(__name__).iterdir() if file.name.endswith(".sql"))
    return [Step(int(name[:4]), name, (resources.files(__name__) / name).read_text("utf-8")) for name in files]


async def migrate(database: Database, to_apply: list[Step] | None = None, *, partitions: bool | None = None) -> int:
    """Apply what is missing.

    Args:
        database: An open database.
        to_apply: The steps; all that ship where ``None``.
        partitions: Whether tables may be partitioned; the database is asked where ``None``.

    Returns:
        The version the database is at.

    Raises:
        SchemaTooNew: It was written by a newer version, or by one with other steps.
        DatabaseUnavailable: A step fails; nothing was changed.
    """
    wanted = steps() if to_apply is None else to_apply

    async def work(connection: Connection) -> int:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_step (version int PRIMARY KEY, name text NOT NULL, digest text NOT NULL)"
        )
        applied = {row["version"]: row["digest"] for row in await connection.fetch("SELECT * FROM schema_step")}
        known = {step.version: step.digest for step in wanted}
        if any(known.get(version) != digest for version, digest in applied.items()):
            raise SchemaTooNew("the database was written by another version of the server", "use that one or a newer")
        for step in wanted:
            if step.version not in applied:
                await _apply(connection, step, partitions)
        return max(known)

    try:
        return await database.transact(work)
    except (asyncpg.PostgresError, Busy) as error:
        raise DatabaseUnavailable(
            f"can't bring the database up to date ({type(error).__name__})", "start again, or see PostgreSQL's log"
        ) from error


async def was_applied(database: Database, name: str) -> bool:
    """Whether a step was applied to this database, and not passed over.

    Raises:
        Busy: The database can't be reached.
    """
    return await database.fetchrow("SELECT 1 FROM schema_step WHERE name = $1", name) is not None


async def _apply(connection: Connection, step: Step, partitions: bool | None) -> None:
    name = step.name
    if step.needs_partitions and not (await _has_partitions(connection) if partitions is None else partitions):
        name = _PASSED_OVER + name
    else:
        # Reading a large table once takes longer than any request may.
        await connection.execute(step.sql, timeout=limits.MIGRATION_STEP_TIMEOUT_S)
    await connection.execute("INSERT INTO schema_step VALUES ($1, $2, $3)", step.version, name, step.digest)


async def _has_partitions(connection: Connection) -> bool:
    return (
        bool(await connection.fetchval(_PROBE))
        and int(await connection.fetchval("SELECT current_setting('server_version_num')")) >= _PARTITIONS_SINCE
    )
