"""Raw signals to the server: what waits is packed, what the server lacks is sent, what it keeps is noted.

The lowest lane: call it after ``syncing.sync``, when nothing else waits. It deliberately knows neither battery nor
network: ``may_send`` is asked before every chunk, and an app says no on a network that counts bytes
(``sync_policy.signals_allowed``). It does not retry.

Invariants:
    1. Only signals of results that the server holds are sent, and only to a server that said it takes them.
    2. A signal counts as uploaded once the server said that it verified and keeps its chunk, not before.
    3. Cut off at any point, the next call makes the same chunks from what is left, and sends no byte that arrived.
    4. What the server refuses holds nothing up: the chunk is divided until the signal is found, and that one is set
       aside.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from einthoven.clock import SystemClock
from einthoven.errors import SyncError
from einthoven.identity import Identity, find_identity, load_identity
from einthoven.ports import Clock, SignedTransport, Store
from einthoven.signal_proving import SignalProver
from einthoven.signal_uploading import ParcelUpload
from einthoven.transport_https import HttpsTransport
from einthoven_protocol import limits, signal_chunks, signal_missing
from einthoven_protocol.codec import CONTENT_TYPE
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import Capability, Run
from einthoven_protocol.signal_chunks import ChunkSegment, chunk_name, encode_chunk
from einthoven_protocol.signal_missing import MissingRequest, MissingResponse
from einthoven_protocol.signal_parcels import encode_parcel

MISSING_PATH: Final = "/v1/signals/missing"
DEFAULT_BUDGET_BYTES: Final = 64 * 1024 * 1024
"""Signal that one call sends at most; some five days of one lead."""
PAGE_CHUNKS: Final = signal_missing.MAX_RUNS_PER_QUESTION // signal_chunks.MAX_CHUNK_SEGMENTS
"""Chunks that are packed and asked about at a time: their results fit one question however they are strewn."""
PAGE_BYTES: Final = (PAGE_CHUNKS + 1) * signal_chunks.MAX_CHUNK_BYTES
"""Signal that is read for them."""
REFUSED_SETTING: Final = "signals_refused/"
"""Beginning of the setting's name; the device's id follows, for another server may think otherwise."""
MAX_REFUSED: Final = 256
"""Signals set aside at most; beyond, the oldest is tried again."""

_Group = tuple[ChunkSegment, ...]


class SignalStop(Enum):
    """Why a call ended."""

    DONE = "done"
    BUDGET = "budget"
    POLICY = "policy"
    NOT_OFFERED = "not_offered"


@dataclass(slots=True)
class SignalReport:
    """What one call did.

    Attributes:
        chunks: Chunks sent and kept.
        segments: Signals that the server now keeps and that were not known to be kept before.
        signal_bytes: Of them, those that were sent now: their stored bytes.
        bytes_up: Bodies of all requests, in bytes.
        requests: Requests made.
        refused: Signals that the server refused; they are set aside.
        unproven: Signals whose results are not all here that were sealed together; they stay.
        stopped: Why it ended.
    """

    chunks: int = 0
    segments: int = 0
    signal_bytes: int = 0
    bytes_up: int = 0
    requests: int = 0
    refused: int = 0
    unproven: int = 0
    stopped: SignalStop = SignalStop.DONE


async def send_signals(
    store: Store,
    *,
    transport: SignedTransport | None = None,
    clock: Clock | None = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    may_send: Callable[[], bool] = lambda: True,
    only_full: bool = False,
) -> SignalReport:
    """Upload signals that wait, oldest first.

    Args:
        store: An enrolled device's store.
        transport: How to reach the server; HTTPS to the enrolled one, if not given.
        clock: Tells now; the system's, if not given.
        budget_bytes: Signal to send at most; the chunk that reaches it is still sent.
        may_send: Asked before every chunk whether battery and network allow it.
        only_full: Leave what does not fill a chunk for a later call: for calls that come often.

    Raises:
        NotEnrolled: The store belongs to no server yet.
        TransportError: The server can't be reached, trusted, or refuses; nothing is lost, what was kept stays.
        SyncError: The server's answer does not add up, or the device was enrolled anew meanwhile.
        StoreError: The store can't be read, or can't keep what is to be noted.
    """
    identity = load_identity(store)
    state = await asyncio.to_thread(store.sync_state)
    if not state.capabilities & Capability.SIGNALS:
        return SignalReport(stopped=SignalStop.NOT_OFFERED)
    https = None if transport is not None else HttpsTransport(identity, clock=clock or SystemClock())
    try:
        call = _Call(store, identity, transport or https, may_send, budget_bytes)  # type: ignore[arg-type]
        await call.run(only_full)
        return call.report
    finally:
        if https is not None:
            await https.close()


@dataclass(slots=True)
class _Call:
    """One call's doings."""

    store: Store
    identity: Identity
    transport: SignedTransport
    may_send: Callable[[], bool]
    budget_bytes: int
    report: SignalReport = field(default_factory=SignalReport)
    passed_over: set[bytes] = field(default_factory=set)
    known_new: bool = False

    async def run(self, only_full: bool) -> None:
        self.passed_over = set(await asyncio.to_thread(_set_aside, self.store, self.identity))
        prover = SignalProver(self.store)
        while (stopped := self._stopped()) is None:
            waiting = await asyncio.to_thread(
                self.store.segments_to_send, limit_bytes=PAGE_BYTES, skip=frozenset(self.passed_over)
            )
            groups = list(
                signal_chunks.cut(
                    ChunkSegment(epoch=one.epoch, counter=one.counter, digest=one.digest, stored=one.stored)
                    for one in waiting
                )
            )
            # The last group is whole only if a further signal closed it; it comes again with the next page.
            if len(groups) > 1 or only_full:
                groups = groups[:-1]
            if not groups:
                return
            await self._send_page(groups[:PAGE_CHUNKS], prover)
        self.report.stopped = stopped

    def _stopped(self) -> SignalStop | None:
        if self.report.signal_bytes >= self.budget_bytes:
            return SignalStop.BUDGET
        return None if self.may_send() else SignalStop.POLICY

    async def _send_page(self, groups: Sequence[_Group], prover: SignalProver) -> None:
        names = [chunk_name(encode_chunk(self.identity.device_alias, group)) for group in groups]
        answer = await self._ask(names, _runs(groups))
        for place, (group, missing) in enumerate(zip(groups, answer.missing, strict=True)):
            if not missing:
                await self._note(group)
                continue
            if place and self._stopped() is not None:
                return
            proven = await asyncio.to_thread(prover.prove, group, answer.seals)
            self.report.unproven += len(proven.unproven)
            self.passed_over.update(segment.digest for segment in proven.unproven)
            await self._send(proven.segments, answer.seals, prover)

    async def _send(self, group: _Group, seals: Sequence[Run], prover: SignalProver) -> None:
        """Send a group; where it is refused, its halves, down to the signal that is to blame."""
        parts: deque[_Group] = deque([group] if group else [])
        while parts:
            part = parts.popleft()
            chunk = encode_chunk(self.identity.device_alias, part)
            proofs = (await asyncio.to_thread(prover.prove, part, seals)).proofs
            upload = ParcelUpload(self.transport, encode_parcel(proofs, chunk), chunk)
            try:
                kept = await upload.send(known_new=self.known_new)
            finally:
                self.report.bytes_up += upload.bytes_up
                self.report.requests += upload.requests
            # What this call begins, no former one has begun.
            self.known_new = True
            if kept:
                self.report.chunks += 1
                self.report.signal_bytes += sum(len(segment.stored) for segment in part)
                await self._note(part)
            elif len(part) == 1:
                self.report.refused += 1
                self.passed_over.add(part[0].digest)
                await asyncio.to_thread(_put_aside, self.store, self.identity, part[0].digest)
            else:
                middle = len(part) // 2
                parts.extendleft((part[middle:], part[:middle]))

    async def _ask(self, names: Sequence[bytes], runs: Sequence[Run]) -> MissingResponse:
        body = signal_missing.encode_missing_request(MissingRequest(tuple(names), tuple(runs)))
        self.report.requests += 1
        self.report.bytes_up += len(body)
        answer = await self.transport.request("POST", MISSING_PATH, body, {"Content-Type": CONTENT_TYPE})
        try:
            return signal_missing.decode_missing_response(answer.body, len(names))
        except ProtocolError as problem:
            raise SyncError(
                "the server's answer does not add up and was not taken over", "sync again; if it stays so, update"
            ) from problem

    async def _note(self, group: _Group) -> None:
        if await asyncio.to_thread(find_identity, self.store) != self.identity:
            raise SyncError("the device was enrolled anew meanwhile; nothing was noted", "sync again")
        digests = [segment.digest for segment in group]
        self.report.segments += await asyncio.to_thread(self.store.acknowledge_segments, digests)


def _runs(groups: Sequence[_Group]) -> list[Run]:
    """Runs of the results whose signals are in these groups."""
    places = sorted((segment.epoch, segment.counter) for group in groups for segment in group)
    runs: list[Run] = []
    for epoch, counter in places:
        if runs and runs[-1].epoch == epoch and runs[-1].last + 1 == counter:
            runs[-1] = Run(epoch, runs[-1].first, counter)
        else:
            runs.append(Run(epoch, counter, counter))
    return runs


def _set_aside(store: Store, identity: Identity) -> list[bytes]:
    """Digests of signals that the server refused."""
    octets, length = store.setting(REFUSED_SETTING + identity.device_id) or b"", limits.DIGEST_BYTES
    return [octets[at : at + length] for at in range(0, len(octets), length)]


def _put_aside(store: Store, identity: Identity, digest: bytes) -> None:
    digests = [*_set_aside(store, identity), digest][-MAX_REFUSED:]
    store.put_setting(REFUSED_SETTING + identity.device_id, b"".join(digests))
