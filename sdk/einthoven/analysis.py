"""From samples to a verdict on one window: front end, model steps, and what the beats say. Pure.

Every second the model gives four int8 logits, one a class. Those of the seconds that count are brought to 1/1024 octave
(``manifest.probability``), and together with the window's beats they are described (``window_features``) and judged
(``verdict``). A record of several windows is judged as if they were one, ``MERGED_WINDOWS`` at a time.

It deliberately does not store, time-stamp or name anything, and makes no risk tier: the session does.

Invariants:
    1. An analysis is a pure function of (model, front end, samples, rate); chunking changes nothing.
    2. Raw flags (``einthoven.quality``) go with each step as it happens; the noise of a window's seconds is judged when
       it ends (``window_beats``), and less than half of them usable makes the verdict inconclusive.
    3. A second with ``GAP`` or ``FLAT`` passes through the model, whose state goes on, but does not count.
    4. A window whose median heart rate is outside ``MIN_RATE_BPM`` to ``MAX_RATE_BPM`` gets no class: it is no heart,
       or the sampling rate is not what it was said to be. Nor does one that is unlike all that was trained on.
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

from einthoven.frontend import FrontEnd
from einthoven.model_manifest import CLASSES, Model
from einthoven.quality import QualityMeter
from einthoven.resampling import FrontEndCoefficients, ResamplerTable
from einthoven.results import InconclusiveReason, Quality, Rhythm
from einthoven.verdict import Logits, Opinion
from einthoven.window_beats import WindowBeats, look_at_window
from einthoven.window_features import WindowView, merged, window_features

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
MERGED_WINDOWS = 4
"""Windows of a record that are described together: two minutes. Longer records are means of such parts."""
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
        n_steps: Seconds that the verdict rests on.
        seconds: Whole seconds of raw signal.
        usable_s: Those without any quality flag.
        quality: Union of their flags.
        heart_rate_bpm: Median heart rate, rounded; ``None`` with too few intervals.
        logits: Calibrated integer logits of N, A, O, ~ in 1/1024 octave; zeros where no second counts.
        rhythm: Class with the highest logit, the first of equals; ``NOISE`` where no second counts.
        confidence_permille: Its calibrated probability in 1/1000; 0 where no second counts.
        prediction_set: Classes that can't be ruled out (``verdict``); empty where no second counts.
        outlyingness: How unlike the training windows it is (``verdict``).
        reason: Why the verdict is inconclusive, else ``NONE``.
        steps: Every second that went through the model, in order.
    """

    n_steps: int
    seconds: int
    usable_s: int
    quality: Quality
    heart_rate_bpm: int | None
    logits: Logits
    rhythm: Rhythm
    confidence_permille: int
    prediction_set: tuple[Rhythm, ...]
    outlyingness: int
    reason: InconclusiveReason
    steps: tuple[StepOutput, ...]


@dataclass(frozen=True, slots=True)
class RecordAnalysis:
    """The verdict on a whole record.

    Attributes:
        windows: One a window of ``WINDOW_S`` seconds; the last may be shorter.
        verdict: Over all of them as if they were one.
    """

    windows: tuple[WindowAnalysis, ...]
    verdict: WindowAnalysis


@dataclass(frozen=True, slots=True)
class Observed:
    """A window before it is judged.

    Attributes:
        steps: Every second that went through the model, in order.
        beats: What was found in its signal.
        view: Both, as far as a verdict rests on them.
    """

    steps: tuple[StepOutput, ...]
    beats: WindowBeats
    view: WindowView


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

    def observe(self) -> Observed:
        """What a verdict on what was pushed rests on; steps that lack look-ahead are left out."""
        samples = np.concatenate([np.zeros(0, np.int32), *self._pieces])
        beats = look_at_window(_table(self._model.coefficients, self._rate), samples, self._rate)
        return Observed(tuple(self._steps), beats, view_of(self._model, self._steps, beats))

    def finish(self) -> WindowAnalysis:
        """The verdict on what was pushed."""
        return decide(self._model, [self.observe()])


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
    observed = list(observe_record(model, runner, samples_uv, sampling_rate_hz))
    return RecordAnalysis(tuple(decide(model, [window]) for window in observed), decide(model, observed))


