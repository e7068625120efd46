"""Transactions on PostgreSQL, retried where the database says so.

It deliberately knows no table. Nothing here or above uses what its distributed kin lack: no LISTEN/NOTIFY, advisory
lock or sequence.

Invariants:
    1. What runs in ``transact`` happens wholly or not at all; it may run several times, so it keeps no state outside.
    2. Only 40001 (serialization failure) and 40P01 (deadlock) are retried, a bounded number of times with full jitter.
    3. A connection is given back as it was taken: a statement that may change its session has it set back, whatever
       became of it; only single statements that read and write rows, and transactions said to hold no others, have not.
    4. Foreign errors leave as ``Busy`` (connection lost, time-out) or as what they are (a mistake of ours).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import asyncpg

from einthoven_server import limits
from einthoven_server.errors import Busy, DatabaseUnavailable

Connection: TypeAlias = Any
"""``asyncpg`` ships no types; a connection inside a transaction."""
Row: TypeAlias = Any
"""A record: a mapping and a sequence at once."""
T = TypeVar("T")

_SNAPSHOT: Final[dict[str, Any]] = {"isolation": "repeatable_read", "readonly": True}
_PLAIN: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
_LASTING: Final = re.compile(r"set_config|advisory|\bINTO\s+TEMP", re.IGNORECASE)
_RETRIED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    # What asyncpg says where a backend is gone in the midst of a command, and the rollback finds it unfinished.
    asyncpg.InternalClientError,
)


class Scope(NamedTuple):
    """First two columns of every table: where a tenant's rows lie, and whose they are."""

    shard: int
    tenant: str


class _Session(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A connection that is set back when it is given back, unless what was done with it leaves nothing behind."""

    _changed = True

    def expect(self, *, changed: bool) -> None:
        """Say whether what comes may change the session: settings, the role, prepared names, locks."""
        self._changed = changed

    def get_reset_query(self) -> str:
        """What sets the session back; a round trip that takes as long as a look-up."""
        return str(super().get_reset_query()) if self._changed else ""


@lru_cache(maxsize=1_024)
def _changes_session(query: str) -> bool:
    """Whether a single statement may outlive itself; whoever is in doubt is told yes."""
    return _PLAIN.match(query) is None or _LASTING.search(query) is not None


class Database:
    """A pool of connections; made by ``connected``.

    Args:
        pool: An ``asyncpg.Pool``.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def transact(
        self, work: Callable[[Connection], Awaitable[T]], *, snapshot: bool = False, plain: bool = False
    ) -> T:
        """Run ``work`` in one transaction, again after a serialization failure.

        Args:
            work: What to do.
            snapshot: Whether all of it reads from one moment, and writes nothing.
            plain: Whether its statements read and write rows and nothing else, so that the session need not be set
                back after them.

        Raises:
            Busy: The database can't be reached, or was contended for too long; nothing was changed as far as is known.
        """

        async def in_transaction(connection: Connection) -> T:
            async with connection.transaction(**(_SNAPSHOT if snapshot else {})):
                return await work(connection)

        return await self._retried(in_transaction, changes=not plain)

    async def _retried(self, work: Callable[[Connection], Awaitable[T]], *, changes: bool) -> T:
        for attempt in range(limits.TRANSACTION_ATTEMPTS_MAX):
            try:
                async with self._pool.acquire(timeout=limits.DATABASE_COMMAND_TIMEOUT_S) as connection:
                    connection.expect(changed=changes)
                    return await work(connection)
            except _RETRIED:
                ceiling_ms = limits.TRANSACTION_BACKOFF_MS * 2**attempt
                await asyncio.sleep(random.uniform(0, ceiling_ms) / 1000)  # noqa: S311  # jitter, not a secret
            except _UNAVAILABLE as error:
                raise _busy("the database does not answer") from error
        raise _busy("the database is contended")

    async def ping(self) -> None:
        """Ask for nothing.

        Raises:
            Busy: No answer.
        """
        await self.fetch("SELECT 1")

    async def fetch(self, query: str, *arguments: object) -> list[Row]:
        """Rows of one statement, which is a transaction by itself: no round trip is spent on beginning and ending one.

        Raises:
            Busy: The database can't be reached.
        """

        async def work(connection: Connection) -> list[Row]:
            return list(await connection.fetch(query, *arguments))

        return await self._retried(work, changes=_changes_session(query))

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """The first row of one statement, if any.

        Raises:
            Busy: The database can't be reached.
        """
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None


def _busy(problem: str) -> Busy:
    return Busy(problem, "try again later", limits.BUSY_RETRY_AFTER_S, code="database_unavailable")


@asynccontextmanager
async def connected(
    url: str, *, connections_max: int = limits.DATABASE_CONNECTIONS_MAX, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Database]:
    """Open a pool on a PostgreSQL URL.

    Args:
        url: Where.
        connections_max: How many connections.
        settings: What each connection starts with, and goes back to when it is given back.

    Raises:
        DatabaseUnavailable: It does not answer, or refuses.
    """
    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=connections_max,
            connection_class=_Session,
            command_timeout=limits.DATABASE_COMMAND_TIMEOUT_S,
            server_settings={"application_name": "einthoven-server", "timezone": "UTC", **(settings or {})},
        )
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # The cause's own words may hold the URL with its password.
        raise DatabaseUnavailable(
            f"can't connect to PostgreSQL ({type(error).__name__})", "check --data or --database-url"
        ) from error
    try:
        yield Database(pool)
    finally:
        try:
            await asyncio.wait_for(pool.close(), limits.STOP_TIMEOUT_S)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()
