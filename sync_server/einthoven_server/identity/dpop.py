"""Proofs that the sender of a request holds a key (DPoP, RFC 9449 section 4). Pure but for cryptography.

It deliberately asks for no server nonce: proofs are good for a minute, and each counts once (``replays``), so one made
in advance is worth little more than one made now, at no round trip.

Invariants:
    1. The key comes from the proof alone and is worth nothing by itself: the caller compares its thumbprint with the
       one in a verified access token, or binds the token that is issued to it.
    2. A proof is of one method, one address without query, and one access token.
    3. Of at most ``PROOF_HEADERS_MAX`` headers it is known which key they hold; a proof's signature and claims are
       judged each time.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from einthoven_protocol.oauth import token_hash
from einthoven_server import limits
from einthoven_server.identity import compact_tokens
from einthoven_server.identity.compact_tokens import Header, TokenMalformed
from einthoven_server.identity.public_keys import KeyMalformed, PublicKey, public_key_of
from einthoven_server.single_use import Claim, claim

PROOF_TYPE: Final = "dpop+jwt"
ALGORITHMS: Final = ("EdDSA", "ES256", "ES384")


class ProofHeader(Header, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Header of a proof."""

    typ: str
    jwk: dict[str, Any]


class ProofClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof says; other members mean nothing here."""

    jti: str
    htm: str
    htu: str
    iat: int
    ath: str = ""


class Target(NamedTuple):
    """What a proof has to be about.

    Attributes:
        method: In capitals.
        url: Of this server as clients know it, without query.
        access_token: What was sent beside it; empty where one is asked for.
    """

    method: str
    url: str
    access_token: str


class Proof(NamedTuple):
    """A proof that holds.

    Attributes:
        jkt: Thumbprint of the key that is held.
        claim: What keeps it from counting twice.
    """

    jkt: str
    claim: Claim


def prove(proofs: Sequence[str], target: Target, now_ms: int) -> Proof:
    """Judge a proof.

    Args:
        proofs: The headers ``DPoP``; there has to be one.
        target: What it has to be about.
        now_ms: UTC, ms since 1970.

    Raises:
        TokenMalformed: It is none, or not of this request.
    """
    if len(proofs) != 1:
        raise TokenMalformed("it is missing, or comes twice")
    parts = compact_tokens.split(proofs[0])
    key = _key_of(parts.header)
    claims = compact_tokens.read_part(parts.claims, ProofClaims, "claims")
    compact_tokens.verify_text(proofs[0], key)
    if claims.htm != target.method or _without_query(claims.htu) != target.url:
        raise TokenMalformed("its htm and htu are not of this request")
    if abs(now_ms - claims.iat * 1000) > limits.PROOF_AGE_MAX_S * 1000:
        raise TokenMalformed("its iat is more than a minute from the server's clock")
    if not 1 <= len(claims.jti) <= limits.JTI_MAX_CHARS:
        raise TokenMalformed("its jti is empty or too long")
    ath = token_hash(target.access_token) if target.access_token else ""
    if not hmac.compare_digest(claims.ath.encode(), ath.encode()):
        raise TokenMalformed("its ath is not of this access token")
    expires_at_ms = (claims.iat + limits.PROOF_AGE_MAX_S) * 1000
    return Proof(key.thumbprint, claim("proof", key.thumbprint, claims.jti, expires_at_ms))


@lru_cache(limits.PROOF_HEADERS_MAX)
def _key_of(header: str) -> PublicKey:
    """The key in a proof's header; what is the same in all proofs of a client is read once. Refusals are not kept.

    Raises:
        TokenMalformed: It is no header of a proof, or its key is none that is taken here.
    """
    found = compact_tokens.read_part(header, ProofHeader, "header")
    if found.typ != PROOF_TYPE:
        raise TokenMalformed("its typ is not dpop+jwt")
    try:
        key = public_key_of(found.jwk)
    except KeyMalformed as error:
        raise TokenMalformed(f"its jwk is refused: {error}") from error
    if key.alg not in ALGORITHMS or key.alg != found.alg:
        raise TokenMalformed("its alg is not taken, or not its key's")
    return key


def _without_query(url: str) -> str:
    return url.partition("#")[0].partition("?")[0]
