"""Reads one tenant's rows, all of one moment, in PostgreSQL's binary COPY form; and writes them into an empty database.

It deliberately copies rows, not files: what was deleted, or moved to the vault, may lie in a database's files for long.

Invariants:
    1. All tables are read in one snapshot; all are written in one transaction.
    2. The vault's tables, where they lie in the same database, are not read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from einthoven_server import limits
from einthoven_server.backup.sealed import SealedBackup, Table
from einthoven_server.database import Connection
from einthoven_server.errors import BackupRefused, Busy, DatabaseUnavailable
from einthoven_server.vault.postgres import TABLES as VAULT_TABLES

_NOT_READ: Final = (*VAULT_TABLES, "schema_step", "patient_key_former", "patient_blind_index_former")
_COLUMNS: Final = """
SELECT class.relname AS name, array_agg(att.attname::text ORDER BY att.attnum) AS columns
FROM pg_catalog.pg_class AS class JOIN pg_catalog.pg_attribute AS att ON att.attrelid = class.oid
WHERE class.relkind IN ('r', 'p') AND NOT class.relispartition AND class.relnamespace = current_schema()::regnamespace
    AND att.attnum > 0 AND NOT att.attisdropped AND class.relname <> ALL($1::text[])
GROUP BY class.relname ORDER BY class.relname
"""


@asynccontextmanager
async def raw_connection(url: str) -> AsyncIterator[Connection]:
    """A connection as the owner of the tables, without the time limits of requests.

    Raises:
        DatabaseUnavailable: It does not answer.
        Busy: It went away.
    """
    try:
        connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise DatabaseUnavailable(f"can't connect to PostgreSQL ({type(error).__name__})", "check it") from error
    try:
        yield connection
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise Busy("the database went away", "try again", limits.BUSY_RETRY_AFTER_S) from error
    finally:
        await connection.close(timeout=limits.STOP_TIMEOUT_S)


async def read(connection: Connection, tenant: str, backup: SealedBackup) -> list[Table]:
    """Write a tenant's rows into a backup; the connection is in a snapshot."""
    tables: list[Table] = []
    piece = 0
    for row in await connection.fetch(_COLUMNS, list(_NOT_READ)):
        columns = ", ".join(f'"{name}"' for name in row["columns"])
        whose = "WHERE tenant = $1" if "tenant" in row["columns"] else ""
        sink = _Pieces(backup, piece)
        done = await connection.copy_from_query(
            f"SELECT {columns} FROM {row['name']} {whose}",  # noqa: S608  # names of our own tables
            *([tenant] if whose else []),
            output=sink.take,
            format="binary",
        )
        await sink.finish()
        n_rows = int(done.rpartition(" ")[2])
        tables.append(Table(row["name"], list(row["columns"]), piece, sink.number - piece, n_rows))
        piece = sink.number
    return tables


async def write(connection: Connection, backup: SealedBackup, tables: list[Table]) -> int:
    """Write a backup's rows into a database of the same shape, inside a transaction; return how many.

    Raises:
        BackupRefused: A piece is not what was written there, or the rows do not fit.
    """
    written = 0
    known = {row["name"]: set(row["columns"]) for row in await connection.fetch(_COLUMNS, list(_NOT_READ))}
    for table in tables:
        if not set(table.columns) <= known.get(table.name, set()):
            raise BackupRefused("the backup's tables are not this version's", "use the version that made it")
        numbers = range(table.first_piece, table.first_piece + table.n_pieces)
        try:
            done = await connection.copy_to_table(
                table.name,
                columns=table.columns,
                source=(await backup.get(number) async for number in _each(numbers)),
                format="binary",
            )
        except asyncpg.PostgresError as error:
            raise BackupRefused(
                f"rows of the backup do not fit ({type(error).__name__})", "restore into an empty database"
            ) from error
        if int(done.rpartition(" ")[2]) != table.n_rows:
            raise BackupRefused("rows of the backup are missing", "take another backup")
        written += table.n_rows
    return written


async def _each(numbers: range) -> AsyncIterator[int]:
    for number in numbers:
        yield number


class _Pieces:
    """Cuts a stream into pieces."""

    def __init__(self, backup: SealedBackup, number: int) -> None:
        self._backup = backup
        self.number = number
        self._waiting = bytearray()

    async def take(self, octets: Any) -> None:
        self._waiting += octets
        while len(self._waiting) >= limits.BACKUP_PIECE_BYTES:
            await self._put(bytes(self._waiting[: limits.BACKUP_PIECE_BYTES]))
            del self._waiting[: limits.BACKUP_PIECE_BYTES]

    async def finish(self) -> None:
        if self._waiting:
            await self._put(bytes(self._waiting))
            self._waiting.clear()

    async def _put(self, plain: bytes) -> None:
        await self._backup.put(self.number, plain)
        self.number += 1
