"""Makes arrhythmias of a record's own beats: early beats, runs, atrial fibrillation, a changing sinus rate.

The records to learn from are 22 people's, a third of whom have nearly all of the supraventricular beats; so a network
learns those people. What makes a beat premature is physiology, and can be written down: an interval shortened to
45-90 %, another P wave or none, a pause after it; a wide complex with an opposite T wave. Each record is cut into its
own beats, which are put together again at other times, stretched between T and P wave alone.

It deliberately draws nothing from another record, so that a record that is left out stays so.

Invariants:
    1. A beat's label is what was made of it: S, V, or what it was; a beat whose label no longer fits gets ``LEFT_OUT``.
    2. The same generator gives the same copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.resampling import MODEL_RATE_HZ as HZ
from einthoven_conversion.beat_classes.counting import N, S, V

LEFT_OUT: Final = -2
LEAST_INTERVAL: Final = int(0.26 * HZ)
AROUND: Final = 8
"""Intervals on either side that the usual one is the median of."""
P_KINDS: Final = ("none", "flipped", "scaled", "shifted", "new", "own")
P_SHARES: Final = (0.2, 0.2, 0.15, 0.15, 0.25, 0.05)
V_BEFORE: Final = int(0.13 * HZ)
V_LENGTH: Final = int(0.62 * HZ)

Samples = NDArray[np.float64]


@dataclass(slots=True)
class Plan:
    """What becomes of a record's beats.

    Attributes:
        samples: float64 [n], the record.
        peaks: int64 [k], its R peaks.
        labels: int64 [k], reference class, changed as the plan is made.
        intervals: int64 [k - 1], samples from each peak to the next, likewise.
        usual: float64 [k - 1], median of the intervals around each.
        height: Usual peak-to-peak height of a complex.
        p_waves: What happens to the P wave of a beat, by its number; nothing, if it is not there.
        complexes: What stands in for a beat, from ``V_BEFORE`` before its peak, by its number.
    """

    samples: Samples
    peaks: NDArray[np.int64]
    labels: NDArray[np.int64]
    intervals: NDArray[np.int64]
    usual: Samples
    height: float
    p_waves: dict[int, str] = field(default_factory=dict)
    complexes: dict[int, Samples] = field(default_factory=dict)

    def normal(self, *beats: int) -> bool:
        """Whether these are normal beats, unchanged, and not at an end."""
        return all(0 < beat < len(self.peaks) - 1 and self.labels[beat] == N for beat in beats)


def plan(samples: NDArray[np.int64], peaks: NDArray[np.int64], labels: NDArray[np.int64]) -> Plan:
    """Begin with everything as it is."""
    intervals = np.diff(peaks)
    usual = [np.median(intervals[max(0, i - AROUND) : i + AROUND]) for i in range(len(intervals))]
    return Plan(samples.astype(np.float64), peaks, labels.copy(), intervals, np.array(usual), height_of(samples, peaks))


def height_of(samples: NDArray[np.int64], peaks: NDArray[np.int64]) -> float:
    """Median peak-to-peak height of up to 180 complexes; 1 without any."""
    inside = peaks[(peaks > 8) & (peaks < len(samples) - 9)][20:200]
    return float(np.median([np.ptp(samples[at - 8 : at + 9]) for at in inside])) if len(inside) else 1.0


def supraventricular(made: Plan, rng: np.random.Generator) -> None:
    """Put early atrial beats in: single, in bigeminy, in runs, with a pause after them."""
    share, early = rng.choice([0.03, 0.08, 0.15, 0.35]), rng.uniform(0.5, 0.9)
    regular = rng.random() < 0.25
    beat = 1
    while beat < len(made.peaks) - 2:
        if rng.random() >= share or not made.normal(beat - 1, beat, beat + 1) or _too_odd(made, beat):
            beat += 1
            continue
        length = int(rng.choice([1, 1, 1, 1, 2, 3, int(rng.integers(4, 40))]))
        factor = float(np.clip(rng.normal(early, 0.07), 0.45, 0.88))
        usual, kind = made.usual[beat - 1], str(rng.choice(P_KINDS, p=P_SHARES))
        first = beat
        while beat < first + length and made.normal(beat):
            own = factor * (1 + rng.normal(0, 0.02)) if beat > first else factor
            made.intervals[beat - 1] = max(int(usual * own), LEAST_INTERVAL)
            made.labels[beat] = S
            made.p_waves[beat] = kind
            beat += 1
        if made.normal(beat):
            pause = rng.choice([rng.uniform(0.95, 1.1), rng.uniform(1.1, 1.5), 2 - factor])
            made.intervals[beat - 1] = int(usual * pause)
        beat += int(rng.integers(1, 4)) if regular and rng.random() < 0.8 else 1


def ventricular(made: Plan, rng: np.random.Generator) -> None:
    """Put ventricular beats in: premature with a compensatory pause, interpolated, escapes, runs, of up to 3 shapes."""
    share, early = rng.choice([0.02, 0.06, 0.15]), rng.uniform(0.45, 0.85)
    shapes = [ventricular_shape(made.height, rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    compensated, regular = rng.random() < 0.7, rng.random() < 0.25
    beat = 1
    while beat < len(made.peaks) - 2:
        if rng.random() >= share or not made.normal(beat - 1, beat, beat + 1) or _too_odd(made, beat):
            beat += 1
            continue
        length = int(rng.choice([1, 1, 1, 1, 1, 2, 3, int(rng.integers(4, 30))]))
        late = rng.random() < 0.12
        factor = rng.uniform(0.9, 1.5) if late else float(np.clip(rng.normal(early, 0.05), 0.38, 1.0))
        usual, in_run, shape = made.usual[beat - 1], rng.uniform(0.4, 1.1), shapes[rng.integers(len(shapes))]
        first = beat
        while beat < first + length and made.normal(beat):
            own = factor if beat == first else in_run * (1 + rng.normal(0, 0.05))
            made.intervals[beat - 1] = max(int(usual * own), LEAST_INTERVAL)
            made.labels[beat] = V
            made.p_waves[beat] = "none"
            made.complexes[beat] = shape
            beat += 1
        if made.normal(beat):
            made.intervals[beat - 1] = int(usual * rng.uniform(0.9, 1.4))
            if length == 1 and compensated:
                made.intervals[beat - 1] = int(max(2 * usual - made.intervals[first - 1], 0.5 * usual))
            elif length == 1 and rng.random() < 0.05:  # interpolated
                made.intervals[beat - 1] = max(int(usual - 0.9 * made.intervals[first - 1]), LEAST_INTERVAL)
        beat += int(rng.integers(0, 3)) + 1 if regular and rng.random() < 0.85 else 1


def _too_odd(made: Plan, beat: int) -> bool:
    return not 0.3 * HZ < made.usual[beat - 1] < 2 * HZ


def ventricular_shape(height: float, rng: np.random.Generator) -> Samples:
    """A wide complex of two or three waves with, mostly, an opposite T wave: float64 [V_LENGTH]."""
    t = (np.arange(V_LENGTH) - V_BEFORE) / HZ

    def wave(at_s: float, width_s: float) -> Samples:
        return np.asarray(np.exp(-0.5 * ((t - at_s) / width_s) ** 2))

    shape = wave(rng.uniform(-0.01, 0.03), rng.uniform(0.022, 0.05))
    if rng.random() < 0.6:
        shape -= rng.uniform(0.2, 0.9) * wave(rng.uniform(0.06, 0.1), rng.uniform(0.02, 0.045))
    if rng.random() < 0.5:
        shape += rng.uniform(-0.5, 0.5) * wave(rng.uniform(-0.07, -0.03), rng.uniform(0.012, 0.03))
    shape /= np.ptp(shape)
    t_wave = rng.uniform(0.1, 0.5) * wave(rng.uniform(0.22, 0.33), rng.uniform(0.04, 0.07))
    opposite = -np.sign(shape[np.abs(shape).argmax()]) * (-0.4 if rng.random() < 0.1 else 1.0)
    return np.asarray(rng.choice([-1, 1]) * height * np.exp(rng.uniform(-0.7, 0.7)) * (shape + opposite * t_wave))


def fibrillation(made: Plan, rng: np.random.Generator) -> None:
    """Turn stretches into atrial fibrillation: every interval drawn anew, no P waves; its beats are normal ones."""
    mean = float(np.clip(np.median(made.intervals) * rng.uniform(0.55, 1.05), 0.42 * HZ, 1.1 * HZ))
    scatter = rng.uniform(0.14, 0.3)
    on, left = rng.random() < 0.7, int(rng.integers(60, 400))
    for beat in range(1, len(made.peaks)):
        left -= 1
        if left < 0:
            on, left = not on, int(rng.integers(60, 400))
        if on:
            long = rng.uniform(0, 0.5) if rng.random() < 0.1 else 0.0
            drawn = mean * (1 + scatter * rng.standard_normal() + long)
            made.intervals[beat - 1] = int(np.clip(drawn, 0.3 * HZ, 2.2 * HZ))
            made.p_waves[beat] = "none"
            if made.labels[beat] == S:
                made.labels[beat] = LEFT_OUT


def changing_rate(made: Plan, rng: np.random.Generator) -> None:
    """Let the rate breathe and drift, as a healthy one does: nothing in it is premature."""
    n = len(made.intervals)
    knots = np.arange(0, n + 60, 60)
    drift = np.clip(np.exp(np.interp(np.arange(n), knots, np.cumsum(rng.normal(0, 0.08, len(knots))))), 0.7, 1.4)
    breath = np.sin(rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(n) / rng.uniform(3, 7))
    made.intervals = np.maximum((made.intervals * drift * (1 + rng.uniform(0.03, 0.15) * breath)).astype(np.int64), 1)


def assemble(made: Plan, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Carry a plan out.

    Returns:
        Samples int64 [n] at 128 Hz, R peaks in seconds float64 [k], labels int64 [k].
    """
    parts, at = [made.samples[: made.peaks[0]]], [int(made.peaks[0])]
    for beat in range(1, len(made.peaks)):
        piece = stretched(made.samples[made.peaks[beat - 1] : made.peaks[beat]], max(int(made.intervals[beat - 1]), 24))
        if beat in made.p_waves:
            piece = _with_p_wave(piece, made.p_waves[beat], made.height, rng)
        parts.append(piece)
        at.append(at[-1] + len(piece))
    samples = np.concatenate([*parts, made.samples[made.peaks[-1] :]])
    for beat, shape in made.complexes.items():
        _replace(samples, at[beat], at[beat + 1], shape, made.height, rng)
    fibrillating = [
        beat for beat, kind in made.p_waves.items() if kind == "none" and made.labels[beat] in (N, LEFT_OUT)
    ]
    if fibrillating:
        on = np.zeros(len(samples))
        for beat in fibrillating:
            on[at[beat - 1] : at[beat]] = 1
        samples += on * _fibrillatory_waves(len(samples), rng) * made.height * rng.uniform(0, 0.06)
    return np.rint(samples).astype(np.int64), np.array(at) / HZ, made.labels


