"""Access tokens (RFC 9068): what is in them, how they are made, and whether one is good. Pure but for cryptography.

It deliberately puts no role, name or patient into a token: they are read from the database on each request, so that
what is revoked is revoked at once.

Invariants:
    1. A token lives for at most ``ACCESS_TOKEN_LIFETIME_S``; one that says more is refused, whoever signed it.
    2. Issuer and audience are this server's public address. Without one nothing is issued and nothing verified.
    3. A token is bound to the key whose thumbprint it names (``cnf.jkt``, RFC 9449), or to none where its client is
       registered so; which of them is for the caller to check.
"""

from __future__ import annotations

from typing import Final

import msgspec
from joserfc.jwk import OKPKey

from einthoven_server import limits
from einthoven_server.identity import compact_tokens
from einthoven_server.identity.compact_tokens import Compact, Header, TokenMalformed
from einthoven_server.identity.public_keys import PublicKey

ACCESS_TYPE: Final = "at+jwt"


class AccessHeader(Header, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Header of an access token."""

    typ: str
    kid: str


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``cnf`` (RFC 7800): thumbprint of the key that has to be proven."""

    jkt: str


class AccessClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What an access token says.

    Attributes:
        iss: This server.
        aud: This server.
        sub: Principal or device.
        client_id: The same.
        jti: The token's own id.
        iat: When it was issued, s since 1970.
        exp: When it ends, s since 1970.
        keys: How often the client's keys had been replaced, counted from 1.
        cnf: To which key it is bound.
        scope: What it was issued for, separated by blanks.
        sid: The session of a person who logged in.
    """

    iss: str
    aud: str
    sub: str
    client_id: str
    jti: str
    iat: int
    exp: int
    keys: int
    cnf: Confirmation | None = None
    scope: str = ""
    sid: str = ""


AccessToken = Compact[AccessHeader, AccessClaims]


def issue(claims: AccessClaims, kid: str, key: OKPKey) -> str:
    """Sign a token."""
    return compact_tokens.sign(AccessHeader(alg="EdDSA", typ=ACCESS_TYPE, kid=kid), claims, key)


def read(text: str) -> AccessToken:
    """Read a token; nothing is verified yet.

    Raises:
        TokenMalformed: It is of another form.
    """
    token = compact_tokens.read(text, AccessHeader, AccessClaims)
    if token.header.typ != ACCESS_TYPE:
        raise TokenMalformed("it is no access token")
    return token


def verify(token: AccessToken, key: PublicKey) -> None:
    """Verify who signed a token.

    Raises:
        TokenMalformed: Not this key.
    """
    compact_tokens.verify(token, key)


def check(claims: AccessClaims, server_url: str, now_ms: int) -> None:
    """Check what a verified token says.

    Args:
        claims: Of it.
        server_url: This server's public address.
        now_ms: UTC, ms since 1970.

    Raises:
        TokenMalformed: For another server, over, or made to live too long.
    """
    if not server_url or claims.iss != server_url or claims.aud != server_url or claims.client_id != claims.sub:
        raise TokenMalformed("it is for another server")
    if not 0 < claims.exp - claims.iat <= limits.ACCESS_TOKEN_LIFETIME_S:
        raise TokenMalformed("it lives too long")
    if not claims.iat * 1000 - limits.ISSUED_AHEAD_MAX_S * 1000 <= now_ms < claims.exp * 1000:
        raise TokenMalformed("it has expired")
