"""The source's own step: a recorder's counts behind microvolts that were made of them. Pure, exact.

A recorder's count is rarely one microvolt: 200 counts/mV show as multiples of 5 uV, 400 as 2, 5, 8, 10, 12 ..., 204.8
as 0, 5, 10, 15, 20, 24 ... A grid maps small counts to such samples,

    sample = round((count * numerator + origin) / denominator),

with integers throughout; the rounding is down, or half to even as ``numpy.rint`` does it.

It deliberately does not look for what the recorder was: any grid that gives exactly these samples back is as good as
the true one. Samples that no simple grid meets keep a step of 1.

Invariants:
    1. ``grid.samples(grid.counts(s))`` equals ``s`` wherever ``grid.holds(s)``, in integers, on every machine.
    2. The search is bounded: ``MAX_GRIDS_TRIED`` grids of a denominator up to ``MAX_DENOMINATOR``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_DENOMINATOR: Final = 1024
"""Largest denominator tried: 204.8 counts/mV are 625/128 uV."""
MAX_GRIDS_TRIED: Final = 100
"""Grids that one search checks, about 50 us each."""
MIN_SAMPLES: Final = 256
"""Fewer don't repay a grid other than a whole number of microvolts."""
SPARSE: Final = 0.7
"""Share of the values between the quartiles that occur; below it, there are holes to explain."""
FEW: Final = 64
"""One sample in so many may be off the grid."""
MAX_HISTOGRAM_SPAN_UV: Final = 2**16
"""Up to this span values are counted in a table, 8 bytes a microvolt; beyond, by sorting."""
_LOOK_SAMPLES: Final = 64
_ANCHORS: Final = 24
_MIN_STRETCH: Final = 8


