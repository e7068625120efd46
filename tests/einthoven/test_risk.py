"""Risk rules: tiers, evidence with counts, and what an inconclusive window may not do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.risk import EVIDENCE_WINDOWS_MAX, RULES, RiskTally, assess, window_tier


def a_window(
    counter: int = 1,
    rhythm: Rhythm = Rhythm.NORMAL,
    reason: InconclusiveReason = InconclusiveReason.NONE,
    duration_ms: int = 30_000,
) -> WindowResult:
    return WindowResult(
        counter=counter,
        started_at_ms=1_700_000_000_000 + counter * 30_000,
        duration_ms=duration_ms,
        n_steps=28,
        usable_s=28,
        quality=Quality.USABLE,
        rhythm=rhythm,
        confidence_permille=900,
        logits=(1, 2, 3, 4),
        tier=window_tier(rhythm, reason),
        reason=reason,
        model_digest=bytes(32),
        front_end_version=1,
        segment_digest=bytes(32),
    )


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
