"""AF episodes: windows read as AF that follow each other. Pure; memory is constant.

A window without a verdict neither ends an episode nor counts: nobody knows what was in it. What was not read may be
``AF_BRIDGE_MAX_MS`` long at a stretch; beyond that the episode ended with its last window of AF, because a claim that
AF went on would rest on nothing. Time that goes back ends it, too.

It deliberately reads no rhythm: the model did.

Invariants:
    1. An episode begins and ends with a window read as AF, and counts such windows' time alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from einthoven.risk_evidence import EVIDENCE_WINDOWS_MAX
from einthoven.risk_rules import AF_BRIDGE_MAX_MS


@dataclass(frozen=True, slots=True)
class AfEpisode:
    """A stretch of AF.

    Attributes:
        start_ms: UTC of its first window, ms since 1970.
        end_ms: UTC of the end of its last window.
        af_ms: Time read as AF.
        windows: How many windows.
        counters: The first of them, ``EVIDENCE_WINDOWS_MAX`` at most.
    """

    start_ms: int
    end_ms: int
    af_ms: int
    windows: int
    counters: tuple[int, ...]


class AfFollower:
    """Follows windows in the order they were recorded."""

    def __init__(self) -> None:
        self.open: AfEpisode | None = None
        """The episode that goes on, as far as it is known."""

    def add(self, start_ms: int, end_ms: int, counter: int, *, af: bool | None) -> AfEpisode | None:
        """Take the next window.

        Args:
            start_ms: UTC of its beginning.
            end_ms: UTC of its end.
            counter: Its counter.
            af: Whether it was read as AF; ``None`` if it was not read.

        Returns:
            The episode that ended before it.
        """
        ended = None
        if self.open is not None and not self._goes_on(self.open, start_ms, end_ms, af):
            ended, self.open = self.open, None
        if af:
            known = self.open or AfEpisode(start_ms, start_ms, 0, 0, ())
            counters = known.counters
            if len(counters) < EVIDENCE_WINDOWS_MAX:
                counters = (*counters, counter)
            af_ms = known.af_ms + end_ms - start_ms
            self.open = AfEpisode(known.start_ms, max(end_ms, known.end_ms), af_ms, known.windows + 1, counters)
        return ended

    def cut(self) -> AfEpisode | None:
        """End the recording.

        Returns:
            The episode that ended with it.
        """
        ended, self.open = self.open, None
        return ended

    @staticmethod
    def _goes_on(known: AfEpisode, start_ms: int, end_ms: int, af: bool | None) -> bool:
        if af is False or start_ms < known.start_ms:
            return False
        unread_until_ms = start_ms if af else end_ms
        return unread_until_ms - known.end_ms <= AF_BRIDGE_MAX_MS
