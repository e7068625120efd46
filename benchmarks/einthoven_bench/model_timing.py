"""What a second costs the model in time: the bare `invoke`, the runner's step around it, and loading.

Processor time decides, so that who else uses the machine doesn't; wall time is in the notes. It deliberately times
nothing but the model: its seconds of signal are ready in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.models import Model, load_model
from einthoven.native_stderr import native_stderr_silenced
from einthoven.runner_litert import LiteRtRunner, import_interpreter
from einthoven_bench.figures import Figure

CALLS: Final = 20_000
LOADS: Final = 20
WARM_UP_CALLS: Final = 500
FLOOR_CALLS: Final = 20_000


@dataclass(frozen=True, slots=True)
class TimingTask:
    """Seconds of signal, int8 [k, 128], taken again and again; and how often to call."""

    seconds: NDArray[np.int8]
    calls: int = CALLS
    loads: int = LOADS


@dataclass(frozen=True, slots=True)
class Timed:
    """Times of the same call, again and again.

    Attributes:
        cpu_us: float64 [n], processor time.
        wall_us: float64 [n].
    """

    cpu_us: NDArray[np.float64]
    wall_us: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TimingOutcome:
    """Everything that was timed, and what reading the clock itself costs."""

    invoke: Timed
    step: Timed
    load: Timed
    clock: Timed


def measure_timing(task: TimingTask) -> TimingOutcome:
    """Time in this process; the caller gives it one of its own."""
    model = load_model()
    with native_stderr_silenced():
        runner = LiteRtRunner(model)
        invoke = _bare_invoke(model, task.seconds)
    state = runner.initial_state()
    place = 0

    def step() -> None:
        nonlocal state, place
        _, state = runner.step(task.seconds[place], state)
        place = (place + 1) % len(task.seconds)

    def load() -> None:
        with native_stderr_silenced():
            LiteRtRunner(load_model())

    return TimingOutcome(
        timed(invoke, task.calls), timed(step, task.calls), timed(load, task.loads, 1), timed(lambda: None, FLOOR_CALLS)
    )


def _bare_invoke(model: Model, seconds: NDArray[np.int8]) -> Callable[[], None]:
    """An interpreter of the same kind as the runner's, its inputs set once: what the kernels alone take."""
    interpreter = import_interpreter()(model_content=model.content, num_threads=1)
    interpreter.allocate_tensors()
    by_name = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    signal, *states = model.manifest.inputs
    interpreter.set_tensor(by_name[signal.name], seconds[:1])
    for tensor in states:
        interpreter.set_tensor(by_name[tensor.name], np.full(tensor.shape, tensor.zero_point, np.int8))
    invoke: Callable[[], None] = interpreter.invoke
    return invoke


def timed(call: Callable[[], None], n: int, warm_up: int = WARM_UP_CALLS) -> Timed:
    """Time one call n times, each by itself."""
    for _ in range(warm_up):
        call()
    cpu, wall = np.zeros(n), np.zeros(n)
    for i in range(n):
        began_cpu, began = time.thread_time_ns(), time.perf_counter_ns()
        call()
        wall[i] = time.perf_counter_ns() - began
        cpu[i] = time.thread_time_ns() - began_cpu
    return Timed(cpu / 1_000, wall / 1_000)


def timing_figures(outcome: TimingOutcome, source: str) -> list[Figure]:
    """Medians of processor time; ``source`` says what the signal was."""
    clock = float(np.median(outcome.clock.cpu_us))
    floor = f"reading the clock took {clock:.2f} us of it"
    return [
        _figure("model.step_invoke_us", outcome.invoke, 1.0, "us", f"`invoke` alone, in process; {floor}"),
        _figure(
            "model.step_us",
            outcome.step,
            1.0,
            "us",
            f"the runner's step: tensors in, `invoke`, tensors out ({source}); {floor}",
        ),
        _figure(
            "model.load_ms",
            outcome.load,
            1e-3,
            "ms",
            "signature, digests, interpreter and self-test, the files read before",
        ),
    ]


def _figure(name: str, times: Timed, factor: float, unit: str, what: str) -> Figure:
    cpu, wall = times.cpu_us * factor, times.wall_us * factor
    low, high = np.percentile(cpu, (2.5, 97.5))
    note = (
        f"{what}: processor time, median; p99 {np.percentile(cpu, 99):.4g}; wall median {np.median(wall):.4g}, "
        f"p99 {np.percentile(wall, 99):.4g}; spread: 95 % of calls"
    )
    return Figure(name, float(np.median(cpu)), unit, len(cpu), (float(low), float(high)), note)
