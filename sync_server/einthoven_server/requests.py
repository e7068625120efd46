"""The HTTP edge that all applications share: reading bodies, answering JSON, turning errors into answers, access log.

It deliberately knows no operation and no role.

Invariants:
    1. A refusal is answered with its status and one JSON document {"error", "message"}; nobody sees a traceback.
    2. No body is read beyond its limit or time, and none is decompressed here.
    3. The access log holds the fields of ``ACCESS_FIELDS`` and nothing a client wrote: the route, not the path.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_urldispatcher import PrefixedSubAppResource, UrlMappingMatchInfo

from einthoven_server import limits
from einthoven_server.errors import (
    Busy,
    ClockSkew,
    Malformed,
    NotFound,
    RequestRefused,
    ServerError,
    TooLarge,
    TooMany,
    UnsupportedMedia,
)
from einthoven_server.memory_in_flight import loan_of
from einthoven_server.strict_json import check_json

Render: TypeAlias = Callable[[RequestRefused], web.Response]
T = TypeVar("T")

JSON_TYPE: Final = "application/json"
ACCESS_FIELDS: Final = ("method", "route", "status", "bytes_in", "bytes_out", "duration_ms")
SECURITY_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "einthoven"}
AUTHENTICATE: Final = 'DPoP algs="EdDSA ES256 ES384", Bearer'
"""RFC 9449 section 7.1."""
_OPAQUE_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_log = logging.getLogger("einthoven_server")


def json_response(document: object, status: int = HTTPStatus.OK, content_type: str = JSON_TYPE) -> web.Response:
    """Answer with one JSON document that no cache keeps."""
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type=content_type, headers=SECURITY_HEADERS
    )


def device_response(body: bytes, content_type: str) -> web.Response:
    """Answer a device in bytes, with no header that it does not need.

    What ``SECURITY_HEADERS`` holds back is a browser that caches a page or guesses at its type. A device is none: it
    asks by POST, which nothing caches unless told to (RFC 9111, section 3), takes one content type, and pays for each
    byte. ``Date`` stays, which RFC 9110 demands (section 6.6.1); the name of the server goes by ``leave_unnamed``.
    """
    return web.Response(body=body, status=HTTPStatus.OK, content_type=content_type)


async def leave_unnamed(request: web.Request, response: web.StreamResponse) -> None:
    """Take the header off by which the HTTP library names itself, where none of ours stands; for applications that use
    ``device_response``, as a signal before an answer's head is written.
    """
    del request
    if response.headers.get("Server") != SECURITY_HEADERS["Server"]:
        response.headers.popall("Server", None)


async def read_body(request: web.Request, max_bytes: int, content_type: str) -> bytes:
    """Read a whole body.

    Raises:
        UnsupportedMedia: Another content type, or a content encoding.
        TooLarge: Longer than ``max_bytes``.
        Malformed: It did not come within ``BODY_READ_TIMEOUT_S``.
        Busy: Too much is under way.
    """
    if request.content_type != content_type:
        raise UnsupportedMedia("the content type is not what this address takes", f"send {content_type}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMedia("content encodings are not taken", "send the body as it is")
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    # Joined once: a buffer that grows leaves holes behind in memory, as large as itself.
    chunks: list[bytes] = []
    length, loan = 0, loan_of(request)
    try:
        async with asyncio.timeout(limits.BODY_READ_TIMEOUT_S):
            async for chunk in request.content.iter_chunked(64 * 1024):
                length += len(chunk)
                if length > max_bytes:
                    raise _too_large(max_bytes)
                # Charged as it arrives, not as it is announced: who only announces keeps nobody out.
                loan.take(len(chunk))
                chunks.append(chunk)
    except TimeoutError as error:
        raise Malformed("the body did not come in time", "send it again", code="too_slow") from error
    return b"".join(chunks)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is longer than {max_bytes} bytes", "send less at a time")


async def read_json(request: web.Request, shape: type[T], max_bytes: int = limits.JSON_BODY_MAX_BYTES) -> T:
    """Read a JSON body of a given shape.

    Raises:
        RequestRefused: As ``read_body``, or Malformed.
    """
    body = await read_body(request, max_bytes, JSON_TYPE)
    check_json(body)
    try:
        return msgspec.json.decode(body, type=shape, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        # The decoder's own words may repeat the value.
        field = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "the body"
        raise Malformed(f"the JSON does not fit at {field}", "see docs/server.md for its shape") from error


def path_id(request: web.Request, name: str, what: str) -> str:
    """An opaque id from the path.

    Raises:
        NotFound: It is of no form an id has, so there is no ``what`` with it.
    """
    text = request.match_info[name]
    if not _OPAQUE_ID.fullmatch(text):
        raise NotFound(f"no such {what}", "check the id")
    return text


def refusal_document(refused: RequestRefused) -> dict[str, object]:
    """The JSON of a refusal."""
    document: dict[str, object] = {"error": refused.code, "message": str(refused)}
    if isinstance(refused, ClockSkew):
        document["server_time_ms"] = refused.server_time_ms
    return document


def render_json(refused: RequestRefused) -> web.Response:
    """Answer a refusal as JSON."""
    return with_headers(json_response(refusal_document(refused), refused.status), refused)


def with_headers(response: web.Response, refused: RequestRefused) -> web.Response:
    """Add the headers that a refusal's status asks for."""
    if isinstance(refused, Busy | TooMany):
        response.headers["Retry-After"] = str(refused.retry_after_s)
    if refused.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = AUTHENTICATE
    return response


