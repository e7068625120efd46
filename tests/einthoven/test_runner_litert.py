"""LiteRT behind the ``Runner`` port: only the graph the manifest describes, only the bits it was verified with."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven.models import Model, load_model
from einthoven.runner_litert import LiteRtRunner, import_interpreter, self_test_digest, self_test_signal

MODEL = load_model()
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rhythm_golden.json").read_text(encoding="utf-8"))


def with_manifest(**changes: Any) -> Model:
    return replace(MODEL, manifest=msgspec.structs.replace(MODEL.manifest, **changes))


def test_golden_vectors_of_every_tensor() -> None:
    """Input, every state and output of each step, bit for bit. They are of one model: a new one brings new vectors."""
    assert VECTORS["model"]["tflite_sha256"] == MODEL.manifest.sha256
    runner = LiteRtRunner(MODEL)
    whole = 0
    for window in VECTORS["windows"]:
        state = runner.initial_state()
        for step in window["steps"]:
            logits, state = runner.step(np.frombuffer(b64decode(step["signal"]), np.int8), state)
            assert logits.tolist() == step["logits"]
            assert hashlib.sha256(b"".join(array.tobytes() for array in state)).hexdigest() == step["states_sha256"]
            for array, kept in zip(state, step.get("states", ()), strict=False):
                assert array.tobytes() == b64decode(kept)
                whole += 1
    assert whole >= 2


def test_a_step_depends_on_its_arguments_alone() -> None:
    runner = LiteRtRunner(MODEL)
    signal = self_test_signal(2)
    first = runner.step(signal[0], runner.initial_state())
    runner.step(signal[1], first[1])
    again = runner.step(signal[0], runner.initial_state())
    np.testing.assert_array_equal(first[0], again[0])
    for old, new in zip(first[1], again[1], strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_initial_state_is_the_zero_point_and_read_only() -> None:
    runner = LiteRtRunner(MODEL)
    for array, tensor in zip(runner.initial_state(), MODEL.manifest.inputs[1:], strict=True):
        assert (array == tensor.zero_point).all()
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_two_runners_give_the_same_bits() -> None:
    assert self_test_digest(LiteRtRunner(MODEL), MODEL.manifest) == self_test_digest(
        LiteRtRunner(MODEL), MODEL.manifest
    )


def test_threads_may_share_a_runner() -> None:
    runner = LiteRtRunner(MODEL)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(self_test_digest(runner, MODEL.manifest))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [MODEL.manifest.self_test.sha256] * 4


def test_other_bits_than_the_self_tests_are_refused() -> None:
    self_test = msgspec.structs.replace(MODEL.manifest.self_test, sha256="0" * 64)
    with pytest.raises(ModelUnverified, match="computes other values"):
        LiteRtRunner(with_manifest(self_test=self_test))


@pytest.mark.parametrize("field", ["name", "shape", "scale", "zero_point"])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_graph_unlike_its_manifest_is_refused(side: str, field: str) -> None:
    tensors = getattr(MODEL.manifest, side)
    other = {"name": "another", "shape": (1, 3), "scale": 0.123, "zero_point": tensors[0].zero_point + 1}
    changed = msgspec.structs.replace(tensors[0], **{field: other[field]})
    with pytest.raises(ModelCorrupt):
        LiteRtRunner(with_manifest(**{side: (changed, *tensors[1:])}))


def test_a_tensor_left_out_of_the_manifest_is_refused() -> None:
    with pytest.raises(ModelCorrupt):
        LiteRtRunner(with_manifest(inputs=MODEL.manifest.inputs[:2]))


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ModelCorrupt):
        LiteRtRunner(replace(MODEL, content=b"not a model"))


def test_without_an_interpreter_the_error_says_what_to_install() -> None:
    with pytest.raises(ModelError, match="pip install ai-edge-litert"):
        import_interpreter(("no_such_package_anywhere", "json"))


def test_the_next_interpreter_is_taken_where_the_first_is_missing() -> None:
    assert import_interpreter(("no_such_package_anywhere", "ai_edge_litert.interpreter")).__name__ == "Interpreter"
