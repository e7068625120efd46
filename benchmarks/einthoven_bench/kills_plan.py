"""Which process dies in a round, when, and what it is to be hit in. Pure: chance is given.

It deliberately knows no process.

Invariants:
    1. The same chance gives the same rounds.
    2. Whatever is aimed at, the kill comes: an aim that is not met in ``AIM_TIMEOUT_S`` is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from random import Random
from typing import Final, NamedTuple

from einthoven_bench.kills_phases import Phase


class Victim(Enum):
    """What is killed in one round, all of it by SIGKILL, or (one of them) stopped for a while."""

    DEVICE = "device"
    DEVICES = "devices"
    """Several devices, one right after the other."""
    RESTORED = "restored"
    """A device, whose store is then put back as it was at an earlier kill; the anchor, which no backup holds, stays."""
    SERVER = "server"
    """The server; its PostgreSQL outlives it until the next one starts."""
    STARTING = "starting"
    """The server, and again while it starts, as one that some supervisor restarts and kills in turn."""
    POSTGRES = "postgres"
    """The postmaster, and then the server that lost it."""
    BACKEND = "backend"
    """One backend of PostgreSQL, which then starts all of them anew; the server has to live with it."""
    EVERYTHING = "everything"
    """Devices, server, and postmaster."""
    STOPPED = "stopped"
    """Nothing dies: a device, the server, or all of PostgreSQL stands still (SIGSTOP), and goes on where it was."""


WEIGHTS: Final = {
    Victim.DEVICE: 9,
    Victim.DEVICES: 3,
    Victim.RESTORED: 3,
    Victim.SERVER: 5,
    Victim.STARTING: 2,
    Victim.POSTGRES: 3,
    Victim.BACKEND: 3,
    Victim.EVERYTHING: 2,
    Victim.STOPPED: 2,
}
WORK_MIN_S: Final = 0.05
WORK_MAX_S: Final = 0.6
"""How long a round works at least, before its victim is aimed at."""
AIM_TIMEOUT_S: Final = 1.5
"""Longest wait for what is aimed at."""
DELAYS_MAX_S: Final = {
    Phase.KEEPS: 0.006,
    Phase.SETTLES: 0.010,
    Phase.EXCHANGE: 0.015,
    Phase.REPAIR: 0.010,
    Phase.UPLOAD: 0.040,
}
"""How far into what was aimed at the kill comes at most; about as long as it takes."""
BACK_UP_CHANCE: Final = 0.4
"""Of a device that was killed: that its files are kept, as a backup that is then some rounds old."""
_HOLD_MAX_S: Final = 0.3
_STOP_MAX_S: Final = 2.0
_STARTS_MAX: Final = 3
_START_MAX_S: Final = 0.6
_SERVER_AIMS: Final = (Phase.EXCHANGE, Phase.REPAIR, Phase.UPLOAD, Phase.UPLOAD, None)
_DEVICE_AIMS: Final = (*_SERVER_AIMS, Phase.REPAIR, Phase.KEEPS, Phase.SETTLES)
_OF_DEVICES: Final = frozenset({Victim.DEVICE, Victim.DEVICES, Victim.RESTORED})


class Round(NamedTuple):
    """What happens in one round.

    Attributes:
        victim: What is killed.
        devices: Which devices are; none where the victim has none.
        watched: The devices of which one is to be in ``aim``; that one then dies in place of the first of ``devices``.
        aim: The phase that is to be hit; ``None`` if the clock decides alone.
        work_s: How long all work before.
        delay_s: How long after the aim was met the kill comes.
        hold_s: How long the server lives without its database, or what was stopped stands still.
        starts_s: How soon the server is killed again while it starts, each time that it is.
        back_up: Whether the files of those devices are kept that die.
    """

    victim: Victim
    devices: tuple[int, ...]
    watched: tuple[int, ...]
    aim: Phase | None
    work_s: float
    delay_s: float
    hold_s: float
    starts_s: tuple[float, ...]
    back_up: bool


def draw_round(rng: Random, devices: int, backed_up: Sequence[int], restored: int | None) -> Round:
    """Draw a round.

    Args:
        rng: Chance.
        devices: How many there are.
        backed_up: Those that have a backup.
        restored: One that was restored in the round before, which is to be hit while it hears all anew.
    """
    victim = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    if victim is Victim.RESTORED and (not backed_up or restored is not None):
        victim = Victim.DEVICE
    killed = _killed(rng, victim, devices, backed_up)
    aim = rng.choice(_DEVICE_AIMS if victim in _OF_DEVICES else _SERVER_AIMS)
    watched = killed if victim is Victim.RESTORED else tuple(range(devices))
    work_s = rng.uniform(WORK_MIN_S, WORK_MAX_S)
    if restored is not None:
        watched, aim, work_s = (restored,), Phase.EXCHANGE, 0.0
    return Round(
        victim=victim,
        devices=killed,
        watched=watched,
        aim=aim,
        work_s=work_s,
        delay_s=0.0 if aim is None else rng.uniform(0.0, DELAYS_MAX_S[aim]),
        hold_s=rng.uniform(0.0, _STOP_MAX_S if victim is Victim.STOPPED else _HOLD_MAX_S),
        starts_s=_starts_s(rng) if victim is Victim.STARTING else (),
        back_up=rng.random() < BACK_UP_CHANCE,
    )


def aimed(devices: tuple[int, ...], met: int | None) -> tuple[int, ...]:
    """The devices that die, where one of them is to be the one that met the aim."""
    if met is None or met in devices or not devices:
        return devices
    return (met, *devices[1:])


def _killed(rng: Random, victim: Victim, devices: int, backed_up: Sequence[int]) -> tuple[int, ...]:
    match victim:
        case Victim.DEVICE:
            return (rng.randrange(devices),)
        case Victim.DEVICES:
            return tuple(rng.sample(range(devices), rng.randint(2, devices)))
        case Victim.RESTORED:
            return (rng.choice(backed_up),)
        case Victim.EVERYTHING:
            return tuple(range(devices))
    return ()


def _starts_s(rng: Random) -> tuple[float, ...]:
    return tuple(rng.uniform(0.0, _START_MAX_S) for _ in range(rng.randint(1, _STARTS_MAX)))
