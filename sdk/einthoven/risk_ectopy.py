"""Couplets, runs, bigeminy and trigeminy of one kind of ectopic beat, as beats come. Pure; memory is constant.

Beats follow each other while each is usable and judged and its interval known; anything else cuts. Within such a
stretch, ectopic beats in a row (of this kind) are a group: one is single, two a couplet, three or more a run. Single
ones with always one normal beat between them are a bigeminy, with always two a trigeminy.

It deliberately does not look across a cut: a group that a cut ends is what was seen of it, and no beat is guessed.

Invariants:
    1. The groups found do not depend on how beats are cut into calls.
    2. A run or series that goes on is ``open``; once fast or certain it stays so: what follows never takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from einthoven.results import BeatClass
from einthoven.risk_rules import CLASS_MIN_PERMILLE, PATTERN_MIN_ECTOPIC, RUN_MIN_BEATS, RUN_MIN_BPM

_FAST_PAIR_MS = 2 * 60_000 // RUN_MIN_BPM
"""Two intervals shorter than this together are three beats faster than ``RUN_MIN_BPM``."""


class GroupKind(Enum):
    """What ectopic beats form."""

    SINGLE = "single"
    COUPLET = "couplet"
    RUN = "run"
    BIGEMINY = "bigeminy"
    TRIGEMINY = "trigeminy"


@dataclass(frozen=True, slots=True)
class Group:
    """Ectopic beats that belong together.

    Attributes:
        kind: What they form.
        start_ms: UTC of the first one, ms since 1970.
        end_ms: UTC of the last one.
        beats: How many ectopic beats.
        fast_pair_ms: The shortest two intervals in a row of a run, together; 0 for others.
        fast: For a run, whether ``RUN_MIN_BEATS`` of its beats in a row are over ``RUN_MIN_BPM``.
        certain: Whether each beat has ``CLASS_MIN_PERMILLE``; for what may go on, whether three in a row have it (for
            a fast run, three that are fast).
    """

    kind: GroupKind
    start_ms: int
    end_ms: int
    beats: int
    fast_pair_ms: int
    fast: bool
    certain: bool

    @property
    def peak_bpm(self) -> int:
        """The fastest rate of three beats of a run, rounded down; 0 for others."""
        return 2 * 60_000 // self.fast_pair_ms if self.fast_pair_ms else 0


@dataclass(slots=True)
class _Row:
    """Ectopic beats in a row."""

    start_ms: int
    end_ms: int
    least_permille: int
    certain_in_row: int
    beats: int = 1
    latest_rr_ms: int = 0
    fast_pair_ms: int = 0
    fast: bool = False
    certain_run: bool = False
    certain_fast: bool = False

    def extend(self, at_ms: int, rr_ms: int, permille: int) -> None:
        certain = permille >= CLASS_MIN_PERMILLE
        self.certain_in_row = self.certain_in_row + 1 if certain else 0
        self.beats += 1
        self.certain_run = self.certain_run or self.certain_in_row >= RUN_MIN_BEATS
        pair_ms = self.latest_rr_ms + rr_ms
        if self.beats >= RUN_MIN_BEATS:
            self.fast_pair_ms = min(self.fast_pair_ms, pair_ms) if self.fast_pair_ms else pair_ms
        if self.beats >= RUN_MIN_BEATS and pair_ms < _FAST_PAIR_MS:
            self.fast = True
            self.certain_fast = self.certain_fast or self.certain_in_row >= RUN_MIN_BEATS
        self.least_permille = min(self.least_permille, permille)
        self.latest_rr_ms = rr_ms
        self.end_ms = at_ms

    @property
    def group(self) -> Group:
        if self.beats >= RUN_MIN_BEATS:
            kind, certain = GroupKind.RUN, self.certain_fast if self.fast else self.certain_run
        else:
            kind = GroupKind.COUPLET if self.beats == 2 else GroupKind.SINGLE
            certain = self.least_permille >= CLASS_MIN_PERMILLE
        return Group(kind, self.start_ms, self.end_ms, self.beats, self.fast_pair_ms, self.fast, certain)


@dataclass(slots=True)
class _Series:
    """Single ectopic beats with always as many normal beats between them."""

    start_ms: int
    end_ms: int
    between: int
    beats: int
    certain_in_row: int
    certain: bool = False

    def extend(self, single: Group) -> None:
        self.end_ms = single.end_ms
        self.beats += 1
        self.certain_in_row = self.certain_in_row + 1 if single.certain else 0
        self.certain = self.certain or self.certain_in_row >= PATTERN_MIN_ECTOPIC

    @property
    def group(self) -> Group | None:
        if self.beats < PATTERN_MIN_ECTOPIC or self.between not in (1, 2):
            return None
        kind = GroupKind.BIGEMINY if self.between == 1 else GroupKind.TRIGEMINY
        return Group(kind, self.start_ms, self.end_ms, self.beats, 0, fast=False, certain=self.certain)


class EctopyFollower:
    """Follows one kind of ectopic beat.

    Args:
        beat_class: ``VENTRICULAR`` or ``SUPRAVENTRICULAR``.
    """

    def __init__(self, beat_class: BeatClass) -> None:
        self._class = beat_class
        self._row: _Row | None = None
        self._series: _Series | None = None
        self._single: Group | None = None  # the latest single one; normal beats since are counted in _between
        self._between = 0

    @property
    def open(self) -> list[Group]:
        """The run and the series that go on."""
        row = self._row.group if self._row is not None and self._row.beats >= RUN_MIN_BEATS else None
        series = self._series.group if self._series is not None else None
        return [group for group in (row, series) if group is not None]

    def add(self, at_ms: int, rr_ms: int | None, beat_class: BeatClass, permille: int) -> list[Group]:
        """Take the next beat of usable signal.

        Args:
            at_ms: UTC of it.
            rr_ms: Its interval; ``None`` if not known, which cuts.
            beat_class: Its class; ``UNKNOWN`` cuts.
            permille: Probability of its class.

        Returns:
            What ended with it, in order.
        """
        if rr_ms is None or beat_class is BeatClass.UNKNOWN:
            ended = self.cut()
            if beat_class is self._class:
                self._begin(at_ms, permille)
            return ended
        if beat_class is self._class:
            if self._row is None:
                self._begin(at_ms, permille)
            else:
                self._row.extend(at_ms, rr_ms, permille)
            return []
        ended = self._end_row() if self._row is not None else []
        if beat_class is BeatClass.NORMAL:
            self._between += 1
        else:
            ended += self._end_series()
        return ended

    def cut(self) -> list[Group]:
        """End the stretch.

        Returns:
            What ended with it, in order.
        """
        ended = self._end_row() if self._row is not None else []
        return ended + self._end_series()

    def _begin(self, at_ms: int, permille: int) -> None:
        self._row = _Row(at_ms, at_ms, permille, int(permille >= CLASS_MIN_PERMILLE))

    def _end_row(self) -> list[Group]:
        if self._row is None:
            return []
        group, self._row = self._row.group, None
        ended = [group, *(self._add_single(group) if group.kind is GroupKind.SINGLE else self._end_series())]
        self._between = 0
        return ended

    def _add_single(self, group: Group) -> list[Group]:
        """A single ectopic beat goes on with a series, or begins one with the single beat before it."""
        before, self._single = self._single, group
        series = self._series
        if before is None:
            return []
        if series is not None and series.between == self._between:
            series.extend(group)
            return []
        ended = [] if series is None or series.group is None else [series.group]
        self._series = _Series(before.start_ms, before.end_ms, self._between, 1, int(before.certain))
        self._series.extend(group)
        return ended

    def _end_series(self) -> list[Group]:
        series, self._series, self._single, self._between = self._series, None, None, 0
        return [] if series is None or series.group is None else [series.group]
