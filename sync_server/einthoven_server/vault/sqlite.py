"""The vault as a SQLite file in the data folder: the default beside the embedded PostgreSQL.

It deliberately uses no write-ahead log: what was removed would go on lying in it.

Invariants:
    1. The file has mode 0600; one that others can touch is not opened.
    2. Removed content is overwritten (``secure_delete``), and a removal is on the disk, with its folder, on return
       (``synchronous=EXTRA``). Copies that the disk itself, or a snapshot of the folder, keeps are beyond this.
    3. Several processes may use it at once, each with one connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from einthoven_server import limits
from einthoven_server.errors import KeyUnavailable
from einthoven_server.vault.port import Indexed, KeptKey, Term, unavailable

NAME: Final = "vault.db"
T = TypeVar("T")

_SHAPE: Final = """
CREATE TABLE IF NOT EXISTS vault_key (
    tenant TEXT NOT NULL, patient_id TEXT NOT NULL, key_version INTEGER NOT NULL, wrapped BLOB NOT NULL,
    wrapping_round INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (tenant, patient_id, key_version)
) STRICT;
CREATE TABLE IF NOT EXISTS vault_index (
    tenant TEXT NOT NULL, name TEXT NOT NULL, hashed BLOB NOT NULL, patient_id TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, hashed, patient_id, version)
) STRICT;
CREATE TABLE IF NOT EXISTS vault_mark (tenant TEXT PRIMARY KEY, mark TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS vault_index_patient ON vault_index (tenant, patient_id);
CREATE INDEX IF NOT EXISTS vault_key_round ON vault_key (tenant, wrapping_round);
"""
_PRAGMAS: Final = (
    "journal_mode=DELETE",
    "synchronous=EXTRA",
    "secure_delete=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
)


class VaultFile(sqlite3.Connection):
    """A connection that is used by one thread at a time, and closed by none while another is at it.

    Whoever waited for a thread may be cancelled; the thread goes on. SQLite does not survive it when its connection is
    closed meanwhile.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.turn = threading.RLock()

    def close(self) -> None:
        """Close it, once nobody is at it."""
        with self.turn:
            super().close()


class SqliteVault:
    """One tenant's part of the file.

    Args:
        connection: Open on it, in autocommit, from any thread.
        tenant: Whose.
    """

    def __init__(self, connection: VaultFile, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    async def mark(self, fresh: str) -> str:
        """See ``Vault.mark``."""
        insert = "INSERT OR IGNORE INTO vault_mark VALUES (?, ?)"
        await self._written(lambda: self._connection.execute(insert, (self._tenant, fresh)))
        return str((await self._read("SELECT mark FROM vault_mark WHERE tenant = ?", self._tenant))[0][0])

    async def keep(self, keys: Sequence[KeptKey]) -> None:
        """See ``Vault.keep``."""
        rows = [(self._tenant, *key) for key in keys]
        insert = "INSERT OR IGNORE INTO vault_key (tenant, patient_id, key_version, wrapped) VALUES (?, ?, ?, ?)"
        await self._written(lambda: self._connection.executemany(insert, rows))

    async def keys(self, patient_id: str) -> dict[int, bytes]:
        """See ``Vault.keys``."""
        query = "SELECT key_version, wrapped FROM vault_key WHERE tenant = ? AND patient_id = ?"
        return dict(await self._read(query, self._tenant, patient_id))

    async def forget_below(self, patient_id: str, version: int) -> None:
        """See ``Vault.forget_below``."""
        query = "DELETE FROM vault_key WHERE tenant = ? AND patient_id = ? AND key_version < ?"
        await self._written(lambda: self._connection.execute(query, (self._tenant, patient_id, version)))

    async def erase(self, patient_id: str) -> None:
        """See ``Vault.erase``."""

        def work() -> None:
            for table in ("vault_key", "vault_index"):
                query = f"DELETE FROM {table} WHERE tenant = ? AND patient_id = ?"  # noqa: S608  # constants
                self._connection.execute(query, (self._tenant, patient_id))

        await self._written(work)

    async def page(self, after: tuple[str, int], limit: int) -> list[KeptKey]:
        """See ``Vault.page``."""
        query = (
            "SELECT patient_id, key_version, wrapped FROM vault_key WHERE tenant = ? "
            "AND (patient_id, key_version) > (?, ?) ORDER BY patient_id, key_version LIMIT ?"
        )
        return [KeptKey(*row) for row in await self._read(query, self._tenant, *after, limit)]

    async def to_rewrap(self, number: int, limit: int) -> list[KeptKey]:
        """See ``Vault.to_rewrap``."""
        query = "SELECT patient_id, key_version, wrapped FROM vault_key WHERE tenant = ? AND wrapping_round < ? LIMIT ?"
        return [KeptKey(*row) for row in await self._read(query, self._tenant, number, limit)]

    async def rewrap(self, key: KeptKey, wrapped: bytes, number: int) -> None:
        """See ``Vault.rewrap``."""
        query = (
            "UPDATE vault_key SET wrapped = ?, wrapping_round = ? "
            "WHERE tenant = ? AND patient_id = ? AND key_version = ? AND wrapped = ?"
        )
        values = (wrapped, number, self._tenant, *key)
        await self._written(lambda: self._connection.execute(query, values))

    async def index(self, patient_id: str, version: int, terms: Sequence[Term]) -> None:
        """See ``Vault.index``."""
        rows = [(self._tenant, name, hashed, patient_id, version) for name, hashed in terms]

        def work() -> None:
            remove = "DELETE FROM vault_index WHERE tenant = ? AND patient_id = ? AND version = ?"
            self._connection.execute(remove, (self._tenant, patient_id, version))
            self._connection.executemany("INSERT OR IGNORE INTO vault_index VALUES (?, ?, ?, ?, ?)", rows)

        await self._written(work)

    async def prune_index(self, patient_id: str, version: int) -> None:
        """See ``Vault.prune_index``."""
        query = "DELETE FROM vault_index WHERE tenant = ? AND patient_id = ? AND version <> ?"
        await self._written(lambda: self._connection.execute(query, (self._tenant, patient_id, version)))

    async def find(self, terms: Sequence[Term], among: Sequence[str] | None, limit: int) -> list[Indexed]:
        """See ``Vault.find``."""
        found: dict[Indexed, None] = {}
        names = "" if among is None else "AND patient_id IN (SELECT value FROM json_each(?))"
        query = (
            f"SELECT DISTINCT patient_id, version FROM vault_index "  # noqa: S608  # constants
            f"WHERE tenant = ? AND name = ? AND hashed = ? {names} LIMIT ?"
        )
        whom = () if among is None else (json.dumps(list(among)),)
        for name, hashed in terms:
            rows = await self._read(query, self._tenant, name, hashed, *whom, limit)
            found |= dict.fromkeys(Indexed(*row) for row in rows)
        return list(found)[:limit]

    async def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._run(lambda: self._connection.execute(query, values).fetchall())

    async def _written(self, work: Callable[[], object]) -> None:
        def in_transaction() -> None:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                work()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

        await self._run(in_transaction)

    async def _run(self, work: Callable[[], T]) -> T:
        def in_turn() -> T:
            with self._connection.turn:
                return work()

        try:
            return await asyncio.to_thread(in_turn)
        except sqlite3.Error as error:
            raise unavailable() from error


def open_file(path: Path) -> VaultFile:
    """Open the file; make it on first use.

    Raises:
        KeyUnavailable: It is damaged, open to others, or can't be made.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyUnavailable(f"{path.name} can be touched by other users", "close it with chmod 600")
        connection = sqlite3.connect(
            path,
            timeout=limits.VAULT_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=VaultFile,
        )
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(_SHAPE)
    except (OSError, sqlite3.Error) as error:
        raise KeyUnavailable(
            f"can't open {path.name} ({type(error).__name__})", "put it back from its mirror: restore from a backup"
        ) from error
    return connection
