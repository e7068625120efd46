"""Risk rules: tiers, evidence with counts, and what an inconclusive window may not do."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.risk_streams import START_MS, a_window, beats_of

from einthoven.results import BeatClass, InconclusiveReason, Rhythm, RiskTier, WindowResult
from einthoven.risk import (
    EVIDENCE_WINDOWS_MAX,
    RULES,
    Episode,
    Evidence,
    RiskAssessment,
    RiskBeat,
    RiskTally,
    assess,
    window_tier,
)
from einthoven.risk_evidence import STRIP_MAX_MS, STRIPS_MAX
from einthoven.risk_rules import BURDEN_MIN_BEATS, CLASS_MIN_PERMILLE, PAC_PER_HOUR


@pytest.mark.parametrize(
    ("rhythm", "tier"),
    [
        (Rhythm.NORMAL, RiskTier.ROUTINE),
        (Rhythm.AF, RiskTier.ELEVATED),
        (Rhythm.OTHER, RiskTier.ELEVATED),
        (Rhythm.NOISE, RiskTier.INCONCLUSIVE),
    ],
)
def test_a_window_gets_the_tier_of_its_rhythm(rhythm: Rhythm, tier: RiskTier) -> None:
    assert window_tier(rhythm, InconclusiveReason.NONE) is tier


@pytest.mark.parametrize("reason", [one for one in InconclusiveReason if one is not InconclusiveReason.NONE])
@pytest.mark.parametrize("rhythm", Rhythm)
def test_any_reason_makes_a_window_inconclusive(rhythm: Rhythm, reason: InconclusiveReason) -> None:
    assert window_tier(rhythm, reason) is RiskTier.INCONCLUSIVE


def test_no_windows_are_inconclusive_not_normal() -> None:
    assessment = assess([])
    assert assessment.tier is RiskTier.INCONCLUSIVE
    assert assessment.af_burden_permille is None
    assert assessment.evidence == ()


def test_burden_counts_conclusive_time_only() -> None:
    noise = a_window(4, Rhythm.AF, InconclusiveReason.POOR_SIGNAL)
    assessment = assess([a_window(1), a_window(2, Rhythm.AF), a_window(3), noise])
    assert assessment.af_burden_permille == 333
    assert (assessment.windows, assessment.conclusive) == (4, 3)
    assert assessment.inconclusive == {InconclusiveReason.POOR_SIGNAL: 1}


def test_evidence_names_the_windows_and_the_n_behind_them() -> None:
    assessment = assess([a_window(1), a_window(2, Rhythm.AF), a_window(3, Rhythm.AF)])
    first = assessment.evidence[0]
    assert (first.rule, first.counters, first.tier) == ("af_episode", (2, 3), RiskTier.ELEVATED)
    assert "2 of 3 conclusive windows (60 s)" in first.statement


def test_af_under_30_s_is_not_called_an_episode() -> None:
    assessment = assess([a_window(1, Rhythm.AF, duration_ms=29_999)])
    assert [found.rule for found in assessment.evidence] == ["af_short"]


def test_evidence_stays_bounded_but_counts_on() -> None:
    n = EVIDENCE_WINDOWS_MAX + 50
    assessment = assess(a_window(counter, Rhythm.AF) for counter in range(1, n + 1))
    assert len(assessment.evidence[0].counters) == EVIDENCE_WINDOWS_MAX
    assert f"{n} of {n}" in assessment.evidence[0].statement


def test_every_rule_names_its_source() -> None:
    assert all(rule.source for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


windows = st.lists(
    st.builds(
        a_window,
        counter=st.integers(1, 1000),
        rhythm=st.sampled_from(Rhythm),
        reason=st.sampled_from(InconclusiveReason),
        duration_ms=st.integers(1, 30_000),
    ),
    max_size=30,
)


@given(windows)
def test_the_tier_has_evidence_and_is_the_highest(results: list[WindowResult]) -> None:
    assessment = assess(results)
    tiers = [result.tier for result in results if result.tier is not RiskTier.INCONCLUSIVE]
    assert assessment.tier is max(tiers, default=RiskTier.INCONCLUSIVE)
    assert bool(assessment.evidence) is (assessment.tier is not RiskTier.INCONCLUSIVE)
    assert assessment.windows == assessment.conclusive + sum(assessment.inconclusive.values())


@given(windows)
def test_an_inconclusive_window_changes_no_verdict(results: list[WindowResult]) -> None:
    tally = RiskTally()
    for result in results:
        tally.add(result)
    before = tally.assessment()
    tally.add(replace(a_window(1, Rhythm.AF, InconclusiveReason.TOO_SHORT)))
    after = tally.assessment()
    assert (after.tier, after.af_burden_permille) == (before.tier, before.af_burden_permille)


def test_the_same_verdict_twice_in_a_row_counts_once() -> None:
    assert assess([a_window(1), a_window(1), a_window(2)]).windows == 2


def assessed(beats: list[RiskBeat], results: list[WindowResult] | None = None) -> RiskAssessment:
    tally = RiskTally()
    tally.add_beats(beats)
    for result in results or []:
        tally.add(result)
    tally.cut()
    return tally.assessment()


def found_in(letters: str, rr_ms: int | list[int] = 800, **options: int) -> dict[str, RiskTier]:
    return {one.rule: one.tier for one in assessed(beats_of(letters, rr_ms, **options)).evidence}


def the(rule: str, assessment: RiskAssessment) -> Evidence:
    return next(one for one in assessment.evidence if one.rule == rule)


@pytest.mark.parametrize(
    ("letters", "rr_ms", "rule", "tier"),
    [
        ("N" * 20 + "VVVN", 500, "vt_run", RiskTier.URGENT),
        ("N" + "V" * 70 + "N", 450, "vt_sustained", RiskTier.URGENT),
        ("N" + "V" * 20 + "N", 900, "idioventricular_run", RiskTier.ELEVATED),
        ("NNNVVNNN", 700, "v_couplet", RiskTier.ELEVATED),
        ("NVNVNVN", 700, "v_bigeminy", RiskTier.ELEVATED),
        ("VNNVNNVN", 700, "v_trigeminy", RiskTier.ELEVATED),
        ("N" + "S" * 20 + "N", 500, "s_run_long", RiskTier.ELEVATED),
        ("N" + "S" * 80 + "N", 400, "svt_sustained", RiskTier.ELEVATED),
        ("NNN", [800, 800, 6_000], "pause_6s", RiskTier.URGENT),
        ("NNN", [800, 800, 5_999], "pause_3s", RiskTier.ELEVATED),
        ("NNN", [800, 800, 3_000], "pause_3s", RiskTier.ELEVATED),
        ("N" * 20, 2_100, "bradycardia_extreme", RiskTier.URGENT),
        ("N" * 30, 1_600, "bradycardia_slow", RiskTier.ELEVATED),
        ("N" * 120, 290, "tachycardia_extreme", RiskTier.URGENT),
        ("N" * 90, 450, "tachycardia_fast", RiskTier.ELEVATED),
    ],
)
def test_a_finding_of_beats_gives_its_tier(letters, rr_ms, rule, tier) -> None:
    assessment = assessed(beats_of(letters, rr_ms))
    found = the(rule, assessment)
    assert (found.tier, assessment.tier) == (tier, tier)
    assert 0 < found.count <= found.n
    assert found.first_ms is not None
    assert found.first_ms <= found.last_ms
    assert 1 <= len(found.strips) <= STRIPS_MAX
    assert all(strip.end_ms - strip.start_ms == STRIP_MAX_MS for strip in found.strips)


@pytest.mark.parametrize(
    ("letters", "rr_ms"),
    [
        ("N" * 30, 800),
        ("NNN|NNN", 800),
        ("NNN", [800, 800, 2_000]),
        ("N" * 200, 460),
    ],
)
def test_what_is_normal_or_noted_gives_no_tier(letters, rr_ms) -> None:
    noted = {rule: tier for rule, tier in found_in(letters, rr_ms).items() if tier > RiskTier.ROUTINE}
    assert noted in ({}, {"tachycardia_fast": RiskTier.ELEVATED})
    assert assessed(beats_of("N" * 30 + "V" + "N" * 30)).tier is RiskTier.INCONCLUSIVE


def test_beats_vouch_for_no_rhythm_that_nobody_read() -> None:
    beats = beats_of("N" * 40 + "V" + "N" * 40)
    assert found_in("N" * 40 + "V" + "N" * 40) == {"pvc": RiskTier.INCONCLUSIVE}
    assert assessed(beats, [a_window(1)]).tier is RiskTier.ROUTINE
    assert the("pvc", assessed(beats, [a_window(1)])).tier is RiskTier.ROUTINE


@pytest.mark.parametrize("letters", ["NNxVVVxNN", "NVV|VNN", "NVVxVVN", "NVV?VN"])
def test_no_run_across_a_gap_or_an_unusable_second(letters) -> None:
    assert not {"vt_run", "vt_uncertain", "vt_sustained"} & set(found_in(letters, 400)) or letters == "NNxVVVxNN"


def test_unusable_ventricular_beats_are_nothing() -> None:
    beats = [replace(beat, usable=beat.beat_class is BeatClass.NORMAL) for beat in beats_of("NNVVVVVVNN", 400)]
    assessment = assessed(beats)
    assert assessment.tier is RiskTier.INCONCLUSIVE
    assert assessment.periods.whole.ventricular == 0
    assert assessment.periods.whole.unusable == 6


def test_a_doubtful_run_is_not_urgent() -> None:
    assert found_in("NNVVVNN", 400, permille=CLASS_MIN_PERMILLE - 1) == {"vt_uncertain": RiskTier.ELEVATED}
    one_doubtful = beats_of("NNVVVNN", 400)
    one_doubtful[3] = replace(one_doubtful[3], class_permille=300)
    assert [one.rule for one in assessed(one_doubtful).evidence] == ["vt_uncertain"]


def test_a_pause_is_not_measured_across_a_gap_or_an_unusable_beat() -> None:
    assert found_in("NN|NN") == {}
    assert found_in("NNxN", [800, 800, 4_000, 4_000]) == {}


def test_a_pause_like_a_loose_electrode_is_told_and_lifts_nothing() -> None:
    beats = beats_of("NNN|NNN")
    beats[3] = replace(beats[3], unsure_rr_ms=3_800)
    assessment = assessed(beats)
    assert assessment.tier is RiskTier.INCONCLUSIVE
    found = the("pause_unsure", assessment)
    assert (found.tier, found.count) == (RiskTier.INCONCLUSIVE, 1)
    assert "3.8 s" in found.statement


def test_half_a_minute_without_a_beat_is_no_pause() -> None:
    found = assessed(beats_of("NNN", [800, 800, 30_001]))
    assert [one.rule for one in found.evidence] == ["no_beats"]
    assert found.tier is RiskTier.INCONCLUSIVE


def test_a_burden_needs_enough_beats() -> None:
    letters = "NNNNNNNNV" * (BURDEN_MIN_BEATS // 9)
    few = assessed(beats_of(letters))
    assert "pvc_burden" not in {one.rule for one in few.evidence}
    assert any(one.rule == "pvc_burden" and str(len(letters)) in one.missing for one in few.unjudged)
    many = assessed(beats_of(letters + "NNNNNNNNV"))
    assert the("pvc_burden", many).tier is RiskTier.ELEVATED
    assert not any(one.rule == "pvc_burden" for one in many.unjudged)


@pytest.mark.parametrize(("every", "there"), [(10, True), (11, False)])
def test_a_burden_of_a_tenth(every, there) -> None:
    letters = ("N" * (every - 1) + "V") * (2_200 // every)
    assert ("pvc_burden" in found_in(letters)) is there


def test_many_premature_beats_in_an_hour() -> None:
    spread = "N" * 20 + "S"
    assert "pac_frequent" in found_in(spread * PAC_PER_HOUR)
    assert "pac_frequent" not in found_in(spread * (PAC_PER_HOUR - 1))
    assert "pac_frequent" not in found_in(spread * PAC_PER_HOUR, permille=CLASS_MIN_PERMILLE - 1)
    assert "pac_frequent" not in found_in(("N" * 130 + "S") * 2 * PAC_PER_HOUR, 1_000)


def test_no_share_of_a_handful_of_beats() -> None:
    assert found_in("NVNN") == {}


def test_beats_twice_and_a_clock_that_goes_back() -> None:
    beats = beats_of("NNVNN")
    assert assessed([one for beat in beats for one in (beat, beat)]) == assessed(beats)
    again = beats_of("VV", 400, start_ms=START_MS)
    assessment = assessed([*beats_of("NNNVV", 400, start_ms=START_MS + 60_000), replace(again[0], rr_ms=400), again[1]])
    assert "vt_run" not in {one.rule for one in assessment.evidence}
    assert the("v_couplet", assessment).count == 2


@pytest.mark.parametrize("at_ms", [-(2**53), 0, 2**53])
@pytest.mark.parametrize("rr_ms", [-1, 0, 149, 2**53])
def test_extreme_values_are_no_finding(at_ms, rr_ms) -> None:
    beats = [RiskBeat(at_ms + i, rr_ms, BeatClass.NORMAL, 1000, usable=True) for i in range(3)]
    assessment = assessed(beats)
    assert assessment.tier is RiskTier.INCONCLUSIVE
    assert {one.rule for one in assessment.evidence} <= {"no_beats"}


def test_strips_name_the_windows_that_hold_them() -> None:
    assessment = assessed(beats_of("N" * 50 + "VVV" + "N" * 10), [a_window(1), a_window(2), a_window(3)])
    assert [strip.counters for strip in the("idioventricular_run", assessment).strips] == [(2,)]
    assert the("idioventricular_run", assessment).counters == (2,)


def test_an_episode_is_told_when_it_is_found_and_when_it_ended() -> None:
    tally = RiskTally()
    told = tally.add_beats(beats_of("N" + "V" * 80 + "N", 500))
    assert [(one.rule.name, one.going_on) for one in told] == [
        ("vt_run", True),
        ("vt_sustained", True),
        ("vt_sustained", False),
    ]
    assert len({one.start_ms for one in told}) == 1
    assert told[0].end_ms == START_MS + 4 * 500
    assert tally.tier is RiskTier.URGENT


def test_an_episode_that_goes_on_is_in_the_assessment() -> None:
    tally = RiskTally()
    tally.add_beats(beats_of("NVVVV", 400))
    assert the("vt_run", tally.assessment()).count == 1
    assert the("vt_run", tally.assessment()).count == 1, "looking must not count"
    ended = tally.cut()
    assert [(one.rule.name, one.going_on) for one in ended] == [("vt_run", False)]
    assert the("vt_run", tally.assessment()).count == 1


def test_an_af_episode_is_told() -> None:
    tally = RiskTally()
    told: list[Episode] = []
    for result in [a_window(1), a_window(2, Rhythm.AF), a_window(3, Rhythm.AF), a_window(4)]:
        told += tally.add(result)
    assert [(one.rule.name, one.going_on, one.start_ms) for one in told] == [
        ("af_episode", True, START_MS + 30_000),
        ("af_episode", False, START_MS + 30_000),
    ]


def test_short_stretches_of_af_make_an_episode_together() -> None:
    half = [a_window(n, Rhythm.AF, duration_ms=15_000, started_at_ms=START_MS + n * 15_000) for n in (1, 2)]
    assert [one.rule for one in assess(half).evidence] == ["af_episode"]
    apart = [half[0], a_window(5), replace(half[1], started_at_ms=START_MS + 300_000)]
    assert [one.rule for one in assess(apart).evidence] == ["af_short", "normal"]


streams = st.lists(
    st.tuples(st.text("NNNNVVS?x|", max_size=25), st.integers(150, 3_500), st.integers(600, 1_000)), max_size=6
)


def stream_of(parts: list[tuple[str, int, int]]) -> list[RiskBeat]:
    beats: list[RiskBeat] = []
    for letters, rr_ms, permille in parts:
        start_ms = beats[-1].at_ms + 2_000 if beats else START_MS
        beats += beats_of(letters, rr_ms, start_ms=start_ms, permille=permille)
    return beats


@given(streams, windows, st.integers(0, 2**32 - 1))
def test_interleaving_and_chunking_change_nothing(parts, results, seed) -> None:
    random = Random(seed)  # a seed, because draws of Hypothesis' own use up its entropy here
    beats = stream_of(parts)
    in_one_piece = assessed(beats, results)
    tally, i, j = RiskTally(), 0, 0
    while i < len(beats) or j < len(results):
        n = random.randint(0, 4)
        tally.add_beats(beats[i : i + n])
        i += n
        if random.random() < 0.5 and j < len(results):
            tally.add(results[j])
            j += 1
        if random.random() < 0.2:
            tally.assessment()
    tally.cut()
    assert tally.assessment() == in_one_piece


@given(streams, windows)
def test_a_normal_stretch_lowers_no_tier_and_takes_no_evidence_back(parts, results) -> None:
    tally = RiskTally()
    tally.add_beats(stream_of(parts))
    for result in results:
        tally.add(result)
    before = tally.assessment()
    last_ms = max([START_MS + 40_000_000, *(beat.at_ms for beat in stream_of(parts))])
    tally.add_beats(beats_of("N" * 100, start_ms=last_ms))
    tally.add(a_window(2_000, started_at_ms=last_ms))
    after = tally.assessment()
    assert after.tier >= before.tier
    raised = {one.rule for one in before.evidence if one.tier > RiskTier.ROUTINE}
    assert raised <= {one.rule for one in after.evidence}


@given(streams, windows)
def test_the_tier_is_the_highest_evidence_at_every_moment(parts, results) -> None:
    tally, tier = RiskTally(), RiskTier.INCONCLUSIVE
    for result in results:
        tally.add(result)
    for beat in stream_of(parts):
        tally.add_beat(beat)
        assessment = tally.assessment()
        assert assessment.tier is max((one.tier for one in assessment.evidence), default=RiskTier.INCONCLUSIVE)
        assert assessment.tier >= tier
        tier = assessment.tier


@given(streams, windows)
def test_no_share_without_its_n(parts, results) -> None:
    for one in assessed(stream_of(parts), results).evidence:
        shares = re.findall(r"[\d.]+ %", one.statement.split(": ", 1)[-1])
        assert not shares or re.search(r" of [\d,]+", one.statement)
