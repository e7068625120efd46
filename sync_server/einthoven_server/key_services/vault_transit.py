"""``KeyService`` over HashiCorp Vault's Transit engine: encrypt and decrypt with associated data.

It deliberately renews no token: ``VAULT_TOKEN``, or the file that ``VAULT_TOKEN_FILE`` names (as Vault's agent writes
it), is read anew for each request. ``VAULT_NAMESPACE`` is honoured.

Invariants:
    1. The key has to be of a kind that takes associated data (aes256-gcm96, chacha20-poly1305); Vault refuses others.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from einthoven_server.clock import Clock
from einthoven_server.errors import EnvelopeRefused, KeyServiceUnavailable
from einthoven_server.key_services.endpoint import VAULT, Endpoint
from einthoven_server.key_services.http_client import Answer, Caller, refused
from einthoven_server.key_services.wrapped_form import Wrapped, of_kind, pack

_CIPHERTEXT: Final = re.compile(r"vault:v[0-9]{1,9}:[A-Za-z0-9+/=]{1,4096}")
_HEADER_VALUE: Final = re.compile(r"[!-~]{1,4096}")


class _EncryptedParts(msgspec.Struct, frozen=True):
    ciphertext: str


class _Encrypted(msgspec.Struct, frozen=True):
    data: _EncryptedParts


class _DecryptedParts(msgspec.Struct, frozen=True):
    plaintext: str


class _Decrypted(msgspec.Struct, frozen=True):
    data: _DecryptedParts


class VaultKeyService:
    """A key of Transit.

    Args:
        endpoint: Which.
        session: From ``make_session``.
        clock: Not used; all adapters are made alike.
    """

    def __init__(self, endpoint: Endpoint, session: aiohttp.ClientSession, clock: Clock) -> None:
        del clock
        self._endpoint = endpoint
        self._caller = Caller(session, endpoint.origin)

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """See ``KeyService.wrap``."""
        answer = await self._ask("encrypt", {"plaintext": _b64(key)}, context)
        if answer.status != 200:
            raise refused(answer)
        ciphertext = answer.read(_Encrypted).data.ciphertext
        if not _CIPHERTEXT.fullmatch(ciphertext):
            raise KeyServiceUnavailable("the key service answers what can't be read")
        return pack(Wrapped(VAULT, "", ciphertext.encode("ascii")))

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See ``KeyService.unwrap``."""
        ciphertext = of_kind(wrapped, VAULT).content.decode("ascii", "replace")
        if not _CIPHERTEXT.fullmatch(ciphertext):
            raise _does_not_open()
        answer = await self._ask("decrypt", {"ciphertext": ciphertext}, context)
        if answer.status == 400:
            raise _does_not_open()
        if answer.status != 200:
            raise refused(answer)
        try:
            return base64.b64decode(answer.read(_Decrypted).data.plaintext, validate=True)
        except ValueError as error:
            raise KeyServiceUnavailable("the key service answers what can't be read") from error

    async def make_version(self) -> int:
        """Rotate the key in Vault, whose policy has to allow ``update`` on ``keys/NAME/rotate``."""
        path = f"/v1/{self._endpoint.mount}/keys/{self._endpoint.key}/rotate"
        answer = await self._caller.post(path, b"{}", _headers)
        if answer.status not in {200, 204}:
            raise refused(answer)
        return 0

    async def _ask(self, operation: str, asked: Mapping[str, str], context: bytes) -> Answer:
        bound = {**asked, "associated_data": _b64(hashlib.sha256(context).digest())}
        path = f"/v1/{self._endpoint.mount}/{operation}/{self._endpoint.key}"
        return await self._caller.post(path, msgspec.json.encode(bound), _headers)


async def _headers(body: bytes) -> Mapping[str, str]:
    del body
    token = _token()
    namespace = os.environ.get("VAULT_NAMESPACE", "")
    if not _HEADER_VALUE.fullmatch(token) or (namespace and not _HEADER_VALUE.fullmatch(namespace)):
        raise KeyServiceUnavailable("there is no Vault token", "set VAULT_TOKEN or VAULT_TOKEN_FILE")
    headers = {"Content-Type": "application/json", "X-Vault-Token": token, "X-Vault-Request": "true"}
    return headers | ({"X-Vault-Namespace": namespace} if namespace else {})


def _token() -> str:
    named = os.environ.get("VAULT_TOKEN_FILE")
    try:
        return os.environ.get("VAULT_TOKEN", "") if named is None else Path(named).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise KeyServiceUnavailable("can't read VAULT_TOKEN_FILE", "check its path") from error


def _does_not_open() -> EnvelopeRefused:
    return EnvelopeRefused("a wrapped key does not open", "restore the database, or the key that belongs to it")


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")