def stretched(piece: Samples, length: int) -> Samples:
    """A piece from one R peak to the next at another length: what lies between T and P wave is stretched."""
    n = len(piece)
    if n == length:
        return piece.copy()
    begin = int(min(0.32 * HZ + 0.15 * n, 0.6 * n, 0.6 * length))
    end = int(min(0.24 * HZ, 0.5 * (n - begin), 0.6 * (length - begin)))
    middle = piece[begin : n - end]
    wanted = length - begin - end
    if wanted < 1 or len(middle) < 1:
        return np.interp(np.linspace(0, n - 1, length), np.arange(n), piece)
    between = np.interp(np.linspace(0, len(middle) - 1, wanted), np.arange(len(middle)), middle)
    return np.concatenate([piece[:begin], between, piece[n - end :]])


def _with_p_wave(piece: Samples, kind: str, height: float, rng: np.random.Generator) -> Samples:
    """Another P wave, or none, in the 0.3 s before the end of a piece."""
    n = len(piece)
    start, stop = max(n - int(0.30 * HZ), int(0.35 * n)), n - int(rng.uniform(0.055, 0.075) * HZ)
    if stop - start < 6:
        return piece
    part = piece[start:stop]
    line = np.linspace(part[:3].mean(), part[-3:].mean(), len(part))
    wave, t = part - line, np.linspace(0, 1, len(part))
    match kind:
        case "none":
            new = wave * rng.uniform(0, 0.15)
        case "flipped":
            new = -wave * rng.uniform(0.3, 1.2)
        case "scaled":
            new = wave * rng.choice([rng.uniform(0, 0.5), rng.uniform(1.4, 2)])
        case "shifted":
            by = rng.integers(3, 9) * rng.choice([-1, 1])
            new = np.interp(np.arange(len(part)) - by, np.arange(len(part)), wave, left=0, right=0)
        case "new":
            bump = np.exp(-0.5 * ((t - rng.uniform(0.25, 0.75)) / rng.uniform(0.08, 0.16)) ** 2)
            new = height * rng.uniform(0.03, 0.15) * rng.choice([-1, 1], p=[0.4, 0.6]) * bump
        case _:
            return piece
    changed = piece.copy()
    changed[start:stop] = line + new * np.sqrt(np.sin(np.pi * t))
    return changed


def _replace(samples: Samples, at: int, next_at: int, shape: Samples, height: float, rng: np.random.Generator) -> None:
    """Put a complex in the place of a beat, on the line between what lies before and after it."""
    start, stop = at - V_BEFORE, min(at - V_BEFORE + len(shape), next_at - int(0.12 * HZ))
    if start < 0 or stop - start < 30:
        return
    n = stop - start
    line = np.linspace(samples[start : start + 4].mean(), samples[stop - 4 : stop].mean(), n)
    taper = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 6)
    new = line + taper * shape[:n] * (1 + rng.normal(0, 0.05))
    samples[start:stop] = new + rng.normal(0, height * 0.005, n)


def _fibrillatory_waves(n: int, rng: np.random.Generator) -> Samples:
    """Waves of 4 to 8 a second that wander, of about unit height."""
    knots = np.arange(0, n + HZ, HZ // 2)
    cycles = np.cumsum(rng.uniform(4, 8) + np.interp(np.arange(n), knots, rng.standard_normal(len(knots)))) / HZ
    return np.asarray(np.sin(2 * np.pi * cycles) + 0.4 * np.sin(4 * np.pi * cycles + 1))
