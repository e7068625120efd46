"""``Transport`` over HTTPS with aiohttp: pinned authority, signed requests, bounded answers.

It deliberately does not retry (``syncing`` does), follow redirects, use proxies, or keep cookies.

Invariants:
    1. Nothing is sent before the server's certificate was checked against the pinned authority (``tls``).
    2. Every request is signed over its method, path and body (RFC 9421, RFC 9530).
    3. Only ``TransportError`` leaves this module.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

import aiohttp
import msgspec

from einthoven.clock import SystemClock
from einthoven.errors import (
    CertificateMismatch,
    DeviceRefused,
    ServerBusy,
    ServerRejected,
    ServerUnreachable,
    TransportError,
)
from einthoven.identity import Identity
from einthoven.ports import Answer, Clock
from einthoven.tls import CIPHER, OtherSuite, pinned_context
from einthoven_protocol import http_signature, limits

CONNECT_TIMEOUT_S: Final = 10.0
TOTAL_TIMEOUT_S: Final = 60.0
RETRY_AFTER_DEFAULT_S: Final = 5.0
RETRY_AFTER_MAX_S: Final = 3600.0
NONCE_BYTES: Final = 12
"""Of chance in a request's nonce: 2**48 requests of one device before two are likely to meet."""


class HttpsTransport:
    """One enrolled device's channel to its server.

    Args:
        identity: Who the device is.
        clock: Tells now for signatures; the system's, if not given.
    """

    def __init__(self, identity: Identity, *, clock: Clock | None = None) -> None:
        self._identity = identity
        self._clock = clock or SystemClock()
        self._client: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """See ``Transport.post``."""
        signed = {**headers, **signed_headers(self._identity, self._clock, "POST", path, body)}
        async with translated():
            client = self._client or self._connect()
            async with client.post(
                self._identity.url + path, data=body, headers=signed, allow_redirects=False
            ) as answer:
                return await read_answer(answer)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        expected: Collection[int] = frozenset({200}),
    ) -> Answer:
        """See ``SignedTransport.request``."""
        signed = {**headers, **signed_headers(self._identity, self._clock, method, path, body)}
        async with translated():
            client = self._client or self._connect()
            async with client.request(
                method, self._identity.url + path, data=body or None, headers=signed, allow_redirects=False
            ) as answer:
                octets = await read_bounded(answer)
                if answer.status not in expected:
                    raise refusal(answer.status, answer.headers, octets)
                return Answer(answer.status, answer.headers, octets)

    async def close(self) -> None:
        """Release connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connect(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=pinned_context(self._identity.ca_pem), limit=2)
        self._client = open_client(connector)
        return self._client


def signed_headers(identity: Identity, clock: Clock, method: str, path: str, body: bytes) -> dict[str, str]:
    """Return the headers that sign one request; of a GET or HEAD, the body is empty.

    Args:
        identity: Who signs.
        clock: Tells now.
        method: In capitals.
        path: As sent, without query.
        body: What is sent.
    """
    digest = http_signature.content_digest(body)
    created_s, nonce, key_id = clock.now_ms() // 1000, secrets.token_urlsafe(NONCE_BYTES), identity.device_id
    base = http_signature.signature_base(method, path, digest, created_s, nonce, key_id)
    return {
        "Content-Digest": digest,
        "Signature-Input": http_signature.signature_input(created_s, nonce, key_id),
        "Signature": http_signature.signature_header(identity.sign(base)),
    }


def open_client(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """Return a client with this module's time limits and no state of its own."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TOTAL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
        # What is not sent costs nothing, with every request: an answer has one type and one encoding, and who asks is
        # in the signature.
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        auto_decompress=False,
        trust_env=False,
    )


async def read_answer(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body of a 200 answer.

    Raises:
        TransportError: Any other status, or a body over the limit.
    """
    body = await read_bounded(answer)
    if answer.status == 200:
        return body
    raise refusal(answer.status, answer.headers, body)


async def read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer.

    Raises:
        ServerRejected: It is over the limit.
    """
    body = b""
    while more := await answer.content.read(limits.MAX_RESPONSE_BYTES + 1 - len(body)):
        body += more
        if len(body) > limits.MAX_RESPONSE_BYTES:
            raise ServerRejected(
                f"the server's answer is over {limits.MAX_RESPONSE_BYTES} bytes", "check the server's address"
            )
    return body


class _ErrorBody(msgspec.Struct):
    error: str = ""
    message: str = ""


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> TransportError:
    """Return what an answer other than the hoped-for one means."""
    try:
        code = msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.MsgspecError:
        code = ""
    if status in {429, 503}:
        wait_s = _retry_after_s(headers.get("Retry-After", ""))
        return ServerBusy(f"the server is busy (HTTP {status})", f"try again in {wait_s:.0f} s", wait_s)
    if code == "clock_skew":
        return DeviceRefused("this device's clock is more than 5 minutes off", "set the clock and try again")
    if code == "patient_erased":
        return DeviceRefused(
            "the server erased this patient and all it held of them", "erase this device's store as well"
        )
    if status in {401, 403}:
        return DeviceRefused(
            "the server refuses this device (unknown or revoked)", "ask your clinic, or enrol again with a new code"
        )
    label = f"HTTP {status}" + (f", {code[:40]}" if code.isidentifier() else "")
    return ServerRejected(f"the server refused the request ({label})", "update the app, or tell your clinic")


def _retry_after_s(text: str) -> float:
    try:
        return min(max(float(text), 0.0), RETRY_AFTER_MAX_S)
    except ValueError:
        return RETRY_AFTER_DEFAULT_S


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Let only ``TransportError`` out."""
    try:
        yield
    except TransportError:
        raise
    except aiohttp.ClientConnectorSSLError as problem:
        if isinstance(problem.os_error, OtherSuite):
            raise CertificateMismatch(
                f"the server does not speak TLS 1.3 with {CIPHER}", "check the address; an Einthoven server does"
            ) from problem
        raise CertificateMismatch(
            "no TLS 1.3 connection could be agreed on", "check the address; an Einthoven server speaks TLS 1.3"
        ) from problem
    except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError, aiohttp.ClientSSLError) as problem:
        raise CertificateMismatch(
            "the server's certificate is not from the authority this device was enrolled with",
            "do not go on: check the address, or enrol again with a code from your clinic",
        ) from problem
    except (TimeoutError, aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as problem:
        raise ServerUnreachable(
            "the server can't be reached", "check the network and the address; nothing is lost, sync again later"
        ) from problem
