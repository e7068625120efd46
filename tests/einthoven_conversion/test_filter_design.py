"""The shipped coefficients are the designed ones."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.models import load_model

pytest.importorskip("scipy", reason="SciPy designs the filter (extra 'conversion')")

from einthoven_conversion.filter_design import GRID_HZ, design


def test_the_shipped_model_carries_the_designed_filter() -> None:
    assert load_model().coefficients == design()


def test_the_prototype_meets_its_specification() -> None:
    half = np.array(design().half_kernel, float)
    kernel = np.concatenate([half[:0:-1], half])
    response = np.abs(np.fft.rfft(kernel, 2**18)) / kernel.sum()
    frequency_hz = np.fft.rfftfreq(2**18, 1 / GRID_HZ)
    assert np.abs(20 * np.log10(response[frequency_hz <= 38])).max() < 0.05
    assert 20 * np.log10(response[frequency_hz >= 49].max()) < -48
