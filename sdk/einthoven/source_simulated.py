"""A ``Source`` over the simulator, marked as simulated wherever it shows. Its model and its limits: ``simulator``."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from einthoven.simulator import SimulatedEcg, SimulatedRhythm, simulate
from einthoven.source_checks import pieces

DEMO_RHYTHM = SimulatedRhythm(
    duration_s=600.0,
    seed=1906,
    heart_rate_bpm=68.0,
    heart_rate_sd_bpm=4.0,
    lf_hf_ratio=1.5,
    p_scale=0.35,
    noise_uv=12.0,
    af_episodes=((180.0, 330.0),),
    pvc_at_s=(66.0, 71.0, 78.0, 84.0, 486.0, 489.0, 493.0, 497.0, 502.0, 506.0),
    pac_at_s=(128.0, 141.0),
    disturbances=((421.0, 449.0),),
    mains_uv=2.0,
)
"""Ten minutes: sinus rhythm, some ventricular beats, 2.5 min of atrial fibrillation, motion, frequent ectopy; P waves,
noise and the ratio of slow to fast variability (1.5-2 at rest, Task Force 1996, table 4) as a hand-held lead I has."""


class SimulatedSource:
    """Samples of a heart that never beat.

    Args:
        rhythm: What to simulate; computed when first needed.
    """

    simulated = True
    started_at_ms: int | None = None

    def __init__(self, rhythm: SimulatedRhythm) -> None:
        self.rhythm = rhythm

    @classmethod
    def demo(cls) -> Self:
        """Return the record that the demonstration runs on unless it is given another."""
        return cls(DEMO_RHYTHM)

    @property
    def name(self) -> str:
        """Says that it is simulated."""
        return f"Simulated ECG (McSharry model, seed {self.rhythm.seed})"

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Samples a second, exact."""
        return self.rhythm.sampling_rate_hz

    @cached_property
    def ecg(self) -> SimulatedEcg:
        """The samples with the truth about them, for tests and for drawing."""
        return simulate(self.rhythm)

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, a second at a time."""
        yield from pieces(self.ecg.samples_uv, self.sampling_rate_hz)
