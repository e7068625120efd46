"""The addresses of ``sync``: POST /v1/exchange, POST /v1/repair, GET /v1/wake.

It deliberately keeps nothing between two requests but the sockets of ``wake_socket``, and decides nothing: bytes to
messages and back, and what the server asks for while it is busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from einthoven_protocol.codec import decode_request, encode_response
from einthoven_protocol.errors import LimitExceeded, ProtocolError
from einthoven_protocol.messages import Capability
from einthoven_protocol.repair_codec import decode_repair_request, encode_repair_response
from einthoven_server.audit.trail import Trail
from einthoven_server.errors import Malformed, TooLarge
from einthoven_server.identity.guard import SYNC_TYPE, Guard, SignedRequest, replayed
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.rates import REPAIRS, Cost
from einthoven_server.records.changes import Nonce
from einthoven_server.records.writer import Writer
from einthoven_server.requests import SECURITY_HEADERS, answers_errors, render_json
from einthoven_server.sync.announced_limits import announced_limits
from einthoven_server.sync.service import SyncService
from einthoven_server.sync.wake import WakePoll, WakeRegistry
from einthoven_server.sync.wake_socket import WakeTimes, add_wake

SERVICE: Final = web.AppKey("sync_service", SyncService)
WRITER: Final = web.AppKey("sync_writer", Writer)
CAPABILITIES: Final = web.AppKey("sync_capabilities", int)
UNDER_WAY: Final = web.AppKey("sync_under_way", set[tuple[int, str]])
"""Device alias and nonce of exchanges that are not answered yet."""
M = TypeVar("M")


async def exchange(request: web.Request, signed: SignedRequest, trail: Trail) -> web.Response:
    """POST /v1/exchange."""
    app, asked = request.app, _decoded(decode_request, signed.body)
    nonce, writer = Nonce(signed.nonce, signed.nonce_expires_at_ms), app[WRITER]
    met = writer.waiting
    with _once(app[UNDER_WAY], (signed.device.alias, signed.nonce)):
        response = await app[SERVICE].exchange(signed.device, asked, nonce, trail.event())
    trail.written = True
    if asked.capabilities:
        # A device of before would skip these fields; it gets exactly the bytes of before.
        response = msgspec.structs.replace(
            response,
            capabilities=response.capabilities | app[CAPABILITIES],
            limits=announced_limits(max(met, writer.waiting), writer.queue_max),
        )
    return _answer(encode_response(response, peer=asked.capabilities))


async def repair(request: web.Request, signed: SignedRequest, trail: Trail) -> web.Response:
    """POST /v1/repair."""
    asked = _decoded(decode_repair_request, signed.body)

    def taken() -> None:
        # What is given is written with its event; what only reads leaves its entry to the guard.
        trail.written = True

    response = await request.app[SERVICE].repair(signed.device, asked, trail.event(), taken)
    return _answer(encode_repair_response(response))


@contextmanager
def _once(under_way: set[tuple[int, str]], signature: tuple[int, str]) -> Iterator[None]:
    """Refuse a replay of what is under way before it takes a place in the writer's queue; the writer knows the rest."""
    if signature in under_way:
        raise replayed()
    under_way.add(signature)
    try:
        yield
    finally:
        under_way.discard(signature)


def _decoded(decode: Callable[[bytes], M], body: bytes) -> M:
    try:
        return decode(body)
    except LimitExceeded as error:
        raise TooLarge(str(error), "send less at a time") from error
    except ProtocolError as error:
        raise Malformed(str(error), "see docs/sync-protocol-v1.md", code=error.code) from error


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, status=HTTPStatus.OK, content_type=SYNC_TYPE, headers=SECURITY_HEADERS)


def make_application(
    *,
    service: SyncService,
    writer: Writer,
    guard: Guard,
    registry: WakeRegistry,
    poll: WakePoll,
    capabilities: Capability | None = None,
    wake_times: WakeTimes | None = None,
) -> web.Application:
    """The application, to be mounted at /v1.

    Args:
        service: What serves devices.
        writer: The shard's writer, run by ``records``; its queue tells how busy the server is.
        guard: Authentication, permission, audit.
        registry: Devices that wait to be woken.
        poll: Looks for other processes' commits.
        capabilities: What other applications of this server offer to devices.
        wake_times: How patient wake sockets are.
    """
    app = web.Application(middlewares=[answers_errors(render_json)])
    app[SERVICE] = service
    app[WRITER] = writer
    app[UNDER_WAY] = set()
    app[CAPABILITIES] = int((capabilities or 0) | Capability.REPAIR | Capability.WAKE)
    app.add_routes(
        [
            web.post("/exchange", guard.device(Operation.EXCHANGE, exchange, writes_nonce=True)),
            web.post("/repair", guard.device(Operation.REPAIR, repair, costs=(Cost(REPAIRS, 1),))),
        ]
    )
    add_wake(app, registry=registry, poll=poll, guard=guard, times=wake_times)
    return app
