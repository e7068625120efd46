"""Crash points of the store: how many were tried, how many acknowledged rows were lost, and does one key open it.

``run`` starts this module again as a process behind the library of ``crash_shim`` (it must be in front before a process
begins), which plays every workload, breaks it at points spread evenly over workloads, kinds of fault and calls, and
judges each. It deliberately measures no time and keeps no store: everything lies in memory, under a temporary folder.

``python -m einthoven_bench.crash_points --points 10000 --json`` runs it alone.

Invariants:
    1. The same number and seed give the same points, as far as the store's own threads let them.
    2. A point is counted once and only if its fault came about.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess  # starts this module again, behind the library
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

from einthoven_bench.crash_arena import Arena
from einthoven_bench.crash_shim import Shim, build_shim, environment_with
from einthoven_bench.crash_sweep import Fault, FaultKind, Point, Sweep
from einthoven_bench.crash_verifying import Lost
from einthoven_bench.crash_workloads import WORKLOADS, Workload
from einthoven_bench.errors import BenchError, MeasurementFailed

POWER_CUT_SHARE: Final = 0.4
"""Share of the points that are power cuts; the rest are calls at which something fails."""
MAX_PROBLEMS_KEPT: Final = 1_000
"""Problems of which the words are kept; all are counted."""
IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
"""Where stores are broken, if it is there: a sync costs nothing."""
ENTRY: Final = "einthoven_bench.crash_points"
"""Module that is started behind the library."""
Progress = Callable[[str, int, int], None]


@dataclass
class CrashOutcome:
    """What came of all points.

    Attributes:
        points: Points that came about.
        problems: How many of them ended with a problem: something lost, doubled or refused.
        not_one_key: How many ended with a store that not exactly one key opens.
        by_workload: Points by workload and kind of fault.
        keys: How many stores opened with the key from before, and with a new one, and how many were gone by rights.
        forked: Stores that went into a new epoch.
        told: The first problems in words.
    """

    points: int = 0
    problems: int = 0
    not_one_key: int = 0
    by_workload: dict[str, dict[str, int]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    forked: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, point: Point) -> None:
        """Count one more."""
        self.points += 1
        kinds = self.by_workload.setdefault(point.workload, {})
        kinds[point.kind.value] = kinds.get(point.kind.value, 0) + 1
        self.forked += point.verdict.forked
        if point.verdict.problem is None:
            self.keys[point.verdict.key] = self.keys.get(point.verdict.key, 0) + 1
            return
        self.problems += 1
        self.not_one_key += point.verdict.key == "none"
        if len(self.told) < MAX_PROBLEMS_KEPT:
            self.told.append(
                f"{point.workload}, {point.kind.value} at {point.at}, {point.what}: {point.verdict.problem}"
            )


def run(
    points: int, seed: int, progress: Progress | None = None, *, workloads: str = "", entry: str = ENTRY
) -> CrashOutcome:
    """Try so many crash points, in a process of their own.

    Args:
        points: How many; fewer come about only if the workloads do not hold as many.
        seed: Of which ones.
        progress: Called with what is being broken, points done and points in all.
        workloads: Names with commas between; all if empty.
        entry: Module that is started behind the library and calls ``main``; another one in the harness's own tests.

    Raises:
        CompilerNotFound: There is no C compiler.
        MeasurementFailed: The process ended before its work was done.
    """
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None) as folder:
        library = build_shim(Path(folder))
        command = [sys.executable, "-m", entry, "--behind-shim", folder]
        command += ["--points", str(points), "--seed", str(seed), "--workloads", workloads]
        environment = environment_with(library, os.environ) | {"OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:  # noqa: S603
            assert process.stdout is not None
            outcome = _followed(process.stdout, progress)
        if outcome is None:
            raise MeasurementFailed("the crash points came to no end", "run einthoven_bench.crash_points alone", 1)
        return outcome


def _followed(lines: IO[str], progress: Progress | None) -> CrashOutcome | None:
    outcome = None
    for line in lines:
        message = json.loads(line)
        if "outcome" in message:
            outcome = CrashOutcome(**message["outcome"])
        elif progress is not None:
            progress(message["what"], message["done"], message["total"])
    return outcome


def break_all(root: Path, points: int, seed: int, workloads: Sequence[Workload], say: Progress) -> CrashOutcome:
    """Break every workload; this process must run behind the library.

    Raises:
        ShimNotLoaded: It does not.
        MeasurementFailed: A workload fails where nothing is broken.
    """
    arena, shim, outcome = Arena(root), Shim(), CrashOutcome()
    for number, workload in enumerate(workloads):
        # What one workload had too few points for, those after it make up.
        share = (points - outcome.points) // (len(workloads) - number)
        try:
            sweep = Sweep(workload, arena, shim)
            for point in points_of(sweep, share, seed + number):
                outcome.add(point)
                say(workload.name, outcome.points, points)
        except Lost as error:
            raise MeasurementFailed(f"{error}", "mend the store, or the workload", 1) from error
    return outcome


def points_of(sweep: Sweep, wanted: int, seed: int) -> Iterator[Point]:
    """Break one workload at so many points: power cuts, and calls that fail, evenly spread."""
    faults = sweep.faults()
    cuts = sweep.power_cuts(max(round(wanted * POWER_CUT_SHARE), wanted - len(faults)), seed)
    for state in cuts:
        yield sweep.power_cut(state)
    for fault in evenly(faults, wanted - len(cuts), seed):
        point = sweep.fault(fault)
        if point is not None:
            yield point


def evenly(faults: list[Fault], wanted: int, seed: int) -> list[Fault]:
    """Choose faults so that each kind has its share and each part of the script is met."""
    rng = random.Random(seed)  # noqa: S311 - a choice to be repeated, not a secret
    kinds: dict[FaultKind, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    chosen: list[Fault] = []
    for number, of_kind in enumerate(sorted(kinds.values(), key=len)):
        share = min(len(of_kind), max(0, wanted - len(chosen)) // (len(kinds) - number))
        start = rng.random()
        chosen += [of_kind[int((start + i) * len(of_kind) / share) % len(of_kind)] for i in range(share)]
    return chosen


def main(workloads: Sequence[Workload] = WORKLOADS) -> None:
    """Run alone, or as the process behind the library.

    Args:
        workloads: What can be chosen from.
    """
    parser = argparse.ArgumentParser(prog="python -m einthoven_bench.crash_points", description=run.__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workloads", default="", help="names with commas between")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--behind-shim", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in options.workloads.split(",") if name]
    if options.behind_shim is not None:
        chosen = [workload for workload in workloads if not names or workload.name in names]
        outcome = break_all(options.behind_shim, options.points, options.seed, chosen, _say_line)
        sys.stdout.write(json.dumps({"outcome": asdict(outcome)}) + "\n")
        return
    try:
        outcome = run(options.points, options.seed, _say, workloads=options.workloads)
    except BenchError as error:
        sys.stderr.write(f"crash_points: {error}\n")
        sys.exit(error.exit_status)
    if options.json:
        sys.stdout.write(json.dumps(asdict(outcome), indent=1) + "\n")
    else:
        sys.stdout.write(_in_words(outcome))
    sys.exit(1 if outcome.problems else 0)


def _say_line(what: str, done: int, total: int) -> None:
    if done % 50 == 0:
        sys.stdout.write(json.dumps({"what": what, "done": done, "total": total}) + "\n")
        sys.stdout.flush()


def _say(what: str, done: int, total: int) -> None:
    sys.stderr.write(f"{what}: {done} of {total}\n")


def _in_words(outcome: CrashOutcome) -> str:
    lines = [
        f"{outcome.points} points, {outcome.problems} with a problem, keys {outcome.keys}, {outcome.forked} forked"
    ]
    lines += [f"  {workload}: {kinds}" for workload, kinds in outcome.by_workload.items()]
    lines += outcome.told
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
