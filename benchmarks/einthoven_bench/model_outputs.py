"""Everything that comes out of the model over a record, as arrays to compare bit by bit. numpy and the SDK only.

It deliberately names no field: whatever the SDK's analysis holds is taken, so that a field added to it is compared too.

Invariants:
    1. Two analyses have equal arrays if and only if they are equal, lengths of inner lists included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import RecordAnalysis, WindowAnalysis, WindowAnalyzer, analyze_record, window_stop
from einthoven.models import Model, load_model
from einthoven.native_stderr import native_stderr_silenced
from einthoven.runner_litert import LiteRtRunner
from einthoven_bench.signal_outputs import Outputs

ABSENT = -(2**63)
"""Stands for ``None`` among integers."""


@lru_cache(maxsize=1)
def loaded() -> tuple[Model, LiteRtRunner]:
    """The shipped model, loaded once a process."""
    model = load_model()
    with native_stderr_silenced():
        return model, LiteRtRunner(model)


def whole(samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction) -> RecordAnalysis:
    """Analyse a record, int32 [n] in microvolts, in one go."""
    model, runner = loaded()
    return analyze_record(model, runner, samples_uv, sampling_rate_hz)


def streamed(samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction, cuts: Iterable[int]) -> list[WindowAnalysis]:
    """Push a record piece by piece, each window through an analyzer of its own.

    Args:
        samples_uv: int32 [n], microvolts.
        sampling_rate_hz: Exact.
        cuts: Ascending indices where one push ends and the next begins; the ends of windows are cut as well.
    """
    model, runner = loaded()
    ends = [window_stop(1, sampling_rate_hz)]
    while ends[-1] < len(samples_uv):
        ends.append(window_stop(len(ends) + 1, sampling_rate_hz))
    windows, start = [], 0
    inner = sorted({cut for cut in cuts if 0 < cut < len(samples_uv)})
    for end in ends:
        analyzer = WindowAnalyzer(model, runner, sampling_rate_hz)
        for stop in (*(cut for cut in inner if start < cut < end), min(end, len(samples_uv))):
            analyzer.push(samples_uv[start:stop])
            start = stop
        windows.append(analyzer.finish())
    return windows


def outputs_of(value: object) -> Outputs:
    """Every number in a value made of dataclasses, sequences, numbers, text and arrays, by the path of its name."""
    found: dict[str, list[object]] = {}
    for name, item in _items(value, ""):
        found.setdefault(name, []).append(item)
    return {name: _joined(items) for name, items in found.items()}


def _items(value: object, name: str) -> Iterator[tuple[str, object]]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _items(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
    elif isinstance(value, dict):
        yield f"{name}#", len(value)
        for key in sorted(value, key=repr):
            yield from _items(repr(key), f"{name}.key")
            yield from _items(value[key], f"{name}.value")
    elif isinstance(value, (list, tuple)):
        yield f"{name}#", len(value)
        for item in value:
            yield from _items(item, name)
    elif isinstance(value, (str, bytes)):
        content = value.encode() if isinstance(value, str) else value
        yield f"{name}#", len(content)
        yield f"{name}:text", np.frombuffer(content, np.uint8)
    elif isinstance(value, np.ndarray):
        yield f"{name}#", value.size
        yield f"{name}:{value.dtype.name}", value.ravel()
    elif isinstance(value, float):
        yield f"{name}:float", np.array([value])
    else:
        yield name, ABSENT if value is None else _integer(value, name)


def _integer(value: object, name: str) -> int:
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is of a type that is not compared")
    return int(value)


def _joined(items: list[object]) -> NDArray[np.generic]:
    if isinstance(items[0], np.ndarray):
        return np.concatenate([item for item in items if isinstance(item, np.ndarray)])
    return np.array(items, np.int64)
