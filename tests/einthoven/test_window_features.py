"""What is said of a window in numbers: bounded, the same either way up, and right where it can be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.analysis import WindowAnalyzer
from einthoven.models import load_model
from einthoven.ports import MISSING_UV
from einthoven.resampling import MAX_AMPLITUDE_UV, ResamplerTable
from einthoven.results import BeatClass, Rhythm
from einthoven.runner_litert import LiteRtRunner
from einthoven.simulator import SimulatedRhythm, simulate
from einthoven.window_beats import MIN_RATE_INTERVALS, WindowBeats, look_at_window
from einthoven.window_features import (
    CLASSES,
    FEATURES,
    HEIGHT,
    INTERVALS,
    LEAST_INTERVALS,
    LIMIT,
    SECONDS,
    SHAPE,
    WindowView,
    merged,
    window_features,
)

RATE = Fraction(300)
MODEL = load_model()
TABLE = ResamplerTable(MODEL.coefficients, RATE)
OF_INTERVALS = slice(SECONDS, SECONDS + INTERVALS)
OF_SHAPE = slice(SECONDS + INTERVALS, SECONDS + INTERVALS + SHAPE)
OF_CLASSES = slice(FEATURES - CLASSES, FEATURES)


def simulated(**options: object) -> np.ndarray:
    settings_ = {"duration_s": 30.0, "sampling_rate_hz": RATE, "seed": 3, "heart_rate_bpm": 70.0} | options
    return simulate(SimulatedRhythm(**settings_)).samples_uv  # type: ignore[arg-type]


def view_of(beats: WindowBeats, logits: np.ndarray | None = None) -> WindowView:
    return WindowView(
        logits=np.zeros((0, 4), np.int64) if logits is None else logits,
        at_ticks=beats.at_ticks,
        after_gap=beats.after_gap,
        amplitudes_uv=beats.amplitudes_uv,
        scores=beats.scores,
        classes=beats.classes,
        resampled=beats.resampled,
    )


def seen(samples_uv: np.ndarray, logits: np.ndarray | None = None) -> WindowView:
    return view_of(look_at_window(TABLE, samples_uv.astype(np.int32), RATE), logits)


def view_at(at_ticks: list[int], *, gaps: list[int] | None = None, seconds: int = 30) -> WindowView:
    """Beats at given times on a signal that never moves."""
    k = len(at_ticks)
    after_gap = np.zeros(k, np.bool_)
    after_gap[gaps or []] = True
    return WindowView(
        logits=np.zeros((0, 4), np.int64),
        at_ticks=np.array(at_ticks, np.int64),
        after_gap=after_gap,
        amplitudes_uv=np.full(k, 1000),
        scores=np.full(k, 255),
        classes=np.zeros(k, np.int64),
        resampled=np.zeros(seconds * 128, np.int64),
    )


RHYTHMS = {
    "normal": {},
    "af": {"af_episodes": ((0.0, 30.0),)},
    "extra beats": {"pvc_at_s": (5.0, 12.0, 19.0), "pac_at_s": (8.0, 24.0)},
}


# --- either way up, and at any gain


@pytest.mark.parametrize("options", RHYTHMS.values(), ids=RHYTHMS)
def test_upside_down_is_the_same_window(options: dict[str, object]) -> None:
    view = seen(simulated(**options))
    turned = replace(view, resampled=-view.resampled, amplitudes_uv=-view.amplitudes_uv)
    difference = np.abs(window_features(view) - window_features(turned))
    assert difference.max() <= 20  # the upper and the lower of two middle values
    assert not difference[OF_INTERVALS].any()
    assert not difference[OF_CLASSES].any()


@pytest.mark.parametrize("options", RHYTHMS.values(), ids=RHYTHMS)
@pytest.mark.parametrize("gain", [2, 5])
def test_gain_changes_the_height_and_nothing_else(options: dict[str, object], gain: int) -> None:
    view = seen(simulated(**options))
    louder = replace(view, resampled=gain * view.resampled, amplitudes_uv=gain * view.amplitudes_uv)
    before, after = window_features(view), window_features(louder)
    assert after[HEIGHT] == gain * before[HEIGHT]
    assert np.abs(np.delete(after - before, HEIGHT)).max() <= 2


def test_a_turned_signal_gives_the_same_rhythm_through_the_detector() -> None:
    samples = simulated()
    up, down = window_features(seen(samples)), window_features(seen(-samples))
    assert np.abs(up[OF_INTERVALS] - down[OF_INTERVALS]).max() <= 40


# --- bounded, whatever comes


@st.composite
def wild_views(draw: st.DrawFn) -> WindowView:
    seconds = draw(st.integers(0, 30))
    k = draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height = draw(st.sampled_from([0, 1, 1_000, 2 * MAX_AMPLITUDE_UV]))
    span = max(seconds * 1024, 1)
    return WindowView(
        logits=rng.integers(-(2**20), 2**20, (draw(st.integers(0, 30)), 4)),
        at_ticks=np.sort(rng.integers(0, span, k)),
        after_gap=rng.random(k) < draw(st.sampled_from([0.0, 0.3, 1.0])),
        amplitudes_uv=rng.integers(-height, height + 1, k),
        scores=rng.integers(0, 256, k),
        classes=rng.integers(0, len(BeatClass), k),
        resampled=rng.integers(-height, height + 1, seconds * 128),
    )


@settings(max_examples=200, deadline=None)
@given(wild_views(), st.integers(1, 4))
def test_values_are_bounded_integers_for_any_window(view: WindowView, copies: int) -> None:
    features = window_features(merged([view] * copies))
    assert features.shape == (FEATURES,)
    assert features.dtype == np.int64
    assert np.abs(features).max() <= LIMIT


def test_the_largest_signal_does_not_wrap() -> None:
    """Beats that are all alike, from one end of the range to the other: likeness is 1, not what is left of a sum."""
    rng = np.random.default_rng(0)
    square = np.tile(np.where(rng.random(128) < 0.4, 1, -1) * 2 * MAX_AMPLITUDE_UV, 30)
    view = replace(view_at([1_024 * i for i in range(1, 29)]), resampled=square)
    features = window_features(view)
    assert features[HEIGHT] == LIMIT
    likeness = features[OF_SHAPE][[3, 4, 5, 6, 8]]
    assert ((likeness == 999) | (likeness == 1000)).all()


# --- little or nothing there


@pytest.mark.parametrize("beats", [[], [5_000]], ids=["no beat", "one beat"])
def test_without_intervals_there_are_zeros(beats: list[int]) -> None:
    features = window_features(view_at(beats))
    assert not features[: OF_SHAPE.stop].any()
    assert features[-1] == len(beats) * 1000 // 30


def test_nothing_at_all_is_all_zeros() -> None:
    assert not window_features(view_at([], seconds=0)).any()


def test_fewer_intervals_than_the_least_are_none() -> None:
    regular = [1_000 + 900 * i for i in range(LEAST_INTERVALS + 1)]
    assert not window_features(view_at(regular[:-1]))[OF_INTERVALS].any()
    assert window_features(view_at(regular))[OF_INTERVALS][-1] == LEAST_INTERVALS


def test_a_gap_is_no_interval() -> None:
    times = [1_024 * i for i in range(1, 9)] + [1_024 * i for i in range(18, 26)]
    across, apart = (window_features(view_at(times, gaps=gaps))[OF_INTERVALS] for gaps in ([], [8]))
    assert (across[-1], apart[-1]) == (15, 14)
    assert across[1] > 0
    assert apart[1] == 0  # every interval that is one is a second long
    assert apart[0] == 60


def test_no_change_is_taken_across_a_gap() -> None:
    """Regular at one rate, a gap, regular at another: no neighbours differ."""
    times = [800 * i for i in range(1, 11)] + [12_000 + 1_200 * i for i in range(10)]
    changes = window_features(view_at(times, gaps=[10]))[OF_INTERVALS]
    assert changes[3] == 0
    assert changes[7:11].tolist() == [0, 0, 0, 0]


def test_two_windows_have_no_interval_between_them() -> None:
    one = view_at([1_024 * i for i in range(1, 29)])
    both = window_features(merged([one, one]))
    alone = window_features(one)
    assert both[OF_INTERVALS][-1] == 2 * alone[OF_INTERVALS][-1]
    kept = [i for i in range(INTERVALS - 1) if i != 25]  # one kind of change, among twice as many
    np.testing.assert_array_equal(both[OF_INTERVALS][kept], alone[OF_INTERVALS][kept])
    assert merged([one]) is one


# --- worked out by hand


def test_a_regular_rhythm_by_hand() -> None:
    values = window_features(view_at([1_024 * i for i in range(1, 29)]))[OF_INTERVALS]
    assert values[0] == 60
    assert not values[1:11].any()
    assert set(values[11:19].tolist()) == {1000}
    assert values[-1] == 27


def test_seconds_by_hand() -> None:
    logits = np.array([[4, 0, 0, 0], [8, 0, 0, 0], [0, 12, 0, 0], [0, 0, 0, 20]]) * 1_000
    values = window_features(replace(view_at([]), logits=logits))[:SECONDS]
    assert values[:4].tolist() == [3_000, 3_000, 0, 5_000]  # means
    assert values[4:8].tolist() == [0, 0, 0, 0]  # lowest quarter
    assert values[8:12].tolist() == [8_000, 12_000, 0, 20_000]  # highest quarter
    assert values[16:20].tolist() == [500, 250, 0, 250]  # seconds won
    assert values[20] == 4


def test_beats_of_the_classes_by_hand() -> None:
    view = view_at([1_024 * i for i in range(1, 11)])
    classes = np.array([0, 1, 1, 0, 2, 2, 2, 0, 3, 0])
    values = window_features(replace(view, classes=classes))[OF_CLASSES]
    assert values.tolist() == [200, 300, 200, 100, 2, 3, 10 * 1000 // 30]


def test_af_is_irregular_and_a_normal_rhythm_is_not() -> None:
    normal, af = (window_features(seen(simulated(**RHYTHMS[name])))[OF_INTERVALS] for name in ("normal", "af"))
    assert af[1] > 2 * normal[1]
    assert af[5] > 2 * normal[5]


# --- the window behind it


def test_a_window_may_come_in_any_pieces() -> None:
    runner = LiteRtRunner(MODEL)
    samples = simulated(**RHYTHMS["extra beats"], gaps=((14.0, 15.5),)).astype(np.int32)
    whole = WindowAnalyzer(MODEL, runner, RATE)
    whole.push(samples)
    wanted = whole.observe()
    rng = np.random.default_rng(1)
    for cuts in (np.sort(rng.integers(0, len(samples), 40)), np.arange(1, 300)):
        analyzer = WindowAnalyzer(MODEL, runner, RATE)
        for piece in np.split(samples, cuts):
            analyzer.push(piece)
        found = analyzer.observe()
        assert found.steps == wanted.steps
        for name in WindowBeats.__slots__:
            np.testing.assert_array_equal(getattr(found.beats, name), getattr(wanted.beats, name))
        np.testing.assert_array_equal(window_features(found.view), window_features(wanted.view))


def test_what_a_window_holds_is_of_one_length() -> None:
    beats = look_at_window(TABLE, simulated().astype(np.int32), RATE)
    assert len(beats.flags) == 30
    assert len(beats.resampled) == 30 * 128
    lengths = {len(getattr(beats, name)) for name in ("at_ticks", "after_gap", "amplitudes_uv", "scores", "classes")}
    assert lengths == {len(beats.at_ticks)}
    assert 30 <= len(beats.at_ticks) <= 40
    assert (np.diff(beats.at_ticks) > 0).all()
    assert not beats.after_gap[1:].any()


@pytest.mark.parametrize("n", [0, 1, 299, 300, 600])
def test_a_short_window_is_looked_at_too(n: int) -> None:
    beats = look_at_window(TABLE, simulated().astype(np.int32)[:n], RATE)
    assert len(beats.flags) == n // 300
    assert beats.median_rate_bpm is None
    assert np.abs(window_features(view_of(beats))).max(initial=0) <= LIMIT


@pytest.mark.parametrize("fill", [0, MISSING_UV, MAX_AMPLITUDE_UV], ids=["flat", "missing", "at the limit"])
def test_a_window_without_a_heart_has_no_rate(fill: int) -> None:
    beats = look_at_window(TABLE, np.full(9_000, fill, np.int32), RATE)
    assert len(beats.at_ticks) == 0
    assert beats.median_rate_bpm is None
    assert not window_features(view_of(beats))[OF_INTERVALS].any()


@pytest.mark.parametrize("rate_bpm", [45.0, 70.0, 120.0])
def test_the_median_rate_is_the_hearts(rate_bpm: float) -> None:
    samples = simulated(heart_rate_bpm=rate_bpm, heart_rate_sd_bpm=0.5)
    found = look_at_window(TABLE, samples.astype(np.int32), RATE).median_rate_bpm
    assert found is not None
    assert abs(found - rate_bpm) <= 2


def test_the_median_rate_leaves_gaps_out() -> None:
    def rate(at_ticks: list[int], gaps: list[int]) -> int | None:
        view = view_at(at_ticks, gaps=gaps)
        return WindowBeats(
            np.zeros(30, np.uint16), view.resampled, view.at_ticks, view.after_gap, view.amplitudes_uv, view.scores,
            view.classes,
        ).median_rate_bpm  # fmt: skip

    assert rate([0, 1_024, 2_048, 3_072], []) == 60
    assert rate([0, 1_024, 2_048, 12_288, 13_312], [3]) == 60
    assert rate([0, 1_024, 2_048, 3_072][:MIN_RATE_INTERVALS], []) is None
    assert rate([0, 1_024, 2_048, 12_288], [3]) is None
    assert rate([0, 600, 1_200, 1_800], []) == round(60 * 1_024 / 600)


def test_a_gap_in_the_signal_is_told_with_the_next_beat() -> None:
    samples = simulated().astype(np.int32)
    samples[3_000:4_500] = MISSING_UV
    beats = look_at_window(TABLE, samples, RATE)
    after = np.flatnonzero(beats.after_gap[1:]) + 1
    assert len(after) == 1
    assert beats.at_ticks[after[0]] >= 15 * 1_024
    assert beats.at_ticks[after[0] - 1] <= 10 * 1_024


def test_classes_in_the_view_are_of_the_wire() -> None:
    beats = look_at_window(TABLE, simulated(**RHYTHMS["extra beats"]).astype(np.int32), RATE)
    assert set(beats.classes.tolist()) <= set(BeatClass)
    assert len(Rhythm) == 4
