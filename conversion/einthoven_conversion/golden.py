"""Golden vectors of the shipped model: raw samples, what enters each step, what comes out, every state, the verdict.

With them a second implementation (a microcontroller's, say) can find the first stage at which it differs::

    samples -> front end -> step's signal -> logits and states -> pooled logits -> verdict

The document's layout is in ``LAYOUT`` and goes with it. Inputs are constructed (``einthoven.simulator``) and kept, so
checking needs no simulator. It deliberately judges nothing: bits are equal, or they are named.

Invariants:
    1. ``differences`` recomputes everything from the kept samples through the SDK's own path.
    2. Every field of a verdict is kept, whatever fields there are.
    3. Every state of every step is there by digest; whole where ``STATE_BUDGET_BYTES`` allows, from the first step on.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import Runner, State, WindowAnalysis, analyze_window
from einthoven.models import Model
from einthoven.ports import MISSING_UV
from einthoven.simulator import simulate
from einthoven.simulator_options import SimulatedRhythm

FORMAT: Final = 1
STATE_BUDGET_BYTES: Final = 60_000
"""States kept whole, before base64: 30 s of a model with 1,912 B; the file stays under 150 kB."""
LAYOUT: Final = {
    "samples": "base64 of little-endian int16, microvolts; stretches of `missing` ([start, stop) samples) hold 0 there",
    "signal": "base64 of int8 [128]: what the front end gives for the second, the model's first input",
    "logits": "int8 [4]: the model's first output, classes N, A, O, ~",
    "states": "base64 of int8: the model's other outputs, in order; the next step's inputs. The first step's are the "
    "zero points in `initial_state`",
    "states_sha256": "SHA-256 over the step's states, one after the other",
    "verdict": "what the SDK says of the window; integers, enumerations by value",
}
_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """An input.

    Attributes:
        name: What it shows.
        sampling_rate_hz: Exact.
        samples_uv: int32 [n], ``MISSING_UV`` where nothing was received.
        whole_states: Whether its states are kept whole.
    """

    name: str
    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32]
    whole_states: bool = False


def constructed_windows() -> tuple[Window, ...]:
    """The inputs: a sinus rhythm of a full window, AF upside down with a gap at an odd rate, too short, no heart."""
    sinus = SimulatedRhythm(duration_s=30, sampling_rate_hz=Fraction(300), seed=1906, heart_rate_bpm=72)
    odd = Fraction(512_617, 1_000)
    fibrillating = SimulatedRhythm(duration_s=16, sampling_rate_hz=odd, seed=1924, af_episodes=((0.0, 16.0),))
    upside_down = -_simulated(fibrillating)
    upside_down[3_000:3_700] = MISSING_UV
    short = SimulatedRhythm(duration_s=4, sampling_rate_hz=Fraction(128), seed=7)
    return (
        Window("sinus rhythm, a full window", sinus.sampling_rate_hz, _simulated(sinus), whole_states=True),
        Window("atrial fibrillation, upside down, a gap, an odd rate", odd, upside_down),
        Window("too short for a verdict", short.sampling_rate_hz, _simulated(short)),
        Window("a flat line", Fraction(100), np.zeros(1_000, np.int32)),
    )


def golden_document(model: Model, runner: Runner, windows: tuple[Window, ...] | None = None) -> _Json:
    """The vectors of a model.

    Args:
        model: Verified.
        runner: Runs it.
        windows: The inputs; ``constructed_windows``, if not given.
    """
    manifest = model.manifest
    return {
        "format": FORMAT,
        "layout": LAYOUT,
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "manifest_sha256": model.digest.hex(),
            "tflite_sha256": manifest.sha256,
            "front_end_version": model.front_end_version,
        },
        "initial_state": [
            {"name": tensor.name, "bytes": tensor.shape[1], "value": tensor.zero_point}
            for tensor in manifest.inputs[1:]
        ],
        "windows": [_window_document(model, runner, window) for window in windows or constructed_windows()],
    }


def differences(model: Model, runner: Runner, document: _Json) -> Iterator[str]:
    """Recompute a document from its samples and name what comes out otherwise, a line each."""
    again = golden_document(model, runner, tuple(_kept_window(entry) for entry in document["windows"]))
    for name in ("format", "layout", "model", "initial_state"):
        if again[name] != document.get(name):
            yield f"{name} is another"
    for old, new in zip(document["windows"], again["windows"], strict=True):
        yield from _window_differences(old, new)


def golden_bytes(document: _Json) -> bytes:
    """The document as it is kept: a line a step."""
    windows = ",\n".join(_window_text(window) for window in document["windows"])
    head = {name: value for name, value in document.items() if name != "windows"}
    text = json.dumps(head, indent=1, ensure_ascii=False)
    return (text.removesuffix("\n}") + f',\n "windows": [\n{windows}\n ]\n}}\n').encode()


class _RecordingRunner:
    """Passes steps on, and keeps them."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.steps: list[tuple[NDArray[np.int8], NDArray[np.int8], State]] = []

    def initial_state(self) -> State:
        return self._runner.initial_state()

    def step(self, signal: NDArray[np.int8], state: State) -> tuple[NDArray[np.int8], State]:
        logits, after = self._runner.step(signal, state)
        self.steps.append((signal.copy(), logits, after))
        return logits, after


