"""docs/risk-rules.md is the table of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from einthoven import risk_periods, risk_rules
from einthoven.results import RiskTier
from einthoven.risk_rules import RULES, Rule
from einthoven.risk_statements import rules_markdown

DOCUMENT = (Path(__file__).parents[2] / "docs" / "risk-rules.md").read_text(encoding="utf-8")
OUTCOMES = re.compile(r"stroke|death|mortality|will |risk of|survival", re.IGNORECASE)


def test_the_document_holds_the_table_word_for_word():
    assert rules_markdown() in DOCUMENT


def test_every_rule_is_in_the_table_once():
    defined = [value for value in vars(risk_rules).values() if isinstance(value, Rule)]
    assert sorted(rule.name for rule in defined) == sorted(rule.name for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_has_a_source_and_says_what_it_rests_on(rule):
    assert rule.source
    assert rule.needs
    assert not OUTCOMES.search(rule.finding)


def test_the_highest_tier_comes_first():
    tiers = [rule.tier for rule in RULES]
    assert tiers == sorted(tiers, reverse=True)
    assert set(tiers) == set(RiskTier)


def test_what_the_document_says_of_limits_is_so():
    kept = re.search(r"Minutes \((\d+)\), hours \((\d+)\) and days \((\d+)\)", DOCUMENT)
    assert kept is not None
    assert [int(n) for n in kept.groups()] == [
        risk_periods.MINUTES_KEPT,
        risk_periods.HOURS_KEPT,
        risk_periods.DAYS_KEPT,
    ]
    assert f"{risk_rules.CLASS_MIN_PERMILLE // 10} % certain" in DOCUMENT
    assert f"more than {risk_rules.AF_BRIDGE_MAX_MS // 1000} s of them" in DOCUMENT
