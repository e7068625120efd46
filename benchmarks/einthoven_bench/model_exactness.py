"""The model's bits however a recording is cut: one shot against random chunkings, down to one sample.

Everything of an analysis is compared (``model_outputs``): logits of each second, pooled logits, verdict, reason,
quality, rate. Each recording is pushed in chunks of 1 sample to 10 s (lengths log-uniform), again with stretches
missing, and its first part sample by sample. It deliberately compares on one machine; two machines are compared by
``model_digest``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.model_outputs import outputs_of, streamed, whole
from einthoven_bench.signal_exactness import random_cuts, with_gaps
from einthoven_bench.signal_outputs import differing_bits, output_bits

LARGEST_CHUNK_S: Final = 10
SMALL_CHUNK_S: Final = 1
CHUNKINGS: Final = 4
"""Random chunkings of a recording, and as many of the same with gaps."""


@dataclass(frozen=True, slots=True)
class ModelExactnessTask:
    """A recording, int32 [n] in microvolts, and how to cut it.

    Attributes:
        samples_uv: The lead.
        sampling_rate_hz: Exact.
        seed: Of the cuts.
        one_sample_s: Seconds from the start to push sample by sample as well.
    """

    samples_uv: NDArray[np.int32]
    sampling_rate_hz: Fraction
    seed: int
    one_sample_s: int


@dataclass(frozen=True, slots=True)
class ModelExactnessOutcome:
    """What differed, over how much."""

    differing_bits: int
    compared_bits: int
    pushes: int
    seconds: float
    chunkings: int


def check_model_exactness(task: ModelExactnessTask) -> ModelExactnessOutcome:
    """Push one recording in all ways."""
    rng = np.random.default_rng(task.seed)
    samples, rate = task.samples_uv, task.sampling_rate_hz
    holed = with_gaps(samples, rate, rng)
    part = samples[: int(task.one_sample_s * rate)]
    ways = [(samples, random_cuts(len(samples), int(LARGEST_CHUNK_S * rate), rng)) for _ in range(CHUNKINGS)]
    ways += [(holed, random_cuts(len(holed), int(SMALL_CHUNK_S * rate), rng)) for _ in range(CHUNKINGS)]
    if len(part):
        ways.append((part, list(range(1, len(part)))))
    expected = {id(signal): outputs_of(whole(signal, rate).windows) for signal, _ in ways}
    differing = compared = pushes = 0
    for signal, cuts in ways:
        differing += differing_bits(expected[id(signal)], outputs_of(tuple(streamed(signal, rate, cuts))))
        compared += output_bits(expected[id(signal)])
        pushes += len(cuts) + 1
    return ModelExactnessOutcome(differing, compared, pushes, float(len(samples) / rate), len(ways))
