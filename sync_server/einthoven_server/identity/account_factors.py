"""What people get in by, in the database: password, authenticator, recovery codes; and invitations to set them up.

It deliberately compares nothing, and logs nobody in: ``logins`` does.

Invariants:
    1. Secrets are kept sealed for their account and column, recovery codes and invitations as hashes.
    2. What counts once is used within the transaction of what it is used for.
"""

from __future__ import annotations

from typing import Final

from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import NotFound
from einthoven_server.identity import account_codes, totp
from einthoven_server.identity.account_keys import AccountKeys, AccountSeals
from einthoven_server.identity.accounts import Account, Holder, OpenInvitation, SetUp
from einthoven_server.identity.roles import Role

NOBODY_ID: Final = "00000000-0000-0000-0000-000000000000"
"""Whom a stand-in stands for."""
_FIND: Final = """
SELECT a.principal_id, a.password_ciphertext, a.totp_ciphertext, a.totp_step, p.key_version, p.patient_id, p.role
FROM account a JOIN principal p USING (shard, tenant, principal_id)
WHERE a.shard = $1 AND a.tenant = $2 AND a.name_index = $3 AND p.revoked_at_ms IS NULL
    AND a.password_ciphertext IS NOT NULL
"""
_INVITED: Final = """
SELECT i.principal_id, i.verifier_hash, i.expires_at_ms, i.totp_ciphertext, a.name_ciphertext,
    p.key_version, p.patient_id, p.role
FROM account_invitation i JOIN account a USING (shard, tenant, principal_id)
    JOIN principal p USING (shard, tenant, principal_id)
WHERE i.shard = $1 AND i.tenant = $2 AND i.selector = $3 AND p.revoked_at_ms IS NULL
"""


class AccountFactors:
    """Factors of one tenant's accounts.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        keys: Seals what is kept.
    """

    def __init__(self, database: Database, scope: Scope, keys: AccountKeys) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys

    async def find(self, name_index: bytes, stand_in: Row) -> Account:
        """An account that was set up, and whose principal was not revoked, by its name.

        Args:
            name_index: Of the name.
            stand_in: What ``make_stand_in`` made; opened where there is none, so that either takes the same work.
        """
        row = await self._database.fetchrow(_FIND, *self._scope, name_index)
        return opened(await self._keys.seals(), stand_in if row is None else row)

    async def make_stand_in(self, password: str) -> Row:
        """What is there in place of an account that is not: nobody has its secrets.

        Args:
            password: The hash of a random one, a PHC string.
        """
        seals = await self._keys.seals()
        return {
            "principal_id": NOBODY_ID,
            "key_version": 0,
            "role": Role.NOBODY.value,
            "patient_id": None,
            "password_ciphertext": seals.seal(password.encode(), "password", NOBODY_ID),
            "totp_ciphertext": seals.seal(totp.new_secret(), "totp", NOBODY_ID),
            "totp_step": 0,
        }

    async def invited(self, selector: bytes) -> OpenInvitation | None:
        """An invitation by its selector, expired or not."""
        row = await self._database.fetchrow(_INVITED, *self._scope, selector)
        if row is None:
            return None
        seals, holder = await self._keys.seals(), _holder(row)
        shown = row["totp_ciphertext"]
        return OpenInvitation(
            holder=holder,
            name=seals.open(row["name_ciphertext"], "name", holder.principal_id).decode(),
            verifier_hash=bytes(row["verifier_hash"]),
            expires_at_ms=row["expires_at_ms"],
            totp=None if shown is None else seals.open(shown, "totp", holder.principal_id),
        )

    async def show_totp(self, selector: bytes, principal_id: str, secret: bytes) -> bytes:
        """Keep a secret with an invitation; return it, or the one that was kept before.

        Raises:
            NotFound: The invitation is gone.
        """
        seals = await self._keys.seals()
        sealed = seals.seal(secret, "totp", principal_id)
        row = await self._database.fetchrow(
            "UPDATE account_invitation SET totp_ciphertext = coalesce(totp_ciphertext, $4) "
            "WHERE shard = $1 AND tenant = $2 AND selector = $3 RETURNING totp_ciphertext",
            *self._scope,
            selector,
            sealed,
        )
        if row is None:
            raise NotFound("no such invitation", "ask for a new one")
        return seals.open(row["totp_ciphertext"], "totp", principal_id)

    async def accept(self, connection: Connection, selector: bytes, principal_id: str, what: SetUp) -> bool:
        """Set an account up and use its invitation, within a transaction; return whether that was still there."""
        seals = await self._keys.seals()
        used = await connection.fetchval(
            "DELETE FROM account_invitation WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND selector = $4 "
            "RETURNING principal_id",
            *self._scope,
            principal_id,
            selector,
        )
        if used is None:
            return False
        await connection.execute(
            "UPDATE account SET password_ciphertext = $4, totp_ciphertext = $5, totp_step = $6 "
            "WHERE shard = $1 AND tenant = $2 AND principal_id = $3",
            *self._scope,
            principal_id,
            seals.seal(what.password.encode(), "password", principal_id),
            seals.seal(what.totp, "totp", principal_id),
            what.totp_step,
        )
        await connection.execute(
            "INSERT INTO account_recovery_code SELECT $1, $2, $3, unnest($4::bytea[])",
            *self._scope,
            principal_id,
            [account_codes.recovery_hash(principal_id, code) for code in what.recovery_codes],
        )
        return True

    async def spend_step(self, connection: Connection, principal_id: str, step: int) -> bool:
        """Use a step of time, within a transaction; return whether it was fresh."""
        return (
            await connection.fetchval(
                "UPDATE account SET totp_step = $4 "
                "WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND totp_step < $4 RETURNING principal_id",
                *self._scope,
                principal_id,
                step,
            )
            is not None
        )

    async def has_recovery_code(self, principal_id: str, code_hash: bytes) -> bool:
        """Whether a recovery code is there."""
        return (
            await self._database.fetchrow(
                "SELECT 1 FROM account_recovery_code "
                "WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND code_hash = $4",
                *self._scope,
                principal_id,
                code_hash,
            )
            is not None
        )

    async def spend_recovery_code(self, connection: Connection, principal_id: str, code_hash: bytes) -> bool:
        """Use a recovery code, within a transaction; return whether it was there."""
        return (
            await connection.fetchval(
                "DELETE FROM account_recovery_code "
                "WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND code_hash = $4 RETURNING principal_id",
                *self._scope,
                principal_id,
                code_hash,
            )
            is not None
        )

    async def forget(self, now_ms: int) -> None:
        """Remove invitations that have expired; for housekeeping."""
        await self._database.fetch(
            "DELETE FROM account_invitation WHERE shard = $1 AND tenant = $2 AND expires_at_ms < $3",
            *self._scope,
            now_ms,
        )


def opened(seals: AccountSeals, row: Row) -> Account:
    """An account's row, decrypted."""
    holder = _holder(row)
    return Account(
        holder=holder,
        password=seals.open(row["password_ciphertext"], "password", holder.principal_id).decode(),
        totp=seals.open(row["totp_ciphertext"], "totp", holder.principal_id),
        totp_step=row["totp_step"],
    )


def _holder(row: Row) -> Holder:
    return Holder(row["principal_id"], row["key_version"], Role(row["role"]), row["patient_id"])
