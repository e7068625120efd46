"""Histories drawn from a seed. Pure: the same seed gives the same history, on every machine.

Each history draws first which kinds of trouble it knows at all (swarm testing: Groce et al., ISSTA 2012): what happens
among a few kinds goes deeper than an even mixture of all. It deliberately plays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

import msgspec

from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.recipes import RECIPES
from einthoven_bench.simulation.virtual_time import YEAR_MS

LARGE_EVERY: Final = 997
"""One seed in so many has 50 devices and hundreds of steps."""
MEDIUM_EVERY: Final = 29
"""One in so many has some, and about a hundred."""
ENCRYPTED_EVERY: Final = 61
"""One in so many keeps its devices' stores on disk, as a device does."""
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


class _Cast(msgspec.Struct, frozen=True):
    """Who there is."""

    devices: int
    patients: int


_Maker: TypeAlias = Callable[[Random, _Cast], h.Step]


def draw_history(seed: int) -> h.History:
    """The history of a seed."""
    rng = Random(f"einthoven history {seed}")  # noqa: S311  # chance that can be repeated is the point
    cast, n_steps = _cast(rng, seed)
    old_server, some_old = rng.random() < 0.08, rng.random() < 0.15
    devices = tuple(
        h.DeviceSetup(
            patient=number % cast.patients,
            encrypted=seed % ENCRYPTED_EVERY == ENCRYPTED_EVERY - 1 and cast.devices < 10,
            old_app=some_old and rng.random() < 0.5,
        )
        for number in range(cast.devices)
    )
    kinds = _kinds(rng, versions=old_server or some_old)
    recipes = [recipe for recipe in RECIPES if rng.random() < 0.25]
    steps: list[h.Step] = []
    while len(steps) < n_steps:
        if recipes and rng.random() < 0.25:
            one = rng.randrange(cast.devices)
            beside = [number for number in range(cast.devices) if number % cast.patients == one % cast.patients]
            steps += _mixed(rng, rng.choice(recipes)(rng, one, rng.choice(beside)), cast, kinds)
        else:
            steps.append(_single(rng, cast, kinds))
    faults = _faults(rng)
    pace_ms = rng.choice((2_000, 30_000, _HOUR_MS))
    return h.History(
        seed=seed,
        devices=devices,
        steps=tuple(_in_time(rng, step, faults, pace_ms) for step in steps),
        old_server=old_server,
        signed_time=rng.random() < 0.7,
        push_max=rng.choice((0, 0, 1, 2, 5)),
        page_rows=rng.choice((0, 0, 1, 3, 10)),
    )


def _cast(rng: Random, seed: int) -> tuple[_Cast, int]:
    if seed % LARGE_EVERY == LARGE_EVERY - 1:
        return _Cast(50, 8), rng.randint(300, 500)
    if seed % MEDIUM_EVERY == MEDIUM_EVERY - 1:
        return _Cast(rng.randint(5, 9), rng.randint(1, 3)), rng.randint(60, 140)
    devices = rng.choice((1, 2, 2, 3, 4))
    return _Cast(devices, 2 if devices > 2 and rng.random() < 0.2 else 1), rng.randint(5, rng.choice((12, 20, 40)))


def _single(rng: Random, cast: _Cast, kinds: list[tuple[_Maker, int]]) -> h.Step:
    (maker,) = rng.choices([maker for maker, _ in kinds], [weight for _, weight in kinds])
    return maker(rng, cast)


def _mixed(rng: Random, recipe: list[h.Step], cast: _Cast, kinds: list[tuple[_Maker, int]]) -> list[h.Step]:
    """A recipe's steps, now and then another between two of them."""
    steps = []
    for step in recipe:
        if rng.random() < 0.15:
            steps.append(_single(rng, cast, kinds))
        steps.append(step)
    return steps


def _in_time(rng: Random, step: h.Step, faults: list[tuple[str, int]], pace_ms: int) -> h.Step:
    if isinstance(step, h.Sync):
        step = _troubled(rng, step, faults)
    wait_ms = rng.randint(0, pace_ms) if rng.random() < 0.7 else 0
    return msgspec.structs.replace(step, after_ms=max(step.after_ms, wait_ms))


def _troubled(rng: Random, step: h.Sync, faults: list[tuple[str, int]]) -> h.Sync:
    chosen = {name: value for name, value in faults if rng.random() < 0.5}
    dies = rng.randint(1, 30) if chosen.pop("dies", 0) else 0
    fills = rng.randint(1, 20) if chosen.pop("fills", 0) else 0
    return msgspec.structs.replace(step, faults=h.Faults(**chosen), dies_at=dies, fills_at=fills)


def _faults(rng: Random) -> list[tuple[str, int]]:
    """Which troubles a sync of this history may meet, each about every other time."""
    known = [
        ("request_lost", rng.choice((100, 300))),
        ("answer_lost", rng.choice((100, 300, 600))),
        ("doubled", 300),
        ("late", 300),
        ("corrupted", 200),
        ("busy", 200),
        ("dies", 1),
        ("fills", 1),
    ]
    chosen = [fault for fault in known if rng.random() < 0.35]
    chosen.append(("slow_ms", rng.choice((10, 2_000, 20_000))))
    chosen.append(("late_ms", rng.choice((5_000, 200_000, _DAY_MS))))
    return chosen