def as_refusal(error: Exception) -> RequestRefused:
    """What the client is told about any error."""
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, web.HTTPException):
        phrase = HTTPStatus(error.status).phrase.lower()
        refused = RequestRefused(phrase, "see docs/server.md for the addresses", code=phrase.replace(" ", "_"))
    else:
        problem = "a stored value can't be used" if isinstance(error, ServerError) else "internal error"
        refused = RequestRefused(problem, "the operator finds it in the log", code="internal")
    refused.status = error.status if isinstance(error, web.HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    return refused


def answers_errors(render: Render) -> Middleware:
    """A middleware that turns every error into an answer."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the edge: whatever it is, the client gets one line
            # Not in this frame, which the error's traceback holds: a name for the error here would keep all of them
            # alive, bodies among them, until somebody looks for cycles.
            return _answered(request, error, render)

    return middleware


def _answered(request: web.Request, error: Exception, render: Render) -> web.Response:
    refused = as_refusal(error)
    if refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        cause = error.__cause__ or error
        # Class names only: a message may quote what was stored.
        _log.error("refused %s %s: %s (%s)", request.method, route_of(request), refused.code, _names(cause))
    response = render(refused)
    if isinstance(error, web.HTTPException) and "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _names(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else ""
    return type(error).__name__ + where


def route_of(request: web.BaseRequest) -> str:
    """The pattern that a request matched, never its path: a path holds ids."""
    match = getattr(request, "match_info", None)
    resource = match.route.resource if match is not None else None
    return resource.canonical if resource is not None else "unknown"


class AccessLog(AbstractAccessLogger):
    """One JSON line a request, of ``ACCESS_FIELDS``."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line."""
        values = (
            request.method if request.method.isalpha() else "-",
            route_of(request),
            response.status,
            request.content_length or 0,
            response.body_length,
            round(time * 1000, 1),
        )
        self.logger.info("%s", msgspec.json.encode(dict(zip(ACCESS_FIELDS, values, strict=True))).decode())


class _Mounted(PrefixedSubAppResource):
    """A sub-application that leaves to the next one what it has no route for."""

    async def resolve(self, request: web.Request) -> tuple[UrlMappingMatchInfo | None, set[str]]:
        match, methods = await super().resolve(request)
        return (None, methods) if match is None or match.http_exception is not None else (match, methods)


def mount(parent: web.Application, prefix: str, application: web.Application) -> None:
    """Mount an application that shares its prefix with others; ``add_subapp`` would let the first one answer 404."""
    parent._add_subapp(lambda: _Mounted(prefix, application), application)
