"""Opens the vault of a server, and moves there what an earlier version kept in the database.

It deliberately removes nothing from the database that is not durable in the vault.

Invariants:
    1. A database goes with one vault: with another one, empty or not, a server does not start.
    2. Moving goes on where a kill ended it: rows leave the database page by page, after the vault has them.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import groupby
from pathlib import Path
from typing import Final

import asyncpg

from einthoven_server import limits
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import KeyUnavailable
from einthoven_server.vault import postgres, sqlite
from einthoven_server.vault.port import KeptKey, Vault

_MARK: Final = (
    "UPDATE tenant SET vault_mark = coalesce(vault_mark, $3) WHERE shard = $1 AND tenant = $2 RETURNING vault_mark"
)
_KEYS: Final = (
    "SELECT patient_id, key_version, wrapped FROM patient_key_former WHERE shard = $1 AND tenant = $2 "
    "ORDER BY patient_id, key_version LIMIT $3"
)
_GONE_KEYS: Final = (
    "DELETE FROM patient_key_former AS stored USING unnest($3::text[], $4::int[]) AS asked(patient_id, key_version) "
    "WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.patient_id = asked.patient_id "
    "AND stored.key_version = asked.key_version"
)
_ENTRIES: Final = (
    "SELECT said.patient_id, said.version, former.name, former.hashed FROM patient_blind_index_former AS former "
    "JOIN patient_demographics AS said USING (shard, tenant, patient_id) WHERE shard = $1 AND tenant = $2 "
    "AND patient_id IN (SELECT DISTINCT patient_id FROM patient_blind_index_former "
    "WHERE shard = $1 AND tenant = $2 ORDER BY patient_id LIMIT $3) ORDER BY said.patient_id"
)
_GONE_ENTRIES: Final = (
    "DELETE FROM patient_blind_index_former WHERE shard = $1 AND tenant = $2 AND patient_id = ANY($3::text[])"
)


@asynccontextmanager
async def open_vault(
    url: str | None, data: Path, owner: Database, scope: Scope, *, moves: bool = True
) -> AsyncIterator[Vault]:
    """Open the vault while the block runs.

    Args:
        url: A PostgreSQL URL; a file in ``data`` where ``None``.
        data: The data folder.
        owner: The database, as the owner of its tables.
        scope: Shard and tenant.
        moves: Whether to see that it is the one of this database, and to move there what is not in it yet.

    Raises:
        StartError: It can't be used.
        Busy: The database does not answer.
    """
    if url is not None:
        async with postgres.open_database(url, scope) as vault:
            if moves:
                await _settle(owner, scope, vault)
            yield vault
        return
    with closing(sqlite.open_file(data / sqlite.NAME)) as connection:
        file = sqlite.SqliteVault(connection, scope.tenant)
        if moves:
            await _settle(owner, scope, file)
        yield file


async def _settle(owner: Database, scope: Scope, vault: Vault) -> None:
    mark = await vault.mark(str(uuid.uuid4()))
    row = await owner.fetchrow(_MARK, *scope, mark)
    if row is None or row["vault_mark"] != mark:
        raise KeyUnavailable(
            "this is not the vault that belongs to the database", "give its --vault-url, or its data folder"
        )
    await move_former(owner, scope, vault)


async def move_former(owner: Database, scope: Scope, vault: Vault) -> int:
    """Move what an earlier version kept in the database; return how many keys.

    Raises:
        Busy: The database or the vault does not answer; go on later.
    """
    n_moved = 0
    if await _is_there(owner, "patient_key_former"):
        while rows := await owner.fetch(_KEYS, *scope, limits.VAULT_PAGE_KEYS):
            await vault.keep([KeptKey(*row) for row in rows])
            await owner.fetch(_GONE_KEYS, *scope, [row["patient_id"] for row in rows], [row[1] for row in rows])
            n_moved += len(rows)
        await _drop(owner, "patient_key_former")
    if await _is_there(owner, "patient_blind_index_former"):
        while rows := await owner.fetch(_ENTRIES, *scope, limits.VAULT_PAGE_KEYS):
            for (patient_id, version), of_one in groupby(rows, lambda row: (row["patient_id"], row["version"])):
                await vault.index(patient_id, version, [(row["name"], row["hashed"]) for row in of_one])
            await owner.fetch(_GONE_ENTRIES, *scope, list({row["patient_id"] for row in rows}))
        await _drop(owner, "patient_blind_index_former")
    return n_moved


async def _is_there(owner: Database, table: str) -> bool:
    row = await owner.fetchrow("SELECT to_regclass($1) IS NOT NULL", table)
    return row is not None and bool(row[0])


async def _drop(owner: Database, table: str) -> None:
    """Remove a table once nobody has anything in it."""

    async def work(connection: Connection) -> None:
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        if await connection.fetchrow(f"SELECT 1 FROM {table} LIMIT 1") is None:  # noqa: S608  # a constant
            await connection.execute(f"DROP TABLE {table}")

    try:
        await owner.transact(work)
    except asyncpg.UndefinedTableError:
        return  # another server did