def _kinds(rng: Random, *, versions: bool) -> list[tuple[_Maker, int]]:
    """Kinds of step that this history knows, with their weights."""
    kinds: list[tuple[_Maker, int]] = [(_append, 20), (_sync, 30)]
    ordinary: list[tuple[_Maker, int]] = [(_say, 20), (_clinician, 6), (_diary, 8), (_take_back, 6)]
    rare: list[tuple[_Maker, int]] = [
        (_console_note, 3),
        (_console_delete, 3),
        (_decide, 2),
        (_kill_device, 4),
        (_kill_server, 4),
        (_turn_clock, 3),
        (_fill_disk, 3),
        (_lose_cursor, 3),
        (_enrol_anew, 2),
        (_destroy, 1),
        (_push_newer, 4),
        (_collect, 3),
        (_be_away, 1),
    ]
    kinds += [kind for kind in ordinary if rng.random() < 0.7]
    kinds += [kind for kind in rare if rng.random() < 0.25]
    if rng.random() < 0.3:
        kinds += [(_back_up, 4), (_restore, 4)]
    if rng.random() < 0.2:
        kinds += [(_replicate, 4), (_fail_over, 3)]
    if versions:
        kinds += [(_upgrade, 3)]
    return kinds


def _append(rng: Random, cast: _Cast) -> h.Step:
    return h.Append(device=rng.randrange(cast.devices), count=rng.choice((1, 1, 2, 6)), urgent=rng.random() < 0.2)


def _sync(rng: Random, cast: _Cast) -> h.Step:
    return h.Sync(device=rng.randrange(cast.devices), seed=rng.getrandbits(32))


def _say(rng: Random, cast: _Cast) -> h.Step:
    # Few picks, so that several people often speak of the same result.
    return h.Say(device=rng.randrange(cast.devices), pick=rng.choice((0, 0, 0, 1, 2, 7)), fields=rng.randint(1, 3))


def _diary(rng: Random, cast: _Cast) -> h.Step:
    return h.WriteDiary(device=rng.randrange(cast.devices))


def _take_back(rng: Random, cast: _Cast) -> h.Step:
    return h.TakeBack(device=rng.randrange(cast.devices), pick=rng.randrange(4), words=rng.random() < 0.5)


def _clinician(rng: Random, cast: _Cast) -> h.Step:
    return h.Clinician(patient=rng.randrange(cast.patients), pick=rng.randrange(4), fields=rng.randint(1, 3))


def _console_note(rng: Random, cast: _Cast) -> h.Step:
    return h.ConsoleNote(patient=rng.randrange(cast.patients))


def _console_delete(rng: Random, cast: _Cast) -> h.Step:
    return h.ConsoleDelete(patient=rng.randrange(cast.patients), pick=rng.randrange(6), kind=rng.randint(1, 3))


def _decide(rng: Random, cast: _Cast) -> h.Step:
    return h.Decide(patient=rng.randint(-1, cast.patients - 1), name=rng.randrange(2))


def _kill_device(rng: Random, cast: _Cast) -> h.Step:
    return h.KillDevice(device=rng.randrange(cast.devices))


def _kill_server(rng: Random, cast: _Cast) -> h.Step:
    del cast
    return h.KillServer(at=rng.randint(1, 24), down_ms=rng.choice((10, 5_000)))


def _turn_clock(rng: Random, cast: _Cast) -> h.Step:
    offset_ms = rng.choice((0, -YEAR_MS, YEAR_MS, rng.randint(-600_000, 600_000)))
    return h.TurnClock(device=rng.randrange(cast.devices), offset_ms=offset_ms)


def _fill_disk(rng: Random, cast: _Cast) -> h.Step:
    return h.FillDisk(device=rng.randrange(cast.devices), full=rng.random() < 0.5)


def _lose_cursor(rng: Random, cast: _Cast) -> h.Step:
    return h.LoseCursor(device=rng.randrange(cast.devices))


def _enrol_anew(rng: Random, cast: _Cast) -> h.Step:
    return h.EnrolAnew(device=rng.randrange(cast.devices), revoke=rng.random() < 0.8)


def _destroy(rng: Random, cast: _Cast) -> h.Step:
    return h.Destroy(device=rng.randrange(cast.devices))


def _push_newer(rng: Random, cast: _Cast) -> h.Step:
    return h.PushNewer(patient=rng.randrange(cast.patients), count=rng.randint(1, 3))


def _collect(rng: Random, cast: _Cast) -> h.Step:
    del rng, cast
    return h.Collect()


def _be_away(rng: Random, cast: _Cast) -> h.Step:
    """Half a year or a year passes."""
    del cast
    return h.Collect(after_ms=rng.choice((YEAR_MS // 2, YEAR_MS)))


def _back_up(rng: Random, cast: _Cast) -> h.Step:
    return h.BackUp(device=rng.randrange(cast.devices))


def _restore(rng: Random, cast: _Cast) -> h.Step:
    return h.Restore(device=rng.randrange(cast.devices), noticed=rng.random() < 0.5)


def _replicate(rng: Random, cast: _Cast) -> h.Step:
    del rng, cast
    return h.Replicate()


def _fail_over(rng: Random, cast: _Cast) -> h.Step:
    del cast
    return h.FailOver(down_ms=rng.choice((10, 5_000)))


def _upgrade(rng: Random, cast: _Cast) -> h.Step:
    return h.Upgrade(device=rng.randint(-1, cast.devices - 1))
