"""What to simulate, and the beats of a simulation. Values only; see ``simulator`` for the model and its source."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from einthoven.errors import InputError

MAX_DURATION_S: Final = 24 * 3600
"""Longest record to simulate in one go, seconds."""
MAX_EPISODES: Final = 10_000
"""Most stretches or ectopic beats of a kind in one record."""

Stretches = tuple[tuple[float, float], ...]
"""(start_s, stop_s) pairs, seconds from the first sample."""


class BeatKind(StrEnum):
    """Beat annotation, in the codes of the PhysioNet databases."""

    NORMAL = "N"
    ATRIAL_PREMATURE = "A"
    VENTRICULAR_PREMATURE = "V"


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat.

    Attributes:
        at_s: Time of the R peak, seconds from the first sample; may lie before 0 or after the end.
        kind: What it is.
        conducted_p: Whether a P wave precedes it.
    """

    at_s: float
    kind: BeatKind
    conducted_p: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRhythm:
    """What to simulate.

    Attributes:
        duration_s: Length of the record, seconds.
        sampling_rate_hz: Samples a second, 100-1000 Hz.
        seed: Seed of everything random.
        heart_rate_bpm: Mean sinus rate, 1/min.
        heart_rate_sd_bpm: Standard deviation of the sinus rate, 1/min (paper: 1).
        lf_hf_ratio: Power at 0.1 Hz over power at 0.25 Hz in the RR spectrum (paper: 0.5).
        r_amplitude_uv: Height of a normal R wave, microvolts.
        p_scale: P wave against Table I, which is taller than most lead I recordings show.
        respiration_uv: Baseline amplitude ``A`` of the paper's z0, microvolts (paper: 150).
        af_episodes: Stretches in atrial fibrillation.
        pvc_at_s: Times at which the next beat comes early from a ventricle.
        pac_at_s: Times at which the next beat comes early from an atrium.
        f_wave_uv: Amplitude of the fibrillatory waves, microvolts.
        f_wave_hz: Their mean frequency, 4-9 Hz.
        noise_uv: Standard deviation of white measurement noise, microvolts.
        wander_uv: Standard deviation of slow baseline wander, microvolts.
        mains_uv: Amplitude of mains hum, microvolts.
        mains_hz: Its frequency, Hz.
        disturbances: Stretches of electrode motion and muscle noise that drown the ECG.
        gaps: Stretches that were never received.
        inverted: Electrodes swapped: everything from the heart upside down.
    """

    duration_s: float = 60.0
    sampling_rate_hz: Fraction = Fraction(300)
    seed: int = 1
    heart_rate_bpm: float = 66.0
    heart_rate_sd_bpm: float = 2.0
    lf_hf_ratio: float = 0.5
    r_amplitude_uv: float = 1000.0
    p_scale: float = 0.6
    respiration_uv: float = 150.0
    af_episodes: Stretches = ()
    pvc_at_s: tuple[float, ...] = ()
    pac_at_s: tuple[float, ...] = ()
    f_wave_uv: float = 80.0
    f_wave_hz: float = 6.3
    noise_uv: float = 8.0
    wander_uv: float = 25.0
    mains_uv: float = 0.0
    mains_hz: float = 50.0
    disturbances: Stretches = ()
    gaps: Stretches = ()
    inverted: bool = False

    def __post_init__(self) -> None:
        """Refuse what the model can't do.

        Raises:
            InputError: An option is outside its range.
        """
        _within("duration_s", self.duration_s, 1, MAX_DURATION_S)
        _within("sampling_rate_hz", self.sampling_rate_hz, 100, 1000)
        _within("heart_rate_bpm", self.heart_rate_bpm, 30, 200)
        _within("heart_rate_sd_bpm", self.heart_rate_sd_bpm, 0, self.heart_rate_bpm / 4)
        _within("lf_hf_ratio", self.lf_hf_ratio, 0, 100)
        _within("f_wave_hz", self.f_wave_hz, 4, 9)
        for name in ("r_amplitude_uv", "p_scale", "respiration_uv", "f_wave_uv", "noise_uv", "wander_uv", "mains_uv"):
            _within(name, getattr(self, name), 0, 10_000)
        for name in ("af_episodes", "disturbances", "gaps", "pvc_at_s", "pac_at_s"):
            _within(f"number of {name}", len(getattr(self, name)), 0, MAX_EPISODES)
        for start_s, stop_s in (*self.af_episodes, *self.disturbances, *self.gaps):
            if not 0 <= start_s < stop_s:
                raise InputError("a simulated stretch ends before it begins", "give (start_s, stop_s), start first")


def in_stretches(t_s: float, stretches: Stretches) -> bool:
    """Whether a time lies in one of the half-open stretches."""
    return any(start_s <= t_s < stop_s for start_s, stop_s in stretches)


def _within(name: str, value: float | Fraction, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise InputError(f"simulated {name} is {float(value):g}", f"choose between {lowest:g} and {highest:g}")
