"""Short sequences of steps that bring about what single steps seldom do: conflicts, forks, lost rows, old cursors.

Pure. Other steps come in between, and the network does to their syncs what it does to all; so a recipe is a beginning,
not a script. It deliberately draws nothing that a step alone could not be.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.virtual_time import YEAR_MS

Recipe: TypeAlias = Callable[[Random, int, int], list[h.Step]]
"""Makes steps for two devices of one patient (or one device twice)."""


def _sync(rng: Random, device: int) -> h.Step:
    return h.Sync(device=device, seed=rng.getrandbits(32))


def _conflict(rng: Random, one: int, other: int) -> list[h.Step]:
    """Both say something of the same result without having heard the other."""
    fields = rng.randint(1, 3)
    return [
        h.Append(device=one, count=rng.randint(1, 3)),
        _sync(rng, one),
        h.Sync(device=other, seed=rng.getrandbits(32), after_ms=30_000),
        h.Say(device=one, pick=0, fields=fields, after_ms=30_000),
        h.Say(device=other, pick=0, fields=rng.choice((fields, 3))),
        _sync(rng, rng.choice((one, other))),
        _sync(rng, rng.choice((one, other))),
    ]


def _turned_back(rng: Random, one: int, other: int) -> list[h.Step]:
    """A device writes and syncs, and is put back to before that; sometimes it goes on writing."""
    del other
    after: list[h.Step] = [h.Append(device=one), h.WriteDiary(device=one), h.Say(device=one, pick=0, fields=3)]
    return [
        h.Append(device=one, count=rng.randint(1, 3)),
        rng.choice((_sync(rng, one), h.WriteDiary(device=one))),
        h.BackUp(device=one, after_ms=rng.choice((0, 30_000))),
        *rng.sample(after, rng.randint(1, 3)),
        _sync(rng, one),
        h.Restore(device=one, noticed=rng.random() < 0.4, after_ms=rng.choice((0, 30_000))),
        *rng.sample(after, rng.randint(0, 3)),
        *([_sync(rng, one)] if rng.random() < 0.7 else []),
    ]


def _failed_over(rng: Random, one: int, other: int) -> list[h.Step]:
    """What was acknowledged after the replica's last word is lost with the server."""
    said: list[h.Step] = [
        h.Append(device=one, count=rng.randint(1, 3)),
        h.WriteDiary(device=one),
        h.Say(device=other, pick=0, fields=3),
        h.Say(device=one, pick=0, fields=3),
        h.TakeBack(device=one, pick=0),
        h.TakeBack(device=one, pick=0, words=True),
    ]
    return [
        *rng.sample(said, 2),
        _sync(rng, one),
        h.Replicate(after_ms=rng.choice((0, 30_000))),
        *rng.sample(said, rng.randint(1, 4)),
        _sync(rng, one),
        h.Sync(device=other, seed=rng.getrandbits(32), after_ms=rng.choice((0, 30_000))),
        h.FailOver(down_ms=10, after_ms=rng.choice((0, 30_000))),
        *rng.sample(said, rng.randint(0, 2)),
        _sync(rng, one),
    ]


def _deleted(rng: Random, one: int, other: int) -> list[h.Step]:
    """Something is written, seen elsewhere, deleted, and perhaps written anew while the deletion is on its way."""
    words = rng.random() < 0.6
    written: list[h.Step] = (
        [h.Append(device=one), h.Say(device=one, pick=0, fields=3)] if words else [h.WriteDiary(device=one)]
    )
    again: list[h.Step] = [h.Say(device=rng.choice((one, other)), pick=0, fields=3)] if words else []
    return [
        *written,
        _sync(rng, one),
        h.Sync(device=other, seed=rng.getrandbits(32), after_ms=30_000),
        h.TakeBack(device=one, pick=0, words=words, after_ms=rng.choice((0, 30_000))),
        *(again if rng.random() < 0.5 else []),
        _sync(rng, one),
        *(again if rng.random() < 0.5 else []),
        _sync(rng, other),
    ]


def _away(rng: Random, one: int, other: int) -> list[h.Step]:
    """A device is away while tombstones are written and collected, and comes back with words of its own."""
    return [
        *_deleted(rng, one, other),
        *([h.Say(device=other, pick=0, fields=3)] if rng.random() < 0.5 else []),
        h.ConsoleDelete(patient=0, pick=rng.randrange(3), kind=rng.randint(1, 3)),
        h.Sync(device=one, seed=rng.getrandbits(32), after_ms=30_000),
        h.Collect(after_ms=rng.choice((30_000, YEAR_MS // 2 + 86_400_000, YEAR_MS))),
        h.Append(device=other),
        _sync(rng, other),
    ]


def _lost(rng: Random, one: int, other: int) -> list[h.Step]:
    """The cursor is lost after much came down."""
    return [
        *_conflict(rng, one, other),
        h.LoseCursor(device=rng.choice((one, other)), after_ms=rng.choice((0, 30_000))),
        _sync(rng, rng.choice((one, other))),
    ]


def _urgent(rng: Random, one: int, other: int) -> list[h.Step]:
    """An urgent result behind many."""
    del other
    return [
        _sync(rng, one),
        h.Append(device=one, count=rng.randint(3, 8), after_ms=30_000),
        h.Append(device=one, count=rng.randint(1, 3), urgent=True),
        _sync(rng, one),
    ]


def _wrong_clock(rng: Random, one: int, other: int) -> list[h.Step]:
    """Things are written while the clock is a year off, and after it was put right."""
    offset_ms = rng.choice((-YEAR_MS, YEAR_MS, 200_000, 600_000))
    return [
        h.Append(device=one),
        h.TurnClock(device=one, offset_ms=offset_ms),
        h.Append(device=one),
        h.Say(device=one, pick=rng.randrange(2), fields=3),
        h.WriteDiary(device=one),
        _sync(rng, one),
        h.TurnClock(device=one, offset_ms=0, after_ms=rng.choice((0, 30_000))),
        h.Say(device=rng.choice((one, other)), pick=0, fields=3),
        _sync(rng, one),
    ]


RECIPES: Final[tuple[Recipe, ...]] = (
    _conflict,
    _turned_back,
    _failed_over,
    _deleted,
    _away,
    _lost,
    _urgent,
    _wrong_clock,
)
