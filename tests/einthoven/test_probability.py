"""Integer softmax against the float one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from einthoven.probability import permilles, power_of_half

LOGITS = st.lists(st.integers(-100_000, 100_000), min_size=4, max_size=4)


@given(st.integers(0, 70 * 1024))
def test_power_of_half_is_within_a_part_in_a_billion(exponent: int) -> None:
    wanted = 2.0 ** (-exponent / 1024) * 2**60
    assert abs(power_of_half(exponent) - wanted) <= max(wanted * 1e-9, 1)


@given(LOGITS, st.integers(1, 10_000), st.integers(1, 10_000))
def test_permilles_are_those_of_a_float_softmax(logits: list[int], numerator: int, denominator: int) -> None:
    found = permilles(logits, numerator, denominator)
    octaves = [(max(logits) - logit) * numerator // denominator / 1024 for logit in logits]
    weights = [2.0**-octave for octave in octaves]
    assert sum(found) == 1000
    for share, weight in zip(found, weights, strict=True):
        assert math.isclose(share, 1000 * weight / sum(weights), abs_tol=4)


@given(LOGITS, st.integers(-(10**6), 10**6))
def test_only_differences_count(logits: list[int], shift: int) -> None:
    assert permilles(logits, 7, 3) == permilles([logit + shift for logit in logits], 7, 3)


def test_the_first_of_equals_gets_the_remainder() -> None:
    assert permilles([5, 5, 5, 5], 1, 1) == (250, 250, 250, 250)
    assert permilles([0, 0, 0, -(10**9)], 1, 1) == (334, 333, 333, 0)