def observe_record(
    model: Model, runner: Runner, samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction
) -> Iterator[Observed]:
    """Cut a record into windows of ``WINDOW_S`` seconds and see what is in each.

    Raises:
        SamplingRateError: A rate outside 100-1000 Hz.
    """
    for piece in _windows(samples_uv, sampling_rate_hz):
        analyzer = WindowAnalyzer(model, runner, sampling_rate_hz)
        analyzer.push(piece)
        yield analyzer.observe()


def view_of(model: Model, steps: Sequence[StepOutput], beats: WindowBeats) -> WindowView:
    """What a verdict rests on, of a window's seconds and beats."""
    probability = model.manifest.probability
    counted = [step.logits for step in steps if not step.quality & _NOT_POOLED]
    logits = np.array(counted, np.int64).reshape(-1, CLASSES) - model.manifest.outputs[0].zero_point
    return WindowView(
        logits=logits * probability.octave_numerator // probability.octave_denominator,
        at_ticks=beats.at_ticks,
        after_gap=beats.after_gap,
        amplitudes_uv=beats.amplitudes_uv,
        scores=beats.scores,
        classes=beats.classes,
        resampled=beats.resampled,
    )


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


def decide(model: Model, windows: Sequence[Observed]) -> WindowAnalysis:
    """Judge consecutive windows as one."""
    flags = np.concatenate([window.beats.flags for window in windows])
    views = [window.view for window in windows]
    rates = sorted(rate for window in windows if (rate := window.beats.median_rate_bpm) is not None)
    rate_bpm = rates[len(rates) // 2] if rates else None
    steps = tuple(step for window in windows for step in window.steps)
    counted = sum(len(view.logits) for view in views)
    usable_s = int(np.count_nonzero(flags == 0))
    opinion = judge_views(model, views)
    return WindowAnalysis(
        n_steps=counted,
        seconds=len(flags),
        usable_s=usable_s,
        quality=Quality(int(np.bitwise_or.reduce(flags))),
        heart_rate_bpm=rate_bpm,
        logits=opinion.logits if counted else (0, 0, 0, 0),
        rhythm=opinion.rhythm if counted else Rhythm.NOISE,
        confidence_permille=opinion.permilles[opinion.rhythm] if counted else 0,
        prediction_set=opinion.prediction_set if counted else (),
        outlyingness=opinion.outlyingness,
        reason=_reason(len(steps), counted, len(flags), usable_s, rate_bpm, opinion),
        steps=steps,
    )


def judge_views(model: Model, views: Sequence[WindowView]) -> Opinion:
    """The verdict's tables on consecutive windows, ``MERGED_WINDOWS`` at a time; parts count by their seconds."""
    parts = [merged(views[i : i + MERGED_WINDOWS]) for i in range(0, len(views), MERGED_WINDOWS)]
    opinions = [_opinion(model, part) for part in parts]
    if len(opinions) == 1:
        return opinions[0]
    weights = [len(part.logits) for part in parts]
    total = max(sum(weights), 1)

    def mean(values: Sequence[int]) -> int:
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) // total

    means = [mean([opinion.logits[label] for opinion in opinions]) for label in range(CLASSES)]
    distance = mean([opinion.outlyingness for opinion in opinions])
    return model.verdict.of_logits((means[0], means[1], means[2], means[3]), distance)


def _opinion(model: Model, view: WindowView) -> Opinion:
    means = view.logits.sum(axis=0) // max(len(view.logits), 1)
    return model.verdict.opinion(window_features(view), means.tolist())


def _reason(
    steps: int, counted: int, seconds: int, usable_s: int, rate_bpm: int | None, opinion: Opinion
) -> InconclusiveReason:
    """The first reason that applies, the plainest first."""
    if steps < MIN_STEPS:
        return InconclusiveReason.TOO_SHORT
    if (
        counted < MIN_STEPS
        or counted * 100 < steps * MIN_USABLE_PERCENT
        or usable_s * 100 < seconds * MIN_USABLE_PERCENT
        or opinion.rhythm is Rhythm.NOISE
    ):
        return InconclusiveReason.POOR_SIGNAL
    if rate_bpm is not None and not MIN_RATE_BPM <= rate_bpm <= MAX_RATE_BPM:
        return InconclusiveReason.RATE_OUT_OF_RANGE
    if opinion.out_of_distribution:
        return InconclusiveReason.OUT_OF_DISTRIBUTION
    if opinion.af_open:
        return InconclusiveReason.LOW_CONFIDENCE
    return InconclusiveReason.NONE


def _highest(logits: Sequence[int]) -> Rhythm:
    return Rhythm(logits.index(max(logits)))
