"""R peaks to an eighth of a sample."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.beat_peaks import EDGE, REACH, TICKS, refine


def pulse(at: float, height: float = 1000.0, width: float = 4.0) -> np.ndarray:
    return np.rint(height * np.exp(-(((np.arange(120) - at) / width) ** 2)))


@pytest.mark.parametrize("eighths", range(8))
@pytest.mark.parametrize("sign", [1, -1])
def test_finds_a_peak_between_samples(eighths: int, sign: int) -> None:
    at = 60 + eighths / TICKS
    ticks, height = refine(sign * pulse(at) + 500, np.array([57]))
    assert abs(int(ticks[0]) - at * TICKS) <= 1
    assert abs(int(height[0]) - sign * 1000) <= 20


def test_takes_the_larger_of_two_deflections() -> None:
    samples = pulse(56, 600) - pulse(62, 900)
    ticks, height = refine(samples, np.array([60, 58]))
    assert (height < -800).all()
    assert abs(int(ticks[0]) - 62 * TICKS) <= TICKS


def test_a_flat_line_has_a_peak_of_no_height_within_reach() -> None:
    ticks, height = refine(np.full(100, 7.0), np.array([50]))
    assert height[0] == 0
    assert abs(int(ticks[0]) - 50 * TICKS) <= (REACH + 1) * TICKS


def test_no_positions_no_peaks() -> None:
    ticks, height = refine(np.zeros(2 * EDGE + 1), np.zeros(0, np.int64))
    assert len(ticks) == len(height) == 0
