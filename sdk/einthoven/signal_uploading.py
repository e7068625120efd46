"""One parcel to the server by tus 1.0.0, going on where a former try stopped.

It deliberately does not retry a request that failed: what arrived of it is kept by the server, and the next call goes
on from there.

Invariants:
    1. No byte is sent twice that the server says it holds.
    2. ``True`` is returned only when the server said that it holds all of it, which it says once the chunk is verified.
"""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Final

import msgspec

from einthoven.errors import ServerBusy, ServerRejected
from einthoven.ports import Answer, SignedTransport
from einthoven_protocol.signal_chunks import chunk_name

UPLOADS_PATH: Final = "/v1/uploads"
MAX_REQUESTS: Final = 64
"""Requests for one parcel; on a network that breaks off every second, some minutes."""
LOCKED_RETRY_AFTER_S: Final = 20.0
"""How long a server may take to notice that a former request of ours broke off."""

_TUS: Final = {"Tus-Resumable": "1.0.0"}
_BYTES: Final = {**_TUS, "Content-Type": "application/offset+octet-stream"}
_REFUSED: Final = frozenset({"chunk_damaged", "signal_unproven"})
_BROKEN_OFF: Final = "broken_off"
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_EXPECTED: Final = frozenset({204, 400, 404, 409, 410, 423})


class _Problem(msgspec.Struct):
    error: str = ""


class ParcelUpload:
    """One parcel on its way.

    Args:
        transport: To the enrolled server.
        parcel: What to send.
        chunk: The chunk in it.

    Attributes:
        bytes_up: Bodies sent, in bytes.
        requests: Requests made.
    """

    def __init__(self, transport: SignedTransport, parcel: bytes, chunk: bytes) -> None:
        self._transport = transport
        self._parcel = parcel
        self._chunk = chunk
        self.bytes_up = 0
        self.requests = 0

    async def send(self, *, known_new: bool) -> bool:
        """Send what the server lacks.

        Args:
            known_new: No former try can have sent a part; saves a round trip.

        Returns:
            Whether the server keeps it; ``False`` where it refuses what is in it.

        Raises:
            TransportError: Nothing is lost; what arrived stays there for the next try.
        """
        created = await self._create(self._parcel if known_new else b"")
        while created is not None and self.requests < MAX_REQUESTS:
            path, offset = created
            while offset is not None and self.requests < MAX_REQUESTS:
                if offset >= len(self._parcel):
                    return True
                answer = await self._request("PATCH", path, self._parcel[offset:], {"Upload-Offset": str(offset)})
                if _code(answer) in _REFUSED:
                    return False
                before, offset = offset, await self._offset_after(answer, path)
                if offset == before and answer.status != HTTPStatus.CONFLICT:
                    raise ServerRejected("an upload does not get any further", "sync again later")
            # It is gone: expired, or given up.
            created = await self._create(b"")
        if created is not None:
            raise ServerRejected("an upload does not come to an end", "sync again later")
        return False

    async def _create(self, body: bytes) -> tuple[str, int | None] | None:
        """Begin, or find what was begun; ``None`` if the body was refused."""
        name = base64.b64encode(chunk_name(self._chunk)).decode("ascii")
        headers = {"Upload-Length": str(len(self._parcel)), "Upload-Metadata": f"chunk {name}"}
        answer = await self._request("POST", UPLOADS_PATH, body, headers, frozenset({201, 400}))
        if answer.status == HTTPStatus.CREATED:
            path = answer.headers.get("Location", "")
            if path.startswith(UPLOADS_PATH + "/"):
                return path, _number(answer.headers.get("Upload-Offset", "0"))
        if _code(answer) in _REFUSED:
            return None
        if _code(answer) == _BROKEN_OFF:
            return await self._create(b"") if body else None
        raise ServerRejected("the server does not take an upload as agreed", "update the app, or tell your clinic")

    async def _offset_after(self, answer: Answer, path: str) -> int | None:
        """Where the upload stands; ``None`` if it is gone."""
        if answer.status == HTTPStatus.NO_CONTENT:
            return _number(answer.headers.get("Upload-Offset", ""))
        if answer.status in _GONE:
            return None
        if answer.status == HTTPStatus.LOCKED:
            raise ServerBusy(
                "a former try of this upload has not ended yet",
                f"try again in {LOCKED_RETRY_AFTER_S:.0f} s",
                LOCKED_RETRY_AFTER_S,
            )
        if answer.status != HTTPStatus.CONFLICT and _code(answer) != _BROKEN_OFF:
            raise ServerRejected("the server does not take an upload as agreed", "update the app, or tell your clinic")
        stand = await self._request("HEAD", path, b"", {}, frozenset({200, 404, 410}))
        return None if stand.status in _GONE else _number(stand.headers.get("Upload-Offset", ""))

    async def _request(
        self, method: str, path: str, body: bytes, headers: dict[str, str], expected: frozenset[int] = _EXPECTED
    ) -> Answer:
        self.requests += 1
        self.bytes_up += len(body)
        basic = _BYTES if body else _TUS
        return await self._transport.request(method, path, body, {**basic, **headers}, expected=expected)


def _code(answer: Answer) -> str:
    if answer.status != HTTPStatus.BAD_REQUEST:
        return ""
    try:
        return msgspec.json.decode(answer.body, type=_Problem).error
    except msgspec.MsgspecError:
        return ""


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ServerRejected("the server does not say how far an upload is", "update the app, or tell your clinic")
    return int(text)
