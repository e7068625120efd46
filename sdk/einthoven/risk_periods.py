"""Counts a minute, an hour and a day (UTC), and the worst rolling hour and day. Pure; memory is bounded.

A minute is that of its UTC; a rolling hour is a minute and the 59 before it, a rolling day an hour and the 23 before
it. The worst one is looked for with each beat and each window, not at its end, and stays the worst whatever follows.

It deliberately makes no percentage of few: a share needs ``least`` behind it.

Invariants:
    1. A ledger keeps ``MINUTES_KEPT`` minutes, ``HOURS_KEPT`` hours and ``DAYS_KEPT`` days at most, the latest touched;
       the whole is never forgotten.
    2. A clock that was set back adds to the minute it goes back to, if that is kept; the rolling spans begin anew, so
       that none mixes two clocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
MINUTES_KEPT: Final = 60
HOURS_KEPT: Final = 168
DAYS_KEPT: Final = 35


@dataclass(slots=True)
class Counts:
    """What was counted in a stretch of time.

    Attributes:
        beats: Judged beats in usable seconds; the n of every burden.
        ventricular: Those of class V.
        supraventricular: Those of class S.
        unknown: Usable beats whose class is not known; not among ``beats``.
        unusable: Beats in unusable seconds; not among ``beats``.
        intervals: Trusted intervals between beats.
        rr_ms: Their length together: the time that beats were followed.
        v_couplets: Ventricular couplets that ended here.
        v_runs: Ventricular runs that ended here, fast or slow.
        v_patterns: Ventricular bigeminies and trigeminies that ended here.
        s_couplets: Supraventricular couplets that ended here.
        s_runs: Supraventricular runs that ended here.
        s_patterns: Supraventricular bigeminies and trigeminies that ended here.
        pauses: Pauses over ``PAUSE_NOTED_MS``.
        longest_rr_ms: The longest trusted interval; 0 without one.
        windows: Windows that began here.
        conclusive_ms: Time with a rhythm.
        af_ms: Time of it read as AF.
    """

    beats: int = 0
    ventricular: int = 0
    supraventricular: int = 0
    unknown: int = 0
    unusable: int = 0
    intervals: int = 0
    rr_ms: int = 0
    v_couplets: int = 0
    v_runs: int = 0
    v_patterns: int = 0
    s_couplets: int = 0
    s_runs: int = 0
    s_patterns: int = 0
    pauses: int = 0
    longest_rr_ms: int = 0
    windows: int = 0
    conclusive_ms: int = 0
    af_ms: int = 0

    def add(self, other: Counts) -> None:
        """Add what was counted elsewhere."""
        longest_ms = max(self.longest_rr_ms, other.longest_rr_ms)
        for name in _NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest_rr_ms = longest_ms

    def copy(self) -> Counts:
        """Another one with the same content."""
        return Counts(*(getattr(self, name) for name in _NAMES))

    @property
    def pvc_permille(self) -> int | None:
        """Ventricular beats in 1000 of ``beats``; ``None`` without any."""
        return self.ventricular * 1000 // self.beats if self.beats else None

    @property
    def pac_permille(self) -> int | None:
        """Supraventricular beats in 1000 of ``beats``; ``None`` without any."""
        return self.supraventricular * 1000 // self.beats if self.beats else None

    @property
    def af_permille(self) -> int | None:
        """AF in 1/1000 of ``conclusive_ms``; ``None`` without any."""
        return self.af_ms * 1000 // self.conclusive_ms if self.conclusive_ms else None

    @property
    def mean_bpm(self) -> int | None:
        """Mean heart rate of ``intervals``, rounded down; ``None`` without any."""
        return self.intervals * 60_000 // self.rr_ms if self.rr_ms else None


_NAMES: Final = tuple(field.name for field in fields(Counts))


@dataclass(frozen=True, slots=True)
class Period:
    """One minute, hour or day.

    Attributes:
        start_ms: UTC of its beginning, ms since 1970; a multiple of its length.
        length_ms: Its length.
        counts: What was counted in it.
    """

    start_ms: int
    length_ms: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class WorstSpan:
    """The rolling hour or day with the highest share of something.

    Attributes:
        what: ``pvc``, ``pac`` (certain ones alone) or ``af``.
        start_ms: UTC of its beginning, ms since 1970.
        end_ms: UTC of its end.
        part: Beats, or milliseconds for AF.
        n: Of how many judged beats, or conclusive milliseconds.
    """

    what: str
    start_ms: int
    end_ms: int
    part: int
    n: int

    @property
    def permille(self) -> int:
        """The share in 1/1000."""
        return self.part * 1000 // self.n if self.n else 0


@dataclass(frozen=True, slots=True)
class Periods:
    """A recording by its clock.

    Attributes:
        whole: All of it.
        minutes: The latest minutes, in order of time.
        hours: The latest hours.
        days: The latest days.
        worst_hours: The worst rolling hour of each kind, with enough behind it.
        worst_days: The worst rolling day of each kind.
    """

    whole: Counts
    minutes: tuple[Period, ...] = ()
    hours: tuple[Period, ...] = ()
    days: tuple[Period, ...] = ()
    worst_hours: tuple[WorstSpan, ...] = ()
    worst_days: tuple[WorstSpan, ...] = ()


class Ledger:
    """Counts by minute, hour and day."""

    def __init__(self) -> None:
        self.whole = Counts()
        self._kept: tuple[dict[int, Counts], ...] = ({}, {}, {})
        self._latest: tuple[int, Counts] | None = None

    def at(self, at_ms: int) -> Counts:
        """The minute to count in; what is put there reaches hour, day and whole."""
        minute = at_ms // MINUTE_MS
        if self._latest is None or self._latest[0] != minute:
            self._settle()
            self._latest = (minute, Counts())
        return self._latest[1]

    def periods(self, other: Ledger) -> tuple[Counts, tuple[tuple[Period, ...], ...]]:
        """This ledger and another as one: the whole, and the minutes, hours and days kept."""
        self._settle()
        other._settle()
        whole = self.whole.copy()
        whole.add(other.whole)
        kept = []
        for length_ms, mine, theirs in zip((MINUTE_MS, HOUR_MS, DAY_MS), self._kept, other._kept, strict=True):
            merged = {slot: counts.copy() for slot, counts in mine.items()}
            for slot, counts in theirs.items():
                merged.setdefault(slot, Counts()).add(counts)
            kept.append(tuple(Period(slot * length_ms, length_ms, merged[slot]) for slot in sorted(merged)))
        return whole, tuple(kept)

    def _settle(self) -> None:
        """Move the latest minute where it belongs; later beats of it are counted in a new one and added."""
        if self._latest is None:
            return
        minute, counts = self._latest
        self._latest = None
        self.whole.add(counts)
        slots = (minute, minute // 60, minute // 1440)
        for slot, most, kept in zip(slots, (MINUTES_KEPT, HOURS_KEPT, DAYS_KEPT), self._kept, strict=True):
            known = kept.pop(slot, None) or Counts()
            known.add(counts)
            kept[slot] = known  # at the end: the latest touched
            if len(kept) > most:
                del kept[next(iter(kept))]


class Rolling:
    """The share of something in a rolling span of slots, and the worst it has been.

    Args:
        what: Its name in ``WorstSpan``.
        slot_ms: Length of a slot.
        slots: Slots of a span.
        least: The n below which no share is taken.
        by_part: Look for the most, not for the highest share.
    """

    def __init__(self, what: str, slot_ms: int, slots: int, least: int, *, by_part: bool = False) -> None:
        self._what = what
        self._slot_ms = slot_ms
        self._n_slots = slots
        self._least = least
        self._by_part = by_part
        self._slots: deque[list[int]] = deque()  # slot, part, n
        self._part = self._n = 0
        self._worst = (0, 0, 0)  # part, n, slot

    @property
    def worst_parts(self) -> tuple[int, int, int]:
        """Part, n and slot of the worst span so far; zeros if none has enough behind it."""
        return self._worst

    @property
    def worst(self) -> WorstSpan | None:
        """The worst span so far; ``None`` if none has enough behind it."""
        part, n, slot = self._worst
        if not part:
            return None
        start_ms = (slot - self._n_slots + 1) * self._slot_ms
        return WorstSpan(self._what, start_ms, (slot + 1) * self._slot_ms, part, n)

    def add(self, at_ms: int, part: int, n: int) -> bool:
        """Count ``part`` of ``n`` at a time; say whether it is the worst now."""
        slot = at_ms // self._slot_ms
        slots = self._slots
        if not slots or slots[-1][0] != slot:
            self._open(slot)
        latest = slots[-1]
        latest[1] += part
        latest[2] += n
        self._part += part
        self._n += n
        if not self._part or self._n < self._least:
            return False
        worst_part, worst_n, _ = self._worst
        more = self._part > worst_part if self._by_part else self._part * max(worst_n, 1) > worst_part * self._n
        if more:
            self._worst = (self._part, self._n, slot)
        return more

    def _open(self, slot: int) -> None:
        slots = self._slots
        if slots and slot < slots[-1][0]:
            slots.clear()
            self._part = self._n = 0
        while slots and slots[0][0] <= slot - self._n_slots:
            _, part, n = slots.popleft()
            self._part -= part
            self._n -= n
        slots.append([slot, 0, 0])
