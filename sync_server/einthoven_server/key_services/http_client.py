"""POSTs JSON to one origin and nowhere else.

It deliberately follows no redirect, uses no proxy of the environment, keeps no cookie, and repeats nothing of an answer
in a message: an error body may quote what was sent.

Invariants:
    1. A request goes to the configured origin only, with a path of ours; no answer leads elsewhere.
    2. A try ends after ``KEY_SERVICE_TIMEOUT_S``; 429 and 5xx are tried again with full jitter, so many times at most.
    3. Of an answer, no more than ``KEY_SERVICE_ANSWER_MAX_BYTES`` is read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

import aiohttp
import msgspec

from einthoven_server import limits, tls
from einthoven_server.errors import KeyServiceUnavailable, KeyUnavailable
from einthoven_server.key_services.endpoint import Endpoint

T = TypeVar("T")
Headers = Callable[[bytes], Awaitable[Mapping[str, str]]]
"""Makes a try's headers from its body: a signature carries a time, and is made anew."""


class Answer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes

    def read(self, shape: type[T]) -> T:
        """The body as JSON of a shape.

        Raises:
            KeyServiceUnavailable: It is of another.
        """
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise KeyServiceUnavailable("the key service answers what can't be read") from error


def make_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """A session for one key service; whoever asks for it closes it.

    Raises:
        KeyUnavailable: The authorities to trust can't be read.
    """
    try:
        ca_pem = None if endpoint.ca_file is None else endpoint.ca_file.read_text("ascii")
        context = tls.outbound_context(ca_pem)
    except (OSError, ValueError) as error:
        raise KeyUnavailable("can't read the ca_file of --key-service", "give a PEM file") from error
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=limits.KEY_SERVICE_AT_ONCE),
        timeout=aiohttp.ClientTimeout(total=limits.KEY_SERVICE_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "einthoven"},
    )


class Caller:
    """Sends to one origin.

    Args:
        session: From ``make_session``.
        origin: Scheme, host and port.
        backoff_ms: First pause.
    """

    def __init__(
        self, session: aiohttp.ClientSession, origin: str, backoff_ms: float = limits.KEY_SERVICE_BACKOFF_MS
    ) -> None:
        self._session = session
        self._origin = origin
        self._backoff_ms = backoff_ms

    async def post(
        self, path: str, body: bytes, headers: Headers, *, throttled: Callable[[Answer], bool] = lambda answer: False
    ) -> Answer:
        """Send until there is an answer other than "later".

        Args:
            path: With its query.
            body: What to send.
            headers: Of a try.
            throttled: Whether an answer of another status means 429.

        Raises:
            KeyServiceUnavailable: There is none.
        """
        problem = "the key service does not answer"
        cause: Exception | None = None
        for attempt in range(limits.KEY_SERVICE_ATTEMPTS_MAX):
            wait_s = 0.0
            try:
                answer, wait_s = await self._try(path, body, await headers(body))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                cause = error
            else:
                if answer.status != 429 and answer.status < 500 and not throttled(answer):
                    return answer
                problem = "the key service is overloaded, or fails"
            if attempt + 1 < limits.KEY_SERVICE_ATTEMPTS_MAX:
                ceiling_s = self._backoff_ms * 2**attempt / 1000
                await asyncio.sleep(wait_s + random.uniform(0, ceiling_s))  # noqa: S311  # jitter, not a secret
        raise KeyServiceUnavailable(problem) from cause

    async def _try(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[Answer, float]:
        async with self._session.post(
            self._origin + path, data=body, headers=headers, allow_redirects=False
        ) as response:
            octets = await response.content.read(limits.KEY_SERVICE_ANSWER_MAX_BYTES + 1)
            while octets and len(octets) <= limits.KEY_SERVICE_ANSWER_MAX_BYTES:
                more = await response.content.read(limits.KEY_SERVICE_ANSWER_MAX_BYTES)
                if not more:
                    break
                octets += more
            if len(octets) > limits.KEY_SERVICE_ANSWER_MAX_BYTES:
                raise KeyServiceUnavailable("the key service answers too much")
            if 300 <= response.status < 400:
                raise KeyServiceUnavailable("the key service points elsewhere, where no credential is sent")
            asked = response.headers.get("Retry-After", "")
            wait_s = min(float(asked), limits.KEY_SERVICE_RETRY_AFTER_MAX_S) if asked.isdecimal() else 0.0
            return Answer(response.status, octets), wait_s


def refused(answer: Answer) -> KeyServiceUnavailable:
    """What any answer that is no success and no refusal of a ciphertext means."""
    if answer.status in {401, 403}:
        return KeyServiceUnavailable("the key service does not let us in", "check its credentials and permissions")
    return KeyServiceUnavailable(
        f"the key service answers {answer.status}", "check --key-service: the key's name and state"
    )
