"""Runs one function over many tasks in a few processes, with what waits bounded.

It deliberately knows nothing of what is measured. Processes are started afresh (``spawn``) with one BLAS thread each,
so that two of them do not fight for cores, and so that time is measured in a process that did nothing before.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Final, TypeVar

from einthoven.errors import EinthovenError
from einthoven_bench.errors import BenchError, MeasurementFailed

Task = TypeVar("Task")
Result = TypeVar("Result")

MAX_WORKERS: Final = 2
"""Processes; more cores are left to who else is there, so that figures compare."""
WAITING_PER_WORKER: Final = 2
"""Tasks that wait for each process, which bounds memory."""
SINGLE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def worker_count() -> int:
    """How many processes to use here."""
    return min(MAX_WORKERS, os.cpu_count() or 1)


def results_in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None
) -> Iterator[Result]:
    """Yield ``function(task)`` for each task, in their order.

    Args:
        function: At a module's top level; it and the tasks travel to other processes.
        tasks: Read only as fast as they are worked on.
        workers: Processes; ``worker_count()`` if not given, 0 for none but this one.

    Raises:
        MeasurementFailed: The SDK refused a task, or a process died.
        BenchError: As ``function`` raised it.
    """
    if workers == 0:
        yield from (_guarded(function, task) for task in tasks)
        return
    processes = workers or worker_count()
    for name in SINGLE_THREAD:
        os.environ.setdefault(name, "1")
    waiting: deque[Future[Result]] = deque()
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        for task in tasks:
            waiting.append(pool.submit(_guarded, function, task))
            if len(waiting) >= processes * (1 + WAITING_PER_WORKER):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise MeasurementFailed(
            "a worker process ended before its work was done", "look for lack of memory", 1
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(items: Iterable[Task], size: int) -> Iterator[list[Task]]:
    """Cut items into lists of ``size``, the last one shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _guarded(function: Callable[[Task], Result], task: Task) -> Result:
    try:
        return function(task)
    except BenchError:
        raise
    except EinthovenError as error:  # does not travel between processes as it is
        raise MeasurementFailed(error.problem, error.remedy, error.exit_status) from None
