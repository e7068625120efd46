"""The HTTP edge: limits, slow clients, unknown addresses, and what the log holds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import uuid

import msgspec
import pytest
from aiohttp import web
from tests.einthoven_server.site import Site

from einthoven_server import limits, tls
from einthoven_server.connections import IdleConnections
from einthoven_server.errors import ClockSkew, EnvelopeRefused
from einthoven_server.requests import ACCESS_FIELDS, answers_errors, as_refusal, refusal_document, render_json


async def raw(site: Site, octets: bytes, *, wait_s: float = 5.0) -> bytes:
    """Send bytes over TLS; what comes back until the server closes."""
    host, port = site.url.removeprefix("https://").rsplit(":", 1)
    context: ssl.SSLContext = tls.client_context(site.ca_pem)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        writer.write(octets)
        async with asyncio.timeout(wait_s):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def test_it_says_that_it_lives_and_is_ready(site: Site) -> None:
    assert (await site.send("GET", "/livez")).json == {"status": "alive"}
    answer = await site.send("GET", "/readyz")
    assert answer.json == {"status": "ready"}
    assert answer.headers["Server"] == "einthoven"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_unknown_addresses_and_methods_are_told_apart(site: Site) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/patients/", "/fhir", "/v2/exchange", "/%2e%2e/etc"):
        answer = await site.send("GET", path)
        assert (answer.status, answer.error) in {(404, "not_found"), (405, "method_not_allowed")}, path
    answer = await site.send("GET", "/v1/exchange")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"garbage\r\n\r\n",
        b"GET /" + b"a" * limits.REQUEST_LINE_MAX_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2 * limits.HEADER_FIELD_MAX_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * (limits.HEADERS_MAX + 1) + b"\r\n",
        b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer token-of-mine\r\n\r\n",
    ],
)
async def test_a_request_that_is_none_is_400_and_quotes_nothing(
    site: Site, caplog: pytest.LogCaptureFixture, request_head: bytes
) -> None:
    answer = await raw(site, request_head)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"400", answer[:100]
    assert set(msgspec.json.decode(body)) == {"error", "message"}
    assert b"aiohttp" not in head
    assert "token-of-mine" not in caplog.text
    assert (await site.send("GET", "/livez")).status == 200


async def test_a_body_that_does_not_come_is_not_waited_for(site: Site) -> None:
    head = b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    task = asyncio.create_task(raw(site, head, wait_s=0.3))
    with pytest.raises(TimeoutError):
        await task  # the server waits BODY_READ_TIMEOUT_S, we do not
    assert (await site.send("GET", "/livez")).status == 200


class Connections:
    """Stands for ``web.Server``: what the watcher looks at, and nothing else."""

    def __init__(self) -> None:
        self.connections: list[Connection] = [Connection(), Connection()]


class Connection:
    def __init__(self) -> None:
        self.closed = False
        self.transport = self

    def force_close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        assert self.closed


def test_a_connection_without_a_request_is_closed_in_time() -> None:
    now = 0.0
    idle = IdleConnections(timeout_s=10, monotonic=lambda: now)
    server = Connections()
    quiet, busy = server.connections
    assert idle.close_overdue(server) == 0  # type: ignore[arg-type]
    idle._busy.add(busy)  # type: ignore[arg-type]
    now = 10.0
    assert idle.close_overdue(server) == 0  # type: ignore[arg-type]
    now = 10.1
    assert idle.close_overdue(server) == 1  # type: ignore[arg-type]
    assert (quiet.closed, busy.closed) == (True, False)
    server.connections.remove(quiet)
    assert idle.close_overdue(server) == 0  # type: ignore[arg-type]


async def test_slow_heads_are_cut_and_others_are_served() -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    idle = IdleConnections(timeout_s=0.2)
    app = web.Application(middlewares=[idle.middleware])
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with idle.watching(runner.server):
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"hello")
        for slow_reader, _ in slow:
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    assert await slow_reader.read() == b""
        for _, each in [*slow, (reader, writer)]:
            each.close()
    await runner.cleanup()


async def test_the_access_log_holds_what_is_allowed_and_no_id(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "einthoven_server.access")
    patient = str(uuid.uuid4())
    path = f"/v1/patients/{patient}/results?after=secret"
    await site.send("GET", path, token="token-of-mine", headers={"User-Agent": "curious"})
    await asyncio.sleep(0.05)
    (record,) = [record for record in caplog.records if record.name == "einthoven_server.access"]
    line = msgspec.json.decode(record.getMessage())
    assert tuple(line) == ACCESS_FIELDS
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/patients/{patient_id}/results", 401)
    for secret in (patient, "secret", "token-of-mine", "curious"):
        assert secret not in caplog.text


async def test_an_error_of_ours_is_one_line_and_its_words_stay_here(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: web.Request) -> web.Response:
        raise KeyError("a patient's name")

    async def damaged(request: web.Request) -> web.Response:
        raise EnvelopeRefused("a stored value", "restore")

    app = web.Application(middlewares=[answers_errors(render_json)])
    app.router.add_get("/broken", broken)
    app.router.add_get("/damaged", damaged)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    for path in ("broken", "damaged"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b'"error":"internal"' in answer
        assert b"name" not in answer
    await runner.cleanup()
    assert "KeyError" in caplog.text
    assert "a patient's name" not in caplog.text


def test_a_refusal_says_its_code_and_a_skewed_clock_the_time() -> None:
    assert refusal_document(ClockSkew("off", "set it", 5)) == {
        "error": "clock_skew",
        "message": "off; set it",
        "server_time_ms": 5,
    }
    assert as_refusal(web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2)).status == 413
