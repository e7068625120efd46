"""The address GET /v1/wake: a WebSocket on which a device hears "w" when it should exchange.

It deliberately carries nothing else in either direction: no row, no number, no name. What the device has to say it says
in an exchange; a socket that sends a message is closed.

Invariants:
    1. The audit entry of the request is written before the first frame.
    2. A peer that does not answer a ping, does not take a frame in time, or outlives ``WAKE_LIFETIME_S`` is closed; it
       holds up nobody: each socket has its own task, and at most one "w" is on the way to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.errors import Malformed
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.rates import WAKES, Cost
from einthoven_server.identity.signed_requests import NO_BODY, SignedRequest
from einthoven_server.requests import SECURITY_HEADERS
from einthoven_server.sync.wake import End, Waiter, WakePoll, WakeRegistry

WAKE_TEXT: Final = "w"


@dataclass(frozen=True, slots=True)
class WakeTimes:
    """How patient a socket is, all in seconds.

    Attributes:
        ping_interval_s: Between pings; the answer is due within half of it.
        send_timeout_s: For one frame to leave.
        lifetime_s: Then it is closed.
    """

    ping_interval_s: float = limits.WAKE_PING_INTERVAL_S
    send_timeout_s: float = limits.WAKE_SEND_TIMEOUT_S
    lifetime_s: float = limits.WAKE_LIFETIME_S


REGISTRY: Final = web.AppKey("wake_registry", WakeRegistry)
POLL: Final = web.AppKey("wake_poll", WakePoll)
GUARD: Final = web.AppKey("wake_guard", Guard)
TIMES: Final = web.AppKey("wake_times", WakeTimes)


async def wake(request: web.Request, signed: SignedRequest, trail: Trail) -> web.StreamResponse:
    """GET /v1/wake."""
    app, times = request.app, request.app[TIMES]
    socket = web.WebSocketResponse(
        timeout=limits.WAKE_CLOSE_TIMEOUT_S,
        heartbeat=times.ping_interval_s,
        max_msg_size=limits.WAKE_MESSAGE_MAX_BYTES,
        compress=False,
    )
    if not socket.can_prepare(request):
        raise Malformed("this address is a WebSocket", "ask for an upgrade (RFC 6455)", code="no_websocket")
    socket.headers.update(SECURITY_HEADERS)
    waiter = await app[POLL].join(signed.device.alias, signed.device.patient_id)
    try:
        await app[GUARD].enter(trail)
        await socket.prepare(request)
        await _serve(socket, waiter, times)
    finally:
        app[REGISTRY].remove(waiter)
    return socket


async def _serve(socket: web.WebSocketResponse, waiter: Waiter, times: WakeTimes) -> None:
    """Tell and listen until one side has had enough."""
    listening = asyncio.create_task(socket.receive())
    telling = asyncio.create_task(_tell(socket, waiter, times))
    try:
        await asyncio.wait({listening, telling}, timeout=times.lifetime_s, return_when=asyncio.FIRST_COMPLETED)
        over = _over(listening, telling)
    finally:
        # Nobody may be receiving when the server closes: it waits for the peer's own close frame.
        for task in (listening, telling):
            task.cancel()
        await asyncio.gather(listening, telling, return_exceptions=True)
    if over is not None:
        await socket.close(code=over[0], message=over[1])


def _over(listening: asyncio.Task[Any], telling: asyncio.Task[End]) -> tuple[WSCloseCode, bytes] | None:
    """What to close with; ``None`` if the peer has closed, or is gone."""
    if listening.done():
        # Pings and pongs are answered below this; a message is what no device sends.
        spoke = listening.exception() is None and listening.result().type in (WSMsgType.TEXT, WSMsgType.BINARY)
        return (WSCloseCode.POLICY_VIOLATION, b"nothing is taken here") if spoke else None
    if not telling.done():
        return WSCloseCode.GOING_AWAY, b"open another"
    if telling.exception() is not None:
        return WSCloseCode.GOING_AWAY, b"too slow"
    end = telling.result()
    code = WSCloseCode.GOING_AWAY if end is End.STOPPING else WSCloseCode.POLICY_VIOLATION
    return code, end.value.encode("ascii")


async def _tell(socket: web.WebSocketResponse, waiter: Waiter, times: WakeTimes) -> End:
    """Tell the device of every wake, until the end.

    Raises:
        TimeoutError: It does not take a frame.
        ConnectionError: It is gone.
    """
    while (end := await waiter.next()) is None:
        async with asyncio.timeout(times.send_timeout_s):
            await socket.send_str(WAKE_TEXT)
    return end


def add_wake(
    app: web.Application, *, registry: WakeRegistry, poll: WakePoll, guard: Guard, times: WakeTimes | None = None
) -> None:
    """Give an application the address; it then also runs ``poll``.

    Args:
        app: Where to.
        registry: Who waits.
        poll: Looks for other processes' commits.
        guard: Authentication, permission, audit.
        times: How patient sockets are.
    """

    async def run_poll(_: web.Application) -> AsyncIterator[None]:
        async with poll.running():
            yield

    async def stop(_: web.Application) -> None:
        registry.end_all(End.STOPPING)

    app[REGISTRY] = registry
    app[POLL] = poll
    app[GUARD] = guard
    app[TIMES] = times or WakeTimes()
    app.cleanup_ctx.append(run_poll)
    app.on_shutdown.append(stop)
    handler = guard.device(Operation.WAKE, wake, body=NO_BODY, costs=(Cost(WAKES, 1),))
    app.router.add_get("/wake", handler, allow_head=False)
