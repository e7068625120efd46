"""A simulated single-lead ECG: the dynamical model of McSharry, Clifford, Tarassenko and Smith. Pure, numpy only.

McSharry PE, Clifford GD, Tarassenko L, Smith LA. A dynamical model for generating synthetic electrocardiogram signals.
IEEE Trans Biomed Eng 2003;50(3):289-294. doi:10.1109/TBME.2003.808805. Written from the paper's equations and Table I.

``simulator_rr`` decides when the heart beats, ``simulator_waves`` integrates the model, ``simulator_noise`` adds what a
real recording has besides the heart, ``simulator_options`` says what to make; this module puts them together.

It deliberately simulates no patient: no ischaemia, no conduction disease, no second lead. It is there so that the
software can be shown and tested without anyone's data, and what it gives is never to be read as evidence about hearts.

Invariants:
    1. The same options (the seed among them) give the same samples and annotations on the same machine and numpy;
       across machines a sample may differ by 1 uV, since ``sin`` and ``exp`` are not rounded alike everywhere.
    2. Annotations are what was asked of the model, not what was found in its output.
    3. A sample inside a gap is ``MISSING_UV`` and no other sample is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import MISSING_UV
from einthoven.simulator_noise import disturbances_uv, measurement_noise_uv
from einthoven.simulator_options import Beat, BeatKind, SimulatedRhythm, Stretches
from einthoven.simulator_rr import beats_of
from einthoven.simulator_waves import f_waves_uv, heart_uv

__all__ = ["Beat", "BeatKind", "SimulatedEcg", "SimulatedRhythm", "Stretches", "simulate"]


@dataclass(frozen=True, slots=True)
class SimulatedEcg:
    """A simulated record with the truth about it.

    Attributes:
        rhythm: The options it was made from.
        samples_uv: int32 [n] microvolts, read-only; ``MISSING_UV`` inside gaps.
        r_peaks: int64 [b] sample indices of the R peaks, ascending.
        beat_kinds: One kind for each of ``r_peaks``.
    """

    rhythm: SimulatedRhythm
    samples_uv: NDArray[np.int32] = field(repr=False)
    r_peaks: NDArray[np.int64] = field(repr=False)
    beat_kinds: tuple[BeatKind, ...] = field(repr=False)


def simulate(rhythm: SimulatedRhythm) -> SimulatedEcg:
    """Simulate one record; about 0.2 s for ten minutes at 300 Hz."""
    # One generator a purpose: adding noise or a gap must not move a single beat.
    rng_beats, rng_f, rng_noise, rng_disturbance = (
        np.random.Generator(np.random.PCG64(seed)) for seed in np.random.SeedSequence(rhythm.seed).spawn(4)
    )
    n_samples = int(Fraction(rhythm.duration_s).limit_denominator(1_000_000) * rhythm.sampling_rate_hz)
    t_s = np.arange(n_samples) / float(rhythm.sampling_rate_hz)
    beats = beats_of(rhythm, rng_beats)

    ecg_uv = heart_uv(rhythm, beats, n_samples) + f_waves_uv(rhythm, t_s, rng_f)
    if rhythm.inverted:
        ecg_uv = -ecg_uv
    ecg_uv += measurement_noise_uv(rhythm, t_s, rng_noise) + disturbances_uv(rhythm, t_s, rng_disturbance)

    samples_uv = np.rint(ecg_uv).astype(np.int32)
    for start_s, stop_s in rhythm.gaps:
        samples_uv[(t_s >= start_s) & (t_s < stop_s)] = MISSING_UV
    samples_uv.flags.writeable = False

    peaks = np.array([round(beat.at_s * float(rhythm.sampling_rate_hz)) for beat in beats], dtype=np.int64)
    inside = (peaks >= 0) & (peaks < n_samples)
    kinds = tuple(beat.kind for beat, kept in zip(beats, inside, strict=True) if kept)
    return SimulatedEcg(rhythm, samples_uv, peaks[inside], kinds)
