"""From samples to a verdict on one window: front end, model steps, exact integer pooling. Pure.

**Pooling.** Every second the model gives four int8 logits, one a class. Over the ``n`` seconds that enter the pool,
with the output's zero point ``z``::

    logit[c] = floor((256 * (sum(second_logit[c]) - n * z) + floor(n / 2)) / n)

That is the mean with 8 fractional bits, rounded half up; a unit is 1/256 of the output's scale. All of it is integers,
so it is exact in any order.

It deliberately does not store, time-stamp or name anything, and makes no risk tier: the session does.

Invariants:
    1. An analysis is a pure function of (model, front end, samples, rate); chunking changes nothing.
    2. Raw flags (``einthoven.quality``) go with each step as it happens; the noise of a window's seconds is judged when
       it ends (``look_at_window``), and less than half of them usable makes the verdict inconclusive.
    3. A second with ``GAP`` or ``FLAT`` passes through the model, whose state goes on, but does not enter the pool.
    4. A window whose median heart rate is outside ``MIN_RATE_BPM`` to ``MAX_RATE_BPM`` gets no class: it is no heart,
       or the sampling rate is not what it was said to be.
    5. No window gives a confident class from less than ``MIN_STEPS`` seconds, or from less than half its seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_detector import TICKS_HZ, BeatDetector
from einthoven.frontend import Filler, FrontEnd
from einthoven.models import CLASSES, Model
from einthoven.probability import permilles
from einthoven.quality import QualityMeter
from einthoven.resampling import FrontEndCoefficients, Resampler, ResamplerTable
from einthoven.results import InconclusiveReason, Quality, Rhythm
from einthoven.signal_quality import SignalQuality

WINDOW_S = 30
"""Longest window in seconds: what the ESC 2020 guideline wants of an ECG that diagnoses AF."""
MIN_STEPS = 5
"""Model steps (seconds) under which a window is too short for a verdict."""
MIN_USABLE_PERCENT = 50
"""Share of a window's seconds that must be usable."""
MIN_RATE_BPM = 25
MAX_RATE_BPM = 240
"""Median heart rates of a window that are believed, beats a minute. Ventricular escape rhythms go down to 20-40; above
240 is little but flutter with 1:1 conduction and ventricular flutter, which the classes here do not know."""
MIN_RATE_INTERVALS = 3
"""Intervals between beats that a median heart rate rests on at least."""
LOGIT_UNITY = 256
"""Units of a pooled logit in one count of the model's output."""
_NOT_POOLED = Quality.GAP | Quality.FLAT

State = tuple[NDArray[np.int8], ...]


