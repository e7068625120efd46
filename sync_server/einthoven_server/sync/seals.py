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
    device: Device, epoch: int, seals: Sequence[Seal], first: int, canonical: Sequence[bytes]
) -> frozenset[int]:
    """Counters that a good seal covers.

    Args:
        device: Who pushed.
        epoch: Epoch of the push.
        seals: Its seals.
        first: Counter of the first row.
        canonical: Canonical bytes of the rows, contiguous from ``first``.
    """
    sealed: set[int] = set()
    for seal in seals:
        begin, end = seal.first_counter - first, seal.last_counter - first + 1
        if seal.epoch != epoch or not 0 <= begin < end <= len(canonical):
            continue
        if merkle.tree_hash(canonical[begin:end]) == seal.results_root and _signed(device, seal):
            sealed.update(range(seal.first_counter, seal.last_counter + 1))
    return frozenset(sealed)


def _signed(device: Device, seal: Seal) -> bool:
    try:
        message = merkle.seal_message(
            device.alias, seal.epoch, seal.first_counter, seal.last_counter, seal.results_root, seal.segments_root
        )
    except ProtocolError:
        return False
    return verify(device.public_key, message, seal.signature)
