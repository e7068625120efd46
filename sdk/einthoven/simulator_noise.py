"""What a recording has besides the heart: measurement noise, wander, mains, moments of motion. Pure.

It deliberately imitates no particular device; amplitudes are the caller's. Real noise for tests is the MIT-BIH noise
stress database, not this.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.simulator_options import SimulatedRhythm, Stretches

Floats = NDArray[np.float64]

WANDER_BAND_HZ: Final = (0.03, 0.4)
"""Band of the baseline wander, Hz: skin and electrode, below the slowest heart."""
WANDER_TONES: Final = 12
MUSCLE_UV: Final = 330.0
"""Standard deviation of muscle noise in a disturbed stretch, microvolts."""
MOTION_UV: Final = 1500.0
"""Standard deviation of the baseline jumps by electrode motion, microvolts."""
MOTION_KNOT_S: Final = 0.22
"""Mean time between two jumps, seconds."""


def measurement_noise_uv(rhythm: SimulatedRhythm, t_s: Floats, rng: np.random.Generator) -> Floats:
    """White noise, baseline wander and mains hum in microvolts, [n]."""
    frequencies_hz = rng.uniform(*WANDER_BAND_HZ, WANDER_TONES)
    phases = rng.uniform(0, 2 * np.pi, WANDER_TONES)
    noise = rng.normal(0.0, 1.0, t_s.size) * rhythm.noise_uv
    scale = rhythm.wander_uv * np.sqrt(2 / WANDER_TONES)
    if scale > 0:
        for frequency_hz, phase in zip(frequencies_hz, phases, strict=True):
            noise += scale * np.sin(2 * np.pi * frequency_hz * t_s + phase)
    if rhythm.mains_uv > 0:
        noise += rhythm.mains_uv * np.sin(2 * np.pi * rhythm.mains_hz * t_s)
    return noise


def disturbances_uv(rhythm: SimulatedRhythm, t_s: Floats, rng: np.random.Generator) -> Floats:
    """Electrode motion and muscle noise in microvolts [n], 0 outside the disturbed stretches."""
    if not rhythm.disturbances or not t_s.size:
        return np.zeros(t_s.size)
    muscle = MUSCLE_UV * rng.normal(0.0, 1.0, t_s.size)
    knots_s = np.cumsum(rng.exponential(MOTION_KNOT_S, int(t_s[-1] / MOTION_KNOT_S * 1.5) + 16))
    motion = np.interp(t_s, knots_s, MOTION_UV * rng.normal(0.0, 1.0, knots_s.size))
    return (muscle + motion) * ramp(t_s, rhythm.disturbances, rise_s=0.3)


def ramp(t_s: Floats, stretches: Stretches, *, rise_s: float) -> Floats:
    """Envelope [n] of half-open stretches: 0 outside, 1 inside, raised-cosine edges of ``rise_s`` inside them."""
    envelope = np.zeros(t_s.size)
    for start_s, stop_s in stretches:
        first, last = np.searchsorted(t_s, (start_s, stop_s))
        into_s = np.minimum(t_s[first:last] - start_s, stop_s - t_s[first:last])
        envelope[first:last] = 0.5 - 0.5 * np.cos(np.pi * np.clip(into_s / rise_s, 0, 1))
    return envelope
