"""``KeyService`` over Azure Key Vault: wrapKey and unwrapKey, the context bound here.

Key Vault takes no additional data. So what it wraps is a fresh key that is used once, and that one seals the data key,
bound to the context, here.

It deliberately follows no challenge to another login, and takes nothing of a key's address but its version.

Invariants:
    1. The version that wrapped is kept in the wrapped key, and unwraps it, whatever version is the newest.
    2. With an RSA key (``RSA-OAEP-256``) whoever has its public half can wrap: who can write the database must not be
       able to read the vault's keys. A managed HSM's AES key (``alg=A256KW``) has no such half.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec

from einthoven_server import envelope
from einthoven_server.clock import Clock
from einthoven_server.errors import EnvelopeRefused, KeyServiceUnavailable
from einthoven_server.key_services.bearer_tokens import BearerTokens
from einthoven_server.key_services.endpoint import AZURE, Endpoint
from einthoven_server.key_services.http_client import Answer, Caller, refused
from einthoven_server.key_services.wrapped_form import Wrapped, of_kind, pack

API_VERSION: Final = "7.4"
_VERSION: Final = re.compile(r"[0-9a-f]{32}")
_TENANT: Final = re.compile(r"[A-Za-z0-9.-]{1,128}")


class _Result(msgspec.Struct, frozen=True):
    kid: str
    value: str


class AzureKeyService:
    """A key of Key Vault or of a managed HSM.

    Args:
        endpoint: Which.
        session: From ``make_session``.
        clock: Not used; all adapters are made alike.
    """

    def __init__(self, endpoint: Endpoint, session: aiohttp.ClientSession, clock: Clock) -> None:
        del clock
        self._endpoint = endpoint
        self._caller = Caller(session, endpoint.origin)
        tenant = os.environ.get("AZURE_TENANT_ID", "")
        # A tenant that is no name is found out by ``_form``, before anything is sent.
        self._tokens = BearerTokens(Caller(session, endpoint.login), f"/{tenant}/oauth2/v2.0/token", self._form)

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """See ``KeyService.wrap``."""
        once = secrets.token_bytes(envelope.KEY_BYTES)
        answer = await self._ask("wrapkey", "", once)
        if answer.status != 200:
            raise refused(answer)
        given = answer.read(_Result)
        version, inner = given.kid.rpartition("/")[2], _bytes(given.value)
        if not _VERSION.fullmatch(version):
            raise KeyServiceUnavailable("the key service names no version of its key")
        sealed = envelope.Key(once).seal(key, context)
        return pack(Wrapped(AZURE, version, len(inner).to_bytes(2, "big") + inner + sealed))

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See ``KeyService.unwrap``."""
        parts = of_kind(wrapped, AZURE)
        length = int.from_bytes(parts.content[:2], "big")
        inner, sealed = parts.content[2 : 2 + length], parts.content[2 + length :]
        if not _VERSION.fullmatch(parts.label) or len(inner) != length:
            raise _does_not_open()
        answer = await self._ask("unwrapkey", f"/{parts.label}", inner)
        if answer.status in {400, 404}:  # damaged; or a version that this key never had
            raise _does_not_open()
        if answer.status != 200:
            raise refused(answer)
        once = _bytes(answer.read(_Result).value)
        if len(once) != envelope.KEY_BYTES:
            raise _does_not_open()
        return envelope.Key(once).open(sealed, context)

    async def _ask(self, operation: str, version: str, value: bytes) -> Answer:
        path = f"/keys/{self._endpoint.key}{version}/{operation}?api-version={API_VERSION}"
        body = msgspec.json.encode({"alg": self._endpoint.algorithm, "value": _b64url(value)})
        return await self._caller.post(path, body, self._tokens.header)

    def _form(self) -> Mapping[str, str]:
        named = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
        tenant, client, secret = (os.environ.get(name, "") for name in named)
        if not _TENANT.fullmatch(tenant) or not client or not secret:
            raise KeyServiceUnavailable("there are no Azure credentials", f"set {', '.join(named)}")
        host = "managedhsm.azure.net" if self._endpoint.origin.endswith(".managedhsm.azure.net") else "vault.azure.net"
        return {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": secret,
            "scope": f"https://{host}/.default",
        }


def _does_not_open() -> EnvelopeRefused:
    return EnvelopeRefused("a wrapped key does not open", "restore the database, or the key that belongs to it")


def _b64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise KeyServiceUnavailable("the key service answers what can't be read") from error
