"""The same bits however a recording is cut: one push against random chunkings, down to one sample.

It deliberately compares everything that comes out (``signal_outputs``), not only beats, and compares on one machine;
two machines are compared by the digests (``signal_digest``).

Recordings at rates that no data set has are constructed and pushed as well. Each recording is pushed whole, and then
again in three ways: in chunks of 1 sample to 6 minutes (lengths log-uniform), in chunks of up to two seconds with
random stretches missing, and its first part in chunks of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import MISSING_UV
from einthoven_bench.signal_outputs import Outputs, differing_bits, output_bits, run_path

LARGEST_CHUNK: Final = 2**17
SMALL_CHUNK_S: Final = 2
GAP_EVERY_S: Final = 60
"""About one stretch a minute goes missing in the second way."""
LONGEST_GAP_S: Final = 5


@dataclass(frozen=True, slots=True)
class ExactnessTask:
    """A recording, int32 [n], and how to cut it.

    Attributes:
        samples_uv: Microvolts.
        sampling_rate_hz: Exact.
        seed: Of the cuts.
        one_sample_s: Seconds from the start to push sample by sample as well.
    """

    samples_uv: NDArray[np.int32]
    sampling_rate_hz: Fraction
    seed: int
    one_sample_s: int


@dataclass(frozen=True, slots=True)
class ExactnessOutcome:
    """What differed, over how much."""

    differing_bits: int
    compared_bits: int
    pushes: int
    seconds: float
    one_sample_seconds: float


def check_exactness(task: ExactnessTask) -> ExactnessOutcome:
    """Push one recording in all ways."""
    rng = np.random.default_rng(task.seed)
    samples, rate = task.samples_uv, task.sampling_rate_hz
    holed = with_gaps(samples, rate, rng)
    part = samples[: int(task.one_sample_s * rate)]
    whole = run_path(samples, rate)
    runs: list[tuple[NDArray[np.int32], Outputs, list[int]]] = [
        (samples, whole, random_cuts(len(samples), LARGEST_CHUNK, rng)),
        (holed, run_path(holed, rate), random_cuts(len(holed), int(SMALL_CHUNK_S * rate), rng)),
        (part, whole if len(part) == len(samples) else run_path(part, rate), list(range(1, len(part)))),
    ]
    differing = compared = pushes = 0
    for signal, expected, cuts in runs:
        differing += differing_bits(expected, run_path(signal, rate, cuts))
        compared += output_bits(expected)
        pushes += len(cuts) + 1
    return ExactnessOutcome(differing, compared, pushes, float(len(samples) / rate), float(len(part) / rate))


def random_cuts(n: int, largest: int, rng: np.random.Generator) -> list[int]:
    """Ascending cuts of n samples into chunks of 1 to ``largest``, their lengths log-uniform."""

    def cuts() -> Iterator[int]:
        at = 0
        while True:
            at += int(np.exp(rng.uniform(0, np.log(largest + 1))))
            if at >= n:
                return
            yield at

    return list(cuts())


def with_gaps(samples_uv: NDArray[np.int32], rate: Fraction, rng: np.random.Generator) -> NDArray[np.int32]:
    """The same recording with random stretches never received."""
    holed = samples_uv.copy()
    for _ in range(1 + int(len(samples_uv) / rate / GAP_EVERY_S)):
        start = int(rng.integers(len(samples_uv)))
        holed[start : start + int(rng.integers(1, int(LONGEST_GAP_S * rate)))] = MISSING_UV
    return holed
