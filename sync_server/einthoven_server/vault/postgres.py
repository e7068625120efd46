"""The vault in PostgreSQL: a database of its own, or, if none was named, tables beside the others.

Tables beside the others are not in our backups; whoever backs that database up by other means has them in there, and
an erased patient comes back with it: name a database of its own then.

It deliberately uses only what PostgreSQL's distributed kin have as well.

Invariants:
    1. Every key begins with (shard, tenant); the tables stand behind the wall of ``row_security``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from einthoven_server import limits, row_security
from einthoven_server.database import Connection, Database, Row, Scope, connected
from einthoven_server.errors import Busy, DatabaseUnavailable
from einthoven_server.vault.port import Indexed, KeptKey, Term, unavailable

TABLES: Final = ("vault_key", "vault_index", "vault_mark")
_SHAPE: Final = (
    """
    CREATE TABLE IF NOT EXISTS vault_key (
        shard int NOT NULL, tenant text NOT NULL, patient_id text NOT NULL, key_version int NOT NULL,
        wrapped bytea NOT NULL, wrapping_round int NOT NULL DEFAULT 0,
        PRIMARY KEY (shard, tenant, patient_id, key_version)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS vault_index (
        shard int NOT NULL, tenant text NOT NULL, name text NOT NULL, hashed bytea NOT NULL,
        patient_id text NOT NULL, version int NOT NULL,
        PRIMARY KEY (shard, tenant, name, hashed, patient_id, version)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS vault_mark (
        shard int NOT NULL, tenant text NOT NULL, mark text NOT NULL, PRIMARY KEY (shard, tenant)
    )
    """,
    "CREATE INDEX IF NOT EXISTS vault_index_patient ON vault_index (shard, tenant, patient_id)",
)
_ATTEMPTS_MAX: Final = 5
_OURS: Final = "shard = $1 AND tenant = $2"


class PostgresVault:
    """One tenant's part of it.

    Args:
        database: Open, with its tables made.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def mark(self, fresh: str) -> str:
        """See ``Vault.mark``."""
        await self._fetch("INSERT INTO vault_mark VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", fresh)
        return str((await self._fetch(f"SELECT mark FROM vault_mark WHERE {_OURS}"))[0]["mark"])  # noqa: S608

    async def keep(self, keys: Sequence[KeptKey]) -> None:
        """See ``Vault.keep``."""
        await self._fetch(
            "INSERT INTO vault_key (shard, tenant, patient_id, key_version, wrapped) "
            "SELECT $1, $2, patient_id, version, wrapped "
            "FROM unnest($3::text[], $4::int[], $5::bytea[]) AS asked(patient_id, version, wrapped) "
            "ON CONFLICT DO NOTHING",
            [key.patient_id for key in keys],
            [key.key_version for key in keys],
            [key.wrapped for key in keys],
        )

    async def keys(self, patient_id: str) -> dict[int, bytes]:
        """See ``Vault.keys``."""
        rows = await self._fetch(
            f"SELECT key_version, wrapped FROM vault_key WHERE {_OURS} AND patient_id = $3",  # noqa: S608  # constants
            patient_id,
        )
        return {row["key_version"]: row["wrapped"] for row in rows}

    async def forget_below(self, patient_id: str, version: int) -> None:
        """See ``Vault.forget_below``."""
        query = f"DELETE FROM vault_key WHERE {_OURS} AND patient_id = $3 AND key_version < $4"  # noqa: S608
        await self._fetch(query, patient_id, version)

    async def erase(self, patient_id: str) -> None:
        """See ``Vault.erase``."""

        async def work(connection: Connection) -> None:
            for table in TABLES[:2]:
                query = f"DELETE FROM {table} WHERE {_OURS} AND patient_id = $3"  # noqa: S608  # constants
                await connection.execute(query, *self._scope, patient_id)

        await self._transact(work)

    async def page(self, after: tuple[str, int], limit: int) -> list[KeptKey]:
        """See ``Vault.page``."""
        rows = await self._fetch(
            f"SELECT patient_id, key_version, wrapped FROM vault_key WHERE {_OURS} "  # noqa: S608  # constants
            "AND (patient_id, key_version) > ($3, $4) ORDER BY patient_id, key_version LIMIT $5",
            *after,
            limit,
        )
        return [KeptKey(*row) for row in rows]

    async def to_rewrap(self, number: int, limit: int) -> list[KeptKey]:
        """See ``Vault.to_rewrap``."""
        rows = await self._fetch(
            f"SELECT patient_id, key_version, wrapped FROM vault_key WHERE {_OURS} AND wrapping_round < $3 LIMIT $4",  # noqa: S608
            number,
            limit,
        )
        return [KeptKey(*row) for row in rows]

    async def rewrap(self, key: KeptKey, wrapped: bytes, number: int) -> None:
        """See ``Vault.rewrap``."""
        await self._fetch(
            f"UPDATE vault_key SET wrapped = $6, wrapping_round = $7 "  # noqa: S608  # constants
            f"WHERE {_OURS} AND patient_id = $3 AND key_version = $4 AND wrapped = $5",
            *key,
            wrapped,
            number,
        )

    async def index(self, patient_id: str, version: int, terms: Sequence[Term]) -> None:
        """See ``Vault.index``."""

        async def work(connection: Connection) -> None:
            remove = f"DELETE FROM vault_index WHERE {_OURS} AND patient_id = $3 AND version = $4"  # noqa: S608
            await connection.execute(remove, *self._scope, patient_id, version)
            await connection.execute(
                "INSERT INTO vault_index SELECT $1, $2, asked.name, asked.hashed, $3, $4 "
                "FROM unnest($5::text[], $6::bytea[]) AS asked(name, hashed) ON CONFLICT DO NOTHING",
                *self._scope,
                patient_id,
                version,
                [name for name, _ in terms],
                [hashed for _, hashed in terms],
            )

        await self._transact(work)

    async def prune_index(self, patient_id: str, version: int) -> None:
        """See ``Vault.prune_index``."""
        query = f"DELETE FROM vault_index WHERE {_OURS} AND patient_id = $3 AND version <> $4"  # noqa: S608
        await self._fetch(query, patient_id, version)

    async def find(self, terms: Sequence[Term], among: Sequence[str] | None, limit: int) -> list[Indexed]:
        """See ``Vault.find``."""
        rows = await self._fetch(
            "SELECT DISTINCT stored.patient_id, stored.version FROM unnest($3::text[], $4::bytea[]) "
            "AS asked(name, hashed) JOIN vault_index AS stored ON stored.shard = $1 AND stored.tenant = $2 "
            "AND stored.name = asked.name AND stored.hashed = asked.hashed "
            "WHERE $5::text[] IS NULL OR stored.patient_id = ANY($5::text[]) LIMIT $6",
            [name for name, _ in terms],
            [hashed for _, hashed in terms],
            None if among is None else list(among),
            limit,
        )
        return [Indexed(*row) for row in rows]

    async def _fetch(self, query: str, *values: object) -> list[Row]:
        try:
            return await self._database.fetch(query, *self._scope, *values)
        except (Busy, asyncpg.PostgresError) as error:
            raise unavailable() from error

    async def _transact(self, work: Callable[[Connection], Awaitable[None]]) -> None:
        try:
            await self._database.transact(work)
        except (Busy, asyncpg.PostgresError) as error:
            raise unavailable() from error


@asynccontextmanager
async def open_database(url: str, scope: Scope) -> AsyncIterator[PostgresVault]:
    """Open, and make what is missing.

    Raises:
        DatabaseUnavailable: It does not answer, or its tables can't be made.
    """
    async with connected(url, connections_max=1) as owner:
        await _make(owner)
        role = await row_security.secure(owner)
    settings = {} if role is None else {"role": role, row_security.TENANT_SETTING: scope.tenant}
    async with connected(url, connections_max=limits.VAULT_CONNECTIONS_MAX, settings=settings) as database:
        if role is not None:
            await row_security.check(database, scope.tenant)
        yield PostgresVault(database, scope)


async def _make(owner: Database) -> None:
    async def work(connection: Connection) -> None:
        for statement in _SHAPE:
            await connection.execute(statement)

    for attempt in range(_ATTEMPTS_MAX):
        try:
            return await owner.transact(work)
        except (asyncpg.UniqueViolationError, asyncpg.DuplicateTableError) as error:
            # Another server makes them at this moment.
            if attempt == _ATTEMPTS_MAX - 1:
                raise _no_tables(error) from error
        except (asyncpg.PostgresError, Busy) as error:
            raise _no_tables(error) from error
    return None


def _no_tables(error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"can't make the vault's tables ({type(error).__name__})", "check --vault-url")
