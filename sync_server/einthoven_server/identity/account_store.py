"""Accounts of people in the database, as an admin deals with them: made, reset, listed.

It deliberately shows nothing by which somebody gets in but an invitation's code, once.

Invariants:
    1. A write and its audit event are one transaction.
    2. An account has one invitation at most; a new one ends the former.
    3. A reset takes everything by which somebody got in, and ends every session and token.
"""

from __future__ import annotations

import uuid
from typing import Final

from einthoven_server import limits
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import Trail
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import Conflict, NotFound
from einthoven_server.identity import account_codes
from einthoven_server.identity.account_codes import INVITATION, TwoParts
from einthoven_server.identity.account_keys import AccountKeys, AccountSeals, folded_name
from einthoven_server.identity.accounts import RESOURCE, Invitation, Listed, NewAccount

_LIST: Final = """
SELECT a.principal_id, a.name_ciphertext, a.created_at_ms, p.role, p.patient_id, p.revoked_at_ms,
    a.password_ciphertext IS NOT NULL AS has_password, i.expires_at_ms,
    (SELECT count(*) FROM account_passkey k WHERE k.shard = a.shard AND k.tenant = a.tenant
        AND k.principal_id = a.principal_id) AS passkeys,
    (SELECT count(*) FROM account_recovery_code r WHERE r.shard = a.shard AND r.tenant = a.tenant
        AND r.principal_id = a.principal_id) AS recovery_codes
FROM account a JOIN principal p USING (shard, tenant, principal_id)
    LEFT JOIN account_invitation i USING (shard, tenant, principal_id)
WHERE a.shard = $1 AND a.tenant = $2 AND a.principal_id > $3 ORDER BY a.principal_id LIMIT $4
"""
_INVITE: Final = """
INSERT INTO account_invitation (shard, tenant, principal_id, selector, verifier_hash, expires_at_ms)
VALUES ($1, $2, $3, $4, $5, $6)
"""


class AccountStore:
    """Accounts of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        keys: Finds names and seals what is kept.
        audit: The tenant's audit log.
    """

    def __init__(self, database: Database, scope: Scope, keys: AccountKeys, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys
        self._audit = audit

    async def add(self, new: NewAccount, now_ms: int, trail: Trail) -> Invitation:
        """Make a principal with an account, and write its audit entry.

        Raises:
            NameRefused: The name is not taken.
            Conflict: Somebody has it.
        """
        seals, principal_id = await self._keys.seals(), str(uuid.uuid4())
        folded = folded_name(new.name)
        trail.about(RESOURCE, principal_id)
        sealed, parts = seals.seal(folded.encode(), "name", principal_id), account_codes.new_two_parts()

        async def work(connection: Connection) -> Invitation:
            made = await connection.fetchval(
                "INSERT INTO account (shard, tenant, principal_id, name_index, name_ciphertext, created_at_ms) "
                "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING principal_id",
                *self._scope,
                principal_id,
                seals.name_index(folded),
                sealed,
                now_ms,
            )
            if made is None:
                trail.about(RESOURCE)
                raise Conflict("there is an account of this name", "give another one", code="name_taken")
            await connection.execute(
                "INSERT INTO principal (shard, tenant, principal_id, role, created_at_ms, patient_id) "
                "VALUES ($1, $2, $3, $4, $5, $6)",
                *self._scope,
                principal_id,
                new.role.value,
                now_ms,
                new.patient_id,
            )
            invitation = await self._invite(connection, principal_id, parts, now_ms)
            await self._audit.append(connection, [trail.event()])
            return invitation

        invitation = await self._database.transact(work)
        trail.written = True
        return invitation

    async def reset(self, account_id: str, now_ms: int, trail: Trail) -> Invitation:
        """Take what somebody got in by, and invite them anew; write the audit entry.

        Raises:
            NotFound: There is no such account.
        """
        parts = account_codes.new_two_parts()

        async def work(connection: Connection) -> Invitation:
            found = await connection.fetchval(
                "UPDATE account SET password_ciphertext = NULL, totp_ciphertext = NULL, totp_step = 0 "
                "WHERE shard = $1 AND tenant = $2 AND principal_id = $3 RETURNING name_index",
                *self._scope,
                account_id,
            )
            if found is None:
                raise NotFound("no such account", "check the id")
            await connection.execute(
                "UPDATE principal SET key_version = key_version + 1 "
                "WHERE shard = $1 AND tenant = $2 AND principal_id = $3",
                *self._scope,
                account_id,
            )
            for table in ("account_recovery_code", "account_passkey", "login_session", "account_invitation"):
                await connection.execute(
                    f"DELETE FROM {table} WHERE shard = $1 AND tenant = $2 AND principal_id = $3",  # noqa: S608
                    *self._scope,
                    account_id,
                )
            await connection.execute(
                "DELETE FROM login_try WHERE shard = $1 AND tenant = $2 AND name_index = $3", *self._scope, found
            )
            invitation = await self._invite(connection, account_id, parts, now_ms)
            await self._audit.append(connection, [trail.event()])
            return invitation

        trail.about(RESOURCE, account_id)
        invitation = await self._database.transact(work)
        trail.written = True
        return invitation

    async def listed(self, after: str, rows: int = limits.ACCOUNTS_PAGE_ROWS) -> list[Listed]:
        """Accounts in order of their ids, those after one."""
        seals = await self._keys.seals()
        return [_listed(seals, row) for row in await self._database.fetch(_LIST, *self._scope, after, rows)]

    async def id_of(self, name: str) -> str | None:
        """Whose account has a name.

        Raises:
            NameRefused: No account can have it.
        """
        index = (await self._keys.seals()).name_index(folded_name(name))
        row = await self._database.fetchrow(
            "SELECT principal_id FROM account WHERE shard = $1 AND tenant = $2 AND name_index = $3", *self._scope, index
        )
        return None if row is None else str(row["principal_id"])

    async def _invite(self, connection: Connection, account_id: str, parts: TwoParts, now_ms: int) -> Invitation:
        expires_at_ms = now_ms + limits.INVITATION_LIFETIME_MS
        kept = account_codes.verifier_hash(INVITATION, parts.verifier)
        await connection.execute(_INVITE, *self._scope, account_id, parts.selector, kept, expires_at_ms)
        return Invitation(account_id, parts.text(), expires_at_ms)


def _listed(seals: AccountSeals, row: Row) -> Listed:
    return Listed(
        account_id=row["principal_id"],
        name=seals.open(row["name_ciphertext"], "name", row["principal_id"]).decode(),
        role=row["role"],
        patient_id=row["patient_id"],
        created_at_ms=row["created_at_ms"],
        revoked=row["revoked_at_ms"] is not None,
        ready=row["has_password"] or row["passkeys"] > 0,
        invited_until_ms=row["expires_at_ms"],
        recovery_codes=row["recovery_codes"],
        passkeys=row["passkeys"],
    )
