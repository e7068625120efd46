"""GET /v1/patients/{patient_id}/export: all that is kept of a patient, as one zip (GDPR articles 15 and 20).

``bundle.json`` is a FHIR Bundle, ``notes.json`` the diary, ``documents.json`` what was decided for devices,
``care-team.json`` and ``accesses.json`` who may see, and who saw in an emergency, ``signals/`` the ECGs as EDF+, and
``manifest.json``, the last one, lists them with their SHA-256.

It deliberately stores no file: nothing lies about in the clear, and revocation bites while it is sent.

Invariants:
    1. The audit entry is written before the first byte.
    2. What can't be finished breaks off without its end, and so is no archive.
    3. A process makes ``PATIENT_EXPORTS_AT_ONCE`` at a time, and a client that stops reading keeps no place.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Busy
from einthoven_server.identity.access import Access, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.privacy.export_content import ExportContent, ExportUnderWay
from einthoven_server.privacy.zip_stream import ZipStream
from einthoven_server.requests import SECURITY_HEADERS

ZIP_TYPE: Final = "application/zip"


class PatientExport:
    """The address.

    Args:
        content: Makes it.
        guard: Writes the audit entry before the first byte.
        clock: Wall time.
        stall_s: How long a client may take nothing, s.
    """

    def __init__(
        self, content: ExportContent, guard: Guard, clock: Clock, stall_s: float = limits.PATIENT_EXPORT_STALL_S
    ) -> None:
        self._content = content
        self._guard = guard
        self._clock = clock
        self._stall_s = stall_s
        self._under_way = 0

    async def export(self, request: web.Request, principal: Principal, trail: Trail) -> web.StreamResponse:
        """GET /v1/patients/{patient_id}/export."""
        del principal
        if self._under_way >= limits.PATIENT_EXPORTS_AT_ONCE:
            raise Busy("too many exports are under way", "try again later", limits.BUSY_RETRY_AFTER_S)
        self._under_way += 1
        try:
            await self._guard.enter(trail)
            return await self._send(request, access_of(request))
        finally:
            self._under_way -= 1

    async def _send(self, request: web.Request, access: Access) -> web.StreamResponse:
        headers = {"Content-Type": ZIP_TYPE, "Content-Disposition": 'attachment; filename="patient.zip"'}
        response = web.StreamResponse(headers=SECURITY_HEADERS | headers)
        archive = ExportUnderWay(access, ZipStream(self._clock.now_ms()))
        await response.prepare(request)
        try:
            async for _ in self._content.pieces(archive):
                await self._write(response, archive.zip.take())
            await self._write(response, archive.zip.finish())
        except Exception:
            # The head has gone: all that can still be said is that this is not the end.
            if request.transport is not None:
                request.transport.abort()
            raise
        await response.write_eof()
        return response

    async def _write(self, response: web.StreamResponse, octets: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await response.write(octets)
        except TimeoutError as error:
            raise Busy("the client takes nothing any more", "ask again", limits.BUSY_RETRY_AFTER_S) from error
