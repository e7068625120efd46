"""Wrong tries at a login name: each makes the next one wait longer. On every node, for names that there are or are not.

It deliberately locks nobody out for good: the longest wait is ``LOGIN_DELAY_MAX_MS``.

Invariants:
    1. A try is counted before anything is compared, so that any number at once get no more tries than one after
       another.
    2. What a name's wait is depends on the tries at it alone, not on whether there is an account.
"""

from __future__ import annotations

import math
from typing import Final

from einthoven_server import limits
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import TooMany


def delay_ms(tries: int) -> int:
    """How long the next try has to wait after so many wrong ones, ms. Pure."""
    if tries < limits.LOGIN_TRIES_FREE:
        return 0
    return min(limits.LOGIN_DELAY_MAX_MS, limits.LOGIN_DELAY_MS << min(tries - limits.LOGIN_TRIES_FREE, 30))


def _delays() -> list[int]:
    found = [delay_ms(1)]
    while found[-1] < limits.LOGIN_DELAY_MAX_MS:
        found.append(delay_ms(len(found) + 1))
    return found


DELAYS_MS: Final = _delays()
"""After the first try, the second ...; the last one holds for all further."""
_COUNT: Final = """
INSERT INTO login_try AS known (shard, tenant, name_index, tries, not_before_ms, last_ms)
VALUES ($1, $2, $3, 1, $4 + ($5::bigint[])[1], $4)
ON CONFLICT (shard, tenant, name_index) DO UPDATE SET
    tries = known.tries + 1,
    not_before_ms = $4 + ($5::bigint[])[least(known.tries + 1, cardinality($5::bigint[]))],
    last_ms = $4
WHERE known.not_before_ms <= $4
RETURNING tries
"""


class LoginTries:
    """Counts tries of one tenant.

    Args:
        database: Where the counts are.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def begin(self, name_index: bytes, now_ms: int) -> None:
        """Count a try; ``forgive`` takes it back where it was right.

        Raises:
            TooMany: It came too soon; it was not counted.
        """
        if await self._database.fetch(_COUNT, *self._scope, name_index, now_ms, DELAYS_MS):
            return
        row = await self._database.fetchrow(
            "SELECT not_before_ms FROM login_try WHERE shard = $1 AND tenant = $2 AND name_index = $3",
            *self._scope,
            name_index,
        )
        ends_ms = now_ms if row is None else int(row["not_before_ms"])
        wait_s = max(1, math.ceil(min(ends_ms - now_ms, limits.LOGIN_DELAY_MAX_MS) / 1000))
        raise TooMany("too many wrong tries at this name", f"try again in {wait_s} s", wait_s)

    async def forgive(self, connection: Connection, name_index: bytes) -> None:
        """Forget what was wrong, in the transaction of a login."""
        await connection.execute(
            "DELETE FROM login_try WHERE shard = $1 AND tenant = $2 AND name_index = $3", *self._scope, name_index
        )

    async def forget(self, now_ms: int) -> None:
        """Remove what is long ago; for housekeeping."""
        await self._database.fetch(
            "DELETE FROM login_try WHERE shard = $1 AND tenant = $2 AND last_ms < $3",
            *self._scope,
            now_ms - limits.LOGIN_TRIES_FORGET_MS,
        )
