"""A ``Source`` over one lead that was read whole: what readers of short recordings derive from.

It deliberately reads nothing; readers of long recordings (``source_wfdb``, ``source_edf``) go piece by piece instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.source_checks import pieces


@dataclass(frozen=True, slots=True)
class HeldLead:
    """One lead in memory.

    Attributes:
        name: Form and lead; no file, no patient.
        sampling_rate_hz: Samples a second, exact.
        samples_uv: int32 [n], microvolts, read-only, ``MISSING_UV`` where none was received.
        started_at_ms: UTC of the first sample in ms since 1970, where the file states a time zone.
        simulated: Never.
    """

    name: str
    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32] = field(repr=False)
    started_at_ms: int | None = None
    simulated: bool = False

    @property
    def n_samples(self) -> int:
        """Samples of the lead."""
        return self.samples_uv.size

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, about a second at a time."""
        yield from pieces(self.samples_uv, self.sampling_rate_hz)
