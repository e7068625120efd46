"""Which moment a sample belongs to: a straight line through the stamps of a stream, in exact integers. Pure.

A sensor sold as 130 Hz samples at 128.7 or 131.3 Hz, and its stamps (or the host's) say so. The line is the least
squares fit of stamp on sample index over the last ``MAX_ANCHORS`` stamps kept, its slope limited to
``MAX_RATE_ERROR_PERMILLE`` of the nominal period. How many samples a gap took is itself only estimated, so every
stretch between gaps has a height of its own and all share one slope: else a gap that is filled with a few samples too
many would confirm the wrong rate that filled it. Sums are Python integers, so adding and forgetting a stamp is exact
and the fit depends on nothing but the stamps in its window.

It deliberately decides nothing about packets (``timeline`` does) and models no change of the rate within its window:
crystals change by parts per million over minutes.

Invariants:
    1. Memory is bounded by ``MAX_ANCHORS``; no operation's cost grows with the length of the stream.
    2. Without a stamp the line is ``started_ns + i / nominal rate``, rounded down to a nanosecond.
    3. The slope is always within ``MAX_RATE_ERROR_PERMILLE`` of the nominal period.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from math import isqrt
from typing import Final

MAX_RATE_ERROR_PERMILLE: Final = 15
"""Largest deviation of a sensor's clock that is believed, in 1/1000 of the period; Polar states 10 for the H10."""
MAX_ANCHORS: Final = 256
"""Stamps in the fit."""
ANCHOR_SPACING_S: Final = 1
"""Least distance of two stamps in the fit, seconds, in the long run: the fit spans four minutes."""
ANCHORS_A_SPAN: Final = 32
"""Before that, after the first ``FIRST_ANCHORS``, the least distance is the span of the stamps over this."""
FIRST_ANCHORS: Final = 8
"""Stamps that are kept however close they are, and under which the scatter is not yet known."""
MIN_TOLERANCE_MS: Final = 15
MAX_TOLERANCE_MS: Final = 100
"""Bounds of the disagreement between stamp and line that is taken for jitter, ms. The lower is two samples at 130 Hz;
the upper lets stamps scatter by +-40 ms from the first packet on."""
TOLERANCE_IN_MEAN_DEVIATIONS: Final = 5
"""The tolerance in mean absolute deviations of the stamps: all of a uniform scatter, four sigma of a normal one."""
ESTABLISHED_S: Final = 30
ESTABLISHED_PPM: Final = 100
"""Span of stamps in seconds, and standard error of their slope in millionths, from which on the rate is told. Exact
stamps take 30 s to it, stamps that scatter by +-40 ms about 90 s."""

_NS_PER_S: Final = 10**9
_NS_PER_MS: Final = 10**6


class _Stretch:
    """Sums over the stamps of one stretch without a gap: sample index i, deviation y from the nominal line in ns."""

    def __init__(self) -> None:
        self.n = self.sum_i = self.sum_y = self.sum_ii = self.sum_iy = 0

    def account(self, i: int, y: int, sign: int) -> None:
        self.n += sign
        self.sum_i += sign * i
        self.sum_y += sign * y
        self.sum_ii += sign * i * i
        self.sum_iy += sign * i * y

    @property
    def covariance(self) -> int:
        return self.sum_iy - self.sum_i * self.sum_y // self.n if self.n else 0

    @property
    def variance(self) -> int:
        return self.sum_ii - self.sum_i * self.sum_i // self.n if self.n else 0


