"""Mends what two digests say differs, bucket by bucket, until both sides hold the same.

It moves messages between the pure plan (``einthoven_protocol.repair``), the server and the store, and decides nothing
about rows. It deliberately repairs nothing of its own accord: ``syncing`` says when.

Invariants:
    1. The number of requests for one bucket is bounded by the plan; a bucket that still differs is left as it is, and
       the caller compares again.
    2. The store takes over one answer at a time, each in one transaction: a repair that is cut off has done what it got
       to, and is simply done again.
    3. Every request has a fresh session key, drawn here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from einthoven.errors import SyncError
from einthoven.identity import Identity
from einthoven.ports import Clock, Store, SyncState, Transport
from einthoven.sync_answers import unbelievable
from einthoven.sync_report import Tally
from einthoven.sync_requests import build_given, understands
from einthoven.sync_waiting import Bucket, compared_buckets
from einthoven_protocol import codec, digests, limits, repair, repair_codec
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import BucketKind, Capability, Digest, RepairRequest, RepairResponse

REPAIR_PATH: Final = "/v1/repair"
_WORDS: Final = {BucketKind.RECORDS: "results and annotations", BucketKind.WORDS: "notes"}

NewSession = Callable[[], bytes]
"""Draws ``limits.SESSION_BYTES`` random bytes."""


@dataclass(frozen=True, slots=True)
class RepairLink:
    """What a repair works with.

    Attributes:
        store: The device's store.
        identity: Who the device is.
        transport: The way to its server.
        clock: Tells now.
        new_session: Draws session keys.
        tally: Where its round trips are counted.
    """

    store: Store
    identity: Identity
    transport: Transport
    clock: Clock
    new_session: NewSession
    tally: Tally


def buckets_to_mend(identity: Identity, state: SyncState) -> tuple[Bucket, ...]:
    """Return the buckets that are not the same on both sides, own records first.

    Those are also to be mended while results are left to be given back: then both sides lack them.
    """
    own = (identity.device_alias, int(BucketKind.RECORDS))
    return tuple(
        one
        for one in compared_buckets(identity, state)
        if one.here != one.there or ((one.owner, one.kind) == own and state.waiting_given)
    )


def still_unequal(identity: Identity, bucket: Bucket) -> SyncError:
    """What to raise for a bucket that a repair did not mend."""
    whose = "this device" if bucket.owner == identity.device_alias else f"device {bucket.owner}"
    if bucket.owner == 0:
        whose = "the clinic"
    kind = _WORDS.get(BucketKind(bucket.kind), "rows") if bucket.kind in list(BucketKind) else "rows"
    return SyncError(
        f"the {kind} of {whose} are not the same on both sides, and could not be mended",
        "sync again later; if it stays so, tell your clinic",
    )


async def repair_bucket(link: RepairLink, bucket: Bucket, state: SyncState) -> SyncState:
    """Compare one bucket with the server's row by row, and take over what it says; return where the store stands.

    Raises:
        TransportError: The server can't be reached, or refuses.
        SyncError: An answer does not add up; nothing of it was taken over.
        StoreError: The store can't keep it.
    """
    plan = repair.RepairPlan(
        link.identity.device_alias,
        bucket.owner,
        bucket.kind,
        bucket.there,
        takes_powers=understands(state, Capability.POWERS),
    )
    while (request := plan.next(await asyncio.to_thread(_standing, link, bucket, state))) is not None:
        body = repair_codec.encode_repair_request(request)
        raw = await link.transport.post(REPAIR_PATH, body, {"Content-Type": codec.CONTENT_TYPE})
        response = _read(plan, request, raw)
        state = await asyncio.to_thread(link.store.apply_repair, request, response, at_ms=link.clock.now_ms())
        link.tally.add_repair(request, len(body), response, len(raw))
    return state


def _standing(link: RepairLink, bucket: Bucket, state: SyncState) -> repair.Standing:
    """What this side holds of a bucket now."""
    owner, kind = bucket.owner, bucket.kind
    rows = link.store.shares(owner, kind)
    standing = repair.Standing(
        shares=rows.shares,
        ours=_here(link.identity, state, owner, kind),
        session=link.new_session(),
        result_ids=rows.result_ids,
    )
    if (owner, kind) != (link.identity.device_alias, BucketKind.RECORDS):
        return standing
    given, segments = link.store.to_give(limit=limits.MAX_GIVEN_PER_REPAIR)
    if not given:
        return standing
    signed = build_given(link.identity, given, segments)
    return replace(standing, given=signed.given, segments_root=signed.segments_root, signature=signed.signature)


def _read(plan: repair.RepairPlan, request: RepairRequest, raw: bytes) -> RepairResponse:
    try:
        response = repair_codec.decode_repair_response(raw)
        plan.take(response)
    except ProtocolError as problem:
        raise unbelievable() from problem
    return response


def _here(identity: Identity, state: SyncState, owner: int, kind: int) -> Digest:
    found = [one.here for one in compared_buckets(identity, state) if (one.owner, one.kind) == (owner, kind)]
    return found[0] if found else digests.EMPTY
