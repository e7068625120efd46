"""Sustained heart rates and AF episodes: beginnings, ends and what is never bridged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.risk_rates import RateEpisode, RateFollower
from einthoven.risk_rhythm import AfFollower
from einthoven.risk_rules import AF_BRIDGE_MAX_MS, RATE_SPAN_MS


def rates(intervals: list[int]) -> list[RateEpisode]:
    follower, at_ms, found = RateFollower(), 0, []
    for rr_ms in intervals:
        at_ms += rr_ms
        found += follower.add(at_ms, rr_ms)[1]
    return found + follower.cut()


@pytest.mark.parametrize(
    ("rr_ms", "expected"),
    [
        (800, []),
        (600, []),
        (599, ["tachycardia"]),
        (460, ["tachycardia_fast", "tachycardia"]),
        (290, ["tachycardia_extreme", "tachycardia_fast", "tachycardia"]),
        (1_200, []),
        (1_201, ["bradycardia"]),
        (1_501, ["bradycardia_slow", "bradycardia"]),
        (2_001, ["bradycardia_extreme", "bradycardia_slow", "bradycardia"]),
    ],
)
def test_each_limit(rr_ms, expected):
    found = rates([rr_ms] * (60_000 // rr_ms))
    assert [one.rule.name for one in found] == expected
    assert all(one.milli_bpm == 60_000_000 // rr_ms for one in found)


def test_less_than_30_s_is_no_rate():
    assert rates([400] * 74) == []
    assert [one.rule.name for one in rates([400] * 75)] == ["tachycardia_fast", "tachycardia"]


def test_a_cut_forgets_what_came_before():
    follower = RateFollower()
    for i in range(70):
        assert follower.add(i * 400, 400) == ([], [])
    assert follower.cut() == []
    assert follower.add(40_000, 400) == ([], [])
    assert follower.milli_bpm is None


def test_one_early_beat_makes_no_tachycardia():
    assert rates([800] * 50 + [300] + [800] * 50) == []


@given(st.lists(st.integers(150, 4_000), max_size=120))
def test_episodes_are_those_of_the_definition(intervals):
    """At each beat: the fewest latest intervals of 30 s; then maximal runs of beats beyond a limit."""
    beyond: dict[str, list[tuple[int, int]]] = {}
    previous: set[str] = set()
    limits = {"tachycardia": 100, "tachycardia_fast": 130, "tachycardia_extreme": 200}
    slow = {"bradycardia": 50, "bradycardia_slow": 40, "bradycardia_extreme": 30}
    for stop in range(1, len(intervals) + 1):
        start = stop
        while start > 0 and sum(intervals[start:stop]) < RATE_SPAN_MS:
            start -= 1
        span = sum(intervals[start:stop])
        now: set[str] = set()
        if span >= RATE_SPAN_MS:
            bpm = (stop - start) * 60_000 / span
            now = {name for name, limit in limits.items() if bpm > limit}
            now |= {name for name, limit in slow.items() if bpm < limit}
        at_ms = sum(intervals[:stop])
        for name in now:
            spans = beyond.setdefault(name, [])
            if name in previous:
                spans[-1] = (spans[-1][0], at_ms)
            else:
                spans.append((at_ms - span, at_ms))
        previous = now
    found: dict[str, list[tuple[int, int]]] = {}
    for one in rates(intervals):
        found.setdefault(one.rule.name, []).append((one.start_ms, one.end_ms))
    assert found == beyond


def af(*windows: tuple[int, str]) -> list[tuple[int, int, int]]:
    """Windows of 30 s at seconds, read as A, N or ? not read: start, end, AF time of each episode, in seconds."""
    follower, found = AfFollower(), []
    for counter, (at_s, read) in enumerate(windows, 1):
        ended = follower.add(at_s * 1000, at_s * 1000 + 30_000, counter, af={"A": True, "N": False}.get(read))
        found += [ended] if ended else []
    ended = follower.cut()
    found += [ended] if ended else []
    return [(one.start_ms // 1000, one.end_ms // 1000, one.af_ms // 1000) for one in found]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([(0, "A"), (30, "A"), (60, "N")], [(0, 60, 60)]),
        ([(0, "A"), (30, "N"), (60, "A")], [(0, 30, 30), (60, 90, 30)]),
        ([(0, "A"), (30, "?"), (60, "A")], [(0, 90, 60)]),
        ([(0, "A"), (30, "?"), (60, "?"), (90, "A")], [(0, 120, 60)]),
        ([(0, "A"), (30, "?"), (60, "?"), (90, "?"), (120, "A")], [(0, 30, 30), (120, 150, 30)]),
        ([(0, "A"), (30, "?"), (60, "N")], [(0, 30, 30)]),
        ([(0, "A"), (90, "A")], [(0, 120, 60)]),
        ([(0, "A"), (91, "A")], [(0, 30, 30), (91, 121, 30)]),
        ([(3600, "A"), (0, "A")], [(3600, 3630, 30), (0, 30, 30)]),
        ([(0, "?"), (30, "N")], []),
    ],
)
def test_af_episodes(windows, expected):
    assert AF_BRIDGE_MAX_MS == 60_000
    assert af(*windows) == expected
