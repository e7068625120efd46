"""The golden vectors of the shipped model: recomputed from their samples, bit for bit, and complete."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einthoven.analysis import WindowAnalysis
from einthoven.models import load_model
from einthoven.results import InconclusiveReason
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.golden import STATE_BUDGET_BYTES, differences, golden_bytes, golden_document

PATH = Path(__file__).parents[1] / "vectors" / "rhythm_golden.json"
DOCUMENT: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
MODEL = load_model()
RUNNER = LiteRtRunner(MODEL)
MAX_BYTES = 150_000


def test_the_shipped_model_gives_the_golden_vectors() -> None:
    """They are of one model: after training, `einthoven-convert vectors` writes new ones."""
    assert list(differences(MODEL, RUNNER, DOCUMENT)) == []


def test_they_are_small_and_spelled_as_the_command_spells_them() -> None:
    assert PATH.stat().st_size < MAX_BYTES
    assert golden_bytes(DOCUMENT) == PATH.read_bytes()


def test_they_name_the_model_they_are_of() -> None:
    assert DOCUMENT["model"]["manifest_sha256"] == MODEL.digest.hex()
    assert DOCUMENT["model"]["tflite_sha256"] == MODEL.manifest.sha256


def test_they_show_what_a_second_implementation_gets_wrong_first() -> None:
    windows = DOCUMENT["windows"]
    reasons = {window["verdict"]["reason"] for window in windows}
    assert {
        InconclusiveReason.NONE.value,
        InconclusiveReason.TOO_SHORT.value,
        InconclusiveReason.POOR_SIGNAL.value,
    } <= reasons
    assert any(window["missing"] for window in windows)
    assert any("/" in window["sampling_rate_hz"] for window in windows)
    assert max(len(window["steps"]) for window in windows) >= 28


def test_every_field_of_a_verdict_is_there() -> None:
    wanted = {field.name for field in fields(WindowAnalysis)} - {"steps"}
    for window in DOCUMENT["windows"]:
        assert set(window["verdict"]) == wanted


def test_states_are_whole_as_far_as_the_budget_goes() -> None:
    state_bytes = sum(tensor.shape[1] for tensor in MODEL.manifest.inputs[1:])
    whole = sum("states" in step for step in DOCUMENT["windows"][0]["steps"])
    assert whole == min(len(DOCUMENT["windows"][0]["steps"]), STATE_BUDGET_BYTES // state_bytes)
    assert all(step["states_sha256"] for window in DOCUMENT["windows"] for step in window["steps"])


def touch(change: Callable[[dict[str, Any]], object]) -> list[str]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return list(differences(MODEL, RUNNER, document))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["windows"][0]["steps"][3]["logits"].__setitem__(0, 5), "step 3: logits"),
        (lambda d: d["windows"][0]["steps"][2].update(states_sha256="0" * 64), "step 2: states_sha256"),
        (lambda d: d["windows"][0]["steps"][1]["states"].__setitem__(0, "AAAA"), "step 1: states"),
        (lambda d: d["windows"][1]["steps"].pop(), "steps instead of"),
        (lambda d: d["windows"][0]["verdict"].update(confidence_permille=1), "verdict: confidence_permille"),
        (lambda d: d["windows"][2]["verdict"].pop("logits"), "verdict: logits"),
        (lambda d: d["model"].update(version="0.0.1"), "model is another"),
        (lambda d: d["initial_state"].pop(), "initial_state is another"),
    ],
)
def test_a_difference_is_named(change: Callable[[dict[str, Any]], object], words: str) -> None:
    assert any(words in line for line in touch(change)), touch(change)


def test_another_sample_gives_another_document() -> None:
    def shift(document: dict[str, Any]) -> None:
        document["windows"][0]["sampling_rate_hz"] = "301"

    assert touch(shift)


def test_a_runner_that_differs_by_one_count_is_noticed() -> None:
    class OffByOne:
        def initial_state(self) -> tuple[np.ndarray, ...]:
            return RUNNER.initial_state()

        def step(self, signal: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
            logits, states = RUNNER.step(signal, state)
            return logits, (*states[:-1], (states[-1] ^ np.int8(1)).astype(np.int8))

    found = list(differences(MODEL, OffByOne(), DOCUMENT))
    assert any("step 0: states, states_sha256" in line for line in found)


def test_the_documents_example_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docs/golden-vectors.md` with the SDK's own runner as the second implementation."""
    root = PATH.parents[2]
    text = (root / "docs" / "golden-vectors.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    def my_step(signal: bytes, states: list[bytes]) -> tuple[list[int], list[bytes]]:
        arrays = tuple(np.frombuffer(state, np.int8) for state in states)
        logits, after = RUNNER.step(np.frombuffer(signal, np.int8), arrays)
        return logits.tolist(), [array.tobytes() for array in after]

    monkeypatch.chdir(root)
    exec(compile(code, "golden-vectors.md", "exec"), {"my_step": my_step})
    with pytest.raises(AssertionError):
        exec(compile(code, "golden-vectors.md", "exec"), {"my_step": lambda signal, states: ([0, 0, 0, 0], states)})
    for name in ("initial_state", *DOCUMENT["layout"]):
        assert name in text


def test_the_same_model_gives_the_same_document_again() -> None:
    assert golden_document(MODEL, RUNNER) == golden_document(MODEL, RUNNER)
