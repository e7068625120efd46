"""The simulated server: the real service on the real in-memory change store, in a process that can be killed.

It deliberately has no HTTP: what a request's guard does (unknown and revoked devices, a signature's age) is done here
in a line each.

Invariants:
    1. What a killed server had not committed never was; what it had committed is what the next one finds.
    2. A request that was under way when it died gets no answer.
    3. After a fail-over the server goes on from the replica's rows under a higher shard epoch. Enrolments are not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from einthoven_bench.simulation.authority import authority
from einthoven_bench.simulation.mortal import MortalStore, ServerKilled
from einthoven_bench.simulation.occurring import Occurred
from einthoven_bench.simulation.reading import decode_request
from einthoven_bench.simulation.registry import TENANT, Registry
from einthoven_bench.simulation.versions import first_version_request, first_version_response
from einthoven_bench.simulation.virtual_time import VirtualLoop
from einthoven_protocol import codec, documents, repair_codec
from einthoven_protocol.messages import Capability, Cursor, Document, ServerLimits
from einthoven_server import limits
from einthoven_server.audit.chain import ALLOWED, Event
from einthoven_server.errors import ClockSkew, Malformed
from einthoven_server.identity.callers import Device
from einthoven_server.identity.refusals import revoked
from einthoven_server.identity.signatures import refused_device
from einthoven_server.records.change_store import ChangeBatch, ChangeStore, Wanted
from einthoven_server.records.change_store_memory import MemoryChangeStore
from einthoven_server.records.changes import Change, Nonce
from einthoven_server.records.memory_state import State
from einthoven_server.records.writer import Writer
from einthoven_server.sync.service import SyncService

EXCHANGE_PATH: Final = "/v1/exchange"
REPAIR_PATH: Final = "/v1/repair"

_Value = TypeVar("_Value")


class Envelope(NamedTuple):
    """A request as it arrives.

    Attributes:
        device_id: Who signed it.
        path: Where it goes.
        body: Its bytes.
        nonce: Of its signature.
        signed_at_ms: When it says it was signed.
    """

    device_id: str
    path: str
    body: bytes
    nonce: str
    signed_at_ms: int


class ServerGone(Exception):
    """No answer will come: the server is down, or died meanwhile."""


class SimulatedServer:
    """Everything that happens on the server's side.

    Args:
        loop: Virtual time.
        seed: Of keys.
        old: Whether it speaks as the first version did.
        signed_time: Whether a signature's age counts.
        push_max: Results of one push that it asks for; 0 for no limit.
        page_rows: Rows of one answer; 0 for as many as fit.
        wrap: Puts something between the service and its change store: a bug that is planted.
        seen: Told what befalls it (``occurring``).
    """

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        *,
        old: bool,
        signed_time: bool,
        push_max: int,
        page_rows: int,
        wrap: Callable[[ChangeStore], ChangeStore],
        seen: set[str],
    ) -> None:
        self._loop = loop
        self.old = old
        self._signed_time = signed_time
        self._push_max = push_max
        self._page_rows = page_rows
        self._wrap = wrap
        self._seen = seen
        self.changes = MemoryChangeStore()
        self.registry = Registry(self.changes, seed)
        self._lives: list[asyncio.Task[None]] = []
        self._calls: set[asyncio.Task[Any]] = set()
        self._replica: State | None = None
        self._down_until = 0.0
        self._start()

    # ---- life ----

    def now_ms(self) -> int:
        """See ``Clock``: the server's is right."""
        return self._loop.now_ms()

    def kill_at(self, moments: int, down_ms: int) -> None:
        """Be killed at so manieth moment from now, and start again after a while."""
        self._down_ms = down_ms
        self._store.kill_at(moments)

    def replicate(self) -> None:
        """The replica has caught up."""
        self._replica = self.changes.saved()

    def fail_over(self, down_ms: int) -> Cursor | None:
        """Be lost; the replica goes on. Returns where it goes on from, if there is one."""
        if self._replica is None:
            return None
        self._down_ms = down_ms
        self._store.dead = True
        self._die()
        lost, kept = self.changes.saved().head, self._replica.head
        self._seen |= {Occurred.FAILED_OVER} | ({Occurred.COMMITS_LOST} if lost != kept else set())
        self.changes.fork_history(self._replica)
        return Cursor(lost.shard_epoch, kept.commit_seq)

    def _start(self) -> None:
        self._down_ms = 0
        self._store = MortalStore(self._wrap(self.changes), self._killed, self._page_rows)
        self._writer = Writer(self._store, self)
        self._service = SyncService(self._store, self._writer, self)
        self._stopped = asyncio.Event()
        self._lives.append(self._loop.create_task(self._live(self._writer, self._stopped)))

    async def _live(self, writer: Writer, stopped: asyncio.Event) -> None:
        try:
            async with writer.running():
                await stopped.wait()
        except ServerKilled:
            pass

    def _killed(self) -> None:
        self._seen.add(Occurred.SERVER_KILLED)
        self._die()

    def _die(self) -> None:
        for call in self._calls:
            call.cancel()
        self._stopped.set()
        self._down_until = self._loop.time() + self._down_ms / 1000

    def _alive(self) -> None:
        if self._store.dead:
            if self._loop.time() < self._down_until:
                raise ServerGone
            self._start()

    def heal(self) -> None:
        """Whatever happened: it runs, and nothing is armed any more."""
        self._down_until = 0.0
        self._store.kill_at(0)

    async def stop(self) -> None:
        """End."""
        self._stopped.set()
        await asyncio.gather(*self._lives)

    async def _call(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Run a request in this life of the server."""
        try:
            self._alive()
        except ServerGone:
            work.close()
            raise
        task = self._loop.create_task(work)
        self._calls.add(task)
        try:
            return await task
        except (asyncio.CancelledError, ServerKilled):
            raise ServerGone from None
        finally:
            self._calls.discard(task)

    # ---- requests ----

    async def post(self, envelope: Envelope) -> bytes:
        """Answer a device.

        Raises:
            RequestRefused: As over HTTP.
            ServerGone: No answer.
        """
        return await self._call(self._answer(envelope))

    async def _answer(self, envelope: Envelope) -> bytes:
        device = self.registry.devices.get(envelope.device_id)
        if device is None:
            raise refused_device()
        if device.revoked:
            raise revoked()
        now_ms = self.now_ms()
        if self._signed_time and abs(now_ms - envelope.signed_at_ms) > limits.SIGNATURE_AGE_MAX_MS:
            raise ClockSkew("the device's clock is more than 5 minutes off", "set its clock and sign again", now_ms)
        event = Event(now_ms, device.device_id, "exchange", device.patient_id, ALLOWED)
        if envelope.path == EXCHANGE_PATH:
            return await self._exchange(device, envelope, event)
        if self.old:
            raise Malformed("no such address", "see docs/sync-protocol-v1.md", code="not_found")
        return await self._repair(device, envelope, event)

    async def _exchange(self, device: Device, envelope: Envelope, event: Event) -> bytes:
        request = decode_request(envelope.body)
        if self.old:
            request = first_version_request(request)
        nonce = Nonce(envelope.nonce, envelope.signed_at_ms + limits.SIGNATURE_AGE_MAX_MS)
        response = await self._service.exchange(device, request, nonce, event)
        if self.old:
            response = first_version_response(response)
        elif request.capabilities:  # what the address announces, beside what the service does
            response = msgspec.structs.replace(
                response,
                capabilities=response.capabilities | Capability.REPAIR,
                limits=ServerLimits(max_results=self._push_max),
            )
        return codec.encode_response(response)

    async def _repair(self, device: Device, envelope: Envelope, event: Event) -> bytes:
        request = repair_codec.decode_repair_request(envelope.body)
        response = await self._service.repair(device, request, event)
        return repair_codec.encode_repair_response(response)

    async def change(self, make: Callable[[Event], Change]) -> Any:
        """Somebody at the console changes something.

        Raises:
            RequestRefused: As over HTTP.
            ServerGone: No answer.
        """
        event = Event(self.now_ms(), "clinician", "console", "", ALLOWED)
        return await self._call(self._changed(make(event)))

    async def _changed(self, change: Change) -> Any:
        writer: Any = self._writer
        method = {
            "Annotate": "annotate",
            "WriteNote": "note",
            "Delete": "delete",
            "PutDocument": "put_document",
            "Push": "push",
        }[type(change).__name__]
        return await getattr(writer, method)(change)

    async def collect(self) -> None:
        """Remove tombstones that nobody needs.

        Raises:
            ServerGone: It died of it.
        """
        if await self._call(self._store.collect_tombstones(self.now_ms())):
            self._seen.add(Occurred.COLLECTED)

    # ---- what it holds ----

    async def position(self) -> Cursor:
        """Where it stands."""
        return await self.changes.read(lambda snapshot: snapshot.position())

    async def document_version(self, patient: str, name: str) -> int:
        """The version of a document that it holds; 0 for none."""

        async def work(batch: ChangeBatch) -> int:
            await batch.head()
            held = await batch.load(Wanted(documents={(patient, name)}))
            return held.documents.get((patient, name), 0)

        return await self.changes.commit(work)

    async def signed_document(self, patient: str, name: str) -> Document:
        """The next version of a document."""
        version = await self.document_version(patient, name) + 1
        body = f'{{"version": {version}}}'.encode()
        issued_at_ms = self.now_ms()
        message = documents.signed_bytes(TENANT, patient, name, version, issued_at_ms, body)
        return Document(
            name=name, version=version, issued_at_ms=issued_at_ms, body=body, signature=authority().sign(message)
        )
