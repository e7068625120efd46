"""What a caller says to get an access token (RFC 7523 assertions), and with each use of it (RFC 9449 proofs).

It deliberately holds no key and knows no clock: who calls gives the time, fresh random ids, and what signs. It verifies
nothing: that is the server's (``einthoven_server.identity``).

Invariants:
    1. Only Ed25519 (``EdDSA``, RFC 8037) is made here.
    2. A proof names one request: method, address without query, access token.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlencode

import msgspec

from einthoven_protocol.errors import DecodeError

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 section 2.2."""
GRANT_TYPE: Final = "client_credentials"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
TOKEN_PATH: Final = "/v1/token"  # noqa: S105  # an address
PROOF_HEADER: Final = "DPoP"
PROOF_SCHEME: Final = "DPoP"
ALGORITHM: Final = "EdDSA"
ASSERTION_LIFETIME_S: Final = 60
"""How long a client assertion is good; a server refuses more than 5 minutes (SMART App Launch 2.2)."""

_THUMBPRINT_MEMBERS: Final = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
"""RFC 7638 section 3.2, RFC 8037 section 2; in the order in which they are hashed."""

Sign: TypeAlias = Callable[[bytes], bytes]


class TokenAnswer(msgspec.Struct, frozen=True):
    """What the server answers (RFC 6749 section 5.1).

    Attributes:
        access_token: To be sent with each request.
        token_type: ``DPoP`` or ``Bearer``.
        expires_in: Seconds for which it is good.
    """

    access_token: str
    token_type: str
    expires_in: int

    def __repr__(self) -> str:
        return f"TokenAnswer(token_type={self.token_type!r})"


def base64url(octets: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def ed25519_jwk(public_key: bytes) -> dict[str, str]:
    """The JWK of an Ed25519 public key of 32 bytes (RFC 8037 section 2)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": base64url(public_key)}


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The name of a public key (RFC 7638): base64url of SHA-256, 43 characters.

    Raises:
        DecodeError: It is no key of a known kind, or lacks a member.
    """
    members = _THUMBPRINT_MEMBERS.get(str(jwk.get("kty")))
    if members is None or not all(isinstance(jwk.get(name), str) for name in members):
        raise DecodeError("the key is of no known kind, or lacks a member")
    return base64url(hashlib.sha256(msgspec.json.encode({name: jwk[name] for name in members})).digest())


def token_hash(access_token: str) -> str:
    """What a proof says of the access token beside it (``ath``, RFC 9449 section 4.2)."""
    return base64url(hashlib.sha256(access_token.encode("ascii", "replace")).digest())


def client_assertion(
    client_id: str, audience: str, issued_at_s: int, token_id: str, public_key: bytes, sign: Sign
) -> str:
    """Who asks for a token (RFC 7523 section 3).

    Args:
        client_id: As the server gave it.
        audience: The server's address, as its clients know it.
        issued_at_s: Now, s since 1970.
        token_id: Fresh and random (``jti``).
        public_key: Ed25519, 32 bytes, registered with the server.
        sign: Makes the key's signature of a message, 64 bytes.
    """
    header = {"alg": ALGORITHM, "typ": "JWT", "kid": thumbprint(ed25519_jwk(public_key))}
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": token_id,
        "iat": issued_at_s,
        "exp": issued_at_s + ASSERTION_LIFETIME_S,
    }
    return _signed(header, claims, sign)


def dpop_proof(
    method: str, url: str, issued_at_s: int, token_id: str, public_key: bytes, sign: Sign, access_token: str = ""
) -> str:
    """That the key is held by whoever sends this request (RFC 9449 section 4.2).

    Args:
        method: In capitals.
        url: Absolute, as the server's clients know it; a query is left out.
        issued_at_s: Now, s since 1970.
        token_id: Fresh and random (``jti``).
        public_key: Ed25519, 32 bytes.
        sign: Makes the key's signature of a message, 64 bytes.
        access_token: The token that goes with the request; none where one is asked for.
    """
    header = {"typ": "dpop+jwt", "alg": ALGORITHM, "jwk": ed25519_jwk(public_key)}
    target = url.partition("#")[0].partition("?")[0]
    claims: dict[str, object] = {"jti": token_id, "htm": method, "htu": target, "iat": issued_at_s}
    if access_token:
        claims["ath"] = token_hash(access_token)
    return _signed(header, claims, sign)


def token_form(assertion: str) -> bytes:
    """The body of a request for a token, of type ``FORM_TYPE``."""
    return urlencode(
        {"grant_type": GRANT_TYPE, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    ).encode("ascii")


def parse_token_answer(body: bytes) -> TokenAnswer:
    """Read the server's answer.

    Raises:
        DecodeError: It is none.
    """
    try:
        return msgspec.json.decode(body, type=TokenAnswer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise DecodeError("the answer is no access token") from problem


def _signed(header: Mapping[str, object], claims: Mapping[str, object], sign: Sign) -> str:
    message = f"{base64url(msgspec.json.encode(header))}.{base64url(msgspec.json.encode(claims))}"
    return f"{message}.{base64url(sign(message.encode('ascii')))}"
