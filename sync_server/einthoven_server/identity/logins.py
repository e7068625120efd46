"""Logs people in: a name, a password and a second factor, all at once, for a session bound to a key.

It deliberately says never which of them was wrong, and asks for all before it looks at any.

Invariants:
    1. For a name that there is not, the same is done as for one that there is: one look-up, one password hashed, the
       same codes made, the same answer.
    2. A try is counted before it is looked at; one that comes too soon costs no password, and one for which
       there is no place is not counted.
    3. A code counts once, and the proof beside it; both are used in the transaction that begins the session and writes
       the audit entry.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import Trail
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import CodeRefused, Malformed, Unauthorized
from einthoven_server.identity import account_codes, totp
from einthoven_server.identity.account_codes import INVITATION
from einthoven_server.identity.account_factors import NOBODY_ID, AccountFactors
from einthoven_server.identity.account_keys import AccountKeys, NameRefused, folded_name
from einthoven_server.identity.accounts import RESOURCE, Account, Holder, OpenInvitation, SetUp
from einthoven_server.identity.login_tries import LoginTries
from einthoven_server.identity.passwords import PasswordHasher, PasswordRefused, check_password
from einthoven_server.identity.sessions import Replayed, Session, Sessions
from einthoven_server.replays import claim_all
from einthoven_server.single_use import Claim

Spend: TypeAlias = Callable[[Connection], Awaitable[bool]]


class Login(NamedTuple):
    """What somebody gives to get in.

    Attributes:
        name: The login name.
        password: The password.
        totp: Six digits; where ``None``, a recovery code is given.
        recovery_code: One of those that were shown once.
    """

    name: str
    password: str
    totp: str | None
    recovery_code: str | None


class Proven(NamedTuple):
    """A key that was proven beside a request.

    Attributes:
        jkt: Its thumbprint.
        claim: Of the proof.
    """

    jkt: str
    claim: Claim


class Shown(NamedTuple):
    """What who opens an invitation is shown.

    Attributes:
        name: The login name.
        totp_secret: For an authenticator, base32.
        totp_uri: The same, for a QR code.
        expires_at_ms: When the invitation expires.
    """

    name: str
    totp_secret: str
    totp_uri: str
    expires_at_ms: int


class Spent(Exception):
    """A code that was used meanwhile; rolls the transaction back."""


class Logins:
    """Logs people of one tenant in.

    Args:
        database: Where everything is.
        scope: Shard and tenant.
        audit: The tenant's audit log.
        keys: Finds names.
        hasher: Hashes passwords; one a process.
    """

    def __init__(
        self, database: Database, scope: Scope, audit: AuditLog, keys: AccountKeys, hasher: PasswordHasher | None = None
    ) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit
        self._keys = keys
        self.hasher = PasswordHasher() if hasher is None else hasher
        self.factors = AccountFactors(database, scope, keys)
        self.tries = LoginTries(database, scope)
        self.sessions = Sessions(database, scope, audit)
        self._stand_in: Row | None = None

    async def log_in(self, given: Login, proven: Proven, now_ms: int, trail: Trail) -> Session:
        """Begin a session.

        Raises:
            Unauthorized: No such account, or something is wrong.
            TooMany: Too many wrong tries at this name.
            Busy: Too many logins are under way.
            Replayed: The proof was used before.
        """
        try:
            index = (await self._keys.seals()).name_index(folded_name(given.name))
        except NameRefused as error:
            raise refused() from error
        stand_in = await self._ready()
        self.hasher.require_place()
        await self.tries.begin(index, now_ms)
        account = await self.factors.find(index, stand_in)
        holder = account.holder
        right = await self.hasher.verify(account.password, given.password)
        step, code_hash = await self._second(account, given, now_ms)
        if holder.principal_id != NOBODY_ID:
            trail.about(RESOURCE, holder.principal_id)
        if holder.principal_id == NOBODY_ID or not right or (step is None and code_hash is None):
            raise refused()

        async def spend(connection: Connection) -> bool:
            await self.tries.forgive(connection, index)
            if step is not None:
                return await self.factors.spend_step(connection, holder.principal_id, step)
            return await self.factors.spend_recovery_code(connection, holder.principal_id, code_hash or b"")

        try:
            return await self.begin(holder, proven, now_ms, trail, spend)
        except Spent as error:
            raise refused() from error

    async def open(self, code: str, now_ms: int, trail: Trail) -> Shown:
        """Open an invitation: show what an authenticator needs. Opened again, it shows the same.

        Raises:
            CodeRefused: There is no such invitation, or no longer.
        """
        selector, invitation = await self.invitation(code, now_ms, trail)
        secret = invitation.totp
        if secret is None:
            secret = await self.factors.show_totp(selector, invitation.holder.principal_id, totp.new_secret())
        uri = totp.uri(secret, invitation.name)
        return Shown(invitation.name, totp.shown_secret(secret), uri, invitation.expires_at_ms)

    async def accept(
        self, code: str, password: str, totp_code: str, proven: Proven, now_ms: int, trail: Trail
    ) -> tuple[Session, list[str]]:
        """Set an account up, and begin its first session; return that, and its recovery codes.

        Raises:
            CodeRefused: There is no such invitation, or no longer.
            Malformed: The password is not taken, or the authenticator's code is not right.
            Replayed: The proof was used before.
        """
        selector, invitation = await self.invitation(code, now_ms, trail)
        holder = invitation.holder
        try:
            taken = check_password(password, invitation.name)
        except PasswordRefused as error:
            raise Malformed(f"the password is refused: {error}", "choose another", code="password_refused") from error
        secret = invitation.totp
        step = None if secret is None else totp.matching_step(secret, totp_code, now_ms, 0)
        if secret is None or step is None:
            raise Malformed(
                "the authenticator's code is not right",
                "open the invitation and type the code of now",
                code="totp_wrong",
            )
        codes = account_codes.new_recovery_codes()
        made = SetUp(await self.hasher.hash(taken), secret, step, codes)

        async def spend(connection: Connection) -> bool:
            return await self.factors.accept(connection, selector, holder.principal_id, made)

        try:
            return await self.begin(holder, proven, now_ms, trail, spend), codes
        except Spent as error:
            raise no_invitation() from error

    async def forget(self, now_ms: int) -> None:
        """Remove what is over; for housekeeping.

        Raises:
            Busy: No database.
        """
        await self.tries.forget(now_ms)
        await self.factors.forget(now_ms)
        await self.sessions.forget(now_ms)

    async def begin(
        self, holder: Holder, proven: Proven, now_ms: int, trail: Trail, spend: Spend, *claims: Claim
    ) -> Session:
        """Use what counts once, and begin a session with its audit entry.

        Raises:
            Spent: It was used meanwhile; nothing was changed.
            Replayed: The proof, or another claim, was used before.
        """
        trail.by(holder.principal_id, holder.role.value)
        trail.patient = holder.patient_id or ""

        async def work(connection: Connection) -> Session:
            if not await claim_all(connection, self._scope, [proven.claim, *claims]):
                raise Replayed
            if not await spend(connection):
                raise Spent
            session = await self.sessions.begin(connection, holder, proven.jkt, now_ms)
            await self._audit.append(connection, [trail.event()])
            return session

        session = await self._database.transact(work)
        trail.written = True
        return session

    async def _second(self, account: Account, given: Login, now_ms: int) -> tuple[int | None, bytes | None]:
        """The step, or the hash of a recovery code, that is to be used; neither where it is wrong."""
        if given.totp is not None:
            return totp.matching_step(account.totp, given.totp, now_ms, account.totp_step), None
        principal_id = account.holder.principal_id
        code_hash = account_codes.recovery_hash(principal_id, given.recovery_code or "")
        return None, code_hash if await self.factors.has_recovery_code(principal_id, code_hash) else None

    async def invitation(self, code: str, now_ms: int, trail: Trail) -> tuple[bytes, OpenInvitation]:
        """An invitation by its code, with its selector.

        Raises:
            CodeRefused: There is no such invitation, or no longer.
        """
        parts = account_codes.read_two_parts(code)
        found = None if parts is None else await self.factors.invited(parts.selector)
        if parts is None or found is None:
            raise no_invitation()
        trail.about(RESOURCE, found.holder.principal_id)
        if not account_codes.is_verifier(INVITATION, parts.verifier, found.verifier_hash):
            raise no_invitation()
        if now_ms >= found.expires_at_ms:
            raise no_invitation()
        return parts.selector, found

    async def _ready(self) -> Row:
        if self._stand_in is None:
            self._stand_in = await self.factors.make_stand_in(await self.hasher.hash(secrets.token_urlsafe(32)))
        return self._stand_in


def refused() -> Unauthorized:
    """The one answer to an unknown name, a wrong password and a wrong code."""
    return Unauthorized("name, password or code is not right", "check all three", code="login_refused")


def no_invitation() -> CodeRefused:
    """The one answer to an invitation that is unknown, wrong, used or expired."""
    return CodeRefused("no such invitation", "ask an administrator for a new one", code="invitation_invalid")
