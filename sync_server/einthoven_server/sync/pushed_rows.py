"""Makes rows of a push ready to be written: canonical bytes, seals, shares, ciphertext. Pure but for cryptography.

It deliberately settles nothing, and refuses no row: what is wrong with one goes along as its fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from einthoven_protocol import digests, merkle
from einthoven_protocol.canonical import encode_result_rows
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import ExchangeRequest, RejectReason, RepairRequest, ResultId, ResultRow
from einthoven_server.identity.callers import Device
from einthoven_server.identity.signatures import verify
from einthoven_server.records.change_store import ChangeStore
from einthoven_server.records.changes import PushedRow
from einthoven_server.records.ledger import row_fault
from einthoven_server.sync.seals import sealed_counters

_Sealed: TypeAlias = Callable[[int], bool]


def pushed_rows(
    store: ChangeStore, device: Device, asked: ExchangeRequest, now_ms: int
) -> tuple[tuple[PushedRow, ...], tuple[PushedRow, ...]]:
    """Results and alerts of a push."""
    rows = (*asked.results, *asked.alerts)
    if not rows:
        return (), ()
    canonical = encode_result_rows(rows)
    n_results = len(asked.results)
    sealed: set[int] = set()
    for begin, end in ((0, n_results), (n_results, len(rows))):
        counters = [row.counter for row in rows[begin:end]]
        sealed |= sealed_counters(device, asked.epoch, asked.seals, counters, canonical[begin:end])
    made = _made(store, device, asked.epoch, rows, canonical, sealed.__contains__, now_ms)
    return tuple(made[:n_results]), tuple(made[n_results:])


def given_rows(
    store: ChangeStore, device: Device, asked: RepairRequest, now_ms: int
) -> tuple[tuple[ResultId, PushedRow], ...]:
    """Own results that a repair gives back, in its order; all have a fault if its signature is bad."""
    try:
        message = merkle.given_message(device.alias, asked.given, asked.segments_root)
        good = verify(device.public_key, message, asked.signature)
    except ProtocolError:
        good = False
    by_epoch: dict[int, list[int]] = {}
    for place, one in enumerate(asked.given):
        by_epoch.setdefault(one.epoch, []).append(place)
    made: dict[int, PushedRow] = {}
    for epoch, places in by_epoch.items():
        rows = [asked.given[place].row for place in places]
        pushed = _made(store, device, epoch, rows, encode_result_rows(rows), lambda counter: good, now_ms)
        made.update(zip(places, pushed, strict=True))
    return tuple(
        (ResultId(one.device_alias, one.epoch, one.row.counter), made[place]) for place, one in enumerate(asked.given)
    )


def _made(
    store: ChangeStore,
    device: Device,
    epoch: int,
    rows: Sequence[ResultRow],
    canonical: Sequence[bytes],
    sealed: _Sealed,
    now_ms: int,
) -> list[PushedRow]:
    shares = digests.result_sums(device.sync_key, device.alias, epoch, canonical)
    counters = [row.counter for row in rows]
    stored = store.sealed_results(device.patient_key, device.alias, epoch, counters, canonical)
    faults = [row_fault(row, now_ms) if sealed(row.counter) else RejectReason.BAD_SEAL for row in rows]
    return list(map(PushedRow, rows, canonical, shares, faults, stored))
