"""The network between simulated devices and their server: it loses, doubles, delays and corrupts what one step says.

It deliberately has no TLS: a corrupted message is one that TLS, or the signature, would refuse; but not before the real
decoder was shown it, which must withstand anything.

Invariants:
    1. What it does to a message was decided by the step's seed, not by what else happens.
    2. An answer belongs to the request that asked for it; late and doubled requests are answered to nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any, Final

import msgspec

from einthoven.errors import DeviceRefused, ServerBusy, ServerRejected, ServerUnreachable, TransportError
from einthoven.identity import Identity
from einthoven.ports import Clock
from einthoven.result_rows import to_row
from einthoven_bench.simulation.history import Faults
from einthoven_bench.simulation.occurring import Occurred, in_exchange
from einthoven_bench.simulation.processes import Process
from einthoven_bench.simulation.reading import decode_request
from einthoven_bench.simulation.server import EXCHANGE_PATH, Envelope, ServerGone, SimulatedServer
from einthoven_bench.simulation.truth import Truth
from einthoven_bench.simulation.versions import first_version_request, first_version_response
from einthoven_protocol import codec
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import MAX_ALERTS_PER_EXCHANGE
from einthoven_protocol.messages import Capability, Cursor, ExchangeRequest, ResultId
from einthoven_server.errors import RequestRefused

TIMEOUT_S: Final = 60.0
"""After so long a device gives up on an answer, as ``transport_https`` does."""


class SimulatedTransport:
    """A ``Transport`` of one sync.

    Args:
        server: Where it leads.
        process: The app's; it can die while it waits.
        identity: Who signs.
        clock: The device's.
        faults: Of the network.
        rng: This sync's chances.
        spawn: Starts what goes on by itself.
        old_app: Whether the app speaks as the first version did.
        restored: How often its files were turned back.
        truth: Told what leaves, and what is taken over.
    """

    def __init__(
        self,
        server: SimulatedServer,
        process: Process,
        identity: Identity,
        clock: Clock,
        faults: Faults,
        rng: Random,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        old_app: bool,
        restored: int,
        truth: Truth,
    ) -> None:
        self._server = server
        self._process = process
        self._identity = identity
        self._clock = clock
        self._faults = faults
        self._rng = rng
        self._spawn = spawn
        self._old_app = old_app
        self._restored = restored
        self._truth = truth
        self._head = Cursor(0, 0)

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """See ``Transport``."""
        del headers
        self._process.moment()
        if path == EXCHANGE_PATH:
            body = self._leaving(body)
        elif self._old_app:
            raise AssertionError("an app of the first version asks for what it does not know")
        else:
            self._truth.repairs += 1
            self._truth.seen.add(Occurred.COMPARED)
        try:
            answer = await self._send(path, body)
        finally:
            self._process.moment()
        if path == EXCHANGE_PATH and self._old_app:
            answer = codec.encode_response(first_version_response(codec.decode_response(answer)))
        return answer

    async def close(self) -> None:
        """See ``Transport``."""

    def saw(self, name: str, args: tuple[Any, ...]) -> None:
        """Hear what the app's store took over."""
        if name == "apply_exchange":
            request, response = args
            self._truth.seen |= in_exchange(request, response)
            self._truth.took_over(request, response, self._head)

    def _leaving(self, body: bytes) -> bytes:
        if self._old_app:
            self._note_unheard(decode_request(body))
            return codec.encode_request(first_version_request(decode_request(body)))
        self._look_at_the_lane(decode_request(body))
        if self._server.old:
            self._note_unheard(decode_request(body))
        return body

    def _note_unheard(self, request: ExchangeRequest) -> None:
        """What goes up while nothing comes down of what the device itself sent."""
        for row in request.results:
            place = ResultId(request.device_alias, request.epoch, row.counter)
            self._truth.unheard.setdefault(place, self._restored)

    def _look_at_the_lane(self, request: ExchangeRequest) -> None:
        """What may go ahead, goes: once the server said that it takes it, and where nothing is missing before it."""
        if all(map(self._truth.is_ahead, self._truth.urgent)):
            return  # there is nothing that could be left behind
        store = self._process.behind
        state = store.sync_state()
        if request.epoch != state.epoch or not state.capabilities & Capability.FEED:
            return
        if self._truth.is_of_a_lost_history(request.cursor):
            return
        waiting = [
            to_row(stored.result)
            for stored in store.results_between(0, 2**60, limit=100_000)
            if stored.epoch == request.epoch and stored.result.counter > state.acknowledged
        ]
        if len(waiting) == state.last_counter - state.acknowledged:
            self._truth.leaves(request, waiting, state.limits.max_results or MAX_ALERTS_PER_EXCHANGE)

    async def _send(self, path: str, body: bytes) -> bytes:
        faults, rng = self._faults, self._rng
        chances = {
            name: rng.randrange(1000)
            for name in ("busy", "request_lost", "late", "doubled", "corrupted", "answer_lost")
        }
        struck = {name for name, chance in chances.items() if chance < getattr(faults, name)}
        ways = [rng.randint(0, faults.slow_ms) / 1000 for _ in range(3)]
        late_s = rng.randint(0, faults.late_ms) / 1000
        place, bit, of_request = rng.getrandbits(32), rng.randrange(8), rng.random() < 0.5
        envelope = Envelope(
            self._identity.device_id, path, body, f"nonce {self._truth.next_request():016d}", self._clock.now_ms()
        )
        if "late" in struck:
            self._truth.seen.add(Occurred.LATE)
            self._spawn(self._later(envelope._replace(nonce=f"late {envelope.nonce}"), late_s))
        if "doubled" in struck:
            self._truth.seen.add(Occurred.DOUBLED)
            self._spawn(self._later(envelope, ways[2]))
        await asyncio.sleep(ways[0])
        if "request_lost" in struck:
            self._truth.seen.add(Occurred.REQUEST_LOST)
            await asyncio.sleep(TIMEOUT_S)
            raise _unreachable()
        if "busy" in struck:
            self._truth.seen.add(Occurred.BUSY)
            raise ServerBusy("the server is busy (HTTP 503)", "try again in 5 s", 5.0)
        if "corrupted" in struck and of_request:
            self._truth.seen.add(Occurred.CORRUPTED)
            _shown(decode_request, _flipped(body, place, bit))
            raise ServerRejected("the server refused the request (HTTP 401)", "update the app, or tell your clinic")
        answer = await self._answered(envelope)
        self._head = await self._server.position()
        await asyncio.sleep(ways[1])
        if "answer_lost" in struck:
            self._truth.seen.add(Occurred.ANSWER_LOST)
            await asyncio.sleep(TIMEOUT_S)
            raise _unreachable()
        if "corrupted" in struck:
            self._truth.seen.add(Occurred.CORRUPTED)
            _shown(codec.decode_response, _flipped(answer, place, bit))
            raise _unreachable()
        return answer

    async def _answered(self, envelope: Envelope) -> bytes:
        try:
            return await self._server.post(envelope)
        except ServerGone:
            raise _unreachable() from None
        except RequestRefused as refusal:
            raise _as_device_sees(refusal) from None

    async def _later(self, envelope: Envelope, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            await self._server.post(envelope)
        except (ServerGone, RequestRefused):
            return


def _as_device_sees(refusal: RequestRefused) -> TransportError:
    """As ``transport_https`` reads the status of an answer."""
    if refusal.status in {429, 503}:
        return ServerBusy(f"the server is busy (HTTP {refusal.status})", "try again in 5 s", 5.0)
    if refusal.status in {401, 403}:
        return DeviceRefused("the server refuses this device", refusal.code)
    return ServerRejected(f"the server refused the request (HTTP {refusal.status}, {refusal.code})", "tell your clinic")


def _unreachable() -> ServerUnreachable:
    return ServerUnreachable("the server can't be reached", "sync again later")


def _flipped(octets: bytes, place: int, bit: int) -> bytes:
    """The same bytes but for one bit."""
    flipped = bytearray(octets or b"\0")
    flipped[place % len(flipped)] ^= 1 << bit
    return bytes(flipped)


def _shown(decode: Callable[[bytes], msgspec.Struct], octets: bytes) -> None:
    """Whatever the bytes, the decoder ends with a message or an error of its own tree."""
    try:
        decode(octets)
    except ProtocolError:
        return
