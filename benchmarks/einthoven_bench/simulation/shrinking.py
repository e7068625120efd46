"""Makes a failing history as short as it gets: leaves out steps, devices' faults and options while it still fails.

It deliberately looks for no other failure than the first rule that was broken (``J3``, an error's name, ...).

Invariants:
    1. What it returns fails as what it was given did.
    2. It tries at most ``MAX_TRIES`` histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from einthoven_bench.simulation.history import CALM, DeviceSetup, History, Step, Sync
from einthoven_bench.simulation.running import Outcome

MAX_TRIES: Final = 3_000


def rules_broken(outcome: Outcome) -> frozenset[str]:
    """What failed, without the particulars: the rule's name, or the kind of error."""
    return frozenset(_rule(problem) for problem in outcome.problems)


def shrink(history: History, run: Callable[[History], Outcome]) -> tuple[History, Outcome]:
    """Return the shortest history found that fails like this one, and its outcome."""
    best, outcome = history, run(history)
    wanted = rules_broken(outcome)
    tries = 0
    progressed = bool(wanted)
    while progressed and tries < MAX_TRIES:
        progressed = False
        for candidate in _simpler(best):
            tries += 1
            found = run(candidate)
            if rules_broken(found) & wanted:
                best, outcome, progressed = candidate, found, True
                break
            if tries >= MAX_TRIES:
                break
    return best, outcome


def _rule(problem: str) -> str:
    for name in ("J1", "J2", "J3", "J4", "J5", "J6", "J7", "J8", "no rest"):
        if f" {name}:" in f" {problem}" or problem.startswith(name):
            return name
    return problem.split(":", 2)[1].strip()[:40] if ":" in problem else problem[:40]


def _simpler(history: History) -> Iterator[History]:
    steps = history.steps
    size = len(steps) // 2
    while size >= 1:
        for first in range(0, len(steps), size):
            yield _with(history, steps[:first] + steps[first + size :])
        size //= 2
    for place, step in enumerate(steps):
        for simpler in _simpler_steps(step):
            yield _with(history, (*steps[:place], simpler, *steps[place + 1 :]))
    for name, value in (("old_server", False), ("push_max", 0), ("page_rows", 0), ("signed_time", False)):
        if getattr(history, name) != value:
            yield msgspec.structs.replace(history, **{name: value})
    plain = tuple(DeviceSetup(patient=device.patient) for device in history.devices)
    if plain != history.devices:
        yield msgspec.structs.replace(history, devices=plain)


def _with(history: History, steps: tuple[Step, ...]) -> History:
    return msgspec.structs.replace(history, steps=steps)


def _simpler_steps(step: Step) -> Iterator[Step]:
    if isinstance(step, Sync):
        if step.faults != CALM:
            yield msgspec.structs.replace(step, faults=CALM)
            for name in step.faults.__struct_fields__:
                if getattr(step.faults, name) != getattr(CALM, name):
                    faults = msgspec.structs.replace(step.faults, **{name: getattr(CALM, name)})
                    yield msgspec.structs.replace(step, faults=faults)
        if step.dies_at:
            yield msgspec.structs.replace(step, dies_at=0)
        if step.fills_at:
            yield msgspec.structs.replace(step, fills_at=0)
    if getattr(step, "count", 1) > 1:
        yield msgspec.structs.replace(step, count=1)
    if step.after_ms:
        yield msgspec.structs.replace(step, after_ms=0)
