"""The address of ``sync``: POST /v1/exchange.

It deliberately keeps nothing between two exchanges.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from einthoven_protocol import digests
from einthoven_protocol.codec import decode_request, encode_response, encode_result_row
from einthoven_protocol.errors import LimitExceeded, ProtocolError
from einthoven_protocol.messages import ExchangeRequest, ExchangeResponse, RejectReason
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Forbidden, Malformed, TooLarge
from einthoven_server.identity.callers import Device
from einthoven_server.identity.guard import SYNC_TYPE, Guard, SignedRequest
from einthoven_server.identity.permissions import Operation
from einthoven_server.records.ledger import Push, PushedRow, row_fault
from einthoven_server.records.writer import Writer
from einthoven_server.requests import SECURITY_HEADERS, answers_errors, render_json
from einthoven_server.sync.seals import sealed_counters

WRITER: Final = web.AppKey("sync_writer", Writer)
CLOCK: Final = web.AppKey("sync_clock", Clock)


async def exchange(request: web.Request, signed: SignedRequest, trail: Trail) -> web.Response:
    """POST /v1/exchange."""
    writer, now_ms = request.app[WRITER], request.app[CLOCK].now_ms()
    asked = _decoded(signed.body)
    _check_own(signed.device, asked)
    push = Push(
        device=signed.device,
        request=asked,
        rows=_rows(signed.device, asked, now_ms),
        nonce=signed.nonce,
        nonce_expires_at_ms=signed.nonce_expires_at_ms,
        event=trail.event(),
        now_ms=now_ms,
    )
    pushed = await writer.push(push)
    trail.written = True
    response = ExchangeResponse(
        acknowledged=pushed.settled.acknowledged,
        verdicts=pushed.settled.verdicts,
        annotations=pushed.annotations,
        cursor=pushed.cursor,
        digest=pushed.digest,
        more=pushed.more,
        server_time_ms=request.app[CLOCK].now_ms(),
    )
    return web.Response(
        body=encode_response(response), status=HTTPStatus.OK, content_type=SYNC_TYPE, headers=SECURITY_HEADERS
    )


def _decoded(body: bytes) -> ExchangeRequest:
    try:
        return decode_request(body)
    except LimitExceeded as error:
        raise TooLarge(str(error), "send less at a time") from error
    except ProtocolError as error:
        raise Malformed(str(error), "see docs/sync-protocol-v1.md", code=error.code) from error


def _check_own(device: Device, asked: ExchangeRequest) -> None:
    """A device speaks for itself only, and only of its own results; anything else refuses the whole exchange."""
    if asked.device_alias != device.alias:
        raise Forbidden("the device alias is not this device's", "use the alias from its enrolment")
    if any(row.target.device_alias != device.alias for row in asked.annotations):
        raise Forbidden("an annotation speaks of another device's result", "annotate own results only")
    if any(row.author != device.device_id for row in asked.annotations):
        raise Forbidden("an annotation has another author", "use the device id as the author")


def _rows(device: Device, asked: ExchangeRequest, now_ms: int) -> tuple[PushedRow, ...]:
    if not asked.results:
        return ()
    canonical = [encode_result_row(row) for row in asked.results]
    sealed = sealed_counters(device, asked.epoch, asked.seals, asked.results[0].counter, canonical)
    return tuple(
        PushedRow(
            row=row,
            canonical=octets,
            share=digests.result_sum(device.sync_key, device.alias, asked.epoch, row),
            fault=row_fault(row, now_ms) if row.counter in sealed else RejectReason.BAD_SEAL,
        )
        for row, octets in zip(asked.results, canonical, strict=True)
    )


def make_application(*, writer: Writer, guard: Guard, clock: Clock) -> web.Application:
    """The application, to be mounted at /v1.

    Args:
        writer: The shard's writer, run by ``records``.
        guard: Authentication, permission, audit.
        clock: Wall time.
    """
    app = web.Application(middlewares=[answers_errors(render_json)])
    app[WRITER] = writer
    app[CLOCK] = clock
    app.add_routes([web.post("/exchange", guard.device(Operation.EXCHANGE, exchange))])
    return app
