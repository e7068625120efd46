"""Sync: what waits in the store goes up, what the server has comes down, and both ends compare digests.

The shell around the sans-IO protocol: it moves bytes and decides nothing about rows. It deliberately does not retry:
a caller knows its battery and its network, and an exchange can be repeated at any time.

Invariants:
    1. One round trip does everything, unless there is more than one message can hold.
    2. Nothing is taken over from a response that does not add up (``exchange.check_response``).
    3. A repeated exchange changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from einthoven.clock import SystemClock
from einthoven.errors import SyncError
from einthoven.identity import Identity, load_identity
from einthoven.ports import Clock, Pending, Store, SyncState, Transport
from einthoven.transport_https import HttpsTransport
from einthoven_protocol import codec, digests, exchange, limits, merkle
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import Digest, ExchangeRequest, ExchangeResponse, ResultRow, Seal

EXCHANGE_PATH: Final = "/v1/exchange"
MAX_ROUND_TRIPS: Final = 10_000
"""Round trips of one sync; with full messages, years of results."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did.

    Attributes:
        round_trips: Requests made.
        results_up: Results acknowledged by the server.
        annotations_up: Annotations sent.
        annotations_down: Annotations received.
        refused: Rows that the server refused, in this sync.
        bytes_up: Bodies of the requests, in bytes.
        bytes_down: Bodies of the answers, in bytes.
        result_bytes_up: Of ``bytes_up``, those of requests that carried results.
        server_digest: The server's own digest, as the last answer brought it; ``state`` holds this device's.
        state: Where the store stands now.
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
        SyncError: The answer does not add up; nothing of it was taken over.
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


async def _run(store: Store, identity: Identity, transport: Transport, clock: Clock) -> SyncReport:
    trips = results_up = annotations_up = annotations_down = refused = up = down = result_bytes = 0
    state = store.sync_state()
    server_digest = digests.EMPTY
    while trips < MAX_ROUND_TRIPS:
        pending = store.pending(limit=limits.MAX_ROWS_PER_EXCHANGE)
        request = build_request(identity, state, pending)
        body = codec.encode_request(request)
        raw = await transport.post(EXCHANGE_PATH, body, {"Content-Type": codec.CONTENT_TYPE})
        response = _read(request, raw)
        before = state
        state = store.apply_exchange(request, response, at_ms=clock.now_ms())
        server_digest = response.digest
        trips += 1
        up += len(body)
        down += len(raw)
        result_bytes += len(body) if request.results else 0
        results_up += max(0, state.acknowledged - before.acknowledged)
        annotations_up += len(request.annotations)
        annotations_down += len(response.annotations)
        refused += len(state.refused) - len(before.refused)
        progressed = state.waiting < before.waiting or state.cursor > before.cursor
        if not (progressed and (state.waiting or response.more)):
            break
    return SyncReport(
        trips, results_up, annotations_up, annotations_down, refused, up, down, result_bytes, server_digest, state
    )


def build_request(identity: Identity, state: SyncState, pending: Pending) -> ExchangeRequest:
    """Return the message that pushes ``pending``, its results sealed."""
    return ExchangeRequest(
        device_alias=identity.device_alias,
        epoch=state.epoch,
        results=pending.results,
        annotations=pending.annotations,
        seals=(_seal(identity, state.epoch, pending.results, pending.segment_digests),) if pending.results else (),
        cursor=state.cursor,
    )


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
