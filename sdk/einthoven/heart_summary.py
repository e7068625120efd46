"""What beats and signal quality of a recording add up to: heart rate, its variability, how much can be trusted. Pure.

It deliberately names no rhythm and no risk, and hides nothing: every number comes with what it rests on.

Invariants:
    1. No interval touches a second whose signal is not usable.
    2. Rates are those of intervals as found; only the variability leaves artefacts out, and says how many.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from einthoven.heart_rate_variability import HeartRateVariability, heart_rate_variability
from einthoven.results import Quality
from einthoven.rr_intervals import RRSeries, instantaneous_rates_bpm, mean_heart_rate_bpm, rr_series, unusable_spans
from einthoven.signal_analysis import SignalAnalysis


@dataclass(frozen=True, slots=True)
class HeartSummary:
    """A recording's heart rate.

    Attributes:
        beats: R peaks found.
        seconds: Whole seconds judged.
        usable_s: Those whose signal is usable.
        faults_s: Seconds with each fault, most first; a second may have several.
        rr: Intervals between beats, each with its class.
        mean_bpm: Mean heart rate; ``None`` without a usable interval.
        lowest_bpm: Lowest rate of one interval; ``None`` likewise.
        highest_bpm: Highest rate of one interval; ``None`` likewise.
        variability: Heart rate variability, or why there is none.
        inverted: Whether most QRS complexes point down, as when two electrodes are swapped; ``None`` without beats.
    """

    beats: int
    seconds: int
    usable_s: int
    faults_s: tuple[tuple[Quality, int], ...]
    rr: RRSeries
    mean_bpm: float | None
    lowest_bpm: float | None
    highest_bpm: float | None
    variability: HeartRateVariability
    inverted: bool | None


def summarize_heart(signal: SignalAnalysis, sampling_rate_hz: Fraction) -> HeartSummary:
    """Sum a recording up.

    Args:
        signal: Beats and quality, from ``analyze_signal`` or ``Recording.signal``.
        sampling_rate_hz: Samples a second, exact.
    """
    series = rr_series(signal.r_peaks, sampling_rate_hz, gaps=unusable_spans(signal.flags, sampling_rate_hz))
    rates = instantaneous_rates_bpm(series)
    rates = rates[~np.isnan(rates)]
    faults = [(flag, int(np.count_nonzero(signal.flags & flag))) for flag in Quality]
    return HeartSummary(
        beats=len(signal.r_peaks),
        seconds=len(signal.flags),
        usable_s=int(np.count_nonzero(signal.flags == 0)),
        faults_s=tuple(sorted(((flag, n) for flag, n in faults if n), key=lambda fault: -fault[1])),
        rr=series,
        mean_bpm=mean_heart_rate_bpm(series),
        lowest_bpm=float(rates.min()) if len(rates) else None,
        highest_bpm=float(rates.max()) if len(rates) else None,
        variability=heart_rate_variability(series),
        inverted=signal.inverted,
    )
