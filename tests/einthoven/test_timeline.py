"""Packets on a time line: late, doubled, missing, and clocks that jump."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.timeline import GAP_FILL_MAX_MS, TOLERANCE_MS, Placement, Timeline

START = 1_700_000_000_000


def a_timeline(rate: Fraction = Fraction(250), placed: int = 1000) -> Timeline:
    timeline = Timeline(rate, START)
    timeline.advance(placed)
    return timeline


def test_without_a_stamp_a_packet_follows() -> None:
    assert a_timeline().place(None, 50) == Placement()


@pytest.mark.parametrize("jitter_ms", [-TOLERANCE_MS, -1, 0, 1, TOLERANCE_MS])
def test_jitter_is_not_a_gap(jitter_ms: int) -> None:
    assert a_timeline().place(START + 4000 + jitter_ms, 50) == Placement()


def test_a_gap_is_counted_in_samples() -> None:
    assert a_timeline().place(START + 4000 + 500, 50) == Placement(missing=125)


def test_a_packet_that_came_before_is_dropped() -> None:
    assert a_timeline().place(START + 3800, 50) == Placement(drop=50)


def test_a_packet_that_overlaps_keeps_its_new_part() -> None:
    assert a_timeline().place(START + 3900, 50) == Placement(drop=25)


@pytest.mark.parametrize("jump_ms", [GAP_FILL_MAX_MS + 1, 365 * 86_400_000, -365 * 86_400_000])
def test_a_clock_that_jumps_starts_anew(jump_ms: int) -> None:
    assert a_timeline().place(START + 4000 + jump_ms, 50) == Placement(restart=True)


def test_fractional_rates_do_not_drift() -> None:
    rate = Fraction(512617, 1000)
    timeline = Timeline(rate, START)
    for _ in range(3600):
        timeline.advance(512)
    assert timeline.next_ms == START + int(3600 * 512 * 1000 / rate)


@given(
    st.fractions(100, 1000),
    st.integers(0, 10**7),
    st.integers(0, 5000),
    st.integers(-2 * GAP_FILL_MAX_MS, 2 * GAP_FILL_MAX_MS),
)
def test_a_placement_is_one_thing_at_a_time_and_within_bounds(
    rate: Fraction, placed: int, samples: int, offset_ms: int
) -> None:
    timeline = a_timeline(rate, placed)
    placement = timeline.place(timeline.next_ms + offset_ms, samples)
    assert placement.missing * placement.drop == 0
    assert 0 <= placement.drop <= samples
    assert 0 <= placement.missing <= GAP_FILL_MAX_MS * rate / 1000 + 1
