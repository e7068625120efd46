"""When the simulated heart beats: sinus tachogram, atrial fibrillation, premature beats. Pure.

Sinus rhythm is the paper's section III-B (McSharry et al. 2003, see ``simulator``): a power spectrum with a Gaussian at
0.1 Hz (Mayer waves) and one at 0.25 Hz (respiration), square root of it with random phases, inverse transform, scaled
to the mean and standard deviation asked for.

In atrial fibrillation an interval is what the AV node lets through: the node is deaf for a refractory time (a fixed and
a uniformly distributed part) and conducts the next of the atrial impulses, which arrive as a Poisson process; so an
interval is ``refractory + uniform + exponential``. This is the single-pathway case of Corino VDA, Sandberg F, Mainardi
LT, Sörnmo L, An atrioventricular node model for analysis of the ventricular response during atrial fibrillation, IEEE
Trans Biomed Eng 2011;58(12):3386-3395, and agrees with Lian J, Clifford GD, Müssig D, Lang V, Biomed Eng Online
2007;6:9. Consecutive intervals are independent.

Invariants:
    1. Beats are strictly ascending and reach past both ends of the record, so that every sample lies between two.
    2. Every asked-for premature beat that falls inside the record is there, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.simulator_options import Beat, BeatKind, SimulatedRhythm, in_stretches

MAYER_HZ: Final = 0.1
RESPIRATION_HZ: Final = 0.25
SPECTRAL_SD_HZ: Final = 0.01
"""Centres and width of the two spectral bands, Hz (paper, section III-B: f1, f2, c1 = c2)."""
TACHOGRAM_HZ: Final = 4.0
"""Grid on which the sinus tachogram is made, Hz; 16 times the respiration."""
REFRACTORY_S: Final = 0.34
REFRACTORY_SPREAD_S: Final = 0.14
IMPULSES_PER_S: Final = 5.5
"""AV node in AF: fixed and uniform refractory time, rate of impulses it can conduct (mean interval 0.59 s)."""
MAX_AF_RR_S: Final = 1.6
"""Longest interval in AF, seconds; cuts one exponential in a thousand."""
PVC_COUPLING: Final = 0.58
PAC_COUPLING: Final = 0.68
"""Coupling interval of premature beats as a share of the sinus interval."""
PAC_RESET: Final = 1.08
"""Interval after a PAC: the sinus node was reset, so the pause is less than compensatory."""
MIN_RR_S: Final = 0.25
LEAD_IN_S: Final = 2.5
"""Beats start this long before the first sample, so that the model has settled when the record begins."""


def sinus_tachogram(rhythm: SimulatedRhythm, n_points: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """RR intervals on a grid of ``TACHOGRAM_HZ``, seconds [n_points], with exactly the mean and SD asked for."""
    mean_s = 60.0 / rhythm.heart_rate_bpm
    sd_s = 60.0 * rhythm.heart_rate_sd_bpm / rhythm.heart_rate_bpm**2
    n_points = max(n_points, 1024)  # at least four minutes: a shorter grid can't resolve bands 0.01 Hz wide
    f_hz = np.fft.rfftfreq(n_points, 1 / TACHOGRAM_HZ)
    lf = np.exp(-((f_hz - MAYER_HZ) ** 2) / (2 * SPECTRAL_SD_HZ**2))
    hf = np.exp(-((f_hz - RESPIRATION_HZ) ** 2) / (2 * SPECTRAL_SD_HZ**2))
    phases = rng.uniform(0, 2 * np.pi, f_hz.size)
    series = np.fft.irfft(np.sqrt(rhythm.lf_hf_ratio * lf + hf) * np.exp(1j * phases), n_points)
    scaled: NDArray[np.float64] = mean_s + sd_s * (series - series.mean()) / series.std()
    return scaled


def beats_of(rhythm: SimulatedRhythm, rng: np.random.Generator) -> tuple[Beat, ...]:
    """All beats of a record, ascending, at least one before its first and two after its last sample."""
    end_s = rhythm.duration_s + LEAD_IN_S
    tachogram = sinus_tachogram(rhythm, int((end_s + LEAD_IN_S) * TACHOGRAM_HZ) + 8, rng)
    premature = sorted(
        [_Premature(at_s, BeatKind.VENTRICULAR_PREMATURE) for at_s in rhythm.pvc_at_s]
        + [_Premature(at_s, BeatKind.ATRIAL_PREMATURE) for at_s in rhythm.pac_at_s],
        key=lambda wish: wish.at_s,
        reverse=True,
    )
    beats = [Beat(-LEAD_IN_S, BeatKind.NORMAL, conducted_p=True)]
    pause = 1.0
    while beats[-1].at_s < end_s or len(beats) < 4:
        now_s = beats[-1].at_s
        sinus_s = float(tachogram[int((now_s + LEAD_IN_S) * TACHOGRAM_HZ) % tachogram.size])
        fibrillating = in_stretches(now_s, rhythm.af_episodes)
        rr_s = _af_interval_s(rng) if fibrillating else sinus_s * pause
        kind, pause = BeatKind.NORMAL, 1.0
        # Not straight after another premature beat: its pause comes first, and the wish waits a beat.
        if premature and premature[-1].at_s < now_s + rr_s and beats[-1].kind is BeatKind.NORMAL:
            kind = premature.pop().kind
            ventricular = kind is BeatKind.VENTRICULAR_PREMATURE
            coupling = PVC_COUPLING if ventricular else PAC_COUPLING
            rr_s = coupling * sinus_s
            pause = 2 - coupling if ventricular else PAC_RESET
        at_s = now_s + max(rr_s, MIN_RR_S)
        has_p = kind is not BeatKind.VENTRICULAR_PREMATURE and not in_stretches(at_s, rhythm.af_episodes)
        beats.append(Beat(at_s, kind, conducted_p=has_p))
    return tuple(beats)


@dataclass(frozen=True, slots=True)
class _Premature:
    """A premature beat that was asked for."""

    at_s: float
    kind: BeatKind


def _af_interval_s(rng: np.random.Generator) -> float:
    waiting_s = rng.exponential(1 / IMPULSES_PER_S)
    return min(REFRACTORY_S + REFRACTORY_SPREAD_S * rng.random() + waiting_s, MAX_AF_RR_S)
