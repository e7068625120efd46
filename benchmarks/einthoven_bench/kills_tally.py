"""What a run of kills amounts to: who was killed how often, in the midst of what, and what that did.

It deliberately knows no process. An era travels as a line of JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from einthoven_bench.errors import DocumentUnreadable
from einthoven_bench.kills_judging import Toll
from einthoven_bench.kills_phases import IN_FLIGHT, Phase
from einthoven_bench.kills_plan import Victim

_LOSSES: Final = ("acknowledged_lost", "lost", "doubled", "divergences")


@dataclass(slots=True)
class Tally:
    """Kills of one victim.

    Attributes:
        kills: How often it was killed.
        in_flight: Of them, those that hit at least one request on its way or being answered.
        exchange: Those that hit an exchange.
        repair: Those that hit a request of a repair.
        upload: Those that hit an upload of signals.
        commit: Those that hit a device writing to its store, or taking over an answer.
        acknowledged_lost: What comparisons found after rounds in which it was killed, and so for the next three.
        lost: See ``Toll``.
        doubled: See there.
        divergences: See there.
    """

    kills: int = 0
    in_flight: int = 0
    exchange: int = 0
    repair: int = 0
    upload: int = 0
    commit: int = 0
    acknowledged_lost: int = 0
    lost: int = 0
    doubled: int = 0
    divergences: int = 0

    def add(self, phases: Sequence[Phase]) -> None:
        """Count a kill.

        Args:
            phases: What those were in the midst of whom it cut off.
        """
        hit = frozenset(phases)
        self.kills += 1
        self.in_flight += bool(hit & IN_FLIGHT)
        self.exchange += Phase.EXCHANGE in hit
        self.repair += Phase.REPAIR in hit
        self.upload += Phase.UPLOAD in hit
        self.commit += bool(hit & {Phase.KEEPS, Phase.SETTLES})


@dataclass(slots=True)
class Era:
    """Rounds in one arena.

    Attributes:
        seed: Of the run.
        number: Which of the run's eras.
        rounds: How many were to be made.
        tallies: By name of the victim.
        toll: Of its last comparison, which is of everything since the era began.
        seconds: How long it took.
    """

    seed: int
    number: int
    rounds: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    toll: Toll = field(default_factory=Toll)
    seconds: float = 0.0

    @property
    def rounds_made(self) -> int:
        """Rounds that were made."""
        return sum(one.kills for one in self.tallies.values())

    def tally(self, victim: Victim) -> Tally:
        """The tally of a victim."""
        return self.tallies.setdefault(victim.value, Tally())

    def judge(self, toll: Toll, killed: set[Victim]) -> None:
        """Note a comparison.

        Args:
            toll: What it found.
            killed: Who was killed since the last one: any of them may be to blame.
        """
        self.toll = toll
        for victim in killed:
            one = self.tally(victim)
            for name in _LOSSES:
                setattr(one, name, getattr(one, name) + getattr(toll, name))

    def line(self) -> str:
        """The era as a line."""
        return msgspec.json.encode(self).decode("ascii") + "\n"


def read_eras(path: Path, seed: int) -> list[Era]:
    """Read the eras of a run; none if the file is not there yet.

    Raises:
        DocumentUnreadable: It is of another seed, or not such a file.
    """
    if not path.exists():
        return []
    try:
        eras = [msgspec.json.decode(line, type=Era) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.MsgspecError) as error:
        raise DocumentUnreadable("the file to go on with holds no eras of kills", "give another --resume") from error
    if any(era.seed != seed for era in eras):
        raise DocumentUnreadable("the file to go on with is of another seed", "give its --seed, or another file")
    return eras


def total(eras: Sequence[Era]) -> dict[str, Any]:
    """The document of a run: sums over its eras."""
    victims = {victim.value: Tally() for victim in Victim}
    for era in eras:
        for name, one in era.tallies.items():
            victims[name] = _sum([victims[name], one], Tally)
    toll = _sum([era.toll for era in eras] or [Toll()], Toll)
    return {
        "rounds": sum(era.rounds_made for era in eras),
        "in_flight": sum(one.in_flight for one in victims.values()),
        **dataclasses.asdict(toll),
        "victims": {name: dataclasses.asdict(one) for name, one in victims.items()},
        "seconds": round(sum(era.seconds for era in eras), 1),
    }


Counts = TypeVar("Counts", Tally, Toll)


def _sum(counts: Sequence[Counts], kind: type[Counts]) -> Counts:
    return kind(**{name.name: sum(getattr(one, name.name) for one in counts) for name in fields(kind)})
