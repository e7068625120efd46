"""From samples to a window's verdict: pooling, refusals, chunking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from einthoven.verdict import Verdict
from einthoven.verdict_tables import PredictionSets, pack
from einthoven.window_features import FEATURES
from einthoven_conversion.verdict.cross_fitting import untrained

RATE = Fraction(300)
MODEL = load_model()
RUNNER = LiteRtRunner(MODEL)
OCTAVE = msgspec.structs.replace(
    MODEL.manifest,
    outputs=(msgspec.structs.replace(MODEL.manifest.outputs[0], zero_point=0), *MODEL.manifest.outputs[1:]),
    probability=msgspec.structs.replace(MODEL.manifest.probability, octave_numerator=1024, octave_denominator=1),
)
"""A count of the output is a factor of two."""


def with_output(zero_point: int = 0, **tables: object) -> Model:
    """A model for a scripted runner: its verdict hands the mean of the seconds' logits on, in counts."""
    manifest = MODEL.manifest
    output = msgspec.structs.replace(manifest.outputs[0], zero_point=zero_point)
    probability = msgspec.structs.replace(manifest.probability, octave_numerator=1, octave_denominator=1)
    changed = msgspec.structs.replace(manifest, outputs=(output, *manifest.outputs[1:]), probability=probability)
    return replace(MODEL, manifest=changed, verdict=Verdict(msgspec.structs.replace(untrained(), **tables)))


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


def test_the_mean_is_above_the_zero_point_and_rounded_down() -> None:
    analysis = scripted(lambda second: (second, -second, 7, -3), heart(30), with_output(zero_point=-3))
    n = analysis.n_steps
    assert n == 28
    total = sum(range(n))
    wanted = [(value + 3 * n) // n for value in (total, -total, 7 * n, -3 * n)]
    assert analysis.logits == tuple(wanted)
    assert analysis.logits[3] == 0
    assert analysis.rhythm is Rhythm.NORMAL


def test_a_zero_point_of_zero_is_a_zero_point() -> None:
    """Public code has been seen to skip quantization where the zero point is 0."""
    analysis = scripted(lambda _: (5, 0, 0, 0), heart(30), with_output(zero_point=0))
    assert analysis.logits == (5, 0, 0, 0)


@pytest.mark.parametrize(("value", "wanted"), [(127, 127 * 1478), (-128, -128 * 1478)])
def test_extremes_do_not_wrap(value: int, wanted: int) -> None:
    model = with_output()
    loud = msgspec.structs.replace(model.manifest.probability, octave_numerator=1478)
    model = replace(model, manifest=msgspec.structs.replace(model.manifest, probability=loud))
    assert scripted(lambda _: (value, 0, 0, 0), heart(30), model).logits[0] == wanted


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
    assert analysis.logits == (0, 0, 1, 0)
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


def test_while_af_is_open_there_is_no_verdict() -> None:
    model = with_output(af_possible_permille=200, af_certain_permille=600)
    opened = scripted(lambda _: (1, 1, 1, 1), heart(30), model)
    assert opened.reason is InconclusiveReason.LOW_CONFIDENCE
    assert opened.rhythm is Rhythm.NORMAL
    model = replace(model, manifest=OCTAVE)
    ruled_out = scripted(lambda _: (3, -3, 3, 0), heart(30), model)
    assert (ruled_out.reason, ruled_out.rhythm) == (InconclusiveReason.NONE, Rhythm.NORMAL)
    assert ruled_out.confidence_permille == 468  # 8 of 17 1/8, and what rounding left: normal or other stays open
    ruled_in = scripted(lambda _: (0, 9, 0, 0), heart(30), model)
    assert (ruled_in.reason, ruled_in.rhythm) == (InconclusiveReason.NONE, Rhythm.AF)


def test_a_class_that_cant_be_ruled_out_is_in_the_set() -> None:
    sets = PredictionSets(coverage_permille=900, least_permille=(0, 300, 1001, 1001), n=(9, 9, 9, 9))
    model = replace(with_output(sets=sets), manifest=OCTAVE)
    seen = scripted(lambda _: (0, 1, 2, 0), heart(30), model)  # 1, 2, 4 and 1 of 8
    assert seen.prediction_set == (Rhythm.NORMAL, Rhythm.OTHER)
    empty = analyze_window(model, RUNNER, np.zeros(0, np.int32), RATE)
    assert empty.prediction_set == ()
    assert empty.rhythm is Rhythm.NOISE


def test_what_is_unlike_all_training_is_out_of_distribution() -> None:
    strange = msgspec.structs.replace(untrained().outlyingness, center=(3000,) * FEATURES, limit=1000)
    along = np.full((1, FEATURES), 10, np.int64)
    strange = msgspec.structs.replace(strange, directions=pack(along, "i1"), k=1)
    analysis = scripted(lambda _: (9, 0, 0, 0), heart(30), with_output(outlyingness=strange))
    assert analysis.outlyingness > 1000
    assert analysis.reason is InconclusiveReason.OUT_OF_DISTRIBUTION
    wide = msgspec.structs.replace(strange, limit=2**31 - 1)
    assert scripted(lambda _: (9, 0, 0, 0), heart(30), with_output(outlyingness=wide)).reason is InconclusiveReason.NONE


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


def test_a_record_is_judged_as_one_two_minutes_at_a_time() -> None:
    model = with_output()
    record = analyze_record(model, ScriptedRunner(lambda second: (second, 0, 0, 0)), heart(45), RATE)
    seconds = [*range(28), *range(13)]
    assert record.verdict.logits[0] == sum(seconds) // len(seconds)
    long = analyze_record(model, ScriptedRunner(lambda second: (second, 0, 0, 0)), heart(150), RATE)
    means = [sum(range(28)) // 28, sum(range(28)) // 28]
    assert long.verdict.logits[0] == (4 * 28 * means[0] + 28 * means[1]) // (5 * 28)
    assert long.verdict.n_steps == 5 * 28


def test_windows_of_a_fractional_rate_lose_no_sample() -> None:
    rate = Fraction("512.617")
    samples = np.random.default_rng(0).integers(-900, 900, int(rate * 61)).astype(np.int32)
    record = analyze_record(MODEL, RUNNER, samples, rate)
    assert len(record.windows) == 3
    assert sum(window.seconds for window in record.windows) in (60, 61)
