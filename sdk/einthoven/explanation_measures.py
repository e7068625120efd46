"""What the columns of ``window_features`` are called, and which of them belong together. A table. Pure.

A verdict's trees see many columns that say nearly the same. To ask what one of them is worth, those that go together
are asked together: put all at what is usual among the training windows, and see how far the verdict moves.

It deliberately computes no feature (``window_features`` does).

Invariants:
    1. Every column belongs to exactly one measure, and every measure to one group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from einthoven.window_features import HEIGHT, INTERVALS, SECONDS, SHAPE


class Group(StrEnum):
    """What a verdict rests on."""

    SECONDS = "the network's seconds"
    REGULARITY = "rhythm regularity"
    SHAPE = "P wave and shape"
    CLASSES = "beat classes"


@dataclass(frozen=True, slots=True)
class Measure:
    """Columns that say one thing.

    Attributes:
        name: What it is called on a screen.
        group: Where it belongs.
        columns: Which ones, in order.
    """

    name: str
    group: Group
    columns: tuple[int, ...]


def _measures(group: Group, first: int, named: Iterable[tuple[str, Iterable[int]]]) -> tuple[Measure, ...]:
    return tuple(Measure(name, group, tuple(first + column for column in columns)) for name, columns in named)


_INTERVALS: Final = SECONDS
_SHAPE: Final = SECONDS + INTERVALS
_CLASSES: Final = SECONDS + INTERVALS + SHAPE

RATE_COLUMN: Final = _INTERVALS
"""Heart rate of the median interval, beats a minute."""
VARIATION_COLUMN: Final = _INTERVALS + 1
"""Standard deviation of the intervals in 1/1000 of the median one."""
EARLY_COLUMN: Final = _INTERVALS + 19
"""Share of the intervals that are under 0.85 of the median one, 1/1000."""
N_INTERVALS_COLUMN: Final = _INTERVALS + 30
P_HEIGHT_COLUMN: Final = _SHAPE
"""How far the P wave of the mean beat stands out before the QRS complex, in 1/1000 of the R wave."""
P_LIKENESS_COLUMN: Final = _SHAPE + 4
"""Median likeness of the beats' P waves with the mean one, 1/1000."""

MEASURES: Final = (
    *_measures(Group.SECONDS, 0, [("what the network heard, second by second", range(SECONDS))]),
    *_measures(
        Group.REGULARITY,
        _INTERVALS,
        [
            ("heart rate", (0,)),
            ("spread of the intervals", (1, 2, *range(11, 19))),
            ("change from interval to interval", (*range(3, 11), 22)),
            ("early and late beats", (19, 20, 21)),
            ("repetition of intervals", (*range(23, 30),)),
            ("number of intervals", (30,)),
        ],
    ),
    *_measures(
        Group.SHAPE,
        _SHAPE,
        [
            ("P wave", (0, 1, 2, 3, 4)),
            ("likeness of the QRS complexes", (5, 6, 7, 14, 17)),
            ("noise about the mean beat", (9, 18, 19)),
            ("width and steepness of the QRS complex", (10, 11, 15)),
            ("T wave", (8, 12, 13)),
            ("height of the beats", (HEIGHT - _SHAPE,)),
        ],
    ),
    *_measures(
        Group.CLASSES,
        _CLASSES,
        [("supraventricular beats", (0, 3, 4)), ("ventricular beats", (1, 2, 5)), ("beats a second", (6,))],
    ),
)
COLUMNS: Final = {group: [c for one in MEASURES if one.group is group for c in one.columns] for group in Group}
"""Columns of each group."""
