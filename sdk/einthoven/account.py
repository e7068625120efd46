"""A person's or a service's key at a server: made here, registered by its public half, never sent.

It deliberately keeps nothing: where the key lies is for the caller, who may read it from a private file.
``account_authorization`` gets access tokens with it.

Invariants:
    1. ``repr`` shows the client's id and nothing that opens anything.
    2. A key file that others can read is refused.
"""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.errors import KeyUnavailable
from einthoven.private_files import OTHERS_MODE_MASK, create_private_file
from einthoven_protocol.oauth import base64url, ed25519_jwk, thumbprint

_FILE_MAX_BYTES = 4_096


class KeyDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A private JWK (RFC 8037 section 2) with whose it is.

    Attributes:
        client_id: As the server gave it; empty before.
        d: The private key, base64url of 32 bytes.
        x: The public key.
        kty: Kind of key.
        crv: Curve.
        kid: The key's name.
    """

    d: str
    x: str
    client_id: str = ""
    kty: str = "OKP"
    crv: str = "Ed25519"
    kid: str = ""

    def __repr__(self) -> str:
        return f"KeyDocument(client_id={self.client_id!r})"


class Account:
    """Who asks, and the key by which the server knows.

    Args:
        client_id: As the server gave it.
        key: Ed25519; a new one, if not given.
    """

    __slots__ = ("_key", "client_id", "public_key")

    def __init__(self, client_id: str = "", key: Ed25519PrivateKey | None = None) -> None:
        self.client_id = client_id
        self._key = Ed25519PrivateKey.generate() if key is None else key
        self.public_key = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Account(client_id={self.client_id!r})"

    def named(self, client_id: str) -> Account:
        """The same key, with the id that the server gave."""
        return Account(client_id, self._key)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of ``message``, 64 bytes."""
        return self._key.sign(message)

    def public_jwks(self) -> dict[str, object]:
        """What is registered with a server: the public key as a JWK Set (RFC 7517 section 5)."""
        jwk = ed25519_jwk(self.public_key)
        return {"keys": [{**jwk, "kid": thumbprint(jwk), "use": "sig", "alg": "EdDSA"}]}

    def save(self, path: Path) -> None:
        """Write the private key to a new file of mode 0600.

        Raises:
            KeyUnavailable: There is one already, or it can't be written.
        """
        jwk = ed25519_jwk(self.public_key)
        document = KeyDocument(
            d=base64url(self._key.private_bytes_raw()), x=jwk["x"], client_id=self.client_id, kid=thumbprint(jwk)
        )
        try:
            create_private_file(path, msgspec.json.encode(document) + b"\n")
        except OSError as error:
            raise KeyUnavailable(
                f"can't write {path.name} ({error.strerror})", "name a file that is not there"
            ) from error


def load_account(path: Path) -> Account:
    """Read a private key file, as ``Account.save`` and the server's first start write it.

    Raises:
        KeyUnavailable: It is not there, others can read it, or it is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyUnavailable(f"can't read {path.name} ({error.strerror})", "name a key file of yours") from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & OTHERS_MODE_MASK:
            raise KeyUnavailable(f"others can read {path.name}, or it is no file", "take it as known: make a new key")
        content = stream.read(_FILE_MAX_BYTES)
    try:
        document = msgspec.json.decode(content, type=KeyDocument)
        # JWKs write base64url without padding (RFC 7515 section 2).
        key = Ed25519PrivateKey.from_private_bytes(_octets(document.d))
    except (msgspec.MsgspecError, ValueError) as error:
        raise KeyUnavailable(f"{path.name} holds no Ed25519 key", "name another, or restore it") from error
    return Account(document.client_id, key)


def _octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
