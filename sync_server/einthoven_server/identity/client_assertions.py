"""Who asks for a token: signed assertions (``private_key_jwt``, RFC 7523). Pure but for cryptography.

It deliberately takes no address of keys from an assertion (``jku``, ``x5u``), no embedded key, and no audience but this
server alone.

Invariants:
    1. Until the signature holds under a key registered for the client that is named, every refusal is the same.
    2. An assertion ends within ``ASSERTION_LIFETIME_MAX_S`` and counts once (``replays``).
"""

from __future__ import annotations

from typing import Final

import msgspec

from einthoven_protocol.oauth import TOKEN_PATH
from einthoven_server import limits
from einthoven_server.identity import compact_tokens
from einthoven_server.identity.clients import Client
from einthoven_server.identity.compact_tokens import Compact, Header, TokenMalformed
from einthoven_server.single_use import Claim, claim

_TYPES: Final = frozenset({"JWT", "client-authentication+jwt"})


class AssertionHeader(Header, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Header of an assertion."""

    kid: str
    typ: str = "JWT"


class AssertionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What an assertion says; other members mean nothing here."""

    iss: str
    sub: str
    aud: str
    jti: str
    exp: int
    iat: int | None = None
    nbf: int | None = None


Assertion = Compact[AssertionHeader, AssertionClaims]


class ClientUnknown(TokenMalformed):
    """The one refusal of an unknown client, an unknown key and a wrong signature."""


def read(text: str) -> Assertion:
    """Read an assertion; nothing is verified yet.

    Raises:
        TokenMalformed: It is of another form.
    """
    assertion = compact_tokens.read(text, AssertionHeader, AssertionClaims)
    claims = assertion.claims
    if assertion.header.typ not in _TYPES:
        raise TokenMalformed("it is no client assertion")
    if claims.iss != claims.sub or not 1 <= len(claims.sub) <= limits.CLIENT_ID_MAX_CHARS:
        raise TokenMalformed("its iss and sub are not one client's id")
    return assertion


def check(assertion: Assertion, client: Client | None, server_url: str, now_ms: int) -> Claim:
    """Judge an assertion; return what keeps it from counting twice.

    Args:
        assertion: What was read.
        client: Whom it names, if there is such a one.
        server_url: This server's public address.
        now_ms: UTC, ms since 1970.

    Raises:
        TokenMalformed: It does not hold.
    """
    keys = () if client is None or client.revoked else client.keys()
    key = next((key for key in keys if key.kid == assertion.header.kid), None)
    if key is None:
        raise ClientUnknown("no client of this server signed it")
    try:
        compact_tokens.verify(assertion, key)
    except TokenMalformed as error:
        raise ClientUnknown("no client of this server signed it") from error
    claims = assertion.claims
    if not server_url or claims.aud not in {server_url, server_url + TOKEN_PATH}:
        raise TokenMalformed("its aud is not this server's address for tokens")
    if not now_ms < claims.exp * 1000 <= now_ms + limits.ASSERTION_LIFETIME_MAX_S * 1000:
        raise TokenMalformed("its exp is over, or more than 5 minutes ahead")
    ahead_s = now_ms // 1000 + limits.ISSUED_AHEAD_MAX_S
    if max(claims.iat or 0, claims.nbf or 0) > ahead_s:
        raise TokenMalformed("its iat or nbf is ahead of the server's clock")
    if claims.iat is not None and claims.exp - claims.iat > limits.ASSERTION_LIFETIME_MAX_S:
        raise TokenMalformed("it is made to live for more than 5 minutes")
    if not 1 <= len(claims.jti) <= limits.JTI_MAX_CHARS:
        raise TokenMalformed("its jti is empty or too long")
    return claim("assertion", claims.sub, claims.jti, claims.exp * 1000)
