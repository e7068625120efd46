"""The waves of a simulated ECG: the third equation of the dynamical model, solved along a known phase. Pure.

The model (McSharry et al. 2003, see ``simulator``), with ``alpha = 1 - sqrt(x^2 + y^2)``::

    x' = alpha x - omega y
    y' = alpha y + omega x
    z' = - sum_i a_i d_i exp(-d_i^2 / 2 b_i^2) - (z - z0(t)),    d_i = (theta - theta_i) mod 2 pi

On the limit cycle (x^2 + y^2 = 1, where the paper starts) the first two say only that the phase runs at omega, which is
2 pi / RR between two R peaks. What is left is one linear equation with a known right-hand side, z' = -z + u(t), solved
here step by step by its integrating factor with Simpson's rule for u: error O(h^4), no stiffness, no loop over samples.
A test compares it with a plain Runge-Kutta integration of all three equations.

The paper's waves widen and narrow with the RR interval; hearts are not like that. So theta_i, b_i and a_i are set anew
for each interval such that a wave keeps its duration and height (QRS), or stretches with the square root of RR (T,
after Bazett) or its fourth root (P). At 60 beats a minute they are the values of Table I.

Fibrillatory waves are the sawtooth of Stridh M, Sörnmo L, Spatiotemporal QRST cancellation techniques for analysis of
atrial fibrillation, IEEE Trans Biomed Eng 2001;48(1):105-111: a fundamental with harmonics falling as 1/i, its
amplitude and frequency slowly modulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.simulator_noise import ramp
from einthoven.simulator_options import Beat, BeatKind, SimulatedRhythm
from einthoven.simulator_rr import LEAD_IN_S, RESPIRATION_HZ

Floats = NDArray[np.float64]

TABLE_I: Final = (
    # theta_i (rad), a_i, b_i of P, Q, R, S, T
    (-np.pi / 3, 1.2, 0.25),
    (-np.pi / 12, -5.0, 0.1),
    (0.0, 30.0, 0.1),
    (np.pi / 12, -7.5, 0.1),
    (np.pi / 2, 0.75, 0.4),
)
"""Table I of the paper."""
MAX_STEP_S: Final = 0.002
"""Longest integration step, seconds."""
BLOCK_S: Final = 16.0
"""Seconds integrated at once; exp(16) leaves seven decimals in a double."""
F_WAVE_HARMONICS: Final = 3


@dataclass(frozen=True, slots=True)
class Wave:
    """One wave of a beat in seconds and millivolts, at an RR of 1 s.

    Attributes:
        at_s: Peak, seconds after R.
        height: Height against the R wave's 1.
        sd_s: Standard deviation of its Gaussian, seconds.
        stretch: Exponent of RR that ``at_s`` and ``sd_s`` grow with.
    """

    at_s: float
    height: float
    sd_s: float
    stretch: float


def _from_table(row: int, stretch: float) -> Wave:
    theta, a, b = TABLE_I[row]
    r_height = TABLE_I[2][1] * TABLE_I[2][2] ** 2
    return Wave(theta / (2 * np.pi), a * b**2 / r_height, b / (2 * np.pi), stretch)


_P, _Q, _R, _S, _T = (_from_table(row, stretch) for row, stretch in enumerate((0.25, 0.0, 0.0, 0.0, 0.5)))
# A ventricular beat spreads from muscle to muscle: wide, no Q, taller, its T wave the other way.
_PVC = (
    Wave(0.0, 1.35, 0.034, 0.0),
    Wave(0.095, -0.45, 0.032, 0.0),
    Wave(0.30, -0.42, 0.07, 0.5),
)
# An atrial focus: a smaller P, close to the QRS.
_ECTOPIC_P = replace(_P, at_s=-0.13, height=0.7 * _P.height)


@dataclass(frozen=True, slots=True)
class EventTable:
    """Gaussian events of each RR interval in the paper's own terms.

    The phase runs from 0 at the R peak that opens an interval to 2 pi at the one that closes it; events of the closing
    beat have theta_i near 2 pi. Unused places have ``a`` 0.

    Attributes:
        theta: [k, m] radians.
        a: [k, m] amplitude in the equation.
        b: [k, m] width, radians; never 0.
    """

    theta: Floats
    a: Floats
    b: Floats


def integrate(u: Floats, u_half: Floats, step_s: float, z_first: float = 0.0) -> Floats:
    """Solve z' = -z + u.

    Args:
        u: [n] right-hand side at the grid points.
        u_half: [n - 1] right-hand side half-way between them.
        step_s: Distance of grid points, seconds.
        z_first: z at the first point.

    Returns:
        z at the grid points, [n].
    """
    decay = np.exp(-step_s)
    gained = step_s / 6 * (decay * u[:-1] + 4 * np.sqrt(decay) * u_half + u[1:])
    block = int(BLOCK_S / step_s)
    growth = np.exp(step_s * np.arange(1, block + 1))
    z = np.empty(u.size)
    z[0] = z_first
    for start in range(0, gained.size, block):
        part = gained[start : start + block]
        rising = growth[: part.size]
        z[start + 1 : start + 1 + part.size] = (z[start] + np.cumsum(part * rising)) / rising
    return z


def driver(times_s: Floats, peaks_s: Floats, events: EventTable) -> Floats:
    """The sum over events of the third equation at some times, [n]; times lie between the first and last peak."""
    interval = np.searchsorted(peaks_s, times_s, side="right") - 1
    omega = 2 * np.pi / np.diff(peaks_s)
    phase = (times_s - peaks_s[interval]) * omega[interval]
    u = np.zeros(times_s.size)
    for event in range(events.a.shape[1]):
        distance = phase - events.theta[interval, event]
        u -= events.a[interval, event] * distance * np.exp(-0.5 * (distance / events.b[interval, event]) ** 2)
    return u


def heart_uv(rhythm: SimulatedRhythm, beats: Sequence[Beat], n_samples: int) -> Floats:
    """The model's z in microvolts [n_samples], baseline of respiration included."""
    rate_hz = float(rhythm.sampling_rate_hz)
    substeps = int(np.ceil(1 / (rate_hz * MAX_STEP_S)))
    step_s = 1 / (rate_hz * substeps)
    lead_in = int(LEAD_IN_S * rate_hz) * substeps
    grid_s: Floats = step_s * np.arange(-lead_in, n_samples * substeps, dtype=np.float64)
    peaks_s = np.array([beat.at_s for beat in beats])
    events = events_of(beats, rhythm.p_scale)

    def right_hand_side(times_s: Floats) -> Floats:
        heart: Floats = rhythm.r_amplitude_uv * driver(times_s, peaks_s, events)
        heart += rhythm.respiration_uv * np.sin(2 * np.pi * RESPIRATION_HZ * times_s)
        return heart

    z = integrate(right_hand_side(grid_s), right_hand_side((grid_s[:-1] + grid_s[1:]) / 2), step_s)
    return z[lead_in::substeps]