class Runner(Protocol):
    """Runs a model's step. Holds no state of a window, so windows may share one."""

    def initial_state(self) -> State:
        """The state before a window's first second."""
        ...

    def step(self, signal: NDArray[np.int8], state: State) -> tuple[NDArray[np.int8], State]:
        """One second: ``signal`` int8 [128] and the state in; logits int8 [4] and the new state out.

        Raises:
            ModelError: The native kernel refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class StepOutput:
    """One second of a window; together they explain its verdict.

    Attributes:
        index: Second within the window, from 0.
        logits: Four int8 values, one for each of N, A, O, ~.
        rhythm: The class this second speaks for.
        quality: What is wrong with its raw signal.
    """

    index: int
    logits: tuple[int, ...]
    rhythm: Rhythm
    quality: Quality


@dataclass(frozen=True, slots=True)
class WindowAnalysis:
    """The verdict on one window.

    Attributes:
        n_steps: Seconds in the pool.
        seconds: Whole seconds of raw signal.
        usable_s: Those without any quality flag.
        quality: Union of their flags.
        heart_rate_bpm: Median heart rate, rounded; ``None`` with fewer than ``MIN_RATE_INTERVALS`` intervals.
        logits: Pooled integer logits of N, A, O, ~; zeros for an empty pool.
        rhythm: Class with the highest logit, the first of equals.
        confidence_permille: Its calibrated probability in 1/1000; 0 for an empty pool.
        reason: Why the verdict is inconclusive, else ``NONE``.
        steps: Every second that went through the model, in order.
    """

    n_steps: int
    seconds: int
    usable_s: int
    quality: Quality
    heart_rate_bpm: int | None
    logits: tuple[int, int, int, int]
    rhythm: Rhythm
    confidence_permille: int
    reason: InconclusiveReason
    steps: tuple[StepOutput, ...]


@dataclass(frozen=True, slots=True)
class RecordAnalysis:
    """The verdict on a whole record, pooled over the steps of its windows.

    Attributes:
        windows: One a window of ``WINDOW_S`` seconds; the last may be shorter.
        verdict: Over all of them as if they were one.
    """

    windows: tuple[WindowAnalysis, ...]
    verdict: WindowAnalysis


@lru_cache(maxsize=8)
def _table(coefficients: FrontEndCoefficients, sampling_rate_hz: Fraction) -> ResamplerTable:
    return ResamplerTable(coefficients, sampling_rate_hz)


class WindowAnalyzer:
    """Analyses one window as its samples arrive.

    Args:
        model: A verified model.
        runner: Runs it.
        sampling_rate_hz: Samples a second, exact.

    Raises:
        SamplingRateError: A rate outside 100-1000 Hz.
    """

    def __init__(self, model: Model, runner: Runner, sampling_rate_hz: Fraction) -> None:
        self._model = model
        self._runner = runner
        self._front_end = FrontEnd(_table(model.coefficients, sampling_rate_hz))
        self._meter = QualityMeter(sampling_rate_hz)
        self._state = runner.initial_state()
        self._rate = sampling_rate_hz
        self._pieces: list[NDArray[np.int32]] = []
        self._qualities: list[Quality] = []
        self._steps: list[StepOutput] = []

    def push(self, samples_uv: NDArray[np.int32]) -> list[StepOutput]:
        """Take samples.

        Args:
            samples_uv: int32 [n], microvolts, ``MISSING_UV`` where none was received.

        Returns:
            The seconds that went through the model now; each about 1.2 s after its last sample.
        """
        self._pieces.append(samples_uv)
        # A second's raw flags need no look-ahead, so they are always there before its step.
        self._qualities += self._meter.push(samples_uv)
        added = []
        for signal in self._front_end.push(samples_uv):
            logits, self._state = self._runner.step(signal, self._state)
            index = len(self._steps)
            values = tuple(logits.tolist())
            step = StepOutput(index, values, _highest(values), self._qualities[index])
            self._steps.append(step)
            added.append(step)
        return added

    def finish(self) -> WindowAnalysis:
        """The verdict on what was pushed; steps that lack look-ahead are left out."""
        samples = np.concatenate([np.zeros(0, np.int32), *self._pieces])
        flags, rate_bpm = look_at_window(_table(self._model.coefficients, self._rate), samples, self._rate)
        return _judge(
            self._model,
            self._steps,
            seconds=len(flags),
            usable_s=int(np.count_nonzero(flags == 0)),
            quality=Quality(int(np.bitwise_or.reduce(flags))),
            rate_bpm=rate_bpm,
        )


def analyze_window(
    model: Model, runner: Runner, samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction
) -> WindowAnalysis:
    """Analyse one window in one go; the same bits as pushing it piece by piece.

    Raises:
        SamplingRateError: A rate outside 100-1000 Hz.
    """
    analyzer = WindowAnalyzer(model, runner, sampling_rate_hz)
    analyzer.push(samples_uv)
    return analyzer.finish()


def analyze_record(
    model: Model, runner: Runner, samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction
) -> RecordAnalysis:
    """Cut a record into windows of ``WINDOW_S`` seconds, analyse each, and pool them.

    Raises:
        SamplingRateError: A rate outside 100-1000 Hz.
    """
    windows = tuple(
        analyze_window(model, runner, piece, sampling_rate_hz) for piece in _windows(samples_uv, sampling_rate_hz)
    )
    steps = [step for window in windows for step in window.steps]
    usable = sum(window.usable_s for window in windows)
    seconds = sum(window.seconds for window in windows)
    union = Quality.USABLE
    for window in windows:
        union |= window.quality
    rates = sorted(window.heart_rate_bpm for window in windows if window.heart_rate_bpm is not None)
    rate_bpm = rates[len(rates) // 2] if rates else None
    verdict = _judge(model, steps, seconds=seconds, usable_s=usable, quality=union, rate_bpm=rate_bpm)
    return RecordAnalysis(windows, verdict)


def look_at_window(
    table: ResamplerTable, samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction
) -> tuple[NDArray[np.uint16], int | None]:
    """Quality flags of a window's whole seconds, uint16 [s], and its median heart rate in beats a minute, rounded.

    From the window alone, so that a replay gives the same.
    """
    quality, detector, resampler = SignalQuality(sampling_rate_hz), BeatDetector(), Resampler(table)
    resampled = np.concatenate([resampler.push(Filler().push(samples_uv)), resampler.finish()])
    flags = np.concatenate([quality.push(samples_uv, resampled).flags, quality.finish().flags])
    peaks = np.concatenate([detector.push(resampled).at_ticks, detector.finish().at_ticks])
    return flags, _median_rate_bpm(np.diff(peaks))


def _median_rate_bpm(intervals_ticks: NDArray[np.int64]) -> int | None:
    if len(intervals_ticks) < MIN_RATE_INTERVALS:
        return None
    median = int(np.sort(intervals_ticks)[len(intervals_ticks) // 2])
    return (60 * TICKS_HZ + median // 2) // median


def window_stop(number: int, sampling_rate_hz: Fraction) -> int:
    """Index of the first sample after the window ``number``, from 1: the first at or after ``number * WINDOW_S`` s."""
    return -(-number * WINDOW_S * sampling_rate_hz.numerator // sampling_rate_hz.denominator)


def _windows(samples_uv: NDArray[np.int32], rate: Fraction) -> Iterator[NDArray[np.int32]]:
    """Consecutive windows, cut by ``window_stop``; one, if empty, for no samples."""
    first = 0
    number = 0
    while first < len(samples_uv) or not number:
        number += 1
        stop = window_stop(number, rate)
        yield samples_uv[first:stop]
        first = stop


def _judge(
    model: Model,
    steps: Sequence[StepOutput],
    *,
    seconds: int,
    usable_s: int,
    quality: Quality,
    rate_bpm: int | None,
) -> WindowAnalysis:
    pooled = [step.logits for step in steps if not step.quality & _NOT_POOLED]
    logits = _pool(model, pooled)
    rhythm = _highest(logits)
    probability = model.manifest.probability
    shares = permilles(logits, probability.octave_numerator, probability.octave_denominator)
    confidence = shares[rhythm] if pooled else 0
    if len(steps) < MIN_STEPS:
        reason = InconclusiveReason.TOO_SHORT
    elif (
        len(pooled) < MIN_STEPS
        or len(pooled) * 100 < len(steps) * MIN_USABLE_PERCENT
        or usable_s * 100 < seconds * MIN_USABLE_PERCENT
        or rhythm is Rhythm.NOISE
    ):
        reason = InconclusiveReason.POOR_SIGNAL
    elif rate_bpm is not None and not MIN_RATE_BPM <= rate_bpm <= MAX_RATE_BPM:
        reason = InconclusiveReason.RATE_OUT_OF_RANGE
    elif confidence < probability.low_confidence_permille:
        reason = InconclusiveReason.LOW_CONFIDENCE
    else:
        reason = InconclusiveReason.NONE
    return WindowAnalysis(
        len(pooled), seconds, usable_s, quality, rate_bpm, logits, rhythm, confidence, reason, tuple(steps)
    )


def _pool(model: Model, seconds: Sequence[Sequence[int]]) -> tuple[int, int, int, int]:
    """Pooled integer logits; the formula is in the module's docstring."""
    n = len(seconds)
    if not n:
        return (0, 0, 0, 0)
    zero = model.manifest.outputs[0].zero_point
    logits = []
    for label in range(CLASSES):
        total = sum(values[label] for values in seconds)
        logit = (LOGIT_UNITY * (total - n * zero) + n // 2) // n
        logits.append(logit)
    return (logits[0], logits[1], logits[2], logits[3])


def _highest(logits: Sequence[int]) -> Rhythm:
    return Rhythm(logits.index(max(logits)))
