"""The addresses of ``signals``: which chunks are missing, uploads by tus 1.0.0, and a result's samples.

It deliberately decides nothing about an upload: ``tus`` says what a request may do, ``receiving`` what becomes of it.

Invariants:
    1. What arrived of a body is durable at most ``flush_s`` later, also while its request goes on; with
       Upload-Checksum, all of a body or nothing.
    2. A body that does not have the digest that was signed leaves nothing behind.
    3. Of two requests that write one upload at a time, the later is refused (423).
    4. Every answer under /uploads carries Tus-Resumable, but that to OPTIONS names all versions.
"""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from einthoven_protocol.errors import LimitExceeded, ProtocolError
from einthoven_protocol.signal_missing import (
    MAX_SEALS_PER_ANSWER,
    MissingResponse,
    decode_missing_request,
    encode_missing_response,
)
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, NotFound, PreconditionFailed, TooLarge
from einthoven_server.identity.access import Locator
from einthoven_server.identity.callers import Device, Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.signed_requests import SYNC_TYPE, Body, SignedHead, SignedRequest, StreamHandler
from einthoven_server.records.resource_ids import parse_result
from einthoven_server.requests import (
    SECURITY_HEADERS,
    answers_errors,
    device_response,
    leave_unnamed,
    path_id,
    render_json,
)
from einthoven_server.signals import quotas, tus
from einthoven_server.signals.bodies import BodyReader
from einthoven_server.signals.catalog import SignalCatalog
from einthoven_server.signals.receiving import SignalReceiver
from einthoven_server.signals.tus import Upload
from einthoven_server.signals.uploads import UploadStore

CATALOG: Final = web.AppKey("signal_catalog", SignalCatalog)
UPLOADS: Final = web.AppKey("signal_uploads", UploadStore)
RECEIVER: Final = web.AppKey("signal_receiver", SignalReceiver)
BODIES: Final = web.AppKey("signal_bodies", BodyReader)
CLOCK: Final = web.AppKey("signal_clock", Clock)

SEGMENT_TYPE: Final = "application/vnd.einthoven.segment"
"""Media type of a signal's canonical form (docs/signals-v1.md)."""
QUESTION: Final = Body(SYNC_TYPE, 64 * 1024)
"""What a question which chunks are missing may carry."""
_UPLOADS_PATH: Final = "/v1/uploads"


async def missing(request: web.Request, signed: SignedRequest, trail: Trail) -> web.Response:
    """POST /v1/signals/missing."""
    del trail
    try:
        asked = decode_missing_request(signed.body)
    except LimitExceeded as error:
        raise TooLarge(str(error), "ask for less at a time") from error
    except ProtocolError as error:
        raise Malformed(str(error), "see docs/signals-v1.md", code=error.code) from error
    catalog = request.app[CATALOG]
    held = await catalog.held(signed.device, asked.names)
    seals = await catalog.seals_over(signed.device, asked.runs, MAX_SEALS_PER_ANSWER)
    answer = MissingResponse(tuple(name not in held for name in asked.names), seals)
    body = encode_missing_response(answer)
    return device_response(body, SYNC_TYPE)


async def options(request: web.Request) -> web.Response:
    """OPTIONS /v1/uploads; needs no identity and tells nothing of anybody."""
    del request
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=tus.option_headers())


async def create(request: web.Request, head: SignedHead, trail: Trail) -> web.Response:
    """POST /v1/uploads, with or without the first bytes."""
    app, device = request.app, head.device
    tus.check_version(request.headers)
    asked = tus.creation_of(request.headers)
    if request.body_exists:
        tus.check_type(request.content_type)
    whole = bool(await app[CATALOG].held(device, [asked.chunk]))
    upload = await app[UPLOADS].create(device, asked, app[CLOCK].now_ms(), whole=whole)
    # Of an upload that was begun before, the client is told how far it is, and no byte is taken twice.
    if request.body_exists and upload.offset == 0:
        upload = await _write(request, head, upload.upload_id, 0, trail)
    return _created(upload)


async def stand(request: web.Request, head: SignedHead, trail: Trail) -> web.Response:
    """HEAD /v1/uploads/{upload_id}."""
    del trail
    tus.check_version(request.headers)
    upload = await _upload(request, head.device, path_id(request, "upload_id", "upload"))
    return web.Response(headers=tus.state_headers(upload) | {"Cache-Control": "no-store"})


async def write(request: web.Request, head: SignedHead, trail: Trail) -> web.Response:
    """PATCH /v1/uploads/{upload_id}."""
    tus.check_version(request.headers)
    offset = tus.offset_of(request.headers, request.content_type)
    upload = await _write(request, head, path_id(request, "upload_id", "upload"), offset, trail)
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=tus.state_headers(upload))


