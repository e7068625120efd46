"""Runs histories: one, with its verdict; or a range of seeds, over processes.

It deliberately prints nothing (``__main__``).

Invariants:
    1. A history's outcome depends on the history alone: not on what ran before it in this process.
"""

from __future__ import annotations

import gc
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

from einthoven_bench.simulation.drawing import draw_history
from einthoven_bench.simulation.history import History
from einthoven_bench.simulation.judging import judge
from einthoven_bench.simulation.planting import NOTHING_PLANTED, Planted
from einthoven_bench.simulation.quiescing import quiesce
from einthoven_bench.simulation.steps import play
from einthoven_bench.simulation.virtual_time import VirtualLoop
from einthoven_bench.simulation.world import Failed, World

CHUNK_SEEDS: Final = 50
"""Seeds that a worker takes at a time."""


class Outcome(NamedTuple):
    """What became of a history.

    Attributes:
        seed: Its seed.
        problems: What did not hold; none if all did.
        syncs: How many syncs there were.
        seen: What it contained (``occurring.NAMES``), sorted.
    """

    seed: int
    problems: tuple[str, ...]
    syncs: int
    seen: tuple[str, ...] = ()


def run_history(history: History, planted: Planted = NOTHING_PLANTED, trace: list[str] | None = None) -> Outcome:
    """Play a history to its end and judge it."""
    loop = VirtualLoop()
    problems: list[str] = []
    syncs = 0
    seen: set[str] = set()

    async def whole(folder: Path) -> None:
        nonlocal syncs
        world = World(history, loop, folder, planted, trace)
        try:
            await play(world)
            await quiesce(world)
            problems.extend(await judge(world))
        finally:
            syncs = world.syncs
            seen.update(world.truth.seen)
            await world.end()

    try:
        with _folder(history) as folder:
            loop.run_until_complete(whole(Path(folder)))
    except Failed as failure:
        problems.append(str(failure))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this history's
        last = traceback.extract_tb(error.__traceback__)[-1]
        problems.append(f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}")
        if trace is not None:
            trace.extend(traceback.format_exception(error))
    finally:
        loop.close()
    return Outcome(history.seed, tuple(problems), syncs, tuple(sorted(seen)))


def _folder(history: History) -> AbstractContextManager[str]:
    """Where encrypted stores lie; a disk is not asked for one where there are none."""
    if any(device.encrypted for device in history.devices):
        return tempfile.TemporaryDirectory(prefix="einthoven-simulation-")
    return nullcontext("no store lies here")


def run_seed(seed: int, planted: Planted = NOTHING_PLANTED) -> Outcome:
    """Draw a seed's history and run it."""
    return run_history(draw_history(seed), planted)


def run_chunk(first: int, last: int) -> list[Outcome]:
    """Run seeds ``first`` to ``last``, exclusive."""
    # Histories leave cycles behind, and collecting them now and then is cheaper than looking for them all the time.
    gc.disable()
    try:
        return [run_seed(seed) for seed in range(first, last)]
    finally:
        gc.enable()
        gc.collect()


def run_seeds(first: int, last: int, jobs: int) -> Iterator[list[Outcome]]:
    """Run seeds ``first`` to ``last``, exclusive, in ``jobs`` processes; chunk by chunk, in order."""
    chunks = [(start, min(start + CHUNK_SEEDS, last)) for start in range(first, last, CHUNK_SEEDS)]
    if jobs == 1:
        for chunk in chunks:
            yield run_chunk(*chunk)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_chunk, *zip(*chunks, strict=True))