def events_of(beats: Sequence[Beat], p_scale: float) -> EventTable:
    """Translate beats and their waves to the paper's theta, a and b for each RR interval; R wave height 1."""
    rows = []
    for opening, closing in pairwise(beats):
        rr_s = closing.at_s - opening.at_s
        row = [_event(wave, rr_s, 0.0) for wave in _waves(opening, p_scale) if wave.at_s >= 0]
        row += [_event(wave, rr_s, 2 * np.pi) for wave in _waves(closing, p_scale) if wave.at_s <= 0]
        rows.append(row + [(0.0, 0.0, 1.0)] * (6 - len(row)))
    table = np.array(rows)
    return EventTable(table[:, :, 0], table[:, :, 1], table[:, :, 2])


def _waves(beat: Beat, p_scale: float) -> tuple[Wave, ...]:
    if beat.kind is BeatKind.VENTRICULAR_PREMATURE:
        return _PVC
    if not beat.conducted_p:
        return (_Q, _R, _S, _T)
    p = _ECTOPIC_P if beat.kind is BeatKind.ATRIAL_PREMATURE else _P
    return (replace(p, height=p_scale * p.height), _Q, _R, _S, _T)


def _event(wave: Wave, rr_s: float, phase_of_r: float) -> tuple[float, float, float]:
    omega = 2 * np.pi / rr_s
    scale = rr_s**wave.stretch
    b = omega * wave.sd_s * scale
    # On its own, -a d exp(-d^2 / 2 b^2) integrates to a bump of height a b^2 / omega.
    return phase_of_r + omega * wave.at_s * scale, wave.height * omega / b**2, b


def f_waves_uv(rhythm: SimulatedRhythm, t_s: Floats, rng: np.random.Generator) -> Floats:
    """Fibrillatory waves in microvolts [n], 0 outside the AF episodes."""
    waves = np.zeros(t_s.size)
    phase_f, phase_a, phase_0 = rng.uniform(0, 2 * np.pi, 3)
    if not rhythm.af_episodes:
        return waves
    # Modulations as in the paper's examples: frequency by 0.25 Hz every 4 s, amplitude by a third every 5 s.
    phase = 2 * np.pi * rhythm.f_wave_hz * t_s + 0.25 / 0.23 * np.sin(2 * np.pi * 0.23 * t_s + phase_f) + phase_0
    amplitude = 1 + 0.33 * np.sin(2 * np.pi * 0.2 * t_s + phase_a)
    for harmonic in range(1, F_WAVE_HARMONICS + 1):
        waves -= 2 / (np.pi * harmonic) * amplitude * np.sin(harmonic * phase)
    return rhythm.f_wave_uv * waves * ramp(t_s, rhythm.af_episodes, rise_s=0.4)
