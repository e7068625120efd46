"""The first administrator's key: a private JWK in a file that only the operator can read, made on first start.

It deliberately stays with the operator: the server reads the public half of it and registers that.

Invariants:
    1. The file has mode 0600 and names its client; it is never written again.
"""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven_protocol.oauth import base64url, ed25519_jwk, thumbprint
from einthoven_server.errors import KeyUnavailable
from einthoven_server.private_files import read_or_make


class AdminKey(NamedTuple):
    """What is registered of it.

    Attributes:
        client_id: Whose key it is.
        jwks: The public key.
    """

    client_id: str
    jwks: dict[str, object]


class _Document(msgspec.Struct, frozen=True):
    """The file, as ``einthoven.account`` reads it too."""

    client_id: str
    d: str


def read_admin_key(path: Path) -> AdminKey:
    """Read the key; on first use, make it.

    Raises:
        KeyUnavailable: It is there but can't be trusted, or is damaged.
    """
    content = read_or_make(path, _made)
    try:
        document = msgspec.json.decode(content, type=_Document)
        octets = base64.urlsafe_b64decode(document.d + "=" * (-len(document.d) % 4))
        jwk = ed25519_jwk(Ed25519PrivateKey.from_private_bytes(octets).public_key().public_bytes_raw())
    except (msgspec.MsgspecError, ValueError) as error:
        raise KeyUnavailable(
            f"{path.name} is damaged", "restore it from a backup, or remove it for a new one"
        ) from error
    return AdminKey(document.client_id, {"keys": [{**jwk, "kid": thumbprint(jwk)}]})


def _made() -> bytes:
    key = Ed25519PrivateKey.generate()
    jwk = ed25519_jwk(key.public_key().public_bytes_raw())
    members = {"client_id": str(uuid.uuid4()), **jwk, "d": base64url(key.private_bytes_raw()), "kid": thumbprint(jwk)}
    return msgspec.json.encode(members) + b"\n"
