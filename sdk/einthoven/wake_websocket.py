"""``Wake`` over a WebSocket with aiohttp: the server says that there is something, and nothing else.

The socket is opened by a signed GET over the pinned TLS (docs/sync-protocol-v1.md). It deliberately carries no rows,
and whatever the server sends means the same: come and look. What is believed is only ever the answer to an exchange.

Invariants:
    1. Nothing is sent before the server's certificate was checked against the pinned authority (``tls``).
    2. A message over ``MAX_MESSAGE_BYTES`` closes the socket; a dead network is noticed within two heartbeats.
    3. Only ``TransportError`` leaves this module.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from einthoven.clock import SystemClock
from einthoven.errors import ServerUnreachable
from einthoven.identity import Identity
from einthoven.ports import Clock
from einthoven.tls import pinned_context
from einthoven.transport_https import open_client, refusal, signed_headers, translated

WAKE_PATH: Final = "/v1/wake"
HEARTBEAT_S: Final = 30.0
"""Seconds between pings; without an answer in half of them the connection counts as lost."""
CLOSE_TIMEOUT_S: Final = 0.25
"""Seconds that a farewell may take."""
MAX_MESSAGE_BYTES: Final = 256
"""Bytes of a message; a wake has one."""
_CLOSED: Final = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)


class WebSocketWake:
    """One enrolled device's ear for its server.

    Args:
        identity: Who the device is.
        clock: Tells now for signatures; the system's, if not given.
        heartbeat_s: Seconds between pings.
    """

    def __init__(self, identity: Identity, *, clock: Clock | None = None, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._identity = identity
        self._clock = clock or SystemClock()
        self._heartbeat_s = heartbeat_s

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[None]]:
        """See ``Wake.listen``."""
        async with translated():
            connector = aiohttp.TCPConnector(ssl=pinned_context(self._identity.ca_pem), limit=1)
            async with open_client(connector) as client:
                socket = await self._open(client)
                try:
                    yield _wakes(socket)
                finally:
                    await socket.close()

    async def _open(self, client: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        try:
            return await client.ws_connect(
                self._identity.url + WAKE_PATH,
                headers=signed_headers(self._identity, self._clock, "GET", WAKE_PATH, b""),
                heartbeat=self._heartbeat_s,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                max_msg_size=MAX_MESSAGE_BYTES,
            )
        except aiohttp.WSServerHandshakeError as problem:
            raise refusal(problem.status, problem.headers or {}, b"") from problem


async def _wakes(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[None]:
    """Yield once a message; end by ``ServerUnreachable``."""
    while True:
        message = await socket.receive()
        if message.type in _CLOSED:
            raise ServerUnreachable("the server closed the line that wakes this device", "it is opened again later")
        yield None
