"""Who shows an access token, and may they still: the token, the proof of its key, the caller as the database has it.

It deliberately trusts no header but ``Authorization`` and ``DPoP``: where a request came from, and what a proxy says of
it, counts for nothing. It caches signatures that held, never a caller.

Invariants:
    1. A token that is bound to a key counts only with a proof of that key for this request; one that is bound to none
       only for a client that is registered so, now.
    2. The caller is read on each request: revoked, its keys replaced, or its session ended, it is refused at once.
    3. Whatever a token names, at most one look-up of a client and one of the signing keys follow.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Sequence

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Unauthorized
from einthoven_server.identity import access_tokens, dpop
from einthoven_server.identity.access_tokens import AccessClaims, AccessToken
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.client_store import ClientStore
from einthoven_server.identity.clients import Client
from einthoven_server.identity.compact_tokens import TokenMalformed
from einthoven_server.identity.dpop import Target
from einthoven_server.identity.permissions import Role
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.single_use import Claim


class PresentedTokens:
    """Judges access tokens of one tenant's server.

    Args:
        clients: Who is known.
        keys: What signs tokens.
        clock: Wall time.
        public_url: This server's address as its clients know it.
    """

    def __init__(self, clients: ClientStore, keys: SigningKeys, clock: Clock, public_url: str) -> None:
        self._clients = clients
        self._keys = keys
        self._clock = clock
        self._public_url = public_url
        self._verified: OrderedDict[str, AccessToken] = OrderedDict()

    async def claim(self, claim: Claim) -> bool:
        """Claim what may count once; return whether it was fresh."""
        return await self._clients.claim(claim)

    async def caller(
        self, method: str, raw_path: str, authorizations: Sequence[str], proofs: Sequence[str], trail: Trail
    ) -> Principal:
        """Who sends a request.

        Args:
            method: In capitals.
            raw_path: As it was sent.
            authorizations: Headers of that name.
            proofs: Headers ``DPoP``.
            trail: Gets the actor, and what has to be claimed before the answer.

        Raises:
            Unauthorized: Nobody the server knows, or no longer.
            Busy: The database can't be reached.
        """
        scheme, _, text = (authorizations[0] if len(authorizations) == 1 else "").partition(" ")
        try:
            claims = await self._verify(text)
        except TokenMalformed as error:
            raise no_token() from error
        bound = claims.cnf is not None
        if scheme.lower() != ("dpop" if bound else "bearer"):
            raise no_token()
        if claims.cnf is not None:
            trail.claim = self._prove(Target(method, self._url(raw_path), text), proofs, claims.cnf.jkt)
        client = await self._client(claims)
        trail.by(claims.sub, "" if client is None else client.role.value)
        if client is None or client.key_version != claims.keys or not (bound or client.bearer):
            raise no_token()
        if client.revoked:
            raise _revoked(client.role)
        if not client.in_session:
            raise no_token()
        return Principal(client.client_id, client.role, client.patient_id, frozenset(claims.scope.split()))

    async def _client(self, claims: AccessClaims) -> Client | None:
        if not claims.sid:
            return await self._clients.find(claims.sub)
        return await self._clients.find_in_session(claims.sub, claims.sid, self._clock.now_ms())

    async def _verify(self, text: str) -> AccessClaims:
        known = self._verified.get(text)
        token = access_tokens.read(text) if known is None else known
        key = (await self._keys.held()).get(token.header.kid)
        if key is None:
            raise TokenMalformed("no key of this server signed it")
        if known is None:
            access_tokens.verify(token, key.public)
        access_tokens.check(token.claims, self._public_url, self._clock.now_ms())
        self._verified[text] = token
        self._verified.move_to_end(text)
        while len(self._verified) > limits.VERIFIED_TOKENS_MAX:
            self._verified.popitem(last=False)
        return token.claims

    def _prove(self, target: Target, proofs: Sequence[str], jkt: str) -> Claim:
        try:
            proof = dpop.prove(proofs, target, self._clock.now_ms())
        except TokenMalformed as error:
            raise bad_proof(error) from error
        if not hmac.compare_digest(proof.jkt, jkt):
            raise bad_proof("its key is not the one that the token is bound to")
        return proof.claim

    def _url(self, raw_path: str) -> str:
        return self._public_url + raw_path.partition("?")[0]


def no_token() -> Unauthorized:
    """The one answer to a token that is missing, of another form, forged, over, or of nobody."""
    return Unauthorized("no valid access token", "get one at POST /v1/token and send it with a DPoP proof")


def bad_proof(why: object) -> Unauthorized:
    """The answer to a valid token without a valid proof."""
    return Unauthorized(f"the DPoP proof is refused: {why}", "see RFC 9449, section 4.2", code="invalid_dpop_proof")


def _revoked(role: Role) -> Unauthorized:
    if role is Role.DEVICE:
        return Unauthorized("this device was revoked", "ask the clinic for a new enrolment code", code="device_revoked")
    return no_token()
