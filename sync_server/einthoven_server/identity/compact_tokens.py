"""Signed compact tokens (RFC 7515), read strictly, verified under one key and one algorithm. Pure but for cryptography.

It deliberately knows no encrypted form, no algorithm by a token's own choice, and no key from a token: whoever calls
says which header members there may be, and finds the key.

Invariants:
    1. Nothing but the shapes that are asked for is taken: a header member more (``crit``, ``jku``, ``x5u``, ``zip``,
       ``b64``) is refused before any key is looked for.
    2. A token is verified by the algorithm of the key, and only if its header names that one.
    3. Whatever text comes, nothing but ``TokenMalformed`` is raised, in bounded time and memory.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from einthoven_server import limits
from einthoven_server.errors import Malformed
from einthoven_server.identity.public_keys import PublicKey
from einthoven_server.strict_json import check_json

H = TypeVar("H", bound="Header")
C = TypeVar("C", bound=msgspec.Struct)
S = TypeVar("S", bound=msgspec.Struct)
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class TokenMalformed(ValueError):
    """A text that is no token of the form asked for, or not by that key. Names the part, quotes nothing."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every header has."""

    alg: str


class Compact(msgspec.Struct, Generic[H, C], frozen=True):
    """A token that was read; nothing of it is verified yet.

    Attributes:
        header: Of the shape asked for.
        claims: Of the shape asked for.
        text: The token itself.
    """

    header: H
    claims: C
    text: str


class _Exactly(JWSRegistry):
    """Knows the one algorithm it was made for; joserfc's own look-up warns of the name EdDSA (RFC 9864)."""

    def get_alg(self, name: str) -> Any:
        if self.allowed is None or name not in self.allowed:
            raise TokenMalformed("the algorithm is not the key's")
        return self.algorithms[name]


_REGISTRIES: Final = {name: _Exactly(algorithms=[name]) for name in ("EdDSA", "ES256", "ES384", "RS384")}


class Parts(NamedTuple):
    """A token's three parts as they were sent, base64url."""

    header: str
    claims: str
    signature: str


def split(text: str) -> Parts:
    """Take a token apart.

    Raises:
        TokenMalformed: It is too long, or none.
    """
    if len(text) > limits.COMPACT_TOKEN_MAX_CHARS:
        raise TokenMalformed("it is too long")
    parts = _COMPACT.fullmatch(text)
    if parts is None:
        raise TokenMalformed("it is no signed compact token")
    return Parts(parts[1], parts[2], parts[3])


def read(text: str, header: type[H], claims: type[C]) -> Compact[H, C]:
    """Read a token.

    Args:
        text: As it was sent.
        header: Shape of its header.
        claims: Shape of its claims.

    Raises:
        TokenMalformed: It is not of that form.
    """
    parts = split(text)
    return Compact(read_part(parts.header, header, "header"), read_part(parts.claims, claims, "claims"), text)


def verify(token: Compact[Any, Any], key: PublicKey) -> None:
    """Verify a token's signature.

    Raises:
        TokenMalformed: It is not by this key, or names another algorithm.
    """
    if token.header.alg != key.alg:
        raise TokenMalformed("the algorithm is not the key's")
    verify_text(token.text, key)


def verify_text(text: str, key: PublicKey) -> None:
    """Verify the signature of a token whose header names the key's algorithm.

    Raises:
        TokenMalformed: It is not by this key.
    """
    try:
        if isinstance(key.key, OKPKey) and isinstance(key.key.public_key, Ed25519PublicKey):
            # What joserfc does in the end; on the way there it reads the token twice more.
            message, _, signature = text.rpartition(".")
            key.key.public_key.verify(_octets(signature), message.encode("ascii"))
        else:
            jws.deserialize_compact(text, key.key, algorithms=[key.alg], registry=_REGISTRIES[key.alg])
    except (JoseError, InvalidSignature, ValueError, TypeError) as error:
        raise TokenMalformed("the signature is not by that key") from error


def sign(header: msgspec.Struct, claims: msgspec.Struct, key: OKPKey) -> str:
    """Sign a token with an Ed25519 key."""
    members = msgspec.to_builtins(header)
    return jws.serialize_compact(
        members, msgspec.json.encode(claims), key, algorithms=["EdDSA"], registry=_REGISTRIES["EdDSA"]
    )


def read_part(part: str, shape: type[S], what: str) -> S:
    """Read one part of a token.

    Args:
        part: As it was sent, base64url.
        shape: What it has to be.
        what: What it is called in a refusal.

    Raises:
        TokenMalformed: It is not of that form.
    """
    try:
        return msgspec.convert(check_json(_octets(part)), shape, strict=True)
    except (ValueError, Malformed, msgspec.ValidationError) as error:
        raise TokenMalformed(f"its {what} can't be read, lack a member, or have one that is not taken") from error


def _octets(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
