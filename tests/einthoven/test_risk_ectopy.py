"""Couplets, runs, bigeminy: against a slow reading of their definitions, and by the letter."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.risk_streams import START_MS, beats_of

from einthoven.results import BeatClass
from einthoven.risk_beats import RiskBeat, Succession
from einthoven.risk_ectopy import EctopyFollower, Group, GroupKind
from einthoven.risk_rules import CLASS_MIN_PERMILLE

V = BeatClass.VENTRICULAR


def followed(beats: list[RiskBeat], kind: BeatClass = V) -> list[Group]:
    follower, succession = EctopyFollower(kind), Succession()
    found = []
    for beat in beats:
        _, rr_ms = succession.take(beat)
        if beat.usable:
            found += follower.add(beat.at_ms, rr_ms, beat.beat_class, beat.class_permille)
        else:
            found += follower.cut()
    return found + follower.cut()


def counted(letters: str, rr_ms: int = 500) -> dict[str, int]:
    kinds = [group.kind.value for group in followed(beats_of(letters, rr_ms))]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("NNVNN", {"single": 1}),
        ("NVVN", {"couplet": 1}),
        ("NVVVN", {"run": 1}),
        ("NVV|VN", {"couplet": 1, "single": 1}),
        ("NVVxVN", {"couplet": 1, "single": 1}),
        ("NVV?VN", {"couplet": 1, "single": 1}),
        ("NVSVN", {"single": 2}),
        ("NVNVNVN", {"bigeminy": 1, "single": 3}),
        ("NVNVN", {"single": 2}),
        ("VNNVNNV", {"single": 3, "trigeminy": 1}),
        ("VNVNVNNVNNV", {"bigeminy": 1, "single": 5, "trigeminy": 1}),
        ("VNVSVNV", {"single": 4}),
        ("VNVNVV", {"couplet": 1, "single": 2}),
        ("VNNNVNNNV", {"single": 3}),
        ("VNV|NVNV", {"single": 4}),
    ],
)
def test_what_beats_form(letters, expected):
    assert counted(letters) == expected


@pytest.mark.parametrize(("rr_ms", "fast"), [(599, True), (600, False), (601, False)])
def test_a_run_is_fast_above_100_a_minute(rr_ms, fast):
    (run,) = followed(beats_of("NVVVN", rr_ms))
    assert (run.kind, run.fast) == (GroupKind.RUN, fast)
    assert run.peak_bpm == 60_000 // rr_ms


def test_the_interval_before_a_run_is_not_the_runs():
    (run,) = followed(beats_of("NVVVN", [800, 300, 700, 700, 700]))
    assert not run.fast
    assert run.end_ms - run.start_ms == 1_400


def test_a_slow_run_with_a_fast_part_is_fast():
    (run,) = followed(beats_of("NVVVVVN", [800, 500, 900, 500, 500, 900, 800]))
    assert (run.beats, run.fast, run.peak_bpm) == (5, True, 120)


def with_permille(beats: list[RiskBeat], permilles: list[int]) -> list[RiskBeat]:
    return [
        RiskBeat(beat.at_ms, beat.rr_ms, beat.beat_class, permille, beat.usable)
        for beat, permille in zip(beats, permilles, strict=True)
    ]


@pytest.mark.parametrize(
    ("letters", "permilles", "certain"),
    [
        ("VV", [CLASS_MIN_PERMILLE, CLASS_MIN_PERMILLE], True),
        ("VV", [CLASS_MIN_PERMILLE, CLASS_MIN_PERMILLE - 1], False),
        ("VVV", [999, 999, CLASS_MIN_PERMILLE - 1], False),
        ("VVVV", [999, 999, 999, 100], True),
        ("VVVVV", [999, 999, 100, 999, 999], False),
    ],
)
def test_a_group_is_certain_when_its_beats_are(letters, permilles, certain):
    beats = with_permille(beats_of(letters, 500), permilles)
    assert [group.certain for group in followed(beats)] == [certain]


def slow_groups(beats: list[RiskBeat], kind: BeatClass) -> list[tuple[GroupKind, int, int, int]]:
    """Stretches first, then rows in them, then evenly spaced single ones: as the definitions read."""
    stretches: list[list[RiskBeat]] = [[]]
    for before, beat in pairwise([None, *beats]):
        if beat is None:
            continue
        trusted = before is not None and before.usable and beat.usable and beat.rr_ms is not None
        if not trusted or beat.beat_class is BeatClass.UNKNOWN:
            stretches.append([])
        if beat.usable and beat.beat_class is not BeatClass.UNKNOWN:
            stretches[-1].append(beat)
    found = []
    for stretch in stretches:
        rows: list[tuple[int, int]] = []
        for i, beat in enumerate(stretch):
            if beat.beat_class is kind:
                if rows and rows[-1][1] == i - 1:
                    rows[-1] = (rows[-1][0], i)
                else:
                    rows.append((i, i))
        for first, last in rows:
            n = last - first + 1
            name = {1: GroupKind.SINGLE, 2: GroupKind.COUPLET}.get(n, GroupKind.RUN)
            found.append((name, stretch[first].at_ms, stretch[last].at_ms, n))
        spacing = []
        for (first, last), (following, end) in pairwise(rows):
            between = stretch[last + 1 : following]
            even = all(one.beat_class is BeatClass.NORMAL for one in between)
            spacing.append(len(between) if even and first == last and following == end else 0)
        i = 0
        while i < len(spacing):
            j = i
            while j < len(spacing) and spacing[j] == spacing[i]:
                j += 1
            if spacing[i] in (1, 2) and j - i >= 2:
                name = GroupKind.BIGEMINY if spacing[i] == 1 else GroupKind.TRIGEMINY
                found.append((name, stretch[rows[i][0]].at_ms, stretch[rows[j][0]].at_ms, j - i + 1))
            i = j
    return sorted(found, key=lambda one: (one[1], one[2], one[0].value))


@given(st.text("NNVVS?|x", max_size=60), st.sampled_from([V, BeatClass.SUPRAVENTRICULAR]))
def test_groups_are_those_of_the_definitions(letters, kind):
    beats = beats_of(letters, 500)
    found = [(group.kind, group.start_ms, group.end_ms, group.beats) for group in followed(beats, kind)]
    assert sorted(found, key=lambda one: (one[1], one[2], one[0].value)) == slow_groups(beats, kind)


def test_a_run_that_goes_on_is_open():
    follower = EctopyFollower(V)
    for beat in beats_of("NVVVV", 500):
        assert follower.add(beat.at_ms, beat.rr_ms, beat.beat_class, beat.class_permille) == []
    (run,) = follower.open
    assert (run.kind, run.beats, run.start_ms) == (GroupKind.RUN, 4, START_MS + 1_000)
