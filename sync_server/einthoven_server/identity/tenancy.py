"""The tenant of this server: made on first start with its audit key and its place in a shard.

It deliberately knows one tenant a server; routing several comes with the identities that name them.
"""

from __future__ import annotations

import secrets
import uuid
from typing import NamedTuple

from einthoven_server import envelope
from einthoven_server.audit.chain import FIRST_PREVIOUS
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.envelope import Place
from einthoven_server.key_service import KeyService

DEFAULT_SHARD = 0
_FIRST_SHARD_EPOCH = 1
_FIRST_DEVICE_ALIAS = 1


class Tenancy(NamedTuple):
    """A tenant's place and the key of its audit chain (32 bytes)."""

    scope: Scope
    audit_key: bytes


async def ensure_tenancy(
    database: Database, key_service: KeyService, now_ms: int, *, shard: int = DEFAULT_SHARD, tenant: str | None = None
) -> Tenancy:
    """Find the tenant; make it on first use.

    Args:
        database: An open, migrated database.
        key_service: Wraps the audit key.
        now_ms: UTC, ms since 1970.
        shard: Where its rows lie.
        tenant: Which one; the shard's first, or a new random one, where ``None``.

    Raises:
        EnvelopeRefused: The key-encryption key is not the one this database was made with.
    """
    key = secrets.token_bytes(envelope.KEY_BYTES)
    named = str(uuid.uuid4()) if tenant is None else tenant
    wrapped = await key_service.wrap(key, audit_key_context(named))

    async def work(connection: Connection) -> tuple[str, bytes]:
        await connection.execute(
            "INSERT INTO shard_head VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", shard, _FIRST_SHARD_EPOCH
        )
        # The shard's row keeps two servers that start at once from making a tenant each.
        await connection.execute("SELECT 1 FROM shard_head WHERE shard = $1 FOR UPDATE", shard)
        row = await connection.fetchrow(
            "SELECT tenant, audit_key_wrapped FROM tenant WHERE shard = $1 AND ($2::text IS NULL OR tenant = $2) "
            "ORDER BY created_at_ms LIMIT 1",
            shard,
            tenant,
        )
        if row is not None:
            return row["tenant"], row["audit_key_wrapped"]
        await connection.execute(
            "INSERT INTO tenant VALUES ($1, $2, $3, $4, $5)", shard, named, now_ms, _FIRST_DEVICE_ALIAS, wrapped
        )
        await connection.execute("INSERT INTO audit_head VALUES ($1, $2, 0, $3)", shard, named, FIRST_PREVIOUS)
        return named, wrapped

    found, found_wrapped = await database.transact(work)
    return Tenancy(Scope(shard, found), await key_service.unwrap(found_wrapped, audit_key_context(found)))


def tenant_key_context(tenant: str, name: str, version: int) -> bytes:
    """What a wrapped key of table ``tenant_key`` is bound to."""
    return Place(tenant, "", "tenant_key", "wrapped", name, version).to_bytes()


def audit_key_context(tenant: str) -> bytes:
    """What the wrapped audit key is bound to."""
    return Place(tenant, "", "tenant", "audit_key_wrapped", tenant, 1).to_bytes()
