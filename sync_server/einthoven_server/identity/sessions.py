"""Sessions of people who logged in: refresh tokens, each good once, bound to a key (RFC 9449, RFC 9700 section 4.14).

It deliberately keeps no token, and knows no password.

Invariants:
    1. A refresh token counts once, and with the key that its session began with. Any other use of one that names a
       session ends that session: of thief and owner, one comes second, and neither goes on.
    2. A session ends ``SESSION_IDLE_MS`` after its last use, ``SESSION_LIFETIME_MS`` after it began, and with every
       reset of its account or revocation of its principal.
    3. What ends a session is in the audit log, in the same transaction.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from einthoven_server import limits
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import Trail
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.identity import account_codes
from einthoven_server.identity.account_codes import REFRESH
from einthoven_server.identity.accounts import Holder
from einthoven_server.identity.roles import Role
from einthoven_server.replays import claim_all
from einthoven_server.single_use import Claim

RESOURCE: Final = "session"
_FIND: Final = """
SELECT s.session_id, s.principal_id, s.holder_version, s.verifier_hash, s.jkt, s.began_at_ms, s.used_at_ms,
    p.key_version AS current_version, p.role, p.patient_id, p.revoked_at_ms
FROM login_session s JOIN principal p USING (shard, tenant, principal_id)
WHERE s.shard = $1 AND s.tenant = $2 AND s.selector = $3 FOR UPDATE OF s
"""
_BEGIN: Final = """
INSERT INTO login_session (shard, tenant, session_id, principal_id, holder_version, selector, verifier_hash, jkt,
    began_at_ms, used_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
"""
_SURPLUS: Final = """
DELETE FROM login_session WHERE shard = $1 AND tenant = $2 AND session_id IN (
    SELECT session_id FROM login_session WHERE shard = $1 AND tenant = $2 AND principal_id = $3
    ORDER BY used_at_ms DESC, session_id OFFSET $4)
"""


class Presented(NamedTuple):
    """What came.

    Attributes:
        token: As it was sent.
        jkt: Thumbprint of the key that was proven beside it.
        claim: Of the proof.
    """

    token: str
    jkt: str
    claim: Claim


class Kept(NamedTuple):
    """A session as the database has it.

    Attributes:
        verifier_hash: Of the refresh token that is good now.
        jkt: The key it began with.
        began_at_ms: UTC, ms since 1970.
        used_at_ms: When its token was made.
        current: Whether its principal is as it was, and not revoked.
    """

    verifier_hash: bytes
    jkt: str
    began_at_ms: int
    used_at_ms: int
    current: bool


class Use(Enum):
    """What becomes of a refresh token."""

    GOOD = auto()
    OVER = auto()
    """Its session's time is over."""
    REUSED = auto()
    """It was good once, or comes with another key."""


class Session(NamedTuple):
    """A session and its new refresh token.

    Attributes:
        session_id: Its name in access tokens.
        holder: Who it is.
        refresh_token: Good once.
        ends_at_ms: When it ends, however much it is used.
    """

    session_id: str
    holder: Holder
    refresh_token: str
    ends_at_ms: int


def judge(kept: Kept, verifier: bytes, jkt: str, now_ms: int) -> Use:
    """Judge a refresh token. Pure."""
    same_verifier = account_codes.is_verifier(REFRESH, verifier, kept.verifier_hash)
    same_key = hmac.compare_digest(jkt.encode(), kept.jkt.encode())
    if not (same_verifier and same_key):
        return Use.REUSED
    idle = now_ms >= kept.used_at_ms + limits.SESSION_IDLE_MS
    if idle or now_ms >= kept.began_at_ms + limits.SESSION_LIFETIME_MS or not kept.current:
        return Use.OVER
    return Use.GOOD


class Sessions:
    """Sessions of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        audit: The tenant's audit log.
    """

    def __init__(self, database: Database, scope: Scope, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit

    async def begin(self, connection: Connection, holder: Holder, jkt: str, now_ms: int) -> Session:
        """Begin one, within the transaction of a login; of too many of one account the oldest ends."""
        session_id, parts = str(uuid.uuid4()), account_codes.new_two_parts()
        await connection.execute(
            _BEGIN,
            *self._scope,
            session_id,
            holder.principal_id,
            holder.key_version,
            parts.selector,
            account_codes.verifier_hash(REFRESH, parts.verifier),
            jkt,
            now_ms,
        )
        await connection.execute(_SURPLUS, *self._scope, holder.principal_id, limits.SESSIONS_OF_ONE_MAX)
        return Session(session_id, holder, parts.text(), now_ms + limits.SESSION_LIFETIME_MS)

    async def refresh(self, presented: Presented, now_ms: int, trail: Trail) -> Session | Use:
        """Use a refresh token: for the next one, or for why there is none; writes the audit entry of either.

        Raises:
            Replayed: The proof was used before; nothing was changed.
        """
        return await self._use(presented, now_ms, trail, ends=False)

    async def end(self, presented: Presented, now_ms: int, trail: Trail) -> Session | Use:
        """Use a refresh token to end its session; writes the audit entry."""
        return await self._use(presented, now_ms, trail, ends=True)

    async def _use(self, presented: Presented, now_ms: int, trail: Trail, *, ends: bool) -> Session | Use:
        parts = account_codes.read_two_parts(presented.token)
        if parts is None:
            return Use.OVER

        async def work(connection: Connection) -> tuple[Session | Use, bool]:
            row = await connection.fetchrow(_FIND, *self._scope, parts.selector)
            if row is None:
                return Use.OVER, False
            if not await claim_all(connection, self._scope, [presented.claim]):
                raise Replayed
            current = row["revoked_at_ms"] is None and row["holder_version"] == row["current_version"]
            kept = Kept(bytes(row["verifier_hash"]), row["jkt"], row["began_at_ms"], row["used_at_ms"], current)
            use = judge(kept, parts.verifier, presented.jkt, now_ms)
            trail.about(RESOURCE, row["session_id"])
            if use is not Use.REUSED:
                trail.by(row["principal_id"], row["role"])
                trail.patient = row["patient_id"] or ""
            holder = Holder(row["principal_id"], row["current_version"], Role(row["role"]), row["patient_id"])
            following = account_codes.new_two_parts(parts.selector)
            if ends or use is not Use.GOOD:
                await self._drop(connection, [row["session_id"]])
            else:
                await connection.execute(
                    "UPDATE login_session SET verifier_hash = $4, used_at_ms = $5 "
                    "WHERE shard = $1 AND tenant = $2 AND session_id = $3",
                    *self._scope,
                    row["session_id"],
                    account_codes.verifier_hash(REFRESH, following.verifier),
                    now_ms,
                )
            outcome = {Use.OVER: "session_over", Use.REUSED: "session_reused"}.get(use)
            await self._audit.append(connection, [trail.event() if outcome is None else trail.event(outcome)])
            if use is not Use.GOOD:
                return use, True
            ends_at_ms = kept.began_at_ms + limits.SESSION_LIFETIME_MS
            return Session(row["session_id"], holder, following.text(), ends_at_ms), True

        found, trail.written = await self._database.transact(work)
        return found

    async def _drop(self, connection: Connection, session_ids: Sequence[str]) -> None:
        await connection.execute(
            "DELETE FROM login_session WHERE shard = $1 AND tenant = $2 AND session_id = ANY($3::text[])",
            *self._scope,
            list(session_ids),
        )

    async def forget(self, now_ms: int) -> None:
        """Remove sessions that are over; for housekeeping."""
        await self._database.fetch(
            "DELETE FROM login_session WHERE shard = $1 AND tenant = $2 AND used_at_ms < $3",
            *self._scope,
            now_ms - limits.SESSION_IDLE_MS,
        )


class Replayed(Exception):
    """A proof that was used before; rolls the transaction back."""