class DriftLine:
    """Maps sample indices to a clock.

    Args:
        sampling_rate_hz: Nominal samples a second, exact.
        started_ns: The clock at sample 0, before any stamp is known, ns.
    """

    def __init__(self, sampling_rate_hz: Fraction, started_ns: int) -> None:
        self._nominal_hz = sampling_rate_hz
        self._period_ns = _NS_PER_S / sampling_rate_hz
        self._limit_ns = self._period_ns * MAX_RATE_ERROR_PERMILLE / 1000
        self._started_ns = started_ns
        self._stretch = _Stretch()
        self._anchors: deque[tuple[_Stretch, int, int, int]] = deque()  # ..., index, y, |residual|
        self._covariance = self._variance = self._sum_residual = 0
        self._slope = Fraction(0)  # of y, ns a sample

    @property
    def rate_hz(self) -> Fraction:
        """Samples a second of the clock that stamps, nominal until it is ``established``."""
        if not self.established:
            return self._nominal_hz
        return (_NS_PER_S / self.period_ns).limit_denominator(10**6)

    @property
    def period_ns(self) -> Fraction:
        """Length of a sample by the line as it stands, ns."""
        return self._period_ns + self._slope

    @property
    def deviation_ppm(self) -> int:
        """Deviation of the rate by the line as it stands from the nominal one, millionths."""
        return int(-self._slope * 10**6 / self.period_ns)

    @property
    def established(self) -> bool:
        """Whether stamps enough agree on the rate (``ESTABLISHED_S``, ``ESTABLISHED_PPM``)."""
        n = len(self._anchors)
        if not n or self._anchors[-1][1] - self._anchors[0][1] < ESTABLISHED_S * self._nominal_hz:
            return False
        # For a normal scatter, sigma is 1.25 mean absolute deviations.
        sigma_ns = self._sum_residual * 5 // (4 * n)
        return sigma_ns**2 * 10**12 <= self._variance * (ESTABLISHED_PPM * self._period_ns) ** 2

    def ns_at(self, index: int) -> int:
        """The clock at a sample, rounded down to ns."""
        here, slope = self._stretch, self._slope
        nominal = self._nominal_ns(index)
        if not here.n:
            return nominal
        deviation = here.sum_y * slope.denominator + slope.numerator * (here.n * index - here.sum_i)
        return nominal + deviation // (here.n * slope.denominator)

    def samples_in(self, duration_ns: int) -> int:
        """Samples that a duration of the clock holds, rounded to the nearest."""
        return round(duration_ns / self.period_ns)

    def ns_in(self, samples: int) -> int:
        """The duration of so many samples, rounded down to ns."""
        period = self.period_ns
        return samples * period.numerator // period.denominator

    def tolerance_ns(self, index: int, samples: int) -> int:
        """Disagreement at a sample that is jitter: the scatter of the stamps, and what the rate may have run off.

        Of the scatter no more than half the packet counts (``samples`` long), so that the loss of one like it shows.
        Until two stamps are known the rate may be off by its limit; then by what the scatter leaves open of the slope.
        """
        n = len(self._anchors)
        spread = MAX_TOLERANCE_MS * _NS_PER_MS
        if n >= FIRST_ANCHORS:
            mean_of_few = self._sum_residual * (n + FIRST_ANCHORS) // n**2  # a few may agree by chance
            spread = min(spread, TOLERANCE_IN_MEAN_DEVIATIONS * mean_of_few)
        least = MIN_TOLERANCE_MS * _NS_PER_MS
        scatter = min(max(least, spread), max(least, self.ns_in(samples) // 2))
        return self._with_run_off_ns(index, scatter, spread) if n else scatter

    def _with_run_off_ns(self, index: int, scatter_ns: int, spread_ns: int) -> int:
        """The scatter and what the line may be off at a sample by its slope, which the slope's limits bound.

        The standard error of a regression's prediction (Draper & Smith, Applied Regression Analysis, 3rd ed., 1.4), in
        as many sigmas as the spread is of one stamp: it grows from the middle of this stretch's stamps, and adds to
        the scatter as squares do.
        """
        distance = max(0, index - self._stretch.sum_i // self._stretch.n)
        limit = self._limit_ns + abs(self._slope)
        limit_ns = distance * limit.numerator // limit.denominator
        if self._variance <= 0:
            return scatter_ns + limit_ns
        return min(scatter_ns + limit_ns, isqrt(scatter_ns**2 + (spread_ns * distance) ** 2 // self._variance))

    def add(self, index: int, stamp_ns: int, *, trusted: bool = True) -> None:
        """Take a sample's stamp into account; one that was not believed counts as scatter alone."""
        if self._anchors and index - self._anchors[-1][1] < self._spacing():
            return
        residual = abs(stamp_ns - self.ns_at(index)) if self._stretch.n else 0
        residual = min(residual, MAX_TOLERANCE_MS * _NS_PER_MS)
        if not trusted:
            stamp_ns = self.ns_at(index)
        self._keep(index, stamp_ns - self._nominal_ns(index), residual)

    def _spacing(self) -> Fraction:
        if len(self._anchors) < FIRST_ANCHORS:
            return Fraction(1)
        span = self._anchors[-1][1] - self._anchors[0][1]
        return min(ANCHOR_SPACING_S * self._nominal_hz, Fraction(span, ANCHORS_A_SPAN))

    def _keep(self, index: int, y: int, residual: int) -> None:
        self._anchors.append((self._stretch, index, y, residual))
        self._account(self._stretch, index, y, residual, 1)
        if len(self._anchors) > MAX_ANCHORS:
            self._account(*self._anchors.popleft(), -1)
        slope = Fraction(self._covariance, self._variance) if self._variance > 0 else Fraction(0)
        self._slope = max(-self._limit_ns, min(self._limit_ns, slope))

    def begin_stretch(self, index: int, ns: int) -> None:
        """After a gap, or a change of the stamps' delay: go on from this time at this sample, at the slope known."""
        self._stretch = _Stretch()
        self._keep(index, ns - self._nominal_ns(index), 0)

    def _nominal_ns(self, index: int) -> int:
        return self._started_ns + index * self._period_ns.numerator // self._period_ns.denominator

    def _account(self, stretch: _Stretch, index: int, y: int, residual: int, sign: int) -> None:
        self._covariance -= stretch.covariance
        self._variance -= stretch.variance
        stretch.account(index, y, sign)
        self._covariance += stretch.covariance
        self._variance += stretch.variance
        self._sum_residual += sign * residual
