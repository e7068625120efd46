"""A whole signal at once: its beats, and the quality of each second; no rhythm, no store.

The low-pass comes from the shipped model, so this reads its files; what decides is ``signal_path``.

It deliberately says nothing of rhythm or risk (``einthoven.analyze`` does), and makes no RR series
(``rr_intervals``): gaps and artefacts are a question of their own.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from einthoven.models import load_model
from einthoven.resampling import FrontEndCoefficients, ResamplerTable
from einthoven.samples import as_microvolts
from einthoven.signal_analysis import SignalAnalysis
from einthoven.signal_path import SignalPath

__all__ = ["MAX_SIGNAL_SAMPLES", "SignalAnalysis", "analyze_signal"]

MAX_SIGNAL_SAMPLES = 200_000_000
"""Samples of one call: 55 hours at 1000 Hz."""


def analyze_signal(samples_uv: ArrayLike, sampling_rate_hz: Fraction | int) -> SignalAnalysis:
    """Find the beats of a signal and judge its quality.

    Args:
        samples_uv: [n] microvolts, integers or floats; NaN or ``MISSING_UV`` where none was received.
        sampling_rate_hz: Samples a second, exact, 100-1000.

    Raises:
        InputError: Not a flat sequence of numbers, or too long.
        SamplingRateError: A rate outside the supported range.
    """
    rate = Fraction(sampling_rate_hz)
    path = SignalPath(_coefficients(), rate, table=_table(rate))
    chunk = path.push(as_microvolts(samples_uv, max_samples=MAX_SIGNAL_SAMPLES))
    rest = path.finish()
    return SignalAnalysis(
        np.concatenate([chunk.beats.r_peaks, rest.beats.r_peaks]),
        np.concatenate([chunk.beats.scores, rest.beats.scores]),
        np.concatenate([chunk.beats.amplitudes_uv, rest.beats.amplitudes_uv]),
        np.concatenate([chunk.seconds.flags, rest.seconds.flags]),
        np.concatenate([chunk.seconds.index, rest.seconds.index]),
        np.concatenate([chunk.beats.classes, rest.beats.classes]),
        np.concatenate([chunk.beats.class_permille, rest.beats.class_permille]),
    )


@lru_cache(maxsize=1)
def _coefficients() -> FrontEndCoefficients:
    return load_model().coefficients


@lru_cache(maxsize=8)
def _table(sampling_rate_hz: Fraction) -> ResamplerTable:
    return ResamplerTable(_coefficients(), sampling_rate_hz)
