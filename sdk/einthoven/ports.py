"""The ports of the SDK: what the pure core needs from the world, and what the shell implements.

An adapter names its technology (``store_sqlcipher.py``, ``transport_https.py``). Every adapter and every fake of a
port passes that port's suite in ``tests/contracts/``. An adapter raises only errors of ``einthoven.errors``.
"""

from __future__ import annotations

from einthoven.ports_exchange import NO_LIMITS, Pending, Segment, Shares, SyncState, WaitingSegment
from einthoven.ports_keys import MAX_ANCHOR_RECORD_BYTES, Anchor, HoldsRawKey, KeyProvider, Vault
from einthoven.ports_network import Answer, SignedTransport, Transport, Wake
from einthoven.ports_sources import MISSING_UV, Clock, LiveSource, Packet, Source, Stamped
from einthoven.ports_store import Store

__all__ = [
    "MAX_ANCHOR_RECORD_BYTES",
    "MISSING_UV",
    "NO_LIMITS",
    "Anchor",
    "Answer",
    "Clock",
    "HoldsRawKey",
    "KeyProvider",
    "LiveSource",
    "Packet",
    "Pending",
    "Segment",
    "Shares",
    "SignedTransport",
    "Source",
    "Stamped",
    "Store",
    "SyncState",
    "Transport",
    "Vault",
    "WaitingSegment",
    "Wake",
]
