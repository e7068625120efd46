"""Which pushed rows does a device vouch for? Pure but for the cryptography library.

It deliberately does not check ``segments_root`` against segments: they stay on the device until a replay asks for them.

Invariants:
    1. A row is sealed when some seal of the same epoch covers it, all rows of that seal's run are in the push, the
       Merkle root over their canonical bytes is the seal's, and the device's key signed it.
    2. A bad seal unseals only the rows that no good one covers; it refuses no push.
"""

from __future__ import annotations

from collections.abc import Sequence

from einthoven_protocol import merkle
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import Seal
from einthoven_server.identity.callers import Device
from einthoven_server.identity.signatures import verify


def sealed_counters(
    device: Device, epoch: int, seals: Sequence[Seal], counters: Sequence[int], canonical: Sequence[bytes]
) -> set[int]:
    """Counters that a good seal covers.

    Args:
        device: Who pushed.
        epoch: Epoch of the push.
        seals: Its seals.
        counters: Counters of the rows, ascending.
        canonical: Canonical bytes of the rows.
    """
    places = {counter: place for place, counter in enumerate(counters)}
    sealed: set[int] = set()
    for seal in seals:
        begin, length = places.get(seal.first_counter), seal.last_counter - seal.first_counter + 1
        if seal.epoch != epoch or begin is None or places.get(seal.last_counter) != begin + length - 1:
            continue
        if merkle.tree_hash(canonical[begin : begin + length]) == seal.results_root and _signed(device, seal):
            sealed.update(range(seal.first_counter, seal.last_counter + 1))
    return sealed


def _signed(device: Device, seal: Seal) -> bool:
    try:
        message = merkle.seal_message(
            device.alias, seal.epoch, seal.first_counter, seal.last_counter, seal.results_root, seal.segments_root
        )
    except ProtocolError:
        return False
    return verify(device.public_key, message, seal.signature)
