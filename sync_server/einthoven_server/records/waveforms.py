"""The port to the stored ECG of a result, for whoever shows it; ``signals`` is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.messages import ResultId


class Waveform(NamedTuple):
    """The ECG that a result rests on.

    Attributes:
        sampling_rate_hz: Samples a second.
        samples_uv: int32 [n], microvolts.
        missing: bool [n], what was never received.
    """

    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32]
    missing: NDArray[np.bool_]


class Waveforms(Protocol):
    """Stored ECGs."""

    async def among(self, results: Sequence[ResultId]) -> set[ResultId]:
        """Those of ``results`` whose ECG is stored."""
        ...

    async def of(self, result: ResultId) -> Waveform | None:
        """The ECG of a result, if it is stored.

        Raises:
            EnvelopeRefused: It is not what was stored.
            Busy: The store can't be reached.
        """
        ...


class NoWaveforms:
    """Where no signals are kept."""

    async def among(self, results: Sequence[ResultId]) -> set[ResultId]:
        """None."""
        del results
        return set()

    async def of(self, result: ResultId) -> Waveform | None:
        """None."""
        del result
        return None
