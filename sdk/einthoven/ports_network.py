"""How a device reaches its server: ports (``ports``).

It deliberately holds no code that does anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """What a server answered.

    Attributes:
        status: HTTP status.
        headers: Its headers; names in any case.
        body: At most ``limits.MAX_RESPONSE_BYTES``.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class SignedTransport(Protocol):
    """Any signed request to the enrolled server over an authenticated channel."""

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        expected: Collection[int] = frozenset({200}),
    ) -> Answer:
        """Send, and return the answer if its status is one of ``expected``.

        Raises:
            TransportError: In one of its kinds, for every other status.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Transport(Protocol):
    """One request to the enrolled server over an authenticated channel."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Send and return the body of a 200 answer.

        Raises:
            TransportError: In one of its kinds.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Wake(Protocol):
    """The line on which a server says that there is something for this device."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Open the line, for as long as the context lasts; the iterator yields once a call and never ends by itself.

        Raises:
            TransportError: In one of its kinds; also while iterating, when the line breaks.
        """
        ...
