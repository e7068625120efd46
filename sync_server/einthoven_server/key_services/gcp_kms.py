"""``KeyService`` over Google Cloud KMS: encrypt and decrypt with additional authenticated data.

It deliberately knows one login: a service account's key file (``GOOGLE_APPLICATION_CREDENTIALS``), of which the address
for tokens is not believed.

Invariants:
    1. Checksums (CRC-32C) go both ways, as Google asks for: an answer that fails them is not used.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from einthoven_server.clock import Clock
from einthoven_server.errors import EnvelopeRefused, KeyServiceUnavailable
from einthoven_server.key_services.bearer_tokens import BearerTokens
from einthoven_server.key_services.endpoint import GCP, Endpoint
from einthoven_server.key_services.http_client import Caller, refused
from einthoven_server.key_services.wrapped_form import Wrapped, of_kind, pack

TOKEN_PATH: Final = "/token"  # noqa: S105  # an address
AUDIENCE: Final = "https://oauth2.googleapis.com/token"
_SCOPE: Final = "https://www.googleapis.com/auth/cloudkms"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_LIFETIME_S: Final = 300
_CRC32C: Final = 0x82F63B78
"""Castagnoli's polynomial, reflected (RFC 3720, appendix B.4)."""


class _Encrypted(msgspec.Struct, frozen=True):
    ciphertext: str
    ciphertext_crc32c: str = msgspec.field(name="ciphertextCrc32c")
    got_plaintext: bool = msgspec.field(name="verifiedPlaintextCrc32c", default=False)
    got_context: bool = msgspec.field(name="verifiedAdditionalAuthenticatedDataCrc32c", default=False)


class _Decrypted(msgspec.Struct, frozen=True):
    plaintext: str
    plaintext_crc32c: str = msgspec.field(name="plaintextCrc32c")


class _Account(msgspec.Struct, frozen=True):
    client_email: str
    private_key: str
    private_key_id: str


class GcpKeyService:
    """A key of Cloud KMS.

    Args:
        endpoint: Which.
        session: From ``make_session``.
        clock: Assertions carry a time.
    """

    def __init__(self, endpoint: Endpoint, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._key = endpoint.key
        self._caller = Caller(session, endpoint.origin)
        self._clock = clock
        self._tokens = BearerTokens(Caller(session, endpoint.login), TOKEN_PATH, self._form)

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """See ``KeyService.wrap``."""
        asked = {"plaintext": _b64(key), "plaintextCrc32c": str(crc32c(key)), **_bound(context)}
        answer = await self._caller.post(f"/v1/{self._key}:encrypt", msgspec.json.encode(asked), self._tokens.header)
        if answer.status != 200:
            raise refused(answer)
        given = answer.read(_Encrypted)
        content = _checked(given.ciphertext, given.ciphertext_crc32c)
        if not (given.got_plaintext and given.got_context):
            raise KeyServiceUnavailable("the key service did not get what was sent")
        return pack(Wrapped(GCP, "", content))

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See ``KeyService.unwrap``."""
        content = of_kind(wrapped, GCP).content
        asked = {"ciphertext": _b64(content), "ciphertextCrc32c": str(crc32c(content)), **_bound(context)}
        answer = await self._caller.post(f"/v1/{self._key}:decrypt", msgspec.json.encode(asked), self._tokens.header)
        if answer.status == 400:
            raise EnvelopeRefused("a wrapped key does not open", "restore the database, or the key that belongs to it")
        if answer.status != 200:
            raise refused(answer)
        given = answer.read(_Decrypted)
        return _checked(given.plaintext, given.plaintext_crc32c)

    def _form(self) -> Mapping[str, str]:
        try:
            octets = Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]).read_bytes()
            account = msgspec.json.decode(octets, type=_Account)
            key = load_pem_private_key(account.private_key.encode("ascii"), None)
        except (KeyError, OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyServiceUnavailable(
                "there are no Google credentials", "let GOOGLE_APPLICATION_CREDENTIALS name a service account's key"
            ) from error
        if not isinstance(key, RSAPrivateKey):
            raise KeyServiceUnavailable("a service account's key is of another kind", "make a new one")
        now_s = self._clock.now_ms() // 1000
        head = {"alg": "RS256", "typ": "JWT", "kid": account.private_key_id}
        claims = {
            "iss": account.client_email,
            "scope": _SCOPE,
            "aud": AUDIENCE,
            "iat": now_s,
            "exp": now_s + _ASSERTION_LIFETIME_S,
        }
        signed = b".".join(_b64url(msgspec.json.encode(part)) for part in (head, claims))
        assertion = signed + b"." + _b64url(key.sign(signed, PKCS1v15(), SHA256()))
        return {"grant_type": _GRANT, "assertion": assertion.decode("ascii")}


def crc32c(octets: bytes) -> int:
    """CRC-32C of a few bytes."""
    value = 0xFFFFFFFF
    for octet in octets:
        value ^= octet
        for _ in range(8):
            value = (value >> 1) ^ (_CRC32C & -(value & 1))
    return value ^ 0xFFFFFFFF


def _bound(context: bytes) -> dict[str, str]:
    digest = hashlib.sha256(context).digest()
    return {
        "additionalAuthenticatedData": _b64(digest),
        "additionalAuthenticatedDataCrc32c": str(crc32c(digest)),
    }


def _checked(text: str, checksum: str) -> bytes:
    try:
        octets = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise KeyServiceUnavailable("the key service answers what can't be read") from error
    if str(crc32c(octets)) != checksum:
        raise KeyServiceUnavailable("the key service's answer was damaged on its way")
    return octets


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _b64url(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
