"""How a sampling rate fits the fields of an EDF header: samples and seconds of a data record. Pure.

A header states no rate, but a record's duration (a decimal number of at most 8 characters) and its samples. Most rates
have a pair that says them exactly; 512.617 Hz would take a record of 1,000 s, so the nearest pair is taken, and how far
off it is can be read from the layout. By Kemp B et al., Electroencephalogr Clin Neurophysiol 1992;82:391-393, 2.1.

It deliberately writes no byte (``edf_writing``) and knows no recording.

Invariants:
    1. ``n_samples / record_s`` is the stated rate, exact wherever ``rate_error`` is 0.
    2. The stated rate is off by ``MAX_RATE_ERROR`` at most, and that is less than a sensor's crystal is.
    3. ``record_text`` fits its field, and is ``record_us`` exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd
from typing import Final

from einthoven.errors import SamplingRateError
from einthoven.source_checks import MAX_RATE_HZ, MIN_RATE_HZ

FIELD_CHARS: Final = 8
"""Characters of a number in an EDF header."""
MAX_RECORD_S: Final = 10
"""Longest data record, seconds; the last one is padded, so a long record wastes space."""
NEGLIGIBLE_RATE_ERROR: Final = Fraction(1, 10**9)
"""Deviation of the stated rate, as a share of it, under which a record nearer to a second is preferred: 86 us a day."""
MAX_RATE_ERROR: Final = Fraction(1, 10**6)
"""Largest deviation of the stated rate, as a share of it: 1 ppm, 86 ms in a day. No rate in the range is
further from a pair that fits (Dirichlet's approximation theorem)."""
_DECIMALS: Final = FIELD_CHARS - len("0.")
_US_PER_S: Final = 10**_DECIMALS


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """A data record's share of one signal.

    Attributes:
        n_samples: Samples in a data record.
        record_us: Its duration in microseconds.
        rate_error: How far the rate that these two state is from the true one, as a share of it; 0 where exact.
    """

    n_samples: int
    record_us: int
    rate_error: Fraction

    @property
    def record_text(self) -> str:
        """Duration of a data record in seconds as the header spells it, without needless zeros: 1, 0.96, 2.999889."""
        whole, rest = divmod(self.record_us, _US_PER_S)
        return f"{whole}.{rest:0{_DECIMALS}d}".rstrip("0").rstrip(".")

    @property
    def record_s(self) -> Fraction:
        """Duration of a data record in seconds, exact."""
        return Fraction(self.record_us, _US_PER_S)

    @property
    def stated_rate_hz(self) -> Fraction:
        """Samples a second as a reader of the header computes them."""
        return self.n_samples / self.record_s


@lru_cache(maxsize=64)
def record_layout(rate_hz: Fraction) -> RecordLayout:
    """Choose a record of about a second that states a rate exactly, or as nearly as can be.

    Args:
        rate_hz: Samples a second, exact.

    Raises:
        SamplingRateError: Outside ``source_checks.MIN_RATE_HZ`` to ``MAX_RATE_HZ``: no reader here would take it back.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise SamplingRateError(
            "the sampling rate is out of range", f"{MIN_RATE_HZ}-{MAX_RATE_HZ} Hz can be written as EDF"
        )
    # n / rate has at most 6 decimals exactly where n is a multiple of this.
    step = rate_hz.numerator // gcd(rate_hz.numerator, _US_PER_S)
    longest = int(rate_hz * MAX_RECORD_S)
    exact = range(step, longest + 1, step)
    layouts = [_layout(n, rate_hz) for n in exact or range(1, longest + 1)]
    near = [layout for layout in layouts if abs(layout.rate_error) <= NEGLIGIBLE_RATE_ERROR]
    if near:
        return min(near, key=lambda layout: abs(layout.record_s - 1))
    return min(layouts, key=lambda layout: abs(layout.rate_error))


def _layout(n_samples: int, rate_hz: Fraction) -> RecordLayout:
    record_us = round(n_samples * _US_PER_S / rate_hz)
    return RecordLayout(n_samples, record_us, Fraction(n_samples * _US_PER_S, record_us) / rate_hz - 1)
