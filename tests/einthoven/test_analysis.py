"""From samples to a window's verdict: pooling, refusals, chunking."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.analysis import (
    MIN_STEPS,
    WINDOW_S,
    RecordAnalysis,
    State,
    WindowAnalysis,
    WindowAnalyzer,
    analyze_record,
    analyze_window,
)
from einthoven.models import Model, load_model
from einthoven.ports import MISSING_UV
from einthoven.results import InconclusiveReason, Quality, Rhythm
from einthoven.runner_litert import LiteRtRunner

RATE = Fraction(300)
MODEL = load_model()
RUNNER = LiteRtRunner(MODEL)


def with_output(zero_point: int = 0, low_confidence_permille: int = 0) -> Model:
    """The shipped model's manifest with another output zero point and threshold, for a scripted runner."""
    manifest = MODEL.manifest
    output = msgspec.structs.replace(manifest.outputs[0], zero_point=zero_point)
    probability = msgspec.structs.replace(manifest.probability, low_confidence_permille=low_confidence_permille)
    changed = msgspec.structs.replace(manifest, outputs=(output, *manifest.outputs[1:]), probability=probability)
    return Model(MODEL.content, changed, MODEL.digest, MODEL.coefficients)


class ScriptedRunner:
    """Answers what a function of the second's index says; its state counts seconds."""

    def __init__(self, script: Callable[[int], tuple[int, int, int, int]]) -> None:
        self._script = script

    def initial_state(self) -> State:
        return (np.zeros(1, np.int8),)

    def step(self, signal: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        assert signal.shape == (128,)
        assert signal.dtype == np.int8
        return np.array(self._script(int(state[0][0])), np.int8), (state[0] + np.int8(1),)


def heart(seconds: float, seed: int = 0) -> np.ndarray:
    """Something with beats: pulses of 900 uV at 70 a minute with noise."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 15, int(seconds * 300))
    for peak in np.arange(0.4, seconds - 0.1, 60 / 70):
        place = int(peak * 300)
        samples[place - 8 : place + 8] += 900 * np.hanning(16)[: len(samples[place - 8 : place + 8])]
    return samples.astype(np.int32)


def scripted(script: Callable[[int], tuple[int, int, int, int]], samples: np.ndarray, model: Model) -> WindowAnalysis:
    return analyze_window(model, ScriptedRunner(script), samples, RATE)


def test_pooling_is_the_rounded_mean_above_the_zero_point() -> None:
    analysis = scripted(lambda second: (second, -second, 7, -3), heart(30), with_output(zero_point=-3))
    n = analysis.n_steps
    assert n == 28
    total = sum(range(n))
    wanted = [(256 * (value + 3 * n) + n // 2) // n for value in (total, -total, 7 * n, -3 * n)]
    assert analysis.logits == tuple(wanted)
    assert analysis.logits[3] == 0
    assert analysis.rhythm is Rhythm.NORMAL


def test_a_zero_point_of_zero_is_a_zero_point() -> None:
    """Public code has been seen to skip quantization where the zero point is 0."""
    analysis = scripted(lambda _: (5, 0, 0, 0), heart(30), with_output(zero_point=0))
    assert analysis.logits == (5 * 256, 0, 0, 0)


@pytest.mark.parametrize(("value", "wanted"), [(127, 127 * 256), (-128, -128 * 256)])
def test_extremes_do_not_wrap(value: int, wanted: int) -> None:
    analysis = scripted(lambda _: (value, 0, 0, 0), heart(30), with_output())
    assert analysis.logits[0] == wanted


def test_each_second_explains_itself() -> None:
    classes = [(9, 0, 0, 0), (0, 9, 0, 0), (0, 0, 9, 0), (0, 0, 0, 9)]
    analysis = scripted(lambda second: classes[second % 4], heart(30), with_output())
    assert [step.rhythm for step in analysis.steps[:4]] == list(Rhythm)
    assert [step.index for step in analysis.steps] == list(range(28))


def test_seconds_with_a_gap_or_a_flat_line_do_not_enter_the_pool() -> None:
    samples = heart(30)
    samples[4 * 300 : 5 * 300] = MISSING_UV
    samples[9 * 300 : 10 * 300] = 0
    analysis = scripted(lambda second: (0, 0, 99 if second in (4, 9) else 1, 0), samples, with_output())
    assert analysis.steps[4].quality is Quality.GAP
    assert analysis.steps[9].quality is Quality.FLAT
    assert analysis.quality == Quality.GAP | Quality.FLAT
    assert (analysis.n_steps, analysis.seconds, analysis.usable_s) == (26, 30, 28)
    assert analysis.logits == (0, 0, 256, 0)
    assert analysis.reason is InconclusiveReason.NONE


def test_a_short_window_gets_no_verdict() -> None:
    needed = MIN_STEPS + 1.2
    assert scripted(lambda _: (9, 0, 0, 0), heart(needed - 0.2), with_output()).reason is InconclusiveReason.TOO_SHORT
    assert scripted(lambda _: (9, 0, 0, 0), heart(needed), with_output()).reason is InconclusiveReason.NONE


def test_an_empty_window_gets_no_verdict() -> None:
    analysis = analyze_window(MODEL, RUNNER, np.zeros(0, np.int32), RATE)
    assert analysis.reason is InconclusiveReason.TOO_SHORT
    assert (analysis.n_steps, analysis.seconds, analysis.logits) == (0, 0, (0, 0, 0, 0))
    assert analysis.confidence_permille == 0


def test_less_than_half_usable_is_poor_signal() -> None:
    samples = heart(30)
    samples[: 16 * 300] = MISSING_UV
    analysis = scripted(lambda _: (99, 0, 0, 0), samples, with_output())
    assert analysis.reason is InconclusiveReason.POOR_SIGNAL


def test_noise_as_the_class_is_poor_signal() -> None:
    assert scripted(lambda _: (0, 0, 0, 9), heart(30), with_output()).reason is InconclusiveReason.POOR_SIGNAL


def test_under_the_threshold_is_low_confidence() -> None:
    close = scripted(lambda _: (1, 1, 1, 0), heart(30), with_output(low_confidence_permille=999))
    assert close.reason is InconclusiveReason.LOW_CONFIDENCE
    assert close.rhythm is Rhythm.NORMAL
    sure = scripted(lambda _: (127, -128, -128, -128), heart(30), with_output(low_confidence_permille=999))
    assert (sure.reason, sure.confidence_permille) == (InconclusiveReason.NONE, 1000)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(9000, np.int32),
        np.full(9000, MISSING_UV, np.int32),
        np.full(9000, 2**31 - 1, np.int32),
        np.tile(np.array([2**31 - 1, -(2**31) + 1], np.int32), 4500),
        np.repeat(np.tile(np.array([5000, -5000], np.int32), 30), 150),
    ],
    ids=["flat", "never received", "stuck at the limit", "full-scale square", "clipped square"],
)
def test_no_heart_no_confident_class(samples: np.ndarray) -> None:
    analysis = analyze_window(MODEL, RUNNER, samples, RATE)
    assert analysis.reason is InconclusiveReason.POOR_SIGNAL
    assert analysis.usable_s == 0


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([Fraction(300), Fraction(130), Fraction("512.617")]), st.integers(0, 2**32), st.data())
def test_same_bits_in_any_chunking(rate: Fraction, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.integers(-2000, 2000, int(rate * 9)).astype(np.int32)
    start = int(rng.integers(len(samples)))
    samples[start : start + 200] = rng.choice([MISSING_UV, 0])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=30)))
    analyzer = WindowAnalyzer(MODEL, RUNNER, rate)
    steps = [step for piece in np.split(samples, cuts) for step in analyzer.push(piece)]
    whole = analyze_window(MODEL, RUNNER, samples, rate)
    assert analyzer.finish() == whole
    assert tuple(steps) == whole.steps


def test_a_record_is_windows_of_30_s_and_a_shorter_rest() -> None:
    record = analyze_record(MODEL, RUNNER, heart(70), RATE)
    assert [window.seconds for window in record.windows] == [WINDOW_S, WINDOW_S, 10]
    assert record.verdict.seconds == 70
    assert record.verdict.n_steps == sum(window.n_steps for window in record.windows)


def test_each_window_of_a_record_stands_alone() -> None:
    samples = heart(60)
    record = analyze_record(MODEL, RUNNER, samples, RATE)
    assert record.windows[1] == analyze_window(MODEL, RUNNER, samples[9000:], RATE)


def test_a_record_of_one_window_has_that_windows_verdict() -> None:
    samples = heart(25)
    window = analyze_window(MODEL, RUNNER, samples, RATE)
    assert analyze_record(MODEL, RUNNER, samples, RATE) == RecordAnalysis((window,), window)


def test_a_records_logits_pool_every_second_alike() -> None:
    model = with_output()
    record = analyze_record(model, ScriptedRunner(lambda second: (second, 0, 0, 0)), heart(45), RATE)
    seconds = [*range(28), *range(13)]
    n = len(seconds)
    assert record.verdict.logits[0] == (256 * sum(seconds) + n // 2) // n


def test_windows_of_a_fractional_rate_lose_no_sample() -> None:
    rate = Fraction("512.617")
    samples = np.random.default_rng(0).integers(-900, 900, int(rate * 61)).astype(np.int32)
    record = analyze_record(MODEL, RUNNER, samples, rate)
    assert len(record.windows) == 3
    assert sum(window.seconds for window in record.windows) in (60, 61)
