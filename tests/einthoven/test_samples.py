"""What an app pushes: units are its own affair, numbers that no electrode gives are missing."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import InputError
from einthoven.ports import MISSING_UV
from einthoven.samples import MAX_ABS_UV, as_microvolts


def test_integers_pass_through() -> None:
    assert as_microvolts([1, -2, 3], max_samples=3).tolist() == [1, -2, 3]


def test_floats_round_half_to_even() -> None:
    assert as_microvolts([0.5, 1.5, -0.5, 2.4], max_samples=9).tolist() == [0, 2, 0, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), MAX_ABS_UV + 1.0, 1e300])
def test_what_no_electrode_gives_is_missing(bad: float) -> None:
    assert as_microvolts([10.0, bad], max_samples=2).tolist() == [10, MISSING_UV]


def test_missing_stays_missing_in_integers() -> None:
    samples = np.array([5, MISSING_UV, MAX_ABS_UV + 1], dtype=np.int64)
    assert as_microvolts(samples, max_samples=3).tolist() == [5, MISSING_UV, MISSING_UV]


def test_unsigned_and_wide_integers_do_not_wrap() -> None:
    assert as_microvolts(np.array([2**64 - 1], dtype=np.uint64), max_samples=1).tolist() == [MISSING_UV]


def test_nothing_is_allowed() -> None:
    assert as_microvolts([], max_samples=1).size == 0


@pytest.mark.parametrize("bad", [[[1, 2], [3, 4]], [[1], [2, 3]], ["a", "b"], 5, [1, 2, 3, 4], [1j, 2], [None, 1]])
def test_what_is_no_lead_is_refused(bad: object) -> None:
    with pytest.raises(InputError):
        as_microvolts(bad, max_samples=3)  # type: ignore[arg-type]
