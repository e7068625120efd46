"""Blind indexes: a value is found by its keyed hash, and nobody without the key can try values.

It deliberately hides no equality: that two patients share a family name shows in the database.

Invariants:
    1. The key is the tenant's own, wrapped by the key service; it is in memory only.
    2. Equal values of different indexes, and of different tenants, have different hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from einthoven_server import envelope
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.identity.tenancy import tenant_key_context
from einthoven_server.key_service import KeyService

HASH_BYTES: Final = 16
_NAME: Final = "blind-index"
_VERSION: Final = 1


def blind_hash(key: bytes, index: str, value: str) -> bytes:
    """A value's place in an index, 16 bytes. Pure.

    Args:
        key: 32 bytes.
        index: Name of the index.
        value: What is to be found, already folded.
    """
    octets = index.encode()
    return hmac.digest(key, bytes([len(octets)]) + octets + value.encode(), hashlib.sha256)[:HASH_BYTES]


class BlindIndexKey:
    """The tenant's key, made on first use.

    Args:
        database: Where it lies, wrapped.
        key_service: What wraps it.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, key_service: KeyService, scope: Scope) -> None:
        self._database = database
        self._key_service = key_service
        self._scope = scope
        self._key: bytes | None = None

    async def hashed(self, index: str, value: str) -> bytes:
        """``blind_hash`` under the tenant's key.

        Raises:
            EnvelopeRefused: The key service does not open it.
            Busy: No database.
        """
        if self._key is None:
            self._key = await self._found()
        return blind_hash(self._key, index, value)

    async def _found(self) -> bytes:
        context = tenant_key_context(self._scope.tenant, _NAME, _VERSION)
        query = "SELECT wrapped FROM tenant_key WHERE shard = $1 AND tenant = $2 AND name = $3 AND key_version = $4"
        row = await self._database.fetchrow(query, *self._scope, _NAME, _VERSION)
        if row is None:
            made = await self._key_service.wrap(secrets.token_bytes(envelope.KEY_BYTES), context)

            async def work(connection: Connection) -> bytes:
                # Of two processes that begin at once, both take the key of the first.
                await connection.execute(
                    "INSERT INTO tenant_key (shard, tenant, name, key_version, wrapped) "
                    "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                    *self._scope,
                    _NAME,
                    _VERSION,
                    made,
                )
                return bytes(await connection.fetchval(query, *self._scope, _NAME, _VERSION))

            return await self._key_service.unwrap(await self._database.transact(work), context)
        return await self._key_service.unwrap(row["wrapped"], context)
