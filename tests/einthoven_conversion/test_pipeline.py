"""The whole way on a tiny synthetic set: recordings in, a verified int8 model out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

pytest.importorskip("tensorflow", reason="needs TensorFlow (extra 'conversion')", exc_type=ImportError)
pytest.importorskip("scipy", reason="needs SciPy (extra 'conversion')")

from einthoven.analysis import analyze_record
from einthoven.errors import ModelUnverified
from einthoven.models import Model, load_model
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.datasets import open_dataset, read_signals
from einthoven_conversion.errors import DatasetCorrupt, TrainingFailed
from einthoven_conversion.pipeline import make_jobs, representative_windows, to_int8, train_and_ship
from einthoven_conversion.recipe import Layer, Recipe
from einthoven_conversion.signing import public_half, sign_folder
from einthoven_conversion.verdict.forest import ForestRecipe

pytestmark = pytest.mark.timeout(600)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TINY = Recipe(
    layers=(
        Layer(channels=8, kernel=16, stride=8),
        Layer(channels=8, kernel=5, stride=4),
        Layer(channels=8, kernel=3, dilation=2),
        Layer(channels=8, kernel=4, stride=4),
    ),
    epochs=2,
    batch=8,
    window_s=8,
    statistics_batches=2,
    representative_windows=4,
)
TAUGHT = replace(TINY, teacher=TINY, distillation=0.5, sparsity=0.5, lead_off_probability=0.2)
"""As the shipped one is made: a network that learns from another, with half of its weights."""


@pytest.fixture(scope="module")
def data(make_dataset: Callable[..., Path]) -> Path:
    return make_dataset(48)


@pytest.fixture(scope="module")
def shipped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model trained on the synthetic set."""
    root = tmp_path_factory.mktemp("shipped")
    train_and_ship(data, "cinc2017", root / "out", root / "work", TAUGHT, 1, lambda line: None)
    with pytest.raises(ModelUnverified, match="not signed"):
        load_model("rhythm", root / "out")
    sign_folder(root / "out", [KEY])
    return root / "out"


def load(folder: Path) -> Model:
    return load_model("rhythm", folder, trusted_keys=[public_half(KEY)])


def test_what_is_shipped_loads_and_runs(data: Path, shipped: Path) -> None:
    model = load(shipped)
    folder, records = open_dataset(data, "cinc2017")
    _, samples_uv = next(iter(read_signals(folder, records)))
    record = analyze_record(model, LiteRtRunner(model), samples_uv, records[0].sampling_rate_hz)
    assert record.verdict.n_steps >= 8


def test_the_verdict_that_ships_was_fitted_and_is_named(shipped: Path) -> None:
    model, content = load(shipped), (shipped / "verdict.json").read_bytes()
    assert model.manifest.parts["verdict.json"] == hashlib.sha256(content).hexdigest()
    tables = model.verdict.tables
    assert tables.trees.count > 0
    assert tables.recipe["forest"] == ForestRecipe().as_json()
    assert tables.metrics["n"] == sum(tables.sets.n) == 48
    assert model.manifest.recipe["teacher"]["epochs"] == TINY.epochs


def test_scales_are_the_ones_the_sdk_relies_on(shipped: Path) -> None:
    manifest = load(shipped).manifest
    assert (manifest.inputs[0].scale, manifest.inputs[0].zero_point) == (1 / 64, 0)
    assert manifest.inputs[2].scale == pytest.approx(6 / 255)
    assert manifest.inputs[2].zero_point == -128
    assert [tensor.shape for tensor in manifest.inputs[1:]] == [tensor.shape for tensor in manifest.outputs[1:]]


def test_state_is_what_the_layers_need(shipped: Path) -> None:
    manifest = load(shipped).manifest
    channels = [1, 8, 8, 8]
    wanted = [layer.context * inputs for layer, inputs in zip(TINY.layers, channels, strict=True)]
    assert [tensor.shape[1] for tensor in manifest.inputs[1:]] == [wanted[0], sum(wanted[1:])]


def test_card_and_report_say_only_what_was_measured(shipped: Path) -> None:
    manifest = json.loads((shipped / "rhythm.json").read_text(encoding="utf-8"))
    report = json.loads((shipped / "rhythm.folds.json").read_text(encoding="utf-8"))
    assert report["n"] == 48
    assert manifest["metrics"]["figures"] == report["figures"]
    assert {figure["n"] <= 48 for figure in report["figures"]} == {True}
    assert manifest["recipe"]["records"]["n"] == 48
    assert "48 records" in (shipped / "rhythm.md").read_text(encoding="utf-8")
    assert not list(shipped.glob(".*"))


def test_int8_steps_follow_the_float_network(data: Path, shipped: Path) -> None:
    """The streaming int8 graph against the float network over whole windows: the state is right, or this fails."""
    from einthoven_conversion.architecture import features, initial_weights

    job = make_jobs(data, "cinc2017", shipped, TINY, everything=True)[-1]
    weights = initial_weights(TINY, np.random.default_rng(5))
    for i, layer in enumerate(TINY.layers):
        weights[f"mean_{i}"] = np.zeros(layer.channels, np.float32)
        weights[f"variance_{i}"] = np.ones(layer.channels, np.float32)
    model = to_int8(job, weights)
    runner = LiteRtRunner(model)
    signal = representative_windows(job.folder, job.records[:1], job.coefficients)[0][None]
    statistics = [(weights[f"mean_{i}"], weights[f"variance_{i}"]) for i in range(len(TINY.layers))]
    wanted, _ = features(signal.astype(np.float32), weights, TINY, statistics)
    wanted = (wanted @ weights["head_kernel"] + weights["head_offset"]).numpy()[0]
    output = model.manifest.outputs[0]
    state = runner.initial_state()
    for second in range(signal.shape[1]):
        logits, state = runner.step(signal[0, second], state)
        found = (logits.astype(float) - output.zero_point) * output.scale
        assert np.abs(found - wanted[second]).max() < 0.1 * np.abs(wanted).max() + 2 * output.scale, second


def test_a_finished_training_is_not_done_again(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    first = train_and_ship(data, "cinc2017", tmp_path / "a", tmp_path / "work", TINY, 1, lines.append)
    trained = sum("trained" in line for line in lines)
    lines.clear()
    again = train_and_ship(data, "cinc2017", tmp_path / "b", tmp_path / "work", TINY, 1, lines.append)
    assert (trained, sum("trained" in line for line in lines)) == (3, 0)
    assert again.digest == first.digest


@pytest.mark.slow
def test_same_recipe_same_digest_in_processes_of_their_own(data: Path, shipped: Path, tmp_path: Path) -> None:
    model = train_and_ship(data, "cinc2017", tmp_path / "out", tmp_path / "work", TAUGHT, 2, lambda line: None)
    assert model.digest == load(shipped).digest


def test_without_folds_there_is_no_training(make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetCorrupt, match="no folds"):
        train_and_ship(make_dataset(8, folds=None), "cinc2017", tmp_path / "out", tmp_path, TINY, 1, lambda line: None)
    assert not (tmp_path / "out").exists()


def test_too_few_records_are_refused(make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    big = replace(TINY, batch=64)
    with pytest.raises(TrainingFailed, match="fewer than a batch"):
        train_and_ship(make_dataset(8), "cinc2017", tmp_path / "out", tmp_path / "work", big, 1, lambda line: None)
    assert not (tmp_path / "out").exists()
