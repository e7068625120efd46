"""Designs the front end's low-pass with SciPy, as the integers that ship in a model's manifest.

A Kaiser-windowed sinc in absolute time: flat to about 39 Hz, 50 dB down from 48 Hz, so that it also removes mains at
50 and 60 Hz and everything that the model's 128 Hz could alias. It deliberately knows no sampling rate: the device
reads the table at the instants its own rate needs.
"""

from __future__ import annotations

import numpy as np

from einthoven.frontend import FRONT_END_VERSION
from einthoven.resampling import FrontEndCoefficients

CUTOFF_HZ = 43.5
KERNEL_S = 0.3125
ATTENUATION_DB = 50.0
GRID_HZ = 4_096
PEAK = 2**20
"""The table's largest integer; 20 bits keep the device's exact products within int64."""


def design() -> FrontEndCoefficients:
    """Compute the coefficients; the same integers on every run."""
    from scipy.signal.windows import kaiser

    half = int(KERNEL_S * GRID_HZ / 2)
    time_s = np.arange(half + 1) / GRID_HZ
    # scipy.signal.kaiser_beta's formula for 21 < A <= 50 dB (Kaiser 1974).
    beta = 0.5842 * (ATTENUATION_DB - 21) ** 0.4 + 0.07886 * (ATTENUATION_DB - 21)
    window = kaiser(2 * half + 1, beta)[half:]
    kernel = np.rint(np.sinc(2 * CUTOFF_HZ * time_s) * window * PEAK).astype(int)
    kernel[-1] = 0
    return FrontEndCoefficients(FRONT_END_VERSION, GRID_HZ, tuple(int(value) for value in kernel))
