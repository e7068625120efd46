"""The tenant's key for accounts: names are found by it, and what belongs to an account is sealed under it.

It deliberately gives the key to nobody, and has one version: the key service's rotation wraps it anew.

Invariants:
    1. Whoever has the database alone can't try names or passwords: a name is an HMAC, a password's hash is sealed.
    2. A value opens only for the account and the column that it was sealed for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from typing import Final

from einthoven_server import envelope, limits
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.envelope import Key, Place
from einthoven_server.identity.tenancy import tenant_key_context
from einthoven_server.key_service import KeyService

INDEX_BYTES: Final = 16
_NAME: Final = "accounts"
_VERSION: Final = 1
_FIND: Final = "SELECT wrapped FROM tenant_key WHERE shard = $1 AND tenant = $2 AND name = $3 AND key_version = $4"
_INSERT: Final = (
    "INSERT INTO tenant_key (shard, tenant, name, key_version, wrapped) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT DO NOTHING"
)


class NameRefused(ValueError):
    """A login name that is not taken."""


def folded_name(name: str) -> str:
    """A login name as it is looked for: case and composition don't count. Pure.

    Raises:
        NameRefused: Too short, too long, or with blanks or what can't be seen.
    """
    found = unicodedata.normalize("NFKC", name).casefold()
    if not limits.LOGIN_NAME_MIN_CHARS <= len(found) <= limits.LOGIN_NAME_MAX_CHARS:
        raise NameRefused(f"it has not {limits.LOGIN_NAME_MIN_CHARS} to {limits.LOGIN_NAME_MAX_CHARS} characters")
    if not found.isprintable() or any(one.isspace() for one in found):
        raise NameRefused("it has a blank, or a character that can't be seen")
    return found


class AccountSeals:
    """What the key does, once it is there.

    Args:
        tenant: Whose.
        key: 32 bytes.
    """

    def __init__(self, tenant: str, key: bytes) -> None:
        self._tenant = tenant
        self._index_key = hmac.digest(key, b"einthoven account names 1", hashlib.sha256)
        self.challenge_key = hmac.digest(key, b"einthoven account challenges 1", hashlib.sha256)
        """Under which challenges to passkeys are made."""
        self._key = Key(hmac.digest(key, b"einthoven account values 1", hashlib.sha256))

    def name_index(self, folded: str) -> bytes:
        """Where a folded name is found, 16 bytes."""
        return hmac.digest(self._index_key, folded.encode(), hashlib.sha256)[:INDEX_BYTES]

    def seal(self, value: bytes, column: str, principal_id: str) -> bytes:
        """Encrypt a value of one account."""
        return self._key.seal(value, self._place(column, principal_id))

    def open(self, sealed: bytes, column: str, principal_id: str) -> bytes:
        """Decrypt a value of one account.

        Raises:
            EnvelopeRefused: It was not sealed for this account and column.
        """
        return self._key.open(sealed, self._place(column, principal_id))

    def _place(self, column: str, principal_id: str) -> bytes:
        return Place(self._tenant, "", "account", column, principal_id, _VERSION).to_bytes()


class AccountKeys:
    """Finds the key; makes it on first use.

    Args:
        database: Where it lies, wrapped.
        key_service: What wraps it.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, key_service: KeyService, scope: Scope) -> None:
        self._database = database
        self._key_service = key_service
        self._scope = scope
        self._seals: AccountSeals | None = None

    async def seals(self) -> AccountSeals:
        """What the key does.

        Raises:
            EnvelopeRefused: The key service does not open it.
            Busy: No database, or no key service.
        """
        if self._seals is None:
            self._seals = AccountSeals(self._scope.tenant, await self._found())
        return self._seals

    async def _found(self) -> bytes:
        context = tenant_key_context(self._scope.tenant, _NAME, _VERSION)
        row = await self._database.fetchrow(_FIND, *self._scope, _NAME, _VERSION)
        if row is not None:
            return await self._key_service.unwrap(row["wrapped"], context)
        made = await self._key_service.wrap(secrets.token_bytes(envelope.KEY_BYTES), context)

        async def work(connection: Connection) -> bytes:
            # Of two processes that begin at once, both take the key of the first.
            await connection.execute(_INSERT, *self._scope, _NAME, _VERSION, made)
            return bytes(await connection.fetchval(_FIND, *self._scope, _NAME, _VERSION))

        return await self._key_service.unwrap(await self._database.transact(work), context)
