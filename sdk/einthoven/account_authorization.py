"""Access tokens for an account: asked for when needed, used with a proof for each request (RFC 9449).

It deliberately sends no request but the one for a token: whoever has a client session asks for headers and sends.

Invariants:
    1. A token is asked for again before it ends; it is kept in memory only.
    2. No header is made for another server than the one the token came from.
"""

from __future__ import annotations

import secrets
from typing import Final

import aiohttp

from einthoven.account import Account
from einthoven.clock import SystemClock
from einthoven.errors import DeviceRefused, ServerRejected
from einthoven.ports import Clock
from einthoven.transport_https import read_answer, translated
from einthoven_protocol.errors import DecodeError
from einthoven_protocol.oauth import (
    FORM_TYPE,
    PROOF_HEADER,
    PROOF_SCHEME,
    TOKEN_PATH,
    client_assertion,
    dpop_proof,
    parse_token_answer,
    token_form,
)

_ID_BYTES: Final = 18
_SPARE_MS: Final = 30_000
"""So long before a token ends another is asked for."""


class Authorization:
    """What an account shows at one server.

    Args:
        url: The server's address, as it knows itself.
        account: Whose key.
        clock: Tells now; the system's, if not given.
    """

    def __init__(self, url: str, account: Account, clock: Clock | None = None) -> None:
        self._url = url
        self._account = account
        self._clock = clock or SystemClock()
        self._token = ""
        self._issued_at_ms = self._ends_at_ms = 0

    async def headers(self, client: aiohttp.ClientSession, method: str, path: str) -> dict[str, str]:
        """The headers of one request.

        Args:
            client: By which a token is asked for, if there is none; it trusts the server's authority.
            method: In capitals.
            path: As sent; a query is not covered.

        Raises:
            DeviceRefused: The server does not know this account, or it was revoked.
            TransportError: The server can't be reached or understood.
        """
        # Not only when it is about to end: a clock that was set back would call it one of tomorrow.
        if not self._issued_at_ms <= self._clock.now_ms() < self._ends_at_ms - _SPARE_MS:
            await self._renew(client)
        proof = self._proof(method, path, self._token)
        return {"Authorization": f"{PROOF_SCHEME} {self._token}", PROOF_HEADER: proof}

    async def _renew(self, client: aiohttp.ClientSession) -> None:
        account, now_ms = self._account, self._clock.now_ms()
        assertion = client_assertion(
            account.client_id, self._url, now_ms // 1000, _fresh(), account.public_key, account.sign
        )
        headers = {"Content-Type": FORM_TYPE, PROOF_HEADER: self._proof("POST", TOKEN_PATH)}
        body = token_form(assertion)
        async with (
            translated(),
            client.post(self._url + TOKEN_PATH, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            octets = await read_answer(answer)
        try:
            found = parse_token_answer(octets)
        except DecodeError as error:
            raise ServerRejected("the server's answer is no access token", "update the app") from error
        if found.token_type.lower() != PROOF_SCHEME.lower():
            raise DeviceRefused("the server gave a token that is not bound to this key", "ask the clinic")
        self._token, self._issued_at_ms, self._ends_at_ms = (
            found.access_token,
            now_ms,
            now_ms + found.expires_in * 1000,
        )

    def _proof(self, method: str, path: str, token: str = "") -> str:
        account, now_s = self._account, self._clock.now_ms() // 1000
        return dpop_proof(method, self._url + path, now_s, _fresh(), account.public_key, account.sign, token)


def _fresh() -> str:
    return secrets.token_urlsafe(_ID_BYTES)
