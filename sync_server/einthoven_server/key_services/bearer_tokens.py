"""Access tokens of a cloud: asked for at a login that is pinned, kept in memory until shortly before they end.

It deliberately asks where the operator said, never where an answer or a key file says.

Invariants:
    1. One request asks for a token at a time; the others wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import msgspec

from einthoven_server import limits
from einthoven_server.errors import KeyServiceUnavailable
from einthoven_server.key_services.http_client import Caller

Form = Callable[[], Mapping[str, str]]


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: int | str


class BearerTokens:
    """Tokens of one login (OAuth 2.0, RFC 6749, section 4.4 or RFC 7523).

    Args:
        caller: To the login's origin.
        path: Of its token endpoint.
        form: What to send, made anew for each request; raises ``KeyServiceUnavailable`` where there are no credentials.
        elapsed_s: A clock that never goes back, seconds.
    """

    def __init__(self, caller: Caller, path: str, form: Form, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._caller = caller
        self._path = path
        self._form = form
        self._elapsed_s = elapsed_s
        self._asking = asyncio.Lock()
        self._token = ""
        self._until_s = float("-inf")

    async def header(self, body: bytes = b"") -> Mapping[str, str]:
        """The header that carries a token.

        Raises:
            KeyServiceUnavailable: The login gives none.
        """
        del body
        async with self._asking:
            if self._elapsed_s() >= self._until_s:
                await self._renew()
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}

    async def _renew(self) -> None:
        async def headers(body: bytes) -> Mapping[str, str]:
            del body
            return {"Content-Type": "application/x-www-form-urlencoded"}

        answer = await self._caller.post(self._path, urlencode(self._form()).encode("ascii"), headers)
        if answer.status != 200:
            raise KeyServiceUnavailable("the key service's login refuses us", "check its credentials")
        token = answer.read(_Token)
        if not token.access_token.isascii() or not token.access_token.isprintable():
            raise KeyServiceUnavailable("the key service's login answers what can't be read")
        try:
            lifetime_s = float(token.expires_in)
        except ValueError as error:
            raise KeyServiceUnavailable("the key service's login answers what can't be read") from error
        self._token = token.access_token
        self._until_s = self._elapsed_s() + lifetime_s - limits.KEY_SERVICE_TOKEN_MARGIN_S
