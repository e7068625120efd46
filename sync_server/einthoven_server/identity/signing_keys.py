"""The keys that sign access tokens: in the database, wrapped by the key service, one after another with an overlap.

It deliberately shows and exports no private key, and has one kind: Ed25519.

Invariants:
    1. A key is shown for ``SIGNING_KEY_LEAD_MS`` before it signs, and verifies for ``SIGNING_KEY_OVERLAP_MS`` after its
       successor began to: no token that was issued is refused for a rotation.
    2. What a process knows is at most ``SIGNING_KEYS_REFRESH_MS`` old, and it asks no more often, whatever comes.
    3. Two nodes that rotate at once make one key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from einthoven_protocol.oauth import base64url, ed25519_jwk, thumbprint
from einthoven_server import limits
from einthoven_server.clock import Clock
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.envelope import Place
from einthoven_server.identity.public_keys import PublicKey, ed25519
from einthoven_server.key_service import KeyService

_LATER: Final = """
SELECT kid FROM signing_key WHERE shard = $1 AND tenant = $2 AND signs_from_ms > $3 ORDER BY signs_from_ms LIMIT 1
"""
_INSERT: Final = """
INSERT INTO signing_key (shard, tenant, kid, public_key, private_wrapped, signs_from_ms) VALUES ($1, $2, $3, $4, $5, $6)
"""


class Lifetime(NamedTuple):
    """A key's name and when it signs, ms since 1970."""

    kid: str
    signs_from_ms: int


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A key of this server.

    Attributes:
        lifetime: Its name and when it signs.
        private: For signing.
        public: For verifying.
        jwk: What is shown of it.
    """

    lifetime: Lifetime
    private: OKPKey
    public: PublicKey
    jwk: Mapping[str, str]


def signer(keys: Sequence[Lifetime], now_ms: int) -> str | None:
    """The name of the key that signs now: the youngest that may; where a clock went back and none may, the oldest."""
    able = [key for key in keys if key.signs_from_ms <= now_ms]
    if able:
        return max(able, key=lambda key: (key.signs_from_ms, key.kid)).kid
    return min(keys, key=lambda key: (key.signs_from_ms, key.kid)).kid if keys else None


def overdue(keys: Sequence[Lifetime], now_ms: int) -> set[str]:
    """The names of keys that verify nothing any more: a successor has signed for longer than the overlap."""
    ended = [key for key in keys if key.signs_from_ms + limits.SIGNING_KEY_OVERLAP_MS <= now_ms]
    stays = signer(ended, now_ms)
    return {key.kid for key in ended if key.kid != stays}


class SigningKeys:
    """Signing keys of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        key_service: Wraps them.
        clock: Wall time.
    """

    def __init__(self, database: Database, scope: Scope, key_service: KeyService, clock: Clock) -> None:
        self._database = database
        self._scope = scope
        self._key_service = key_service
        self._clock = clock
        self._held: dict[str, SigningKey] = {}
        self._over: set[str] = set()
        self._read_at_ms: int | None = None
        self._reading = asyncio.Lock()

    async def current(self) -> SigningKey:
        """The key that signs now; the first one is made here.

        Raises:
            Busy: The database can't be reached.
            EnvelopeRefused: The key service does not open it.
        """
        held = await self.held()
        kid = signer([key.lifetime for key in held.values()], self._clock.now_ms())
        if kid is None:
            await self._make(self._clock.now_ms(), unless_after_ms=-1)
            held = await self.held()
            kid = signer([key.lifetime for key in held.values()], self._clock.now_ms())
        return held[kid or ""]

    async def held(self) -> Mapping[str, SigningKey]:
        """All keys that verify, by name.

        Raises:
            Busy: The database can't be reached.
            EnvelopeRefused: The key service does not open one.
        """
        if self._stale():
            async with self._reading:
                if self._stale():
                    await self._read()
        return self._held

    async def rotate(self, *, at_once: bool = False) -> str:
        """Make a new key that signs after ``SIGNING_KEY_LEAD_MS``; return its name.

        One that was made and does not sign yet is taken for the new one.

        Args:
            at_once: Let it sign now, and remove all others: tokens they signed are refused from now on.
        """
        now_ms = self._clock.now_ms()
        if at_once:
            return await self._make(now_ms, unless_after_ms=None)
        return await self._make(now_ms + limits.SIGNING_KEY_LEAD_MS, unless_after_ms=now_ms)

    async def _make(self, signs_from_ms: int, *, unless_after_ms: int | None) -> str:
        """Make a key, unless there is one that signs after a time; ``None``: in place of all others."""
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        kid = thumbprint(ed25519_jwk(public))
        wrapped = await self._key_service.wrap(
            private.private_bytes_raw(), signing_key_context(self._scope.tenant, kid)
        )

        async def work(connection: Connection) -> str:
            # The tenant's row keeps two nodes from making a key each.
            await connection.execute("SELECT 1 FROM tenant WHERE shard = $1 AND tenant = $2 FOR UPDATE", *self._scope)
            if unless_after_ms is None:
                await connection.execute("DELETE FROM signing_key WHERE shard = $1 AND tenant = $2", *self._scope)
            else:
                made = await connection.fetchval(_LATER, *self._scope, unless_after_ms)
                if made is not None:
                    return str(made)
            await connection.execute(_INSERT, *self._scope, kid, public, wrapped, signs_from_ms)
            return kid

        made = await self._database.transact(work)
        self._read_at_ms = None
        return made

    async def keep(self) -> None:
        """Replace a key that has signed for long enough, and forget those that verify nothing; for housekeeping."""
        now_ms = self._clock.now_ms()
        lifetimes = [key.lifetime for key in (await self.held()).values()]
        if lifetimes and max(each.signs_from_ms for each in lifetimes) + limits.SIGNING_KEY_LIFETIME_MS <= now_ms:
            await self.rotate()
        if self._over:
            await self._database.fetch(
                "DELETE FROM signing_key WHERE shard = $1 AND tenant = $2 AND kid = ANY($3::text[])",
                *self._scope,
                sorted(self._over),
            )

    def _stale(self) -> bool:
        now_ms = self._clock.now_ms()
        return self._read_at_ms is None or not 0 <= now_ms - self._read_at_ms < limits.SIGNING_KEYS_REFRESH_MS

    async def _read(self) -> None:
        now_ms = self._clock.now_ms()
        rows = await self._database.fetch(
            "SELECT kid, public_key, private_wrapped, signs_from_ms FROM signing_key WHERE shard = $1 AND tenant = $2",
            *self._scope,
        )
        gone = overdue([Lifetime(row["kid"], row["signs_from_ms"]) for row in rows], now_ms)
        held = {}
        for row in rows:
            if row["kid"] not in gone:
                held[row["kid"]] = self._held.get(row["kid"]) or await self._opened(row)
        self._held, self._over, self._read_at_ms = held, gone, now_ms

    async def _opened(self, row: Row) -> SigningKey:
        kid, public = str(row["kid"]), bytes(row["public_key"])
        private = await self._key_service.unwrap(row["private_wrapped"], signing_key_context(self._scope.tenant, kid))
        jwk = ed25519_jwk(public)
        return SigningKey(
            lifetime=Lifetime(kid, int(row["signs_from_ms"])),
            private=OKPKey.import_key({**jwk, "d": base64url(private)}),
            public=ed25519(public),
            jwk={**jwk, "kid": kid, "alg": "EdDSA", "use": "sig"},
        )


def signing_key_context(tenant: str, kid: str) -> bytes:
    """What a wrapped signing key is bound to."""
    return Place(tenant, "", "signing_key", "private_wrapped", kid, 1).to_bytes()
