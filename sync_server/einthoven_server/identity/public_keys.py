"""One public key as callers write it (JWK, RFC 7517), checked. Pure but for the cryptography library.

It deliberately takes no private or symmetric key, no certificate and no address to fetch one from.

Invariants:
    1. A key has exactly one algorithm: Ed25519 EdDSA, P-256 ES256, P-384 ES384, RSA RS384. What it says of itself
       (``alg``, ``use``, ``key_ops``) must agree.
    2. Whatever document comes, nothing but ``KeyMalformed`` is raised.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from einthoven_protocol.errors import DecodeError
from einthoven_protocol.oauth import ed25519_jwk, thumbprint
from einthoven_server import limits

_KINDS: Final[Mapping[tuple[object, object], tuple[type[Any], str, frozenset[str]]]] = {
    ("OKP", "Ed25519"): (OKPKey, "EdDSA", frozenset({"crv", "x"})),
    ("EC", "P-256"): (ECKey, "ES256", frozenset({"crv", "x", "y"})),
    ("EC", "P-384"): (ECKey, "ES384", frozenset({"crv", "x", "y"})),
    ("RSA", None): (RSAKey, "RS384", frozenset({"n", "e"})),
}
_BESIDE: Final = frozenset({"kty", "kid", "alg", "use", "key_ops", "ext"})
_MEMBER_MAX_CHARS: Final = 1_024
_RSA_EXPONENT_MAX_BITS: Final = 33
"""65537, and what else is in use; a long exponent only costs the server."""


class KeyMalformed(ValueError):
    """A document that is no public key of a known kind. Names the member, quotes nothing."""


class PublicKey(NamedTuple):
    """A key that was checked.

    Attributes:
        kid: Its name: what the document says, or its thumbprint.
        alg: Its one algorithm.
        thumbprint: RFC 7638.
        key: For verifying.
    """

    kid: str
    alg: str
    thumbprint: str
    key: Key


def ed25519(public_key: bytes) -> PublicKey:
    """A device's key, 32 bytes."""
    return public_key_of(ed25519_jwk(public_key))


def public_key_of(document: object) -> PublicKey:
    """Check one JWK.

    Raises:
        KeyMalformed: It is none, is private or symmetric, of another kind, or too weak.
    """
    if not isinstance(document, dict) or len(document) > len(_BESIDE) + 3:
        raise KeyMalformed("it is no JWK")
    kind = _KINDS.get((document.get("kty"), document.get("crv")) if _hashable(document) else (None, None))
    if kind is None:
        raise KeyMalformed("kty and crv are not Ed25519, P-256, P-384 or RSA")
    make, alg, members = kind
    if document.keys() - members - _BESIDE:
        raise KeyMalformed("it has a member that no public key has")
    for name in members:
        if not isinstance(document.get(name), str) or len(document[name]) > _MEMBER_MAX_CHARS:
            raise KeyMalformed(f"{name} is missing, or no text")
    kid = document.get("kid", "")
    if not isinstance(kid, str) or len(kid) > limits.KEY_ID_MAX_CHARS:
        raise KeyMalformed("kid is no text, or too long")
    if document.get("alg", alg) != alg or document.get("use", "sig") != "sig":
        raise KeyMalformed(f"alg and use are not {alg} and sig")
    if document.get("key_ops", ["verify"]) != ["verify"]:
        raise KeyMalformed("key_ops is not [verify]")
    public = {"kty": document["kty"], **{name: document[name] for name in members}}
    if make is RSAKey:
        _check_rsa(document["n"], document["e"])
    try:
        key = make.import_key(public)
        name = thumbprint(public)
    except (JoseError, ValueError, TypeError, OverflowError, DecodeError) as error:
        raise KeyMalformed("its members are no key") from error
    return PublicKey(kid or name, alg, name, key)


def _hashable(document: dict[Any, Any]) -> bool:
    return isinstance(document.get("kty"), str) and isinstance(document.get("crv", ""), str)


def _check_rsa(modulus: str, exponent: str) -> None:
    """Before the key is made: making a weak one warns, making a large one takes time."""
    if not limits.RSA_KEY_MIN_BITS <= _bits(modulus) <= limits.RSA_KEY_MAX_BITS:
        raise KeyMalformed(f"n is not of {limits.RSA_KEY_MIN_BITS} to {limits.RSA_KEY_MAX_BITS} bits")
    if _bits(exponent) > _RSA_EXPONENT_MAX_BITS:
        raise KeyMalformed("e is too long")


def _bits(text: str) -> int:
    try:
        return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)).bit_length()
    except ValueError as error:
        raise KeyMalformed("n and e are not base64url") from error
