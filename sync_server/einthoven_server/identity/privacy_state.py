"""Restriction of a patient's data (GDPR article 18), and the tenant's privacy policy, in the database.

It deliberately judges nothing: ``consent`` does.

Invariants:
    1. A change and its audit event are one transaction, and count with the next request.
    2. Lifting a restriction keeps that there was one: the audit log has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.identity.consent import Policy

_RESTRICT: Final = """
INSERT INTO patient_privacy (shard, tenant, patient_id, generation, restricted_at_ms, ground, purposes)
VALUES ($1, $2, $3, 1, $4, $5, $6)
ON CONFLICT (shard, tenant, patient_id) DO UPDATE SET generation = patient_privacy.generation + 1,
    restricted_at_ms = coalesce(patient_privacy.restricted_at_ms, excluded.restricted_at_ms),
    ground = excluded.ground, purposes = excluded.purposes
"""
_LIFT: Final = """
UPDATE patient_privacy SET generation = generation + 1, restricted_at_ms = NULL, ground = NULL, purposes = NULL
WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND restricted_at_ms IS NOT NULL
"""
_RESTRICTION: Final = """
SELECT generation, published, restricted_at_ms, ground, purposes FROM patient_privacy
WHERE shard = $1 AND tenant = $2 AND patient_id = $3
"""
_PUT: Final = """
INSERT INTO privacy_policy VALUES ($1, $2, 1, $3, $4) ON CONFLICT (shard, tenant) DO UPDATE
SET version = privacy_policy.version + 1, updated_at_ms = excluded.updated_at_ms, body = excluded.body
"""
_POLICY: Final = "SELECT version, updated_at_ms, body FROM privacy_policy WHERE shard = $1 AND tenant = $2"
_UNPUBLISHED: Final = """
SELECT patient_id FROM patient_privacy WHERE shard = $1 AND tenant = $2 AND published < generation
ORDER BY patient_id LIMIT $3
"""
_PUBLISHED: Final = """
UPDATE patient_privacy SET published = greatest(published, $4) WHERE shard = $1 AND tenant = $2 AND patient_id = $3
"""


class Restriction(NamedTuple):
    """Whether a patient's data is restricted.

    Attributes:
        restricted: Whether it is.
        since_ms: Since when, ms since 1970.
        ground: Why: one of article 18(1).
        purposes: For what it may be seen all the same.
    """

    restricted: bool = False
    since_ms: int | None = None
    ground: str | None = None
    purposes: tuple[str, ...] = ()


class KeptPolicy(NamedTuple):
    """The tenant's policy as it is kept; version 0 is what counts where none was put.

    Attributes:
        version: From 1.
        updated_at_ms: When it was put, ms since 1970.
        policy: What it says.
    """

    version: int
    updated_at_ms: int
    policy: Policy

    def document(self) -> dict[str, Any]:
        """As it is shown."""
        return {"version": self.version, "updated_at_ms": self.updated_at_ms, **msgspec.to_builtins(self.policy)}


class PrivacyState:
    """Of one tenant.

    Args:
        database: Where it is.
        scope: Shard and tenant.
        audit: The tenant's log.
    """

    def __init__(self, database: Database, scope: Scope, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit

    async def restrict(self, patient_id: str, ground: str, purposes: Sequence[str], now_ms: int, event: Event) -> None:
        """Restrict a patient's data; one that is restricted stays so since then, for what is said now."""
        said = " ".join(sorted(set(purposes)))

        async def work(connection: Connection) -> None:
            await connection.execute(_RESTRICT, *self._scope, patient_id, now_ms, ground, said)
            await self._audit.append(connection, [event])

        await self._database.transact(work)

    async def lift(self, patient_id: str, event: Event) -> None:
        """Lift a restriction, if there is one."""

        async def work(connection: Connection) -> None:
            await connection.execute(_LIFT, *self._scope, patient_id)
            await self._audit.append(connection, [event])

        await self._database.transact(work)

    async def restriction_of(self, patient_id: str) -> tuple[Restriction, int]:
        """Whether a patient's data is restricted, and the generation that says so."""
        row = await self._database.fetchrow(_RESTRICTION, *self._scope, patient_id)
        if row is None:
            return Restriction(), 0
        if row["restricted_at_ms"] is None:
            return Restriction(), int(row["generation"])
        since_ms, ground, purposes = row["restricted_at_ms"], row["ground"], tuple((row["purposes"] or "").split())
        return Restriction(True, since_ms, ground, purposes), int(row["generation"])

    async def policy(self) -> KeptPolicy:
        """The tenant's policy."""
        row = await self._database.fetchrow(_POLICY, *self._scope)
        if row is None:
            return KeptPolicy(0, 0, read_policy(None))
        return KeptPolicy(row["version"], row["updated_at_ms"], read_policy(row["body"]))

    async def put_policy(self, policy: Policy, now_ms: int, event: Event) -> KeptPolicy:
        """Replace the tenant's policy; it counts with the next request."""
        body = msgspec.json.encode(policy).decode()

        async def work(connection: Connection) -> None:
            await connection.execute(_PUT, *self._scope, now_ms, body)
            await self._audit.append(connection, [event])

        await self._database.transact(work)
        return await self.policy()

    async def unpublished(self, limit: int) -> list[str]:
        """Patients whose devices were not told yet what was said last."""
        return [row["patient_id"] for row in await self._database.fetch(_UNPUBLISHED, *self._scope, limit)]

    async def published(self, patient_id: str, generation: int) -> None:
        """Note what a patient's devices were told."""
        await self._database.fetch(_PUBLISHED, *self._scope, patient_id, generation)


@lru_cache(maxsize=64)
def read_policy(body: str | None) -> Policy:
    """A policy as it is kept; what counts where none is."""
    return Policy() if body is None else msgspec.json.decode(body, type=Policy)