async def give_up(request: web.Request, head: SignedHead, trail: Trail) -> web.Response:
    """DELETE /v1/uploads/{upload_id}; what is stored already stays."""
    del trail
    tus.check_version(request.headers)
    upload_id = path_id(request, "upload_id", "upload")
    with request.app[BODIES].writing(upload_id):
        await request.app[UPLOADS].remove(await _upload(request, head.device, upload_id))
    return web.Response(status=HTTPStatus.NO_CONTENT)


_NO_SIGNAL: Final = ("no such result, or no signal of it", "check the id, or wait for the device to upload it")


async def read_signal(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/results/{result_id}/signal."""
    del principal
    result = parse_result(request.match_info["result_id"])
    place = None if result is None else await request.app[CATALOG].place_of(result)
    if place is None:
        raise NotFound(*_NO_SIGNAL)
    trail.about("signal", request.match_info["result_id"])
    body = await request.app[RECEIVER].samples(place)
    digest = base64.b64encode(place.digest).decode("ascii")
    headers = {"Content-Digest": f"sha-256=:{digest}:", **SECURITY_HEADERS}
    return web.Response(body=body, content_type=SEGMENT_TYPE, headers=headers)


async def _upload(request: web.Request, device: Device, upload_id: str) -> Upload:
    upload = await request.app[UPLOADS].find(device, upload_id)
    if upload is None:
        raise NotFound("no such upload", "begin a new one")
    tus.check_alive(upload, request.app[CLOCK].now_ms())
    return upload


async def _write(request: web.Request, head: SignedHead, upload_id: str, offset: int, trail: Trail) -> Upload:
    app, checksum = request.app, tus.checksum_of(request.headers)
    with app[BODIES].writing(upload_id):
        upload = await _upload(request, head.device, upload_id)
        tus.check_append(upload, offset, request.content_length or 0)
        upload, rest = await app[BODIES].take(request, head, upload, checksum)
        if upload.offset + len(rest) < upload.length:
            return await app[UPLOADS].append(head.device, upload, rest) if rest else upload
        await app[RECEIVER].finish(head.device, upload, rest, trail.event(), app[CLOCK].now_ms())
        trail.written = True
    return upload._replace(offset=upload.length)


def _created(upload: Upload) -> web.Response:
    headers = {"Location": f"{_UPLOADS_PATH}/{upload.upload_id}", **tus.state_headers(upload)}
    return web.Response(status=HTTPStatus.CREATED, headers=headers)


@web.middleware
async def _says_version(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if request.path.startswith(_UPLOADS_PATH) and request.method != "OPTIONS":
        response.headers["Tus-Resumable"] = tus.VERSION
        if response.status == PreconditionFailed.status:
            response.headers["Tus-Version"] = tus.VERSION
    return response


def make_application(
    *,
    catalog: SignalCatalog,
    uploads: UploadStore,
    receiver: SignalReceiver,
    guard: Guard,
    clock: Clock,
    flush_s: float = quotas.FLUSH_S,
) -> web.Application:
    """The application, to be mounted at /v1.

    Args:
        catalog: Lists of what is stored.
        uploads: Uploads under way.
        receiver: What becomes of a whole upload.
        guard: Authentication, permission, audit.
        clock: Wall time.
        flush_s: How long what arrived may wait to be durable, s.
    """
    app = web.Application(middlewares=[_says_version, answers_errors(render_json)])
    app.on_response_prepare.append(leave_unnamed)
    app[CATALOG], app[UPLOADS], app[RECEIVER], app[CLOCK] = catalog, uploads, receiver, clock
    app[BODIES] = BodyReader(uploads, flush_s)

    async def of_signal(request: web.Request) -> str | None:
        result = parse_result(request.match_info["result_id"])
        place = None if result is None else await catalog.place_of(result)
        return None if place is None else place.patient_id

    def stream(handler: StreamHandler) -> Handler:
        return guard.device_stream(Operation.UPLOAD_SIGNAL, handler, max_bytes=tus.MAX_SIZE_BYTES)

    one = "/uploads/{upload_id}"
    app.add_routes(
        [
            web.post("/signals/missing", guard.device(Operation.UPLOAD_SIGNAL, missing, body=QUESTION)),
            web.options("/uploads", options),
            web.options(one, options),
            web.post("/uploads", stream(create)),
            web.head(one, stream(stand)),
            web.patch(one, stream(write)),
            web.delete(one, stream(give_up)),
            web.get(
                "/results/{result_id}/signal",
                guard.principal(Operation.READ_SIGNAL, read_signal, about=Locator(of_signal, *_NO_SIGNAL)),
            ),
        ]
    )
    return app
