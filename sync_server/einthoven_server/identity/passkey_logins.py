"""Logs people in by a passkey in place of name, password and code; and sets accounts up with one.

It deliberately asks for no name: a passkey says whose it is, so there is nothing that shows which names there are.

Invariants:
    1. A challenge counts once, and the proof beside it; both are used in the transaction that begins the session and
       writes the audit entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from einthoven_server.audit.trail import Trail
from einthoven_server.database import Connection
from einthoven_server.errors import Malformed
from einthoven_server.identity import passkeys
from einthoven_server.identity.account_keys import AccountKeys
from einthoven_server.identity.accounts import RESOURCE
from einthoven_server.identity.logins import Logins, Proven, Spent, no_invitation, refused
from einthoven_server.identity.passkey_store import PasskeyStore
from einthoven_server.identity.passkeys import PasskeyRefused
from einthoven_server.identity.sessions import Session


class PasskeyLogins:
    """Logs people of one tenant in.

    Args:
        logins: Begins sessions, and knows invitations.
        store: Passkeys.
        keys: Makes challenges.
        public_url: This server's address as its clients know it.
    """

    def __init__(self, logins: Logins, store: PasskeyStore, keys: AccountKeys, public_url: str) -> None:
        self._logins = logins
        self._store = store
        self._keys = keys
        self._public_url = public_url

    async def options(self, now_ms: int) -> dict[str, Any]:
        """What a passkey is asked to log in; the same for everybody."""
        challenge = passkeys.new_challenge((await self._keys.seals()).challenge_key, passkeys.LOGIN, now_ms)
        return passkeys.login_options(challenge, self._public_url)

    async def log_in(self, credential: Mapping[str, Any], proven: Proven, now_ms: int, trail: Trail) -> Session:
        """Begin a session.

        Raises:
            Unauthorized: No such passkey, or its answer does not hold.
            Replayed: Proof or challenge was used before.
        """
        try:
            known = await self._store.find(passkeys.credential_id_of(credential))
            if known is None:
                raise refused()
            trail.about(RESOURCE, known.holder.principal_id)
            key = (await self._keys.seals()).challenge_key
            answered = passkeys.answer(credential, known.passkey, key, self._public_url, now_ms)
        except PasskeyRefused as error:
            raise refused() from error
        holder = known.holder

        async def spend(connection: Connection) -> bool:
            return await self._store.use(connection, holder.principal_id, answered.passkey)

        try:
            return await self._logins.begin(holder, proven, now_ms, trail, spend, answered.claim)
        except Spent as error:
            raise refused() from error

    async def new_options(self, code: str, now_ms: int, trail: Trail) -> dict[str, Any]:
        """What an authenticator is asked to make a passkey for whoever was invited.

        Raises:
            CodeRefused: There is no such invitation, or no longer.
        """
        _, invitation = await self._logins.invitation(code, now_ms, trail)
        account_id = invitation.holder.principal_id
        key = (await self._keys.seals()).challenge_key
        challenge = passkeys.new_challenge(key, passkeys.purpose_for(account_id), now_ms)
        return passkeys.registration_options(challenge, self._public_url, account_id.encode(), invitation.name)

    async def accept(
        self, code: str, credential: Mapping[str, Any], proven: Proven, now_ms: int, trail: Trail
    ) -> Session:
        """Set an account up with a passkey, and begin its first session.

        Raises:
            CodeRefused: There is no such invitation, or no longer.
            Malformed: The authenticator's answer does not hold.
            Replayed: Proof or challenge was used before.
        """
        selector, invitation = await self._logins.invitation(code, now_ms, trail)
        holder = invitation.holder
        key, purpose = (await self._keys.seals()).challenge_key, passkeys.purpose_for(holder.principal_id)
        try:
            answered = passkeys.register(credential, key, purpose, self._public_url, now_ms)
        except PasskeyRefused as error:
            raise Malformed(f"the passkey is refused: {error}", "make another", code="passkey_refused") from error

        async def spend(connection: Connection) -> bool:
            return await self._store.add(connection, selector, holder.principal_id, answered.passkey, now_ms)

        try:
            return await self._logins.begin(holder, proven, now_ms, trail, spend, answered.claim)
        except Spent as error:
            raise no_invitation() from error
