"""Sync: what waits in the store goes up, what the server has comes down, and both ends compare digests.

The shell around the sans-IO protocol: it moves bytes and decides nothing about rows. Requests are built by
``sync_requests``, answers believed or not by ``sync_answers``, differences mended by ``sync_repairs``. It deliberately
does not retry: a caller knows its battery and its network (``sync_policy``, ``watching``), and an exchange can be
repeated at any time. That the store was turned back and goes on in a new epoch is said by the store's own events,
which are left in it for the caller.

Invariants:
    1. One round trip does everything, unless there is more than one message can hold, an epoch has ended, the patient
       wrote something of a result that had not arrived yet (``store_rules``, R9), or the server is met for the first
       time.
    2. Nothing is taken over from a response that does not add up (``sync_answers``).
    3. A repeated exchange changes nothing, so a request that would be the last one again is not made: whatever a server
       answers, a sync ends. One that makes the store fork again and again is refused.
    4. With a server that can repair, a sync ends with equal digests or with an error that says whose rows differ.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from einthoven.clock import SystemClock
from einthoven.errors import SyncError
from einthoven.identity import find_identity, load_identity
from einthoven.ports import Clock, Store, SyncState, Transport
from einthoven.sync_answers import read_exchange
from einthoven.sync_repairs import NewSession, RepairLink, buckets_to_mend, repair_bucket, still_unequal
from einthoven.sync_report import ShowProgress, SyncProgress, SyncReport, Tally
from einthoven.sync_requests import build_request, carries, push_size, understands
from einthoven.sync_waiting import Bucket, results_wait
from einthoven.transport_https import HttpsTransport
from einthoven_protocol import codec, limits
from einthoven_protocol.messages import Capability, ExchangeRequest, ExchangeResponse

__all__ = ["EXCHANGE_PATH", "MAX_FORKS", "MAX_REPAIRS", "MAX_ROUND_TRIPS", "SyncProgress", "SyncReport", "sync"]

EXCHANGE_PATH: Final = "/v1/exchange"
MAX_ROUND_TRIPS: Final = 10_000
"""Round trips of one sync; with full messages, years of results."""
MAX_FORKS: Final = 3
"""New epochs that one sync may begin; a server that tells the truth makes it one at most."""
MAX_REPAIRS: Final = 2
"""Times that one sync compares all buckets; the second finds what others changed meanwhile."""


async def sync(
    store: Store,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    progress: ShowProgress | None = None,
    max_results: int = limits.MAX_RESULTS_PER_EXCHANGE,
    new_session: NewSession | None = None,
) -> SyncReport:
    """Exchange until nothing waits on either side.

    Args:
        store: An enrolled device's store.
        transport: How to reach the server; HTTPS to the enrolled one, if not given.
        clock: Tells now; the system's, if not given.
        progress: Called after each round trip.
        max_results: Results of one push at most; few of them pass a slow network where many don't. Urgent ones behind
            them go ahead.
        new_session: Draws the session keys of repairs; the system's chance, if not given.

    Raises:
        NotEnrolled: The store belongs to no server yet.
        TransportError: The server can't be reached, trusted, or refuses; nothing is lost, what was acknowledged stays.
        SyncError: The answer does not add up, and nothing of it was taken over; or the server contradicts itself; or
            the digests of both sides could not be made equal.
        StoreError: The store can't keep the answer.
    """
    identity = load_identity(store)
    clock = clock or SystemClock()
    https: HttpsTransport | None = None
    if transport is None:
        transport = https = HttpsTransport(identity, clock=clock)
    link = RepairLink(
        store=store,
        identity=identity,
        transport=transport,
        clock=clock,
        new_session=new_session or _session,
        tally=Tally(),
    )
    try:
        return await _Run(link, progress, max_results).to_the_end()
    finally:
        if https is not None:
            await https.close()


class _Run:
    """One sync."""

    def __init__(self, link: RepairLink, progress: ShowProgress | None, max_results: int) -> None:
        self._link = link
        self._tally = link.tally
        self._progress = progress
        self._max_results = max_results

    async def to_the_end(self) -> SyncReport:
        """Exchange, mend, exchange again."""
        # A commit waits for the disk, which the event loop must not.
        first = await asyncio.to_thread(self._link.store.sync_state)
        state = await self._exchange(first)
        for _ in range(MAX_REPAIRS):
            unequal = self._to_mend(state)
            if not unequal:
                break
            for bucket in unequal:
                state = await repair_bucket(self._link, bucket, state)
                self._say(state, repairing=True)
            # What the server turned out to lack waits again, and what was written meanwhile came in between.
            if state.waiting or self._to_mend(state):
                state = await self._exchange(state)
        state = await self._say_former_notes(state)
        if unequal := self._to_mend(state):
            raise still_unequal(self._link.identity, unequal[0])
        return self._tally.report(first, state)

    async def _say_former_notes(self, state: SyncState) -> SyncState:
        """R22: what the patient wrote under a former enrolment, and this server did not send, goes to it."""
        if not understands(state, Capability.FEED) or self._tally.round_trips >= MAX_ROUND_TRIPS:
            return state
        said = await asyncio.to_thread(self._link.store.say_former_notes, self._link.identity.patient_id)
        return await self._exchange(await asyncio.to_thread(self._link.store.sync_state)) if said else state

    def _to_mend(self, state: SyncState) -> tuple[Bucket, ...]:
        return buckets_to_mend(self._link.identity, state) if understands(state, Capability.REPAIR) else ()

    async def _exchange(self, state: SyncState) -> SyncState:
        """Exchange until nothing more moves; return where the store stands."""
        request = await self._next_request(state)
        while self._tally.round_trips < MAX_ROUND_TRIPS:
            before, response = state, await self._post(request, state)
            await self._require_same_enrolment()
            state = await asyncio.to_thread(
                self._link.store.apply_exchange, request, response, at_ms=self._link.clock.now_ms()
            )
            self._tally.forks += state.epoch != before.epoch
            self._say(state)
            if self._tally.forks > MAX_FORKS:
                raise SyncError(
                    "the server keeps refusing what it asks for", "sync later; if it stays so, ask your clinic"
                )
            last, request = request, await self._next_request(state, unread=response.more)
            # A closed epoch's answer brings no news (R4), so the current one is asked last.
            anything = response.more or carries(request) or results_wait(state) or last.epoch != state.epoch
            if not (anything or _owners_unknown(state)) or request == last:
                break
        return state

    async def _next_request(self, state: SyncState, *, unread: bool = False) -> ExchangeRequest:
        """What to say next; while there is something to hear, nothing of a closed epoch: it may have been said before.

        R7: a result that the server refuses as another's is given again only where all that the server has was heard,
        and of what was heard in a closed epoch the store keeps no place (R4). What waits in the current one goes up
        meanwhile: there may be something urgent in it (R14).
        """
        pending = await asyncio.to_thread(
            self._link.store.pending, limit=push_size(state, self._max_results), current=unread
        )
        return build_request(self._link.identity, state, pending)

    async def _post(self, request: ExchangeRequest, state: SyncState) -> ExchangeResponse:
        body = codec.encode_request(request, peer=state.capabilities)
        raw = await self._link.transport.post(EXCHANGE_PATH, body, {"Content-Type": codec.CONTENT_TYPE})
        response = read_exchange(self._link.identity, request, raw)
        self._tally.add(request, len(body), response, len(raw))
        return response

    async def _require_same_enrolment(self) -> None:
        if await asyncio.to_thread(find_identity, self._link.store) != self._link.identity:
            raise SyncError("the device was enrolled anew meanwhile; the answer was not taken over", "sync again")

    def _say(self, state: SyncState, *, repairing: bool = False) -> None:
        if self._progress is not None:
            self._progress(self._tally.progress(state, repairing=repairing))


def _owners_unknown(state: SyncState) -> bool:
    """Whether rows came whose owner's key did not: asked for all of them, the server says whose they are."""
    return understands(state, Capability.FEED) and not state.owners


def _session() -> bytes:
    return secrets.token_bytes(limits.SESSION_BYTES)
