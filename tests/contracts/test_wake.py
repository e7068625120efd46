"""The ``Wake`` port's acceptance suite, against a real TLS socket that wakes, breaks off and misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.contracts.test_transport import NOW_MS, issue, pem, server_context

from einthoven.clock import FixedClock
from einthoven.errors import CertificateMismatch, DeviceRefused, ServerBusy, ServerRejected, ServerUnreachable
from einthoven.identity import Identity
from einthoven.wake_websocket import MAX_MESSAGE_BYTES, WAKE_PATH, WebSocketWake
from einthoven_protocol import http_signature

Act = Callable[[web.WebSocketResponse], Awaitable[None]]


@dataclass
class Caller:
    """A server that does on each line what a test says."""

    act: Act | None = None
    refuse: int = 0
    url: str = ""
    ca_pem: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.refuse:
            return web.Response(status=self.refuse, headers={"Retry-After": "9"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert self.act is not None
        await self.act(socket)
        self.closed.set()
        return socket


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    authority = issue("test authority")
    caller = Caller(ca_pem=pem(authority[0]))
    app = web.Application()
    app.router.add_get(WAKE_PATH, caller.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(tmp_path, authority)).start()
    caller.url = f"https://localhost:{runner.addresses[0][1]}"
    yield caller
    await runner.cleanup()


def wake_of(caller: Caller, **more: float) -> WebSocketWake:
    identity = Identity(
        device_id="device-1",
        device_alias=7,
        url=caller.url,
        ca_pem=caller.ca_pem,
        signing_key=bytes(range(32)),
        tenant="t",
        patient_id="p",
    )
    return WebSocketWake(identity, clock=FixedClock(NOW_MS), **more)


async def wait_for_farewell(socket: web.WebSocketResponse) -> None:
    await socket.receive()


async def test_it_yields_once_for_each_call_whatever_is_said(caller: Caller) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        for _ in range(2):
            await socket.send_str("w")
        await socket.send_bytes(b"\xff")
        await wait_for_farewell(socket)

    caller.act = act
    async with wake_of(caller).listen() as wakes:
        for _ in range(3):
            await anext(wakes)
    await asyncio.wait_for(caller.closed.wait(), 5)


async def test_the_line_is_opened_by_a_signed_get_of_nothing(caller: Caller) -> None:
    caller.act = wait_for_farewell
    async with wake_of(caller).listen():
        pass
    (headers,) = caller.headers
    parts = http_signature.parse(headers)
    assert parts.content_digest == http_signature.content_digest(b"")
    base = http_signature.signature_base(
        "GET", WAKE_PATH, parts.content_digest, parts.created_s, parts.nonce, parts.key_id
    )
    Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().verify(parts.signature, base)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011])
async def test_a_server_that_closes_the_line_is_unreachable(caller: Caller, code: int) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        await socket.close(code=code)

    caller.act = act
    async with wake_of(caller).listen() as wakes:
        with pytest.raises(ServerUnreachable, match="later"):
            await anext(wakes)


async def test_a_line_that_breaks_off_is_unreachable(caller: Caller) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        transport = socket._req.transport if socket._req else None
        assert transport is not None
        transport.abort()

    caller.act = act
    async with wake_of(caller).listen() as wakes:
        with pytest.raises(ServerUnreachable):
            await anext(wakes)


async def test_a_message_over_the_limit_ends_the_line(caller: Caller) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_str("w" * (MAX_MESSAGE_BYTES + 1))
        await wait_for_farewell(socket)

    caller.act = act
    async with wake_of(caller).listen() as wakes:
        with pytest.raises(ServerUnreachable):
            await anext(wakes)


async def test_a_server_that_answers_no_ping_is_unreachable(caller: Caller) -> None:
    silent = asyncio.Event()

    async def act(socket: web.WebSocketResponse) -> None:
        await silent.wait()  # never reads, so never answers

    caller.act = act
    async with wake_of(caller, heartbeat_s=0.1).listen() as wakes:
        with pytest.raises(ServerUnreachable):
            await asyncio.wait_for(anext(wakes), 10)
    silent.set()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, DeviceRefused), (403, DeviceRefused), (404, ServerRejected), (429, ServerBusy), (503, ServerBusy)],
)
async def test_a_refused_line_is_said_as_a_refused_request_is(
    caller: Caller, status: int, kind: type[Exception]
) -> None:
    caller.refuse = status
    with pytest.raises(kind) as caught:
        async with wake_of(caller).listen():
            pass
    if isinstance(caught.value, ServerBusy):
        assert caught.value.retry_after_s == 9


async def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(ServerUnreachable):
        async with wake_of(Caller(url="https://localhost:9", ca_pem=pem(issue("x")[0]))).listen():
            pass


async def test_a_certificate_of_another_authority_gets_nothing(caller: Caller) -> None:
    caller.ca_pem = pem(issue("test authority")[0])
    with pytest.raises(CertificateMismatch):
        async with wake_of(caller).listen():
            pass
    assert caller.headers == []