@dataclass(frozen=True, slots=True)
class Grid:
    """Where samples can lie.

    Attributes:
        numerator: Microvolts of ``denominator`` counts, from 1.
        denominator: From 1.
        origin: Microvolts of count 0, in 1/``denominator``.
        half_even: Whether halves are rounded to even; down otherwise.
    """

    numerator: int = 1
    denominator: int = 1
    origin: int = 0
    half_even: bool = False

    def samples(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Microvolts of counts, int64 [n]."""
        scaled = counts * self.numerator + self.origin
        if self.denominator == 1:
            return scaled
        whole, rest = np.divmod(scaled, self.denominator)
        if self.half_even:
            whole += 2 * rest + (whole & 1) > self.denominator
        return whole

    def counts(self, samples_uv: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nearest counts, int64 [n]."""
        scaled = samples_uv * self.denominator - self.origin
        if not self.half_even:
            # Rounded down on the way there, so up on the way back: the smallest count that reaches the sample.
            return -(-scaled // self.numerator)
        return (2 * scaled + self.numerator) // (2 * self.numerator)

    def holds(self, samples_uv: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which samples the grid gives back, bool [n]."""
        return np.equal(self.samples(self.counts(samples_uv)), samples_uv)

    def centred(self, count: int) -> Grid:
        """The same grid with ``count`` as its count 0."""
        return Grid(self.numerator, self.denominator, self.origin + count * self.numerator, self.half_even)


def find_grid(samples_uv: NDArray[np.int64]) -> Grid:
    """Return the grid that nearly all samples lie on; ``Grid()`` if there is no other.

    The lowest and highest value are left out of the search, for they may be the rails of a saturated amplifier.

    Args:
        samples_uv: int64 [n], at least one.
    """
    lowest, highest = int(samples_uv.min()), int(samples_uv.max())
    values, occurrences = _distinct(samples_uv, lowest, highest)
    n = int(occurrences.sum())
    if not n:
        return Grid(max(highest - lowest, 1), 1, lowest)
    neighbours = np.minimum(occurrences[1:], occurrences[:-1])[np.diff(values) == 1]
    # Of two neighbours one is off any step over 1, and each value has two: so many can't be the few that disagree.
    if int(neighbours.sum()) <= 2 * (n // FEW):
        inner = samples_uv[(samples_uv > lowest) & (samples_uv < highest)]
        step = _whole_step(samples_uv, inner)
        if step > 1:
            return Grid(step, 1, int(inner[0]))
    return _fractional_grid(values, occurrences) or Grid()


def _distinct(samples_uv: NDArray[np.int64], lowest: int, highest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values between lowest and highest that occur, in order, and how often: int64 [k] each."""
    if highest - lowest > MAX_HISTOGRAM_SPAN_UV:
        values, occurrences = np.unique(samples_uv, return_counts=True)
        return values[1:-1], occurrences[1:-1]
    histogram = np.bincount(samples_uv - lowest)
    histogram[0] = histogram[-1] = 0
    places = np.flatnonzero(histogram)
    return places + lowest, histogram[places]


def _whole_step(samples_uv: NDArray[np.int64], inner: NDArray[np.int64]) -> int:
    """The whole number of microvolts that nearly all samples are multiples of, from the first of them."""
    looked_at = inner[:: max(1, len(inner) // _LOOK_SAMPLES)]
    step = int(np.gcd.reduce(looked_at - inner[0]))
    if step == 0:
        step = int(np.gcd.reduce(samples_uv - inner[0]))
    if step > 1:
        # What the look missed is refined by all, unless only few disagree: those are coded apart.
        rest = (inner - inner[0]) % step
        if np.count_nonzero(rest) > len(inner) // FEW:
            step = gcd(step, int(np.gcd.reduce(rest)))
    return step


def _fractional_grid(values: NDArray[np.int64], occurrences: NDArray[np.int64]) -> Grid | None:
    ranks = np.cumsum(occurrences)
    n = int(ranks[-1])
    if n < MIN_SAMPLES:
        return None
    first, last = np.searchsorted(ranks, (n // 4, 3 * n // 4), side="right").tolist()
    quartiles_apart = int(values[last] - values[first])
    if quartiles_apart < 16 or quartiles_apart > 2**16:
        return None
    if last - first + 1 > SPARSE * (quartiles_apart + 1):
        return None
    if int(values[-1] - values[0]) > 2**20:
        return None
    bounds = _step_bounds(values)
    return None if bounds is None else _simplest(values, *bounds)


def _step_bounds(values: NDArray[np.int64]) -> tuple[float, float] | None:
    """Between what bounds the step lies, given that two values k steps apart differ by less than k steps +-1."""
    gaps = np.diff(values)
    # The longest stretch without a hole tells the step to 1/length.
    edges = np.flatnonzero(np.concatenate(([True], gaps > gaps.min() + 1, [True])))
    longest = int(np.argmax(np.diff(edges)))
    start, stop = int(edges[longest]), int(edges[longest + 1]) - 1
    if stop - start < _MIN_STRETCH:
        return None
    width = int(values[stop] - values[start])
    low, high = (width - 1) / (stop - start), (width + 1) / (stop - start)
    # Farther pairs tell more, as soon as the number of steps between them is certain.
    for anchor in values[:: max(1, len(values) // _ANCHORS)]:
        apart = np.abs(values - anchor)
        steps = np.floor((apart + 1) / low)
        certain = (steps == np.ceil((apart - 1) / high)) & (steps > 0)
        if certain.any():
            low = max(low, float(((apart[certain] - 1) / steps[certain]).max()))
            high = min(high, float(((apart[certain] + 1) / steps[certain]).min()))
        if low > high:
            return None
    return low, high


def _simplest(values: NDArray[np.int64], low: float, high: float) -> Grid | None:
    """The grid of smallest denominator, with a step within these bounds, that holds all values."""
    tried = 0
    for denominator in range(2, MAX_DENOMINATOR + 1):
        for numerator in range(int(np.ceil(low * denominator)), int(high * denominator) + 1):
            if gcd(numerator, denominator) > 1:
                continue
            for half_even in (False, True):
                grid = _anchored(values, numerator, denominator, half_even)
                if grid is not None:
                    return grid
            tried += 1
            if tried == MAX_GRIDS_TRIED:
                return None
    return None


def _anchored(values: NDArray[np.int64], numerator: int, denominator: int, half_even: bool) -> Grid | None:
    """The grid of this step that holds all values, if one origin does."""
    if half_even:
        grid = Grid(numerator, denominator, 0, True)
        return grid if grid.holds(values).all() else None
    # The count of a value is known up to rounding; what is left over must fit into less than one microvolt.
    first = int(values[0])
    scaled = (values - first) * denominator
    counts = (2 * scaled + numerator) // (2 * numerator)
    left_over = scaled - counts * numerator
    highest = int(left_over.max())
    if highest - int(left_over.min()) >= denominator:
        return None
    grid = Grid(numerator, denominator, highest + first * denominator)
    return grid if grid.holds(values).all() else None
