"""Runs a verified model with LiteRT.

Imports the interpreter in the order ``ai_edge_litert``, ``tflite_runtime``, ``tensorflow.lite``. The kernel path is
pinned to the default one (XNNPACK, one thread): built-in and reference kernels differ from it by several counts, and
XNNPACK rounds alike on x86-64 and arm64. The manifest's self-test is run before anything else, so that a build whose
kernels give other bits is refused, not believed.

It deliberately takes only a ``Model``: bytes whose digest was verified. LiteRT can crash on others.

Invariants:
    1. A runner exists only if its kernels gave the self-test's bits.
    2. ``step`` depends on its arguments alone; a lock makes it safe to share among threads.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import State
from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven.models import Manifest, Model, Tensor
from einthoven.resampling import MODEL_RATE_HZ

INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite")
SCALE_TOLERANCE = 1e-6
"""Relative; the manifest's scale went through decimal text."""


def import_interpreter(modules: Sequence[str] = INTERPRETERS) -> Any:
    """The first ``Interpreter`` class that is installed.

    Raises:
        ModelError: None is.
    """
    for module in modules:
        try:
            return importlib.import_module(module).Interpreter
        except (ImportError, AttributeError):
            continue
    raise ModelError("no LiteRT interpreter is installed", "pip install ai-edge-litert (or tflite-runtime)")


def self_test_signal(steps: int) -> NDArray[np.int8]:
    """The fixed signal int8 [steps, 128] of the self-test: a linear congruential generator's upper bits, -32 to 31.

    As quiet as an ECG mostly is: at full scale, activations clip, and kernels that round otherwise are not noticed.
    """
    values = np.empty(steps * MODEL_RATE_HZ, np.int64)
    state = 1906
    for i in range(len(values)):
        state = (1_103_515_245 * state + 12_345) % 2**31
        values[i] = ((state >> 16) % 256 - 128) // 4
    return values.astype(np.int8).reshape(steps, MODEL_RATE_HZ)


class LiteRtRunner:
    """A ``Runner`` on LiteRT.

    Args:
        model: A verified model.
        check: Whether to run the self-test.

    Raises:
        ModelCorrupt: The graph is not the one the manifest describes.
        ModelUnverified: This build's kernels give other bits than the self-test.
        ModelError: No interpreter is installed.
    """

    def __init__(self, model: Model, *, check: bool = True) -> None:
        manifest = model.manifest
        interpreter_class = import_interpreter()
        try:
            self._interpreter = interpreter_class(model_content=model.content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, TypeError) as error:
            raise ModelCorrupt("the interpreter refused the model", "update einthoven and its LiteRT") from error
        self._inputs = self._tensors(self._interpreter.get_input_details(), manifest.inputs)
        self._outputs = self._tensors(self._interpreter.get_output_details(), manifest.outputs)
        self._invoke = self._interpreter.invoke
        self._lock = threading.Lock()
        self._initial = tuple(np.full(tensor.shape[1], tensor.zero_point, np.int8) for tensor in manifest.inputs[1:])
        for array in self._initial:
            array.flags.writeable = False
        if check and self_test_digest(self, manifest) != manifest.self_test.sha256:
            raise ModelUnverified(
                "this LiteRT build computes other values than the model was verified with",
                "install another LiteRT version",
            )

    def _tensors(self, details: Sequence[Any], wanted: Sequence[Tensor]) -> list[Any]:
        """Accessors in the manifest's order, each checked against it."""
        by_name = {detail["name"]: detail for detail in details}
        accessors = []
        for tensor in wanted:
            detail = by_name.get(tensor.name)
            if detail is None or len(by_name) != len(wanted):
                raise ModelCorrupt("the model's tensors are not those of its manifest", "install the package again")
            scale, zero_point = detail["quantization"]
            matches = (
                tuple(int(size) for size in detail["shape"]) == tensor.shape
                and detail["dtype"] is np.int8
                and abs(scale - tensor.scale) <= SCALE_TOLERANCE * tensor.scale
                and zero_point == tensor.zero_point
            )
            if not matches:
                raise ModelCorrupt("the model's tensors are not those of its manifest", "install the package again")
            accessors.append(self._interpreter.tensor(detail["index"]))
        return accessors

    def initial_state(self) -> State:
        """The state before a window's first second: every element its zero point."""
        return self._initial

    def step(self, signal: NDArray[np.int8], state: State) -> tuple[NDArray[np.int8], State]:
        """One second: ``signal`` int8 [128] and the state in; logits int8 [4] and the new state out.

        Raises:
            ModelError: The native kernel refused.
        """
        with self._lock:
            # Views into the interpreter's memory: a third of the cost of set_tensor and get_tensor. None may be alive
            # when the graph runs.
            self._inputs[0]()[0] = signal
            for accessor, array in zip(self._inputs[1:], state, strict=True):
                accessor()[0] = array
            try:
                self._invoke()
            except (ValueError, RuntimeError) as error:
                raise ModelError("the model did not run", "restart the application") from error
            logits, *states = (accessor()[0].copy() for accessor in self._outputs)
        return logits, tuple(states)


def self_test_digest(runner: LiteRtRunner, manifest: Manifest) -> str:
    """SHA-256 over logits and states of every step of the self-test, hexadecimal."""
    digest = hashlib.sha256()
    state = runner.initial_state()
    for signal in self_test_signal(manifest.self_test.steps):
        logits, state = runner.step(signal, state)
        for array in (logits, *state):
            digest.update(array.tobytes())
    return digest.hexdigest()
