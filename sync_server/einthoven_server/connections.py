"""Connections: what is no HTTP gets one line of JSON, and who is idle, or slow on purpose, is closed.

aiohttp answers and logs what it can't parse by quoting it, and a header line may hold a token; ``Connection`` doesn't.
It limits the time of a keep-alive pause but not of a request's head; ``IdleConnections`` does, with public parts only:
it looks at the server's connections once a second and closes those that have been without a request for too long.

It deliberately leaves requests under way alone: reading a body has its own time limit (``requests.read_body``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from einthoven_server import limits
from einthoven_server.errors import RequestRefused
from einthoven_server.requests import render_json

_LOOK_EVERY_S = 1.0
_log = logging.getLogger("einthoven_server")


class Connection(web.RequestHandler):
    """A connection that quotes nothing of what it could not read."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or what failed outside of every application, and close."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was under way")
        _log.warning("refused a connection's request: %s", type(exc).__name__)
        refused = RequestRefused("the request is no HTTP this server takes", "see docs/server.md", code="bad_request")
        refused.status = status
        response = render_json(refused)
        response.force_close()
        return response


class IdleConnections:
    """Knows since when each connection is without a request.

    Args:
        timeout_s: Seconds until one is closed.
        monotonic: The clock, seconds.
    """

    def __init__(
        self, timeout_s: float = limits.IDLE_CONNECTION_TIMEOUT_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._busy: set[web.RequestHandler] = set()
        self._idle_since: dict[web.RequestHandler, float] = {}

    @property
    def middleware(self) -> Middleware:
        """Marks connections that are answering a request."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = request.protocol
            self._busy.add(connection)
            try:
                return await handler(request)
            finally:
                self._busy.discard(connection)
                self._idle_since[connection] = self._monotonic()

        return middleware

    def close_overdue(self, server: web.Server) -> int:
        """Close what is overdue; return how many."""
        now = self._monotonic()
        closed = 0
        connections = list(server.connections)
        gone = self._idle_since.keys() - set(connections)
        for connection in gone:
            del self._idle_since[connection]
        for connection in connections:
            if connection in self._busy:
                continue
            if now - self._idle_since.setdefault(connection, now) > self._timeout_s:
                connection.force_close()
                if connection.transport is not None:
                    connection.transport.abort()
                closed += 1
        return closed

    @contextlib.asynccontextmanager
    async def watching(self, server: web.Server) -> AsyncIterator[None]:
        """Look at ``server`` once a second."""

        async def look() -> None:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                self.close_overdue(server)

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
