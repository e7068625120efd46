"""Puts packets on one time line: finds gaps, drops what came twice. Pure.

It deliberately does not estimate a drifting clock (packets are trusted to ``TOLERANCE_MS``), and it never stretches
samples over a gap: what is missing is said to be missing.

Invariants:
    1. Every sample is placed once; the first copy wins.
    2. Placed samples are contiguous: sample i is at ``started_at_ms + i / sampling_rate_hz``.
    3. A jump of the clock by more than ``GAP_FILL_MAX_MS``, either way, starts a new time line.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

TOLERANCE_MS: Final = 40
"""Disagreement between a packet's stamp and the sample count that is taken for jitter, in ms."""
GAP_FILL_MAX_MS: Final = 10_000
"""Longest gap that is filled, and longest overlap that is dropped, in ms."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a packet goes.

    Attributes:
        restart: Begin a new time line at the packet.
        missing: Samples to mark as missing before it.
        drop: Samples to drop from its beginning, as they are there already.
    """

    restart: bool = False
    missing: int = 0
    drop: int = 0


class Timeline:
    """Counts samples from a start time.

    Args:
        sampling_rate_hz: Samples a second, exact.
        started_at_ms: UTC of sample 0, ms since 1970.
    """

    def __init__(self, sampling_rate_hz: Fraction, started_at_ms: int) -> None:
        self._rate = sampling_rate_hz
        self._started_at_ms = started_at_ms
        self._count = 0

    def at_ms(self, sample: int) -> int:
        """UTC of a sample by its index, rounded down to ms."""
        return self._started_at_ms + int(sample * 1000 / self._rate)

    @property
    def next_ms(self) -> int:
        """UTC of the sample that comes next."""
        return self.at_ms(self._count)

    def advance(self, samples: int) -> None:
        """Count samples as placed."""
        self._count += samples

    def place(self, at_ms: int | None, samples: int) -> Placement:
        """Decide where a packet of ``samples`` samples goes, the first of which is stamped ``at_ms``.

        Without a stamp it follows what came before.
        """
        if at_ms is None:
            return Placement()
        late_ms = at_ms - self.next_ms
        if abs(late_ms) <= TOLERANCE_MS:
            return Placement()
        if abs(late_ms) > GAP_FILL_MAX_MS:
            return Placement(restart=True)
        if late_ms > 0:
            return Placement(missing=self._in_samples(late_ms))
        return Placement(drop=min(samples, self._in_samples(-late_ms)))

    def _in_samples(self, duration_ms: int) -> int:
        return round(duration_ms * self._rate / 1000)
