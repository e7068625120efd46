"""Clients in the database: principals with their public keys, and devices as far as they ask for tokens.

It deliberately decides nothing, and keeps nothing that opens anything: there are public keys only.

Invariants:
    1. A write and its audit event are one transaction.
    2. One look-up finds a client or finds none, whatever its id.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import msgspec

from einthoven_protocol.oauth import ed25519_jwk
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import NotFound
from einthoven_server.identity.clients import Client
from einthoven_server.identity.permissions import Role
from einthoven_server.replays import claim_all
from einthoven_server.single_use import Claim

_FIND = """
SELECT role, patient_id, revoked_at_ms, jwks, key_version, bearer, scopes, NULL::bytea AS public_key
FROM principal WHERE shard = $1 AND tenant = $2 AND principal_id = $3
UNION ALL
SELECT 'device', patient_id, revoked_at_ms, '', 1, false, '', public_key
FROM device WHERE shard = $1 AND tenant = $2 AND device_id = $3
"""
_FIND_IN_SESSION = f"""
SELECT *, EXISTS (SELECT 1 FROM login_session WHERE shard = $1 AND tenant = $2 AND principal_id = $3
    AND session_id = $4 AND began_at_ms > $5) AS in_session
FROM ({_FIND}) AS found
"""  # noqa: S608  # no value of anybody's in it


class ClientStore:
    """Clients of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        audit: The tenant's audit log.
    """

    def __init__(self, database: Database, scope: Scope, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit

    async def find(self, client_id: str) -> Client | None:
        """A client by its id, revoked or not."""
        row = await self._database.fetchrow(_FIND, *self._scope, client_id)
        return None if row is None else _client(client_id, row)

    async def find_in_session(self, client_id: str, session_id: str, now_ms: int) -> Client | None:
        """A client by its id, revoked or not, and whether a session of it goes on."""
        oldest_ms = now_ms - limits.SESSION_LIFETIME_MS
        row = await self._database.fetchrow(_FIND_IN_SESSION, *self._scope, client_id, session_id, oldest_ms)
        return None if row is None else _client(client_id, row, in_session=row["in_session"])

    async def create(
        self,
        role: Role,
        jwks: Mapping[str, object],
        now_ms: int,
        event: Event | None,
        *,
        client_id: str | None = None,
        patient_id: str | None = None,
        bearer: bool = False,
        scopes: str = "",
    ) -> str:
        """Make a principal, unless one with this id is there; return its id.

        Args:
            role: What kind.
            jwks: Its public keys, checked.
            now_ms: UTC, ms since 1970.
            event: What is written of it.
            client_id: Its id; a new one where ``None``.
            patient_id: Whose it is, for a patient.
            bearer: Whether its tokens need no proof.
            scopes: What it may ask for.
        """
        principal_id = str(uuid.uuid4()) if client_id is None else client_id

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO principal "
                "(shard, tenant, principal_id, role, created_at_ms, patient_id, jwks, bearer, scopes) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
                *self._scope,
                principal_id,
                role.value,
                now_ms,
                patient_id,
                _text(jwks),
                bearer,
                scopes,
            )
            await self._audit.append(connection, [] if event is None else [event])

        await self._database.transact(work)
        return principal_id

    async def replace_keys(self, principal_id: str, jwks: Mapping[str, object], event: Event) -> None:
        """Give a principal other keys; tokens issued before are refused from now on.

        Raises:
            NotFound: There is no such principal.
        """

        async def work(connection: Connection) -> None:
            found = await connection.fetchval(
                "UPDATE principal SET jwks = $4, key_version = key_version + 1 "
                "WHERE shard = $1 AND tenant = $2 AND principal_id = $3 RETURNING key_version",
                *self._scope,
                principal_id,
                _text(jwks),
            )
            if found is None:
                raise _unknown()
            await self._audit.append(connection, [event])

        await self._database.transact(work)

    async def revoke(self, principal_id: str, now_ms: int, event: Event) -> int:
        """Revoke a principal; return since when it is (ms since 1970). Revoking twice changes nothing.

        Raises:
            NotFound: There is no such principal.
        """

        async def work(connection: Connection) -> int:
            revoked_at_ms = await connection.fetchval(
                "UPDATE principal SET revoked_at_ms = coalesce(revoked_at_ms, $4) "
                "WHERE shard = $1 AND tenant = $2 AND principal_id = $3 RETURNING revoked_at_ms",
                *self._scope,
                principal_id,
                now_ms,
            )
            if revoked_at_ms is None:
                raise _unknown()
            await self._audit.append(connection, [event])
            return int(revoked_at_ms)

        return await self._database.transact(work)

    async def claim(self, *claims: Claim, event: Event | None = None) -> bool:
        """Claim ids, with the event of what they are for; return whether all were fresh. Else nothing is written."""

        async def work(connection: Connection) -> None:
            if not await claim_all(connection, self._scope, claims):
                raise _Replayed
            await self._audit.append(connection, [] if event is None else [event])

        try:
            await self._database.transact(work)
        except _Replayed:
            return False
        return True


class _Replayed(Exception):
    """Rolls a transaction back."""


def _client(client_id: str, row: Row, *, in_session: bool = True) -> Client:
    public_key = row["public_key"]
    jwks = row["jwks"].encode() if public_key is None else msgspec.json.encode({"keys": [ed25519_jwk(public_key)]})
    return Client(
        client_id=client_id,
        role=Role(row["role"]),
        patient_id=row["patient_id"],
        revoked=row["revoked_at_ms"] is not None,
        jwks=jwks,
        key_version=row["key_version"],
        bearer=row["bearer"],
        scopes=row["scopes"],
        in_session=in_session,
    )


def _text(jwks: Mapping[str, object]) -> str:
    return msgspec.json.encode(jwks).decode()


def _unknown() -> NotFound:
    return NotFound("no such principal", "check the id")
