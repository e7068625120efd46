"""Fitting the signal quality: labels, noise levels, and integers that say what the floats say."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from einthoven.quality_measures import N_MEASURES
from einthoven.quality_network import AHEAD_S, BEHIND_S, REASONS, USABLE_INDEX, QualityNetwork, read_tables
from einthoven.results import Quality
from einthoven.simulator import SimulatedRhythm, simulate
from einthoven_conversion.errors import DatasetNotFound, TrainingFailed
from einthoven_conversion.signal_quality.evaluating import Outcomes, area_under_curve
from einthoven_conversion.signal_quality.examples import Example, load_examples, save_examples
from einthoven_conversion.signal_quality.exporting import USABLE_MARGIN, encoded, index_limits, quantized
from einthoven_conversion.signal_quality.fitting import FitRecipe, FloatNetwork, fit, with_neighbours
from einthoven_conversion.signal_quality.labels import right_seconds, usable_target
from einthoven_conversion.signal_quality.noise_cases import (
    Noise,
    looped,
    make_case,
    mixed,
    qrs_height_uv,
    scaled_to_snr,
)
from einthoven_conversion.signal_quality.recordings import measured, read_recordings, with_gap

DATA = Path(__file__).parents[3] / "shared" / "data"


def test_a_missed_and_a_false_beat_cost_the_seconds_around_them() -> None:
    reference = np.arange(50, 1_000, 100)  # 100 Hz: at 0.5 s of each second
    assert right_seconds(reference, reference, 100, 10).all()
    missed = right_seconds(np.delete(reference, 4), reference, 100, 10)
    assert np.flatnonzero(~missed).tolist() == [4, 5]
    false = right_seconds(np.sort(np.append(reference, 710)), reference, 100, 10)
    assert np.flatnonzero(~false).tolist() == [6, 7]
    late = reference.copy()
    late[2] += 16
    assert np.flatnonzero(~right_seconds(late, reference, 100, 10)).tolist() == [2, 3]
    assert not right_seconds(np.zeros(0, np.int64), reference, 100, 10).any()


def test_targets_follow_the_detector_between_the_extremes() -> None:
    right = np.array([True, False])
    assert usable_target(99, right).tolist() == [1, 1]
    assert usable_target(12, right).tolist() == [1, 0]
    assert usable_target(0, right)[0] == pytest.approx(0.7)
    assert usable_target(-6, right).tolist() == [0, 0]


def test_noise_has_the_stated_snr() -> None:
    rng = np.random.default_rng(1)
    noise = scaled_to_snr(rng.normal(3, 50, 36_000), 1_000.0, 360, 6.0)
    rms = 1_000 / np.sqrt(8) / 10 ** (6 / 20)
    assert noise.reshape(-1, 360).std(axis=1).mean() == pytest.approx(rms, rel=0.01)


def test_looped_noise_keeps_its_time_scale() -> None:
    wave = np.sin(2 * np.pi * 2 * np.arange(3_600) / 360)
    at_250 = looped(wave, 250, 5_000, 0)
    assert np.abs(np.fft.rfft(at_250)).argmax() == 2 * 5_000 / 250


def test_height_of_the_qrs_complexes() -> None:
    samples = np.zeros(3_000, np.int32)
    beats = np.arange(100, 3_000, 250)
    samples[beats] = 900
    samples[beats + 5] = -100
    assert qrs_height_uv(samples, beats, 300) == 1_000
    assert qrs_height_uv(samples, np.zeros(0, np.int64), 300) == 1_000


def test_the_sum_stays_within_the_front_ends_limit() -> None:
    assert mixed(np.array([0, 0], np.int32), np.array([1e9, -1e9])).tolist() == [2**20 - 1, 1 - 2**20]


@pytest.mark.parametrize("kind", REASONS)
def test_each_case_names_its_reason(kind: Quality) -> None:
    rng = np.random.default_rng(2)
    noise = Noise((rng.normal(size=(2, 3_600)),), rng.normal(size=3_600), rng.normal(size=3_600))
    samples = simulate(SimulatedRhythm(duration_s=20)).samples_uv
    cases = [make_case(kind, samples, 1_000.0, 300, noise, rng) for _ in range(20)]
    assert {REASONS[case.reason] for case in cases} == {kind}
    assert any(case.poor for case in cases)
    assert all(case.samples_uv.shape == samples.shape for case in cases)


def example(group: str, target: float, seed: int, reason: int = -1) -> Example:
    """Sixty seconds whose measures say plainly what they are."""
    rng = np.random.default_rng(seed)
    measures = rng.normal(2_000 + 1_500 * target + 200 * max(reason, 0), 100, (60, N_MEASURES)).astype(np.int16)
    ones = np.ones(60, np.float32)
    return Example(
        group, f"x/{seed}", seed % 5, -1, 99, measures, ones * target, ones, np.full(60, reason, np.int8), ones > 0
    )


def examples() -> list[Example]:
    groups = [("clean", 1.0), ("em", 0.0), ("label", 0.0), ("label", 1.0), ("case", 0.0)]
    return [
        example(group, target, 10 * i + j, j % 4 if group == "case" else -1)
        for i, (group, target) in enumerate(groups)
        for j in range(8)
    ]


def test_examples_survive_being_kept(tmp_path: Path) -> None:
    found = load_examples(_saved(tmp_path))
    for one, other in zip(found, examples(), strict=True):
        assert (one.group, one.name, one.fold, one.piece, one.snr_db) == (
            other.group,
            other.name,
            other.fold,
            other.piece,
            other.snr_db,
        )
        np.testing.assert_array_equal(one.measures, other.measures)
        np.testing.assert_array_equal(one.reason, other.reason)


def _saved(folder: Path) -> Path:
    save_examples(folder / "new" / "examples.npz", examples())
    return folder / "new" / "examples.npz"


def random_network(seed: int) -> FloatNetwork:
    rng = np.random.default_rng(seed)
    window = (BEHIND_S + 1 + AHEAD_S) * N_MEASURES
    sizes = [(window, 8), (8, 6), (6, 1 + len(REASONS))]
    layers = tuple((rng.normal(0, 1 / np.sqrt(a), (a, b)), rng.normal(0, 0.3, b)) for a, b in sizes)
    return FloatNetwork(rng.uniform(1_000, 4_000, N_MEASURES), rng.uniform(200, 900, N_MEASURES), layers)


def test_integers_say_what_the_floats_say() -> None:
    network = random_network(3)
    measures = np.random.default_rng(4).integers(0, 6_000, (60, N_MEASURES)).astype(np.int16)
    joined = with_neighbours(measures)
    scaled = (joined - network.mean) / network.deviation
    x = np.stack([scaled[k : k + BEHIND_S + 1 + AHEAD_S].reshape(-1) for k in range(60)])
    for i, (weights, bias) in enumerate(network.layers):
        x = (np.maximum(x, 0) if i else x) @ weights + bias
    tables = read_tables(encoded(quantized(network, {}, {})))
    index, scores = QualityNetwork(tables).run(joined.astype(np.int64))
    np.testing.assert_allclose(scores / 256, x[:, 1:], atol=0.06)
    np.testing.assert_allclose(index, 100 / (1 + np.exp(USABLE_MARGIN - x[:, 0])), atol=2)


def test_the_threshold_is_where_the_logit_is_zero() -> None:
    limits = index_limits()
    assert limits[USABLE_INDEX - 1] == 0
    assert list(limits) == sorted(set(limits))


def test_area_under_the_curve() -> None:
    assert area_under_curve(np.array([1.0, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert area_under_curve(np.array([1.0, 1, 1, 1]), np.array([False, True, False, True])) == 0.5
    assert area_under_curve(np.array([1.0, 3, 2, 4]), np.array([False, False, True, True])) == 0.75


@pytest.mark.slow
def test_a_fit_learns_what_is_plain_and_is_repeatable() -> None:
    pytest.importorskip("tensorflow")
    recipe = FitRecipe(hidden=(8, 4), steps=150, batch=(4, 4, 4, 4), gain_octaves=0.0)
    networks = [fit(examples(), recipe, lambda line: None) for _ in range(2)]
    first, second = (encoded(quantized(network, {}, {})) for network in networks)
    assert first == second
    outcomes = Outcomes()
    outcomes.add(QualityNetwork(read_tables(first)), examples())
    figures = json.loads(json.dumps(outcomes.as_dict()))
    assert figures["auc"] == 1
    assert figures["seconds"]["x clean"]["usable"] > 0.95
    assert figures["seconds"]["x em 99 dB"]["usable"] < 0.05
    with pytest.raises(TrainingFailed):
        fit(examples()[:8], recipe, lambda line: None)


def test_without_data_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="--data"):
        list(read_recordings(tmp_path, "cinc2017"))


def test_measures_of_a_recording_are_one_a_second() -> None:
    samples = simulate(SimulatedRhythm(duration_s=5.5, sampling_rate_hz=Fraction(250))).samples_uv
    assert measured(samples, 250).shape == (5, N_MEASURES)
    assert measured(with_gap(samples, 100, 300), 250).shape == (5, N_MEASURES)


@pytest.mark.data
def test_reference_beats_come_with_their_recording() -> None:
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data")
    first = next(read_recordings(DATA, "mitdb", least_beats=100))
    assert first.rate_hz == 360
    assert len(first.beats) > 1_000
    assert 0 <= first.beats[0] <= 360
    assert len(first.samples_uv) - 360 <= first.beats[-1] < len(first.samples_uv)
