"""What the signal path costs: second by second, a day in large chunks, and the floor of one numpy call.

It deliberately times nothing but the path: samples are ready in memory, results are kept and compared afterwards, so
that both ways are seen to give the same bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.figures import Figure
from einthoven_bench.signal_outputs import differing_bits, gathered, new_path

RATE_HZ: Final = Fraction(300)
DAY_S: Final = 86_400
ROUND_S: Final = 3_600
"""One round of pushing second by second; the spread is over rounds."""
LARGE_CHUNK_S: Final = 3_600
BULK_ROUNDS: Final = 5
FLOOR_CALLS: Final = 20_000
WARM_UP_S: Final = 60


@dataclass(frozen=True, slots=True)
class CostTask:
    """Signal at 300 Hz, int32 [n], repeated until it lasts ``duration_s``."""

    samples_uv: NDArray[np.int32]
    duration_s: int


@dataclass(frozen=True, slots=True)
class CostOutcome:
    """Times of one machine.

    Attributes:
        second_s: float64 [seconds], wall time of each push of a second.
        stepped_cpu_s: Processor time of all these pushes.
        bulk_s: Wall time of the whole signal in large chunks, one a round.
        bulk_cpu_s: Processor time of the same.
        floor_s: float64 [rounds], wall time of one small numpy call.
        differing_bits: Between the two ways.
    """

    second_s: NDArray[np.float64]
    stepped_cpu_s: float
    bulk_s: list[float]
    bulk_cpu_s: list[float]
    floor_s: NDArray[np.float64]
    differing_bits: int


def measure_cost(task: CostTask) -> CostOutcome:
    """Time both ways over the same samples."""
    samples = np.resize(task.samples_uv, int(task.duration_s * RATE_HZ))
    second = int(RATE_HZ)
    warm = new_path(RATE_HZ)
    for start in range(0, min(WARM_UP_S * second, len(samples)), second):
        warm.push(samples[start : start + second])

    path, chunks = new_path(RATE_HZ), []
    times_ns = np.zeros(task.duration_s, np.int64)
    cpu = time.process_time()
    for i in range(task.duration_s):
        piece = samples[i * second : (i + 1) * second]
        began = time.perf_counter_ns()
        chunk = path.push(piece)
        times_ns[i] = time.perf_counter_ns() - began
        chunks.append(chunk)
    stepped_cpu_s = time.process_time() - cpu
    stepped = gathered([*chunks, path.finish()])

    bulk_s, bulk_cpu_s, differing = [], [], 0
    size = LARGE_CHUNK_S * second
    for _ in range(BULK_ROUNDS):
        path = new_path(RATE_HZ)
        began_s, cpu = time.perf_counter(), time.process_time()
        large = [path.push(samples[start : start + size]) for start in range(0, len(samples), size)]
        large.append(path.finish())
        bulk_s.append(time.perf_counter() - began_s)
        bulk_cpu_s.append(time.process_time() - cpu)
        differing += differing_bits(stepped, gathered(large))
    return CostOutcome(times_ns / 1e9, stepped_cpu_s, bulk_s, bulk_cpu_s, _floor_s(), differing)


def _floor_s() -> NDArray[np.float64]:
    """Wall time of adding two arrays of one second at 128 Hz, float64 [rounds]."""
    a = np.arange(128, dtype=np.int64)
    rounds = []
    for _ in range(BULK_ROUNDS):
        began = time.perf_counter()
        for _ in range(FLOOR_CALLS):
            a + a
        rounds.append((time.perf_counter() - began) / FLOOR_CALLS)
    return np.array(rounds)


def cost_figures(outcome: CostOutcome, source: str) -> list[Figure]:
    """The figures of one measurement; ``source`` says what the signal was."""
    ms = outcome.second_s * 1_000
    length = min(ROUND_S, len(ms))
    # Work is done every few pushes (the path's block), so the mean of a round is what a second costs.
    rounds = ms[: len(ms) // length * length].reshape(-1, length).mean(axis=1)
    n = len(ms)
    mean_cpu_ms = outcome.stepped_cpu_s / n * 1_000
    same = "same bits" if outcome.differing_bits == 0 else f"{outcome.differing_bits} BITS DIFFER"
    floor_us = outcome.floor_s * 1e6
    calls = np.median(rounds) * 1_000 / np.median(floor_us)
    speed = sorted(n / wall for wall in outcome.bulk_s)
    cpu_speed = np.median([n / cpu for cpu in outcome.bulk_cpu_s])
    return [
        Figure(
            "signal.front_end_ms_per_s",
            float(np.median(rounds)),
            "ms",
            n,
            (float(rounds.min()), float(rounds.max())),
            f"wall time a second of 300 Hz ECG pushed second by second ({source}): mean of a round of {length} s, "
            f"median and spread of {len(rounds)} rounds; one push p99 {np.percentile(ms, 99):.4f}, most "
            f"{ms.max():.4f}; mean processor time {mean_cpu_ms:.4f}",
        ),
        Figure(
            "signal.day_x_real_time",
            float(np.median(speed)),
            "1",
            len(speed),
            (speed[0], speed[-1]),
            f"{n / 3_600:g} h of 300 Hz ECG in chunks of {LARGE_CHUNK_S} s, wall, {len(speed)} rounds; by processor "
            f"time {cpu_speed:.0f}; against second by second: {same}",
        ),
        Figure(
            "signal.numpy_call_us",
            float(np.median(floor_us)),
            "us",
            FLOOR_CALLS * len(floor_us),
            (float(floor_us.min()), float(floor_us.max())),
            f"floor: adding two int64 [128]; a second of ECG costs {calls:.0f} such",
        ),
    ]
