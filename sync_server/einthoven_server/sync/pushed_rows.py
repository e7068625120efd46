"""Makes rows of a push ready to be written: canonical bytes, seals, shares, ciphertext. Pure but for cryptography.

It deliberately settles nothing, and refuses no row: what is wrong with one goes along as its fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from einthoven_protocol import digests, merkle
from einthoven_protocol.canonical import RESULT_ROW_BYTES, encode_result_rows
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import ExchangeRequest, RejectReason, RepairRequest, ResultId, ResultRow
from einthoven_protocol.packed_results import RESULT_FIELDS
from einthoven_server.identity.callers import Device
from einthoven_server.identity.signatures import verify
from einthoven_server.records.change_store import ChangeStore
from einthoven_server.records.changes import NO_ROWS, PushedRow, PushedRows
from einthoven_server.records.ledger import row_faults
from einthoven_server.sync.seals import sealed_counters

_Sealed: TypeAlias = Callable[[Sequence[int], Sequence[bytes]], set[int]]
"""Which of these counters, and canonical bytes, the device vouches for."""


def pushed_rows(
    store: ChangeStore, device: Device, asked: ExchangeRequest, now_ms: int
) -> tuple[PushedRows, PushedRows]:
    """Results and alerts of a push."""

    def sealed(counters: Sequence[int], canonical: Sequence[bytes]) -> set[int]:
        return sealed_counters(device, asked.epoch, asked.seals, counters, canonical)

    return (
        _made(store, device, asked.epoch, asked.results, sealed, now_ms),
        _made(store, device, asked.epoch, asked.alerts, sealed, now_ms),
    )


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
        pushed = _made(store, device, epoch, rows, lambda counters, _: set(counters) if good else set(), now_ms)
        made.update(zip(places, pushed, strict=True))
    return tuple(
        (ResultId(one.device_alias, one.epoch, one.row.counter), made[place]) for place, one in enumerate(asked.given)
    )


def _made(
    store: ChangeStore, device: Device, epoch: int, rows: Sequence[ResultRow], sealed: _Sealed, now_ms: int
) -> PushedRows:
    if not rows:
        return NO_ROWS
    canonical = encode_result_rows(rows)
    fields = np.frombuffer(b"".join(_plain(canonical)), RESULT_FIELDS)
    counters: list[int] = fields["counter"].tolist()
    faults, good = row_faults(fields, now_ms), sealed(counters, canonical)
    if len(good) < len(counters):
        faults = [
            fault if counter in good else RejectReason.BAD_SEAL for counter, fault in zip(counters, faults, strict=True)
        ]
    return PushedRows(
        counters,
        canonical,
        digests.result_sums(device.sync_key, device.alias, epoch, canonical),
        faults,
        store.sealed_results(device.patient_key, device.alias, epoch, counters, canonical),
    )


def _plain(canonical: Sequence[bytes]) -> Sequence[bytes]:
    """Rows without their further columns, which stand last."""
    if set(map(len, canonical)) == {RESULT_ROW_BYTES}:
        return canonical
    return [octets[:RESULT_ROW_BYTES] for octets in canonical]
