"""What a replay found, and which results are replayed. Pure.

It deliberately says only the names of fields that differ, never their values: who may see results sees both.

Invariants:
    1. Everything that decides is compared; what only names the row (counter, start) is not.
    2. A result of a model or a front end that this server does not have is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from einthoven.results import RiskTier
from einthoven_protocol.messages import ResultRow

_COMPARED: Final = (
    "duration_ms",
    "n_steps",
    "usable_s",
    "quality",
    "rhythm",
    "confidence_permille",
    "logits",
    "tier",
    "reason",
)
_PERMILLE: Final = 1000


class ReplayOutcome(StrEnum):
    """What a replay found; a value is what the database keeps."""

    SAME = "same"
    DIFFERENT = "different"
    OTHER_MODEL = "other_model"
    UNREADABLE = "unreadable"
    """The signal that was stored can't be read."""
    FAILED = "failed"
    """It can't be computed: it took too long, or the process that computes died of it."""


class Verdict(NamedTuple):
    """What was found of one result.

    Attributes:
        outcome: In one word.
        differing: Names of the fields that differ, in the order of the row.
    """

    outcome: ReplayOutcome
    differing: tuple[str, ...] = ()


def compare(claimed: ResultRow, recomputed: ResultRow) -> Verdict:
    """A device's result against what its signal gives here."""
    differing = tuple(name for name in _COMPARED if getattr(claimed, name) != getattr(recomputed, name))
    return Verdict(ReplayOutcome.DIFFERENT if differing else ReplayOutcome.SAME, differing)


def sample(rows: Iterable[ResultRow], permille: int, draw: Callable[[int], int]) -> list[int]:
    """Which of some results are replayed, by position: every urgent one, of the others one in so many by chance.

    Args:
        rows: Results whose signal is stored.
        permille: Of 1,000 that are not urgent, how many on the average; 0 replays nothing, urgent ones neither.
        draw: ``draw(n)`` is uniform in 0 to n - 1, and no device can foretell it.
    """
    if not permille:
        return []
    return [at for at, row in enumerate(rows) if row.tier >= RiskTier.URGENT or draw(_PERMILLE) < permille]
