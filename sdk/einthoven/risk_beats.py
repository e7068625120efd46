"""A beat as the risk rules see it, and which of them follow each other without a doubt between. Pure.

It deliberately finds and classifies nothing: that is the beat detector's and the classifier's.

Invariants:
    1. An interval counts only between two usable beats, in order of time, with nothing missing or unusable between.
"""

from __future__ import annotations

from dataclasses import dataclass

from einthoven.results import BeatClass
from einthoven.risk_rules import PAUSE_BELIEVED_MS, RR_MIN_MS


@dataclass(frozen=True, slots=True)
class RiskBeat:
    """One beat.

    Attributes:
        at_ms: UTC of its R peak, ms since 1970.
        rr_ms: Time since the beat before; ``None`` for the first, after a gap, and where any second between the two is
            unusable.
        beat_class: Where it came from.
        class_permille: Probability of that class in 1/1000.
        usable: Whether its second is usable.
        unsure_rr_ms: Time since the beat before where no sample is missing and all that is wrong between them is what a
            pause may look like, too; ``None`` otherwise.
    """

    at_ms: int
    rr_ms: int | None
    beat_class: BeatClass
    class_permille: int
    usable: bool
    unsure_rr_ms: int | None = None


class Succession:
    """Says of each beat how long after its predecessor it came, or that this is not known."""

    def __init__(self) -> None:
        self._before: RiskBeat | None = None

    def take(self, beat: RiskBeat) -> tuple[bool, int | None]:
        """Take the next beat.

        A beat at the very time of the one before is that one again. One before it comes of a clock that was set: what
        lies between is not known.

        Returns:
            Whether it is a new beat, and its interval in ms where that can be trusted.
        """
        before = self._before
        if before is None:
            self._before = beat
            return True, None
        if beat.at_ms == before.at_ms:
            return False, None
        self._before = beat
        rr_ms = beat.rr_ms
        if rr_ms is None or rr_ms < RR_MIN_MS or not (beat.usable and before.usable) or beat.at_ms < before.at_ms:
            return True, None
        return True, rr_ms


def believed(rr_ms: int) -> bool:
    """Whether so long an interval can be a pause of the heart."""
    return rr_ms <= PAUSE_BELIEVED_MS
