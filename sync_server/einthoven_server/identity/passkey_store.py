"""Passkeys in the database: one or more an account, found by their ids.

It deliberately judges nothing: ``passkeys`` does.

Invariants:
    1. A public key opens for its account only: one that was put beside another account's id does not.
    2. A count goes up with each use, where an authenticator counts.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from einthoven_server.database import Connection, Database, Scope
from einthoven_server.identity.account_keys import AccountKeys
from einthoven_server.identity.accounts import Holder
from einthoven_server.identity.passkeys import Passkey
from einthoven_server.identity.roles import Role

_COLUMN: Final = "passkey"
_FIND: Final = """
SELECT k.principal_id, k.public_key_ciphertext, k.sign_count, p.key_version, p.role, p.patient_id
FROM account_passkey k JOIN principal p USING (shard, tenant, principal_id)
WHERE k.shard = $1 AND k.tenant = $2 AND k.credential_id = $3 AND p.revoked_at_ms IS NULL
"""
_INSERT: Final = """
INSERT INTO account_passkey
    (shard, tenant, credential_id, principal_id, public_key_ciphertext, sign_count, created_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING principal_id
"""
_USE: Final = """
UPDATE account_passkey SET sign_count = $5
WHERE shard = $1 AND tenant = $2 AND credential_id = $3 AND principal_id = $4
    AND (sign_count < $5 OR (sign_count = 0 AND $5 = 0)) RETURNING principal_id
"""
_USE_INVITATION: Final = """
DELETE FROM account_invitation WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND selector = $4
RETURNING principal_id
"""


class Known(NamedTuple):
    """A passkey and whose it is."""

    holder: Holder
    passkey: Passkey


class PasskeyStore:
    """Passkeys of one tenant's accounts.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        keys: Seals what is kept.
    """

    def __init__(self, database: Database, scope: Scope, keys: AccountKeys) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys

    async def find(self, credential_id: bytes) -> Known | None:
        """A passkey whose principal was not revoked."""
        row = await self._database.fetchrow(_FIND, *self._scope, credential_id)
        if row is None:
            return None
        holder = Holder(row["principal_id"], row["key_version"], Role(row["role"]), row["patient_id"])
        public_key = (await self._keys.seals()).open(row["public_key_ciphertext"], _COLUMN, holder.principal_id)
        return Known(holder, Passkey(credential_id, public_key, row["sign_count"]))

    async def add(
        self, connection: Connection, selector: bytes, principal_id: str, passkey: Passkey, now_ms: int
    ) -> bool:
        """Set an account up with a passkey and use its invitation, within a transaction; return whether both went."""
        sealed = (await self._keys.seals()).seal(passkey.public_key, _COLUMN, principal_id)
        if await connection.fetchval(_USE_INVITATION, *self._scope, principal_id, selector) is None:
            return False
        made = await connection.fetchval(
            _INSERT, *self._scope, passkey.credential_id, principal_id, sealed, passkey.sign_count, now_ms
        )
        return made is not None

    async def use(self, connection: Connection, principal_id: str, passkey: Passkey) -> bool:
        """Keep a new count, within a transaction; return whether it is one."""
        found = await connection.fetchval(_USE, *self._scope, passkey.credential_id, principal_id, passkey.sign_count)
        return found is not None
