"""``python -m einthoven_bench.simulation``: run seeds, or replay one.

It deliberately has no more options than that; histories are decided by their seeds.

Exit status: 0 all held, 1 something did not, 2 wrong use, 130 stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from einthoven_bench.simulation.drawing import draw_history
from einthoven_bench.simulation.history import History
from einthoven_bench.simulation.occurring import NAMES
from einthoven_bench.simulation.running import Outcome, run_history, run_seeds
from einthoven_bench.simulation.shrinking import shrink

_SHOWN_MAX: Final = 20
"""Failing seeds that are listed; the rest is counted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    if options.seed is not None or options.history is not None:
        return _replay(options)
    try:
        first, last = (int(part) for part in options.seeds.split(":"))
    except ValueError:
        _parser().error("--seeds is FIRST:LAST, as 0:1000")
    try:
        return _run(first, last, options)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m einthoven_bench.simulation", description="Simulate syncing.")
    parser.add_argument("--seeds", default="0:300", help="FIRST:LAST, the last exclusive")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--resume", type=Path, help="file that keeps how far a run got, and goes on from there")
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--history", type=Path, help="replay a history that --save wrote")
    parser.add_argument("--trace", action="store_true", help="with --seed: show what happens")
    parser.add_argument("--shrink", action="store_true", help="with --seed: make a failing history short first")
    parser.add_argument("--save", type=Path, help="with --seed: write the history as JSON")
    return parser


# ---- one ----


def _replay(options: argparse.Namespace) -> int:
    if options.history is not None:
        history = msgspec.json.decode(options.history.read_bytes(), type=History)
    else:
        history = draw_history(options.seed)
    if options.shrink:
        history, _ = shrink(history, run_history)
    trace: list[str] | None = [] if options.trace else None
    outcome = run_history(history, trace=trace)
    if trace is not None:
        sys.stdout.write("".join(f"{line}\n" for line in trace))
    if options.save is not None:
        options.save.write_bytes(msgspec.json.format(msgspec.json.encode(history)))
    for problem in outcome.problems:
        sys.stdout.write(f"FAILED {problem}\n")
    sys.stdout.write(f"seed {outcome.seed}: {len(history.steps)} steps, {outcome.syncs} syncs, {_verdict(outcome)}\n")
    return 1 if outcome.problems else 0


def _verdict(outcome: Outcome) -> str:
    return f"{len(outcome.problems)} problems" if outcome.problems else "all holds"


# ---- many ----


class _Progress(msgspec.Struct):
    """How far a run got; all but ``seconds`` follows from the seeds and the code alone."""

    first: int
    next: int
    syncs: int = 0
    seconds: float = 0.0
    failures: dict[int, list[str]] = {}  # msgspec copies it
    histories_with: dict[str, int] = {}
    outcomes_sha256: str = ""


def _run(first: int, last: int, options: argparse.Namespace) -> int:
    progress = _resumed(first, options.resume)
    began, before_s = time.monotonic(), progress.seconds
    started_at = progress.next
    for outcomes in run_seeds(progress.next, last, options.jobs):
        for outcome in outcomes:
            progress.next = outcome.seed + 1
            progress.syncs += outcome.syncs
            # One outcome after the other, so that a run that was resumed ends with the same.
            chained = f"{progress.outcomes_sha256} {outcome!r}".encode()
            progress.outcomes_sha256 = hashlib.sha256(chained).hexdigest()
            for name in outcome.seen:
                progress.histories_with[name] = progress.histories_with.get(name, 0) + 1
            if outcome.problems:
                progress.failures[outcome.seed] = list(outcome.problems)
                sys.stderr.write(f"seed {outcome.seed}: {outcome.problems[0]}\n")
        progress.seconds = before_s + time.monotonic() - began
        if options.resume is not None:
            options.resume.write_bytes(msgspec.json.encode(progress))
        rate = (progress.next - started_at) / max(1e-9, time.monotonic() - began)
        sys.stderr.write(f"\r{progress.next - first} of {last - first} seeds, {rate:.1f} a second ")
        sys.stderr.flush()
    sys.stderr.write("\n")
    _report(progress, first, last, as_json=options.json)
    return 1 if progress.failures else 0


def _resumed(first: int, kept: Path | None) -> _Progress:
    if kept is not None and kept.exists():
        progress = msgspec.json.decode(kept.read_bytes(), type=_Progress)
        if progress.first == first:
            return progress
    return _Progress(first, first)


def _report(progress: _Progress, first: int, last: int, *, as_json: bool) -> None:
    seeds = progress.next - first
    document: dict[str, Any] = {
        "seeds": seeds,
        "syncs": progress.syncs,
        "seconds": round(progress.seconds, 1),
        "seeds_per_s": round(seeds / progress.seconds, 1) if progress.seconds else None,
        "failed": len(progress.failures),
        "outcomes_sha256": progress.outcomes_sha256,
        "histories_with": {name: progress.histories_with.get(name, 0) for name in NAMES},
        "failures": {str(seed): problems for seed, problems in list(progress.failures.items())[:_SHOWN_MAX]},
    }
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
        return
    sys.stdout.write(
        f"{seeds} histories (seeds {first} to {last - 1}), {progress.syncs} syncs, {progress.seconds:.0f} s: "
        f"{len(progress.failures)} failed\n"
    )
    for name, histories in document["histories_with"].items():
        sys.stdout.write(f"  {histories:>7} with {name}\n")
    for seed, problems in list(progress.failures.items())[:_SHOWN_MAX]:
        sys.stdout.write(f"  seed {seed}: {problems[0]}\n")
    if progress.failures:
        sys.stdout.write("replay one: python -m einthoven_bench.simulation --seed N --trace [--shrink]\n")


if __name__ == "__main__":
    sys.exit(main())
