"""The keys of devices' rows, opened once and kept in memory. It deliberately reads no database.

Invariants:
    1. At most ``DATA_KEYS_CACHED_MAX`` are kept; the least recently used goes first.
    2. A kept key is used only for the very ciphertext that it was opened from.
"""

from __future__ import annotations

from collections import OrderedDict

from einthoven_server import limits
from einthoven_server.envelope import PatientKey


class OwnerKeys:
    """Opened sync keys."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    def opened(self, key: PatientKey, device_id: str, sealed: bytes) -> bytes:
        """The sync key of a device.

        Raises:
            EnvelopeRefused: It was not sealed for this patient and device.
        """
        place = (device_id, sealed)
        kept = self._kept.get(place)
        if kept is None:
            kept = self._kept[place] = key.open(sealed, "device", "sync_key_sealed", device_id)
            while len(self._kept) > limits.DATA_KEYS_CACHED_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return kept
