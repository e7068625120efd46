"""An exchange and a repair as calls: what ``application`` offers over HTTP and a simulator calls as it is.

It deliberately knows no HTTP and no bytes of messages.

Invariants:
    1. Nothing of a push is written before it was checked; what is answered is durable.
    2. Work on many rows (canonical bytes, Merkle trees, shares, ciphertext) runs in threads, so that nobody waits for
       another's bulk; work on few is done at once.
    3. A device without ``FEED`` gets what it got before there was one, and is refused what it was refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from einthoven_protocol.messages import (
    Capability,
    ExchangeRequest,
    ExchangeResponse,
    RepairRequest,
    RepairResponse,
)
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.clock import Clock
from einthoven_server.errors import Forbidden
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import ChangeStore
from einthoven_server.records.changes import Nonce, Push
from einthoven_server.records.writer import Writer
from einthoven_server.sync.pushed_rows import pushed_rows
from einthoven_server.sync.repair_service import RepairService

CAPABILITIES: Final = Capability.FEED | Capability.PACKED
"""What this service does by itself; the application adds what it has addresses for."""

P = ParamSpec("P")
T = TypeVar("T")


class SyncService:
    """Serves devices.

    Args:
        store: Where rows lie.
        writer: The shard's writer, running.
        clock: Wall time.
    """

    def __init__(self, store: ChangeStore, writer: Writer, clock: Clock) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._repairs = RepairService(store, writer, clock)

    async def exchange(self, device: Device, request: ExchangeRequest, nonce: Nonce, event: Event) -> ExchangeResponse:
        """Take a push, and answer with what is new.

        Raises:
            RequestRefused: Queue full, replayed, revoked, a gap, not allowed, or no database.
        """
        _check_own(device, request)
        now_ms = self._clock.now_ms()
        n_rows = len(request.results) + len(request.alerts)
        rows, alerts = await off_loop(n_rows, pushed_rows, self._store, device, request, now_ms)
        push = Push(
            device=device,
            request=request,
            rows=rows,
            nonce=nonce.value,
            nonce_expires_at_ms=nonce.expires_at_ms,
            event=event,
            now_ms=now_ms,
            alerts=alerts,
        )
        pushed = await self._writer.push(push)
        page = await off_loop(len(pushed.fed), self._store.opened, device.patient_key, pushed.fed)
        settled = pushed.settled
        return ExchangeResponse(
            acknowledged=settled.acknowledged,
            notes_acknowledged=settled.notes_acknowledged,
            verdicts=settled.verdicts,
            refused=settled.refused if _can_feed(request) else (),
            annotations=page.annotations,
            results=page.results,
            notes=page.notes,
            superseded=page.superseded,
            tombstones=page.tombstones,
            documents=page.documents,
            owners=pushed.owners,
            cursor=pushed.cursor,
            digest=pushed.digest,
            digests=pushed.digests,
            more=pushed.more,
            rebaseline=pushed.rebaseline,
            server_time_ms=self._clock.now_ms(),
            capabilities=CAPABILITIES if request.capabilities else 0,
        )

    async def repair(
        self,
        device: Device,
        request: RepairRequest,
        event: Event,
        taken: Callable[[], None] = lambda: None,
    ) -> RepairResponse:
        """Find out where a bucket differs, and mend it.

        Args:
            device: Who asks.
            request: What it asks.
            event: Audit event of the request.
            taken: Called once the event is written, because something was.

        Raises:
            RequestRefused: Queue full, revoked, not allowed, or no database.
        """
        return await self._repairs.repair(device, request, event, taken)


async def off_loop(n_rows: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work on so many rows: on many in a thread, on few at once."""
    if n_rows < limits.THREAD_MIN_ROWS:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def _can_feed(request: ExchangeRequest) -> bool:
    return bool(request.capabilities & Capability.FEED)


def _check_own(device: Device, asked: ExchangeRequest) -> None:
    """A device speaks for itself only. One that can't be told of a single row is refused as a whole."""
    if asked.device_alias != device.alias:
        raise Forbidden("the device alias is not this device's", "use the alias from its enrolment")
    if _can_feed(asked):
        return
    if any(row.target.device_alias != device.alias for row in asked.annotations):
        raise Forbidden("an annotation speaks of another device's result", "annotate own results only")
    if any(row.author != device.device_id for row in asked.annotations):
        raise Forbidden("an annotation has another author", "use the device id as the author")
