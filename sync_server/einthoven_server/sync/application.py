"""The addresses of ``sync``: POST /v1/exchange, POST /v1/repair, GET /v1/wake.

It deliberately keeps nothing between two requests but the sockets of ``wake_socket``, and decides nothing: bytes to
messages and back, and what the server asks for while it is busy. Large messages are decoded and encoded in threads, so
that nobody waits for another's bulk, and only where there is memory for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from einthoven_protocol.codec import decode_request, encode_response
from einthoven_protocol.errors import LimitExceeded, ProtocolError
from einthoven_protocol.frame import content_bytes
from einthoven_protocol.messages import (
    Capability,
    ExchangeRequest,
    ExchangeResponse,
    RepairRequest,
    RepairResponse,
)
from einthoven_protocol.repair_codec import decode_repair_request, encode_repair_response
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.errors import Malformed, TooLarge
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.rates import REPAIRS, Cost
from einthoven_server.identity.refusals import replayed
from einthoven_server.identity.signed_requests import SYNC_TYPE, SignedRequest
from einthoven_server.memory_in_flight import loan_of
from einthoven_server.records.changes import Nonce
from einthoven_server.records.writer import Writer
from einthoven_server.requests import answers_errors, device_response, leave_unnamed, render_json
from einthoven_server.sync.announced_limits import announced_limits
from einthoven_server.sync.service import SyncService, off_loop
from einthoven_server.sync.wake import WakePoll, WakeRegistry
from einthoven_server.sync.wake_socket import WakeTimes, add_wake

SERVICE: Final = web.AppKey("sync_service", SyncService)
WRITER: Final = web.AppKey("sync_writer", Writer)
CAPABILITIES: Final = web.AppKey("sync_capabilities", int)
UNDER_WAY: Final = web.AppKey("sync_under_way", set[tuple[int, str]])
"""Device alias and nonce of exchanges that are not answered yet."""
LARGE: Final = web.AppKey("sync_large", asyncio.Semaphore)
"""Turns for large messages to be decoded."""
M = TypeVar("M")


async def exchange(request: web.Request, signed: SignedRequest, trail: Trail) -> web.Response:
    """POST /v1/exchange."""
    app, nonce = request.app, Nonce(signed.nonce, signed.nonce_expires_at_ms)
    writer = app[WRITER]
    met = writer.waiting
    with _once(app[UNDER_WAY], (signed.device.alias, signed.nonce)):
        asked = await _decoded(request, decode_request, signed.body, _taken_by_push)
        response = await app[SERVICE].exchange(signed.device, asked, nonce, trail.event())
    trail.written = True
    if asked.capabilities:
        # A device of before would skip these fields; it gets exactly the bytes of before.
        response = msgspec.structs.replace(
            response,
            capabilities=response.capabilities | app[CAPABILITIES],
            limits=announced_limits(max(met, writer.waiting), writer.queue_max),
        )
    body = await off_loop(_rows_fed(response), encode_response, response, peer=asked.capabilities)
    return _answer(body)


async def repair(request: web.Request, signed: SignedRequest, trail: Trail) -> web.Response:
    """POST /v1/repair."""
    asked = await _decoded(request, decode_repair_request, signed.body, _taken_by_repair)

    def taken() -> None:
        # What is given is written with its event; what only reads leaves its entry to the guard.
        trail.written = True

    response = await request.app[SERVICE].repair(signed.device, asked, trail.event(), taken)
    return _answer(await off_loop(_rows_fed(response), encode_repair_response, response))


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


async def _decoded(request: web.Request, decode: Callable[[bytes], M], body: bytes, taken: Callable[[M], int]) -> M:
    """Decode a message, in its turn if it is large; there has to be room for what its rows take until their commit."""
    octets = content_bytes(body)
    turn = request.app[LARGE] if octets > limits.LARGE_CONTENT_BYTES else contextlib.nullcontext()
    try:
        async with turn:
            if octets < limits.THREAD_MIN_CONTENT_BYTES:
                asked = decode(body)
            else:
                asked = await asyncio.to_thread(decode, body)
    except LimitExceeded as error:
        raise TooLarge(str(error), "send less at a time") from error
    except ProtocolError as error:
        raise Malformed(str(error), "see docs/sync-protocol-v1.md", code=error.code) from error
    loan_of(request).take(taken(asked))
    return asked


def _taken_by_push(asked: ExchangeRequest) -> int:
    rows, words = len(asked.results) + len(asked.alerts), len(asked.annotations) + len(asked.notes)
    return limits.ROW_IN_FLIGHT_BYTES * rows + limits.WORD_IN_FLIGHT_BYTES * words


def _taken_by_repair(asked: RepairRequest) -> int:
    return limits.ROW_IN_FLIGHT_BYTES * len(asked.given)


def _rows_fed(response: ExchangeResponse | RepairResponse) -> int:
    return sum(map(len, (response.results, response.annotations, response.notes, response.superseded)))


def _answer(body: bytes) -> web.Response:
    return device_response(body, SYNC_TYPE)


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
    app.on_response_prepare.append(leave_unnamed)
    app[SERVICE] = service
    app[WRITER] = writer
    app[UNDER_WAY] = set()
    app[LARGE] = asyncio.Semaphore(limits.LARGE_DECODED_AT_ONCE)
    app[CAPABILITIES] = int((capabilities or 0) | Capability.REPAIR | Capability.POWERS | Capability.WAKE)
    app.add_routes(
        [
            web.post("/exchange", guard.device(Operation.EXCHANGE, exchange, writes_nonce=True)),
            web.post("/repair", guard.device(Operation.REPAIR, repair, costs=(Cost(REPAIRS, 1),))),
        ]
    )
    add_wake(app, registry=registry, poll=poll, guard=guard, times=wake_times)
    return app
