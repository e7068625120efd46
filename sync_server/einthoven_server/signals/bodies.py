"""Bodies of uploads as they arrive: what came is kept, whatever becomes of the connection.

It deliberately keeps nothing of a body that came in one go: whoever asked for it stores it whole (``receiving``).

Invariants:
    1. What arrived is durable at most ``flush_s`` after it came, or when the connection broke; but never the last byte
       of an upload, which only its verification may write.
    2. With a checksum, or once the body turns out not to be the signed one, all or nothing.
    3. One request writes an upload at a time, and ``RECEIVING_MAX`` in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from einthoven_protocol import http_signature
from einthoven_server import limits
from einthoven_server.errors import Busy, Locked, Malformed, Unauthorized
from einthoven_server.identity.callers import Device
from einthoven_server.identity.signed_requests import SignedHead
from einthoven_server.signals import quotas
from einthoven_server.signals.tus import Checksum, Upload
from einthoven_server.signals.uploads import UploadStore

_BROKEN = (ClientPayloadError, HttpProcessingError, OSError)


class BodyReader:
    """Reads bodies into uploads.

    Args:
        uploads: Where they are kept.
        flush_s: How long what arrived may wait to be durable, s.
    """

    def __init__(self, uploads: UploadStore, flush_s: float) -> None:
        self._uploads = uploads
        self._flush_s = flush_s
        self._written: set[str] = set()

    @contextlib.contextmanager
    def writing(self, upload_id: str) -> Iterator[None]:
        """Be the only one in this process that writes an upload.

        Raises:
            Locked: Somebody else does.
            Busy: Too many uploads are being written.
        """
        if upload_id in self._written:
            raise Locked("another request writes this upload", "wait for it, then ask for the offset")
        if len(self._written) >= quotas.RECEIVING_MAX:
            raise Busy("too many uploads are being received", "try again later", limits.BUSY_RETRY_AFTER_S)
        self._written.add(upload_id)
        try:
            yield
        finally:
            self._written.discard(upload_id)

    async def take(
        self, request: web.Request, head: SignedHead, upload: Upload, checksum: Checksum | None
    ) -> tuple[Upload, bytes]:
        """Read a body.

        Returns:
            How far the upload is, and what came behind that.

        Raises:
            Unauthorized: The body is not the one that was signed; nothing of it was kept.
            ChecksumMismatch: It has another checksum; nothing of it was kept.
            Malformed: It broke off, or did not come in time; what came was kept, without a checksum.
        """
        arrival = _Arrival(self._uploads, head.device, upload, checksum)
        try:
            await self._read(request, arrival)
        except (*_BROKEN, TimeoutError) as error:
            await arrival.flush()
            raise Malformed("the body broke off", "go on from the offset that HEAD tells", code="broken_off") from error
        body = bytes(arrival.body)
        if not hmac.compare_digest(http_signature.content_digest(body), head.content_digest):
            if arrival.durable:
                await self._uploads.take_back(head.device, upload)
            raise Unauthorized("Content-Digest is not that of the body", "sign the body that is sent")
        if checksum is not None:
            checksum.check(body)
        return arrival.upload, body[arrival.durable :]

    async def _read(self, request: web.Request, arrival: _Arrival) -> None:
        now_s = asyncio.get_running_loop().time
        stop_s = now_s() + limits.BODY_READ_TIMEOUT_S
        due_s = now_s() + self._flush_s
        while not request.content.at_eof():
            try:
                async with asyncio.timeout_at(min(due_s, stop_s)):
                    arrival.body += await request.content.readany()
            except TimeoutError:
                if now_s() >= stop_s:
                    raise
            if now_s() >= due_s:
                await arrival.flush()
                due_s = now_s() + self._flush_s


@dataclass(slots=True)
class _Arrival:
    """A body on its way.

    Attributes:
        uploads: Where it is kept.
        device: Who sends it.
        upload: As far as it is durable.
        checksum: What the body must have; nothing of it is durable before.
        body: What came.
        durable: How much of that was kept.
    """

    uploads: UploadStore
    device: Device
    upload: Upload
    checksum: Checksum | None
    body: bytearray = field(default_factory=bytearray)
    durable: int = 0

    async def flush(self) -> None:
        """Keep what came since the last time."""
        piece = bytes(self.body[self.durable :])
        if piece and self.checksum is None and self.upload.offset + len(piece) < self.upload.length:
            self.upload = await self.uploads.append(self.device, self.upload, piece)
            self.durable += len(piece)
