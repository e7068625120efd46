"""Sync: what waits in the store goes up, what the server has comes down, and both ends compare digests.

The shell around the sans-IO protocol: it moves bytes and decides nothing about rows. It deliberately does not retry:
a caller knows its battery and its network, and an exchange can be repeated at any time. That the store was turned back
and goes on in a new epoch is said by the store's own events, which are left in it for the caller.

Invariants:
    1. One round trip does everything, unless there is more than one message can hold, an epoch has ended, or the
       patient wrote something of a result that had not arrived yet (``store_rules``, R9).
    2. Nothing is taken over from a response that does not add up (``exchange.check_response``).
    3. A repeated exchange changes nothing, so a request that would be the last one again is not made: whatever a server
       answers, a sync ends. One that makes the store fork again and again is refused.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from einthoven.clock import SystemClock
from einthoven.errors import SyncError
from einthoven.identity import Identity, find_identity, load_identity
from einthoven.ports import Clock, Pending, Store, SyncState, Transport
from einthoven.store_rules import is_reused
from einthoven.transport_https import HttpsTransport
from einthoven_protocol import codec, digests, exchange, limits, merkle
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import Digest, ExchangeRequest, ExchangeResponse, ResultRow, Seal

EXCHANGE_PATH: Final = "/v1/exchange"
MAX_ROUND_TRIPS: Final = 10_000
"""Round trips of one sync; with full messages, years of results."""
MAX_FORKS: Final = 3
"""New epochs that one sync may begin; a server that tells the truth makes it one at most."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did.

    Attributes:
        round_trips: Requests made.
        results_up: Results settled by the server; one that is given again counts once.
        annotations_up: Annotations sent.
        annotations_down: Annotations received.
        refused: Rows that the server refused, in this sync.
        bytes_up: Bodies of the requests, in bytes.
        bytes_down: Bodies of the answers, in bytes.
        result_bytes_up: Of ``bytes_up``, those of requests that carried results.
        server_digest: The server's own digest, as the last answer brought it; ``state`` holds this device's.
        state: Where the store stands now.
        forked: Whether the store was found to have been turned back, and began a new epoch; its events say why.
    """

    round_trips: int
    results_up: int
    annotations_up: int
    annotations_down: int
    refused: int
    bytes_up: int
    bytes_down: int
    result_bytes_up: int
    server_digest: Digest
    state: SyncState
    forked: bool = False

    @property
    def bytes_per_result(self) -> float | None:
        """Body bytes up for each result sent; None when there was none."""
        return self.result_bytes_up / self.results_up if self.results_up else None


async def sync(store: Store, *, transport: Transport | None = None, clock: Clock | None = None) -> SyncReport:
    """Exchange until nothing waits on either side.

    Args:
        store: An enrolled device's store.
        transport: How to reach the server; HTTPS to the enrolled one, if not given.
        clock: Tells now; the system's, if not given.

    Raises:
        NotEnrolled: The store belongs to no server yet.
        TransportError: The server can't be reached, trusted, or refuses; nothing is lost, what was acknowledged stays.
        SyncError: The answer does not add up, and nothing of it was taken over; or the server contradicts itself.
        StoreError: The store can't keep the answer.
    """
    identity = load_identity(store)
    clock = clock or SystemClock()
    if transport is not None:
        return await _run(store, identity, transport, clock)
    https = HttpsTransport(identity, clock=clock)
    try:
        return await _run(store, identity, https, clock)
    finally:
        await https.close()


@dataclass(slots=True)
class _Tally:
    """What was done so far."""

    round_trips: int = 0
    results_up: int = 0
    annotations_up: int = 0
    annotations_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    result_bytes_up: int = 0
    forks: int = 0

    def add(self, request: ExchangeRequest, bytes_up: int, response: ExchangeResponse, bytes_down: int) -> None:
        self.round_trips += 1
        self.bytes_up += bytes_up
        self.bytes_down += bytes_down
        self.result_bytes_up += bytes_up if request.results else 0
        self.results_up += _settled(request, response)
        self.annotations_up += len(request.annotations)
        self.annotations_down += len(response.annotations)


async def _run(store: Store, identity: Identity, transport: Transport, clock: Clock) -> SyncReport:
    tally = _Tally()
    # A commit waits for the disk, which the event loop must not.
    first = state = await asyncio.to_thread(store.sync_state)
    server_digest = digests.EMPTY
    pending = await asyncio.to_thread(store.pending, limit=limits.MAX_ROWS_PER_EXCHANGE)
    while tally.round_trips < MAX_ROUND_TRIPS:
        request = build_request(identity, state, pending)
        body = codec.encode_request(request)
        raw = await transport.post(EXCHANGE_PATH, body, {"Content-Type": codec.CONTENT_TYPE})
        response = _read(request, raw)
        if await asyncio.to_thread(find_identity, store) != identity:
            raise SyncError("the device was enrolled anew meanwhile; the answer was not taken over", "sync again")
        before = state
        state = await asyncio.to_thread(store.apply_exchange, request, response, at_ms=clock.now_ms())
        server_digest = response.digest
        tally.add(request, len(body), response, len(raw))
        tally.forks += state.epoch != before.epoch
        if tally.forks > MAX_FORKS:
            raise SyncError("the server keeps refusing what it asks for", "sync later; if it stays so, ask your clinic")
        # A closed epoch's answer brings no news (R4), so the current one is asked last.
        if not (state.waiting or response.more or request.epoch != state.epoch):
            break
        asked = (pending, before.cursor)
        pending = await asyncio.to_thread(store.pending, limit=limits.MAX_ROWS_PER_EXCHANGE)
        if asked == (pending, state.cursor):
            break
    return SyncReport(
        tally.round_trips,
        tally.results_up,
        tally.annotations_up,
        tally.annotations_down,
        max(0, len(state.refused) - len(first.refused)),
        tally.bytes_up,
        tally.bytes_down,
        tally.result_bytes_up,
        server_digest,
        state,
        forked=tally.forks > 0,
    )


def build_request(identity: Identity, state: SyncState, pending: Pending) -> ExchangeRequest:
    """Return the message that pushes ``pending``, its results sealed."""
    epoch, results = pending.epoch, pending.results
    return ExchangeRequest(
        device_alias=identity.device_alias,
        epoch=epoch,
        results=results,
        annotations=pending.annotations,
        seals=(_seal(identity, epoch, results, pending.segment_digests),) if results else (),
        cursor=state.cursor,
    )


def _settled(request: ExchangeRequest, response: ExchangeResponse) -> int:
    """How many of the pushed results the server settled, without those that are given again (R7)."""
    if not request.results:
        return 0
    settled = response.acknowledged - request.results[0].counter + 1
    return max(0, settled - sum(is_reused(verdict) for verdict in response.verdicts))


def _seal(identity: Identity, epoch: int, rows: tuple[ResultRow, ...], segments: tuple[bytes, ...]) -> Seal:
    results_root = merkle.tree_hash([codec.encode_result_row(row) for row in rows])
    segments_root = merkle.tree_hash(list(segments))
    first, last = rows[0].counter, rows[-1].counter
    message = merkle.seal_message(identity.device_alias, epoch, first, last, results_root, segments_root)
    return Seal(
        epoch=epoch,
        first_counter=first,
        last_counter=last,
        results_root=results_root,
        segments_root=segments_root,
        signature=identity.sign(message),
    )


def _read(request: ExchangeRequest, raw: bytes) -> ExchangeResponse:
    try:
        response = codec.decode_response(raw)
        exchange.check_response(request, response)
    except ProtocolError as problem:
        raise SyncError(
            "the server's answer does not add up and was not taken over", "sync again; if it stays so, update the app"
        ) from problem
    return response
