"""What ``wake`` asks of PostgreSQL: did another process commit something for those who wait here?

It deliberately reads no row: whether there is one after a commit sequence is told by the feed's indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from einthoven_server.database import Database, Scope
from einthoven_server.identity.store import IdentityStore

_NEWER: Final = "shard = $1 AND tenant = $2 AND patient_id = asked.patient AND commit_seq > $5"
# A tombstone, a superseded write and a document don't say which device caused them: their author is woken as well.
_TOUCHED: Final = f"""
SELECT asked.alias FROM unnest($3::int[], $4::text[]) AS asked(alias, patient)
WHERE EXISTS (SELECT 1 FROM result_row WHERE {_NEWER} AND device_alias <> asked.alias)
   OR EXISTS (SELECT 1 FROM annotation WHERE {_NEWER} AND origin_alias IS DISTINCT FROM asked.alias)
   OR EXISTS (SELECT 1 FROM note WHERE {_NEWER} AND device_alias <> asked.alias)
   OR EXISTS (SELECT 1 FROM superseded_write WHERE {_NEWER})
   OR EXISTS (SELECT 1 FROM tombstone WHERE {_NEWER})
   OR EXISTS (SELECT 1 FROM document WHERE {_NEWER})
   OR EXISTS (SELECT 1 FROM document WHERE shard = $1 AND tenant = $2 AND patient_id = '' AND commit_seq > $5)
"""  # noqa: S608  # put together of constants


class PostgresChanges:
    """``wake.Changes`` on one tenant's shard.

    Args:
        database: Where it is.
        scope: Shard and tenant.
        identities: Who was revoked.
    """

    def __init__(self, database: Database, scope: Scope, identities: IdentityStore) -> None:
        self._database = database
        self._scope = scope
        self._identities = identities

    async def head_seq(self) -> int:
        """The shard's last commit sequence."""
        row = await self._database.fetchrow("SELECT commit_seq FROM shard_head WHERE shard = $1", self._scope.shard)
        return 0 if row is None else int(row["commit_seq"])

    async def touched(self, after_seq: int, waiters: Sequence[tuple[int, str]]) -> set[int]:
        """Aliases of those for whom something by somebody else was committed after ``after_seq``."""
        aliases, patients = [alias for alias, _ in waiters], [patient for _, patient in waiters]
        rows = await self._database.fetch(_TOUCHED, *self._scope, aliases, patients, after_seq)
        return {row["alias"] for row in rows}

    async def revoked(self, aliases: Sequence[int]) -> set[int]:
        """Which of these devices were revoked."""
        return await self._identities.revoked_among(aliases)
