"""Who may ask for access tokens, with which public keys, as values. Pure; ``client_store`` finds them.

It deliberately fetches no key: a client's keys are registered, whole (``jwks``), and no token or registration can name
an address (``jku``, ``x5u``, ``jwks_uri``).

Invariants:
    1. Only a service may have tokens without a proof of its key, RSA keys, or scopes.
    2. A client's keys have different names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from einthoven_server import limits
from einthoven_server.identity.permissions import Role
from einthoven_server.identity.public_keys import KeyMalformed, PublicKey, public_key_of

OWN_ALGORITHMS: Final = frozenset({"EdDSA", "ES256"})
SERVICE_ALGORITHMS: Final = OWN_ALGORITHMS | {"RS384", "ES384"}
"""SMART App Launch 2.2 asks for RS384 and ES384."""
NO_KEYS: Final[dict[str, object]] = {"keys": []}
_SCOPES: Final = re.compile(r"system/[A-Za-z*]{1,64}\.[cruds]{1,5}(?: system/[A-Za-z*]{1,64}\.[cruds]{1,5})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Client:
    """A principal or device, as the database has it.

    Attributes:
        client_id: Opaque id.
        role: What kind of caller.
        patient_id: Whom a patient or a device belongs to.
        revoked: Whether it may no longer do anything.
        jwks: Its public keys, a JSON document that was checked when it was registered.
        key_version: Counts replacements of the keys, from 1.
        bearer: Whether its tokens need no proof.
        scopes: What it may ask for, separated by blanks.
        in_session: Whether the session that was asked about, if any, goes on.
    """

    client_id: str
    role: Role
    patient_id: str | None
    revoked: bool
    jwks: bytes
    key_version: int
    bearer: bool
    scopes: str
    in_session: bool = True

    def keys(self) -> tuple[PublicKey, ...]:
        """Its public keys; none for a person who logs in."""
        document = msgspec.json.decode(self.jwks)
        return () if document == NO_KEYS else keys_of(document, algorithms_of(self.role))


def algorithms_of(role: Role) -> frozenset[str]:
    """The algorithms that a role's keys may have."""
    return SERVICE_ALGORITHMS if role is Role.SERVICE else OWN_ALGORITHMS


def keys_of(document: object, algorithms: frozenset[str]) -> tuple[PublicKey, ...]:
    """Check a JWK Set.

    Raises:
        KeyMalformed: It is none, has a key that is not taken, too many, or two of one name.
    """
    listed = document.get("keys") if isinstance(document, dict) and len(document) == 1 else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= limits.CLIENT_KEYS_MAX:
        raise KeyMalformed(f"jwks is not {{keys: [...]}} with 1 to {limits.CLIENT_KEYS_MAX} keys")
    keys = tuple(public_key_of(each) for each in listed)
    if len({key.kid for key in keys}) != len(keys):
        raise KeyMalformed("two keys have the same kid")
    if any(key.alg not in algorithms for key in keys):
        raise KeyMalformed(f"a key's algorithm is not one of {', '.join(sorted(algorithms))}")
    return keys


def checked_scopes(scopes: Sequence[str]) -> str:
    """Put scopes as they are kept.

    Raises:
        KeyMalformed: One is not of the form of SMART App Launch 2, ``system/...``.
    """
    joined = " ".join(scopes)
    if joined and (len(joined) > limits.SCOPES_MAX_CHARS or not _SCOPES.fullmatch(joined)):
        raise KeyMalformed("scopes are not of the form system/Type.rs")
    return joined


def granted(registered: str, asked: str) -> str:
    """The scopes a token gets: what is asked for, as far as it is registered; all that is, where nothing is named."""
    held = registered.split()
    return " ".join(scope for scope in (asked.split() or held) if scope in held)
