"""Real kills: a server with its PostgreSQL and several devices, all real and under load, and kill -9 of some of them.

``python -m einthoven_bench.kills --rounds 500``. Real processes, TLS 1.3, SQLCipher, durable PostgreSQL. Each round
lets them work for a moment, waits until somebody is in the midst of what is aimed at (an exchange, a repair, the upload
of a signal, a write), kills a device, several, the server (also while it starts), PostgreSQL, one of its backends, or
all at once, and starts them again, or has one of them stand still for a while (SIGSTOP); now and then everything is
compared (``kills_judging``). Rounds come in eras, each with an arena of its own, so that they can be made side by side
(``--jobs``) and gone on with later (``--resume``). It deliberately cuts no power: what the kernel was given stays.

Exit status: 0 nothing was lost, 1 something was, 2-3 as in ``einthoven_bench.errors``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from einthoven_bench.errors import BenchError
from einthoven_bench.kills_arena import Arena, running_arena
from einthoven_bench.kills_phases import Phase
from einthoven_bench.kills_plan import AIM_TIMEOUT_S, Round, Victim, aimed, draw_round
from einthoven_bench.kills_tally import Era, read_eras, total
from einthoven_bench.workers import results_in_order

ERA_ROUNDS: Final = 50
"""Rounds of one arena."""
COMPARE_EVERY: Final = 25
"""Rounds between two comparisons."""
_WITH_SERVER: Final = frozenset({Victim.SERVER, Victim.STARTING, Victim.POSTGRES, Victim.EVERYTHING})


class Task(NamedTuple):
    """One era.

    Attributes:
        seed: Of the run.
        number: Of the era.
        rounds: How many.
        keep: Where what failed stays.
    """

    seed: int
    number: int
    rounds: int
    keep: Path | None = None


def run_era(task: Task) -> Era:
    """Kill something so many times in one arena.

    Raises:
        MeasurementFailed: A device or the server ended by itself.
        EinthovenError: A device can't sync though nothing is in its way.
    """
    seed, number, rounds, keep = task
    rng = Random(f"{seed}/{number}")  # noqa: S311  # which process dies when
    era, began = Era(seed=seed, number=number, rounds=rounds), time.monotonic()
    with running_arena(keep) as arena:
        for first in range(0, rounds, COMPARE_EVERY):
            for device in range(arena.devices):
                arena.start_device(device)
            killed = _work(arena, rng, min(COMPARE_EVERY, rounds - first), era)
            arena.end_devices()
            toll = arena.compare()
            era.judge(toll, killed)
            if not toll.none:
                break
    era.seconds = round(time.monotonic() - began, 1)
    return era


def _work(arena: Arena, rng: Random, rounds: int, era: Era) -> set[Victim]:
    """Some rounds; returns who was killed."""
    killed: set[Victim] = set()
    restored: int | None = None
    for _ in range(rounds):
        drawn = draw_round(rng, arena.devices, arena.backed_up, restored)
        era.tally(drawn.victim).add(strike(arena, rng, drawn))
        killed.add(drawn.victim)
        restored = drawn.devices[0] if drawn.victim is Victim.RESTORED else None
    return killed


def strike(arena: Arena, rng: Random, drawn: Round) -> Sequence[Phase]:
    """One round: kill, and bring back what was killed.

    Returns:
        What each of those was in the midst of who were killed, or whose server was.
    """
    time.sleep(drawn.work_s)
    devices = drawn.devices
    if drawn.aim is not None:
        devices = aimed(devices, arena.await_phase(drawn.watched, drawn.aim, AIM_TIMEOUT_S))
        time.sleep(drawn.delay_s)
    cut_off = [arena.board[device] for device in range(arena.devices)]
    if drawn.victim is Victim.STOPPED:
        arena.stand_still(rng, drawn.hold_s)
    if drawn.victim is Victim.BACKEND:
        arena.kill_backend(rng)
    if drawn.victim in {Victim.POSTGRES, Victim.EVERYTHING}:
        arena.kill_postgres()
    if drawn.victim is Victim.POSTGRES:
        time.sleep(drawn.hold_s)
    if drawn.victim in _WITH_SERVER:
        arena.kill_server()
    if devices:
        arena.kill_devices(devices)
    if drawn.victim is not Victim.EVERYTHING and devices:
        # What they left on the board is what they died in; of the others, what was seen last.
        cut_off = [arena.board[device] for device in devices]
    _bring_back(arena, drawn, devices)
    return cut_off


def _bring_back(arena: Arena, drawn: Round, devices: Sequence[int]) -> None:
    for device in devices if drawn.back_up else ():
        arena.back_up(device)
    if drawn.victim is Victim.RESTORED:
        arena.restore(devices[0])
    # That devices come up while there is no server yet is part of it.
    for device in devices:
        arena.start_device(device)
    for after_s in drawn.starts_s:
        arena.start_and_kill_server(after_s)
    if drawn.victim in _WITH_SERVER:
        arena.start_server()


def run(rounds: int, seed: int, jobs: int = 1, resume: Path | None = None, keep: Path | None = None) -> Iterator[Era]:
    """Yield eras as they end, those that ``resume`` holds first; new ones are appended to it.

    Args:
        rounds: Of all eras together.
        seed: Decides who is killed when.
        jobs: Eras made at the same time.
        resume: A file of JSON lines.
        keep: Where the folder of an era stays that failed.

    Raises:
        DocumentUnreadable: ``resume`` is of another seed, or no such file.
        MeasurementFailed: A device or the server ended by itself.
    """
    sizes = [min(ERA_ROUNDS, rounds - first) for first in range(0, rounds, ERA_ROUNDS)]
    done = {} if resume is None else {era.number: era for era in read_eras(resume, seed)}
    tasks = [Task(seed, number, size, keep) for number, size in enumerate(sizes) if number not in done]
    yield from (era for number, era in sorted(done.items()) if number < len(sizes))
    for era in results_in_order(run_era, tasks, jobs if jobs > 1 else 0):
        if resume is not None:
            with resume.open("a", encoding="ascii") as lines:
                lines.write(era.line())
        yield era


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m einthoven_bench.kills", description="kill -9 under load.")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="decides what is killed, and when")
    parser.add_argument("--jobs", type=int, default=1, help="arenas at a time")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with a run whose eras are in this file")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave logs and stores of what failed there")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    eras: list[Era] = []
    try:
        for era in run(options.rounds, options.seed, options.jobs, options.resume, options.keep):
            eras.append(era)
            sys.stderr.write(f"{sum(one.rounds_made for one in eras)} of {options.rounds} rounds: {era.toll}\n")
            if not era.toll.none:
                break
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    document = total(eras)
    sys.stdout.write(json.dumps(document) + "\n" if options.json else json.dumps(document, indent=1) + "\n")
    return 0 if all(era.toll.none for era in eras) else 1


if __name__ == "__main__":
    sys.exit(main())
