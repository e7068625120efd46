"""The server's side of a repair: where do a device's rows of one bucket differ from what is here, and what it takes.

It deliberately keeps nothing between two requests and decides nothing about rows: what a device gives is for the writer
to settle, which rows to send for ``einthoven_protocol.repair_answer``.

Invariants:
    1. A device sees the buckets of its own patient only; of any other, and of none, it hears the same.
    2. What was given is durable before anything is compared, so the answer speaks of the state with it.
    3. Rows, digest and cursor of an answer are of one moment.
    4. At most ``REPAIRS_AT_ONCE`` are under way, one a device, and a bounded number waits: comparing is work in
       proportion to a bucket, and a device can ask for it with few bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from einthoven_protocol import digests
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import BucketKind, RepairRequest, RepairResponse
from einthoven_protocol.repair_answer import Selection, select
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.clock import Clock
from einthoven_server.errors import Busy, Forbidden, Malformed, NotFound
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import SERVER_ALIAS, Bucket, BucketShares, ChangeStore, Snapshot
from einthoven_server.records.changes import Give
from einthoven_server.records.writer import Writer
from einthoven_server.sync.pushed_rows import given_rows


class RepairService:
    """Repairs of one shard.

    Args:
        store: Where rows lie.
        writer: Takes what is given.
        clock: Wall time.
        at_once: How many are under way.
        waiting_max: How many more may wait.
    """

    def __init__(
        self,
        store: ChangeStore,
        writer: Writer,
        clock: Clock,
        at_once: int = limits.REPAIRS_AT_ONCE,
        waiting_max: int = limits.REPAIRS_WAITING_MAX,
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._places = asyncio.Semaphore(at_once)
        self._most = at_once + waiting_max
        self._inside: set[int] = set()

    async def repair(
        self, device: Device, request: RepairRequest, event: Event, taken: Callable[[], None] = lambda: None
    ) -> RepairResponse:
        """Find out where a bucket differs, and mend it.

        Args:
            device: Who asks, verified.
            request: What it asks.
            event: Audit event of the request; written with what is given, if anything is.
            taken: Called when it was.

        Raises:
            RequestRefused: Not its patient's bucket, too much at once, queue full, revoked, or no database.
        """
        if request.device_alias != device.alias:
            raise Forbidden("the device alias is not this device's", "use the alias from its enrolment")
        if request.kind not in tuple(BucketKind):
            raise Malformed("no bucket is of that kind", "see docs/sync-protocol-v1.md", code="out_of_range")
        async with self._place(device.alias):
            await self._store.read(lambda snapshot: _check_visible(snapshot, device, request))
            verdicts = await self._take(device, request, event)
            if request.given:
                taken()
            answer = await self._store.read(lambda snapshot: _answer(snapshot, device, request, verdicts))
        return answer

    async def _take(self, device: Device, request: RepairRequest, event: Event) -> tuple[int, ...]:
        if not request.given:
            return ()
        now_ms = self._clock.now_ms()
        if len(request.given) < limits.THREAD_MIN_ROWS:
            rows = given_rows(self._store, device, request, now_ms)
        else:
            rows = await asyncio.to_thread(given_rows, self._store, device, request, now_ms)
        return await self._writer.give(Give(device=device, rows=rows, event=event, now_ms=now_ms))

    @asynccontextmanager
    async def _place(self, alias: int) -> AsyncIterator[None]:
        if alias in self._inside:
            raise Busy("a repair of this device is under way", "wait for its answer", limits.BUSY_RETRY_AFTER_S)
        if len(self._inside) >= self._most:
            raise Busy("too many repairs are under way", "try again later", limits.BUSY_RETRY_AFTER_S)
        self._inside.add(alias)
        try:
            async with self._places:
                yield
        finally:
            self._inside.discard(alias)


async def _check_visible(snapshot: Snapshot, device: Device, request: RepairRequest) -> None:
    patient = await snapshot.patient(device.patient_id, device.patient_key)
    seen = {owner.device_alias for owner in patient.owners}
    words_of_server = request.owner == SERVER_ALIAS and request.kind == BucketKind.WORDS
    if request.owner not in seen and not words_of_server:
        raise NotFound("no such bucket", "ask for those of the last exchange")


async def _answer(
    snapshot: Snapshot, device: Device, request: RepairRequest, verdicts: tuple[int, ...]
) -> RepairResponse:
    bucket = Bucket(device, request.owner, request.kind)
    shares = await snapshot.shares(bucket)
    chosen = await _selected(request, shares)
    n_results = len(shares.results)
    split = int(np.searchsorted(chosen.rows, n_results))
    ids = shares.results[chosen.rows[:split]]
    others = [shares.others[place - n_results] for place in chosen.rows[split:].tolist()]
    rows = await snapshot.rows(bucket, [(epoch, counter) for epoch, counter in ids.tolist()], others)
    held = await snapshot.digests(device)
    return RepairResponse(
        decoded=chosen.decoded,
        differences=chosen.differences,
        absent=chosen.absent,
        results=rows.results,
        annotations=rows.annotations,
        notes=rows.notes,
        superseded=rows.superseded,
        more=chosen.more,
        verdicts=verdicts,
        held=chosen.held if request.kind == BucketKind.RECORDS else (),
        digest=held.get((request.owner, request.kind), digests.EMPTY),
        cursor=await snapshot.position(),
    )


async def _selected(request: RepairRequest, shares: BucketShares) -> Selection:
    try:
        compared_bytes = len(request.symbols) + len(request.powers)
        if len(shares.shares) < limits.THREAD_MIN_ROWS and compared_bytes < limits.THREAD_MIN_COMPARED_BYTES:
            return select(request, shares.shares, shares.results)
        return await asyncio.to_thread(select, request, shares.shares, shares.results)
    except ProtocolError as error:
        raise Malformed(str(error), "see docs/sync-protocol-v1.md", code=error.code) from error