def _window_document(model: Model, runner: Runner, window: Window) -> _Json:
    recording = _RecordingRunner(runner)
    verdict = analyze_window(model, recording, window.samples_uv, window.sampling_rate_hz)
    missing = window.samples_uv == MISSING_UV
    samples = np.where(missing, 0, window.samples_uv)
    state_bytes = sum(tensor.shape[1] for tensor in model.manifest.inputs[1:])
    whole = STATE_BUDGET_BYTES // state_bytes if window.whole_states else 0
    return {
        "name": window.name,
        "sampling_rate_hz": str(window.sampling_rate_hz),
        "samples": _base64(samples.astype("<i2")),
        "missing": _stretches(missing),
        "steps": [_step_document(*step, whole=i < whole) for i, step in enumerate(recording.steps)],
        "verdict": _verdict_document(verdict),
    }


def _step_document(signal: NDArray[np.int8], logits: NDArray[np.int8], states: State, *, whole: bool) -> _Json:
    joined = b"".join(state.tobytes() for state in states)
    document = {
        "signal": _base64(signal),
        "logits": logits.tolist(),
        "states_sha256": hashlib.sha256(joined).hexdigest(),
    }
    return {**document, "states": [_base64(state) for state in states]} if whole else document


def _verdict_document(verdict: WindowAnalysis) -> _Json:
    """Every field but the steps, which are there already."""
    return {field.name: _plain(getattr(verdict, field.name)) for field in fields(verdict) if field.name != "steps"}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(item) for item in (sorted(value) if isinstance(value, frozenset | set) else value)]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _kept_window(entry: _Json) -> Window:
    samples = np.frombuffer(base64.b64decode(entry["samples"]), "<i2").astype(np.int32)
    for start, stop in entry["missing"]:
        samples[start:stop] = MISSING_UV
    whole = any("states" in step for step in entry["steps"])
    return Window(entry["name"], Fraction(entry["sampling_rate_hz"]), samples, whole)


def _window_differences(old: _Json, new: _Json) -> Iterator[str]:
    if len(old["steps"]) != len(new["steps"]):
        yield f"{old['name']}: {len(new['steps'])} steps instead of {len(old['steps'])}"
    for i, (before, after) in enumerate(zip(old["steps"], new["steps"], strict=False)):
        wrong = [
            name for name in ("signal", "logits", "states", "states_sha256") if before.get(name) != after.get(name)
        ]
        if wrong:
            yield f"{old['name']}: step {i}: {', '.join(wrong)}"
    names = [
        name for name in {**old["verdict"], **new["verdict"]} if old["verdict"].get(name) != new["verdict"].get(name)
    ]
    if names:
        yield f"{old['name']}: verdict: {', '.join(names)}"


def _window_text(window: _Json) -> str:
    steps = ",\n".join(f"   {json.dumps(step)}" for step in window["steps"])
    rest = {name: value for name, value in window.items() if name != "steps"}
    return "  " + json.dumps(rest, ensure_ascii=False).removesuffix("}") + f', "steps": [\n{steps}\n  ]}}'


def _simulated(rhythm: SimulatedRhythm) -> NDArray[np.int32]:
    return np.array(simulate(rhythm).samples_uv, np.int32)


def _stretches(mask: NDArray[np.bool_]) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [[int(start), int(stop)] for start, stop in edges.reshape(-1, 2)]


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()
