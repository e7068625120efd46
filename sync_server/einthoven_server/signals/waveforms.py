"""Stored signals as ``records.waveforms`` wants them. It deliberately decides nothing about who may see one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from einthoven.ports import MISSING_UV
from einthoven_protocol.messages import ResultId
from einthoven_server.records.waveforms import Waveform
from einthoven_server.signals.catalog import SignalCatalog
from einthoven_server.signals.receiving import SignalReceiver

_HEADER_BYTES = 13
"""Of the canonical form: version, rate as two uint32, n (docs/signals-v1.md, section 1)."""


class StoredWaveforms:
    """The port's adapter.

    Args:
        catalog: Which signals are stored.
        receiver: Reads them.
    """

    def __init__(self, catalog: SignalCatalog, receiver: SignalReceiver) -> None:
        self._catalog = catalog
        self._receiver = receiver

    async def among(self, results: Sequence[ResultId]) -> set[ResultId]:
        """Those whose signal is stored."""
        return await self._catalog.stored_among(results)

    async def of(self, result: ResultId) -> Waveform | None:
        """The signal of a result, if it is stored."""
        place = await self._catalog.place_of(result)
        if place is None:
            return None
        octets = await self._receiver.samples(place)
        rate = Fraction(int.from_bytes(octets[1:5], "little"), int.from_bytes(octets[5:9], "little"))
        samples_uv = np.frombuffer(octets, "<i4", offset=_HEADER_BYTES).astype(np.int32)
        return Waveform(rate, samples_uv, samples_uv == MISSING_UV)
