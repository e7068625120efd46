"""Minutes, hours, days: what is kept, what is added, and that weeks take no more memory than days."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.risk_streams import START_MS, a_window, beats_of

from einthoven.results import BeatClass, Rhythm
from einthoven.risk import RiskBeat, RiskTally
from einthoven.risk_periods import (
    DAY_MS,
    DAYS_KEPT,
    HOUR_MS,
    HOURS_KEPT,
    MINUTE_MS,
    MINUTES_KEPT,
    Counts,
    Ledger,
    Rolling,
)

HOUR_START_MS = START_MS // DAY_MS * DAY_MS


def test_counts_reach_minute_hour_day_and_whole():
    tally = RiskTally()
    tally.add_beats(beats_of("NNV" * 40, 1_000, start_ms=HOUR_START_MS - 1_000))
    periods = tally.assessment().periods
    assert [one.counts.beats for one in periods.minutes] == [60, 60]
    assert [one.counts.ventricular for one in periods.minutes] == [20, 20]
    assert [one.counts.beats for one in periods.hours] == [120]
    assert [one.counts.beats for one in periods.days] == [120]
    assert periods.whole.beats == 120
    assert periods.whole.pvc_permille == 333
    assert periods.minutes[0].start_ms == HOUR_START_MS
    assert all(one.start_ms % one.length_ms == 0 for one in (*periods.minutes, *periods.hours, *periods.days))


def test_a_window_is_shared_between_its_minutes():
    tally = RiskTally()
    tally.add(a_window(1, Rhythm.AF, started_at_ms=HOUR_START_MS + 50_000))
    minutes = tally.assessment().periods.minutes
    assert [(one.counts.conclusive_ms, one.counts.af_ms, one.counts.windows) for one in minutes] == [
        (10_000, 10_000, 1),
        (20_000, 20_000, 0),
    ]


def test_no_counts_are_no_shares():
    empty = Counts()
    assert (empty.pvc_permille, empty.pac_permille, empty.af_permille, empty.mean_bpm) == (None,) * 4


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), max_size=300))
def test_a_ledger_keeps_the_latest_touched_and_the_whole(touched):
    ledger, expected, order = Ledger(), {}, []
    for minute, beats in touched:
        ledger.at(minute * MINUTE_MS).beats += beats
        if minute in order:
            order.remove(minute)
        elif len(order) == MINUTES_KEPT:
            del expected[order.pop(0)]
        order.append(minute)
        expected[minute] = expected.get(minute, 0) + beats
    whole, (minutes, _, _) = ledger.periods(Ledger())
    assert whole.beats == sum(beats for _, beats in touched)
    assert {one.start_ms // MINUTE_MS: one.counts.beats for one in minutes} == expected


@given(st.lists(st.tuples(st.integers(-2, 30), st.booleans()), max_size=200), st.integers(1, 20))
def test_the_worst_rolling_span_is_the_worst(steps, least):
    """Against all sums, anew at each step; steps back in time begin anew."""
    rolling, slot, kept, worst = Rolling("x", 1_000, 5, least), 0, [], (0, 0)
    for step, hit in steps:
        slot += step if step < 4 else 0
        if kept and slot < kept[-1][0]:
            kept = []
        kept.append((slot, hit))
        inside = [one for at, one in kept if at > slot - 5]
        part, n = sum(inside), len(inside)
        if part and n >= least and part * max(worst[1], 1) > worst[0] * n:
            worst = (part, n)
        rolling.add(slot * 1_000, int(hit), 1)
    found = rolling.worst
    assert ((found.part, found.n) if found else (0, 0)) == worst


def test_the_worst_hour_is_not_hidden_by_a_normal_day():
    tally = RiskTally()
    tally.add_beats(beats_of("NNNV" * 1_000, start_ms=HOUR_START_MS))
    tally.add_beats(beats_of("N" * 20_000, start_ms=HOUR_START_MS + 2 * HOUR_MS))
    assessment = tally.assessment()
    (worst,) = [one for one in assessment.periods.worst_hours if one.what == "pvc"]
    assert worst.permille >= 250
    assert assessment.periods.whole.pvc_permille == 41
    assert HOUR_START_MS <= worst.end_ms <= HOUR_START_MS + HOUR_MS
    assert any(one.rule == "pvc_burden" for one in assessment.evidence)


def test_a_clock_that_was_set_back_mixes_no_hours():
    rolling = Rolling("x", MINUTE_MS, 60, 1, by_part=True)
    for i in range(10):
        rolling.add(HOUR_MS + i, 1, 1)
    for i in range(9):
        rolling.add(i, 1, 1)
    assert rolling.worst is not None
    assert rolling.worst.part == 10


def size_of(thing: object, seen: set[int]) -> int:
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    inner = [thing.__dict__] if hasattr(thing, "__dict__") else []
    for kind in type(thing).__mro__:
        inner += [getattr(thing, name) for name in getattr(kind, "__slots__", ()) if hasattr(thing, name)]
    if isinstance(thing, dict):
        inner += [*thing.keys(), *thing.values()]
    elif isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
        inner += list(thing)
    return sys.getsizeof(thing) + sum(size_of(one, seen) for one in inner)


@pytest.mark.slow
def test_weeks_take_no_more_memory_than_days():
    """Six weeks in which everything happens, a beat each 12 s to save time: bounded once the days kept are full."""
    tally, sizes = RiskTally(), []
    letters = "NNVNVNVVNVVVNSSSSNN?NxN"
    kinds = {"V": BeatClass.VENTRICULAR, "S": BeatClass.SUPRAVENTRICULAR, "?": BeatClass.UNKNOWN}
    at_ms, counter = HOUR_START_MS, 0
    for day in range(42):
        for i in range(7_200):
            at_ms += 12_000
            letter = letters[i % len(letters)]
            rr_ms = 500 if i % 50 else 3_500
            tally.add_beat(RiskBeat(at_ms, rr_ms, kinds.get(letter, BeatClass.NORMAL), 900, usable=letter != "x"))
            if i % 10 == 0:
                counter += 1
                rhythm = Rhythm.AF if i % 100 < 40 else Rhythm.NORMAL
                tally.add(a_window(counter, rhythm, started_at_ms=at_ms))
        if day >= DAYS_KEPT:
            sizes.append(size_of(tally, set()))
    assert max(sizes) < 600_000
    assert max(sizes) < 1.02 * min(sizes)
    periods = tally.assessment().periods
    assert len(periods.days) <= DAYS_KEPT + 1
    assert len(periods.hours) <= HOURS_KEPT + 1
    assert periods.whole.beats + periods.whole.unknown + periods.whole.unusable == 42 * 7_200
