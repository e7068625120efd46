"""The beat detector once more, in plain Python integers and fractions, a whole signal at a time: the oracle for tests.

Written from what the modules' docstrings promise, without NumPy, streaming or state.
"""

from __future__ import annotations

import base64
import json
from fractions import Fraction
from statistics import median_high
from typing import Any

from einthoven_models import read_resource

PAD = 400


def unpacked(array: dict[str, Any]) -> list[Any]:
    """Integers from Base64, in rows where there are two sizes."""
    content, width = base64.b64decode(array["base64"]), int(array["type"][1:])
    flat = [int.from_bytes(content[i : i + width], "little", signed=True) for i in range(0, len(content), width)]
    if len(array["shape"]) == 1:
        return flat
    rows, columns = array["shape"]
    assert len(flat) == rows * columns
    return [flat[i * columns : (i + 1) * columns] for i in range(rows)]


def read() -> dict[str, Any]:
    tables: dict[str, Any] = json.loads(read_resource("beats.json"))["tables"]
    for layer in tables["first"] + tables["second"]:
        layer.update(weights=unpacked(layer["weights"]), bias=unpacked(layer["bias"]))
    return tables


TABLES = read()


def detect(samples: list[int]) -> list[tuple[int, int, int]]:
    """Beats as (ticks, score, amplitude)."""
    n = len(samples)
    x = Signal(samples)
    y = [filtered(x, i) for i in range(-PAD, n + PAD)]
    e = [sum(abs(y[i + k]) for k in range(-2, 3)) if 2 <= i < len(y) - 2 else 0 for i in range(len(y))]

    def height(i: int) -> int:
        return e[i + PAD]

    candidates = []
    for i in range(5, n - 5):
        if height(i) > max(height(i - k) for k in range(1, 8)) and height(i) >= max(height(i + k) for k in range(1, 8)):
            usual = usual_amplitude(height, i // 32)
            if height(i) >= max(usual // 32, 40):
                features = describe(x, lambda k: y[k + PAD], height, i, usual)
                candidates.append((i, features, network(features, TABLES["first"])))
    likely = [one for one in candidates if one[2] > -6 * 256]
    beats: list[tuple[int, int]] = []
    best: tuple[int, int] | None = None
    for number, (i, _, _) in enumerate(likely):
        logit = network(context(likely, number), TABLES["second"])
        if logit <= TABLES["threshold"]:
            continue
        if best is not None and i - best[0] >= 26:
            beats.append(best)
            best = None
        if best is None or logit > best[1]:
            best = (i, logit)
    if best is not None:
        beats.append(best)
    found = []
    for i, logit in beats:
        ticks, amplitude = refine(x, i)
        found.append((ticks, min(max((logit >> 4) + 128, 0), 255), amplitude))
    return found


class Signal:
    """Samples that go on at both ends."""

    def __init__(self, samples: list[int]) -> None:
        self._samples = samples

    def __getitem__(self, i: int) -> int:
        return 0 if i < 0 else self._samples[min(i, len(self._samples) - 1)]


def filtered(x: Signal, i: int) -> int:
    taps = TABLES["band_pass"]
    return round(Fraction(sum(tap * x[i + k - len(taps) // 2] for k, tap in enumerate(taps)), 4096))


def usual_amplitude(height: Any, block: int) -> int:
    spans = []
    for start in range(block - 31, block + 0, 2):
        known = [b for b in range(start, start + 4) if b >= 0]
        if known:
            spans.append(max(height(32 * b + k) for b in known for k in range(32)))
    return max(median_high(spans), 40)


def describe(x: Signal, y: Any, height: Any, i: int, usual: int) -> list[int]:
    own = height(i)
    near = [y(i + k) for k in range(-3, 4)]
    sign = 1 if max(near, key=abs) >= 0 else -1
    values = [Fraction(320 * sign * y(i + k), own) for k in range(-20, 21)]
    values += [Fraction(480 * sign * (x[i + k + 1] - x[i + k]), own) for k in range(-20, 21)]
    for stride in range(-12, 16):
        first = i + 4 * stride - 2
        four = sum(x[first + k] for k in range(4))
        around = sum(x[first + k] for k in range(-32, 32))
        values.append(Fraction(sign * (16 * four - around), usual))
    values += [Fraction(32 * height(i + 4 * stride), usual) for stride in range(-32, 23)]
    values.append(Fraction(256 * own, usual))
    return [min(max(round(value), -127), 127) for value in values]


def network(values: list[int], layers: list[dict[str, Any]]) -> int:
    for number, layer in enumerate(layers):
        totals = [
            (sum(v * row[k] for v, row in zip(values, layer["weights"], strict=True)) + bias) >> layer["shift"]
            for k, bias in enumerate(layer["bias"])
        ]
        values = totals if number == len(layers) - 1 else [min(max(total, 0), 1023) for total in totals]
    return values[0]


def context(likely: list[tuple[int, list[int], int]], number: int) -> list[int]:
    i, own, logit = likely[number]
    shape, own_height = own[:41], max(own[142], 1)
    slots = [[0, 0, 0] for _ in range(50)]
    for other in [*range(number - 14, number), *range(number + 1, number + 6)]:
        if not 0 <= other < len(likely):
            continue
        at, features, its_logit = likely[other]
        slot = (at - i - (at > i)) // 8 + 40
        if 0 <= slot < 50:
            theirs = features[:41]
            dot = sum(a * b for a, b in zip(shape, theirs, strict=True))
            size = max(sum(a * a for a in shape), sum(b * b for b in theirs), 1)
            slots[slot] = [as_feature(its_logit), 64 * dot // size, min(32 * max(features[142], 1) // own_height, 127)]
    return [value for slot in slots for value in slot] + shape + [as_feature(logit), own_height, own[-1]]


def as_feature(logit: int) -> int:
    return min((logit + 6 * 256) >> 5, 127)


def refine(x: Signal, i: int) -> tuple[int, int]:
    edges = [x[i + k] for k in range(-24, 25) if abs(k) > 14]
    baseline = round(Fraction(sum(edges), len(edges)))
    values = {k: x[i + k] - baseline for k in range(-11, 12)}
    at = max(range(-10, 11), key=lambda k: abs(values[k]))
    sign = 1 if values[at] >= 0 else -1
    here, before, after = sign * values[at], sign * values[at - 1], sign * values[at + 1]
    bend = max(2 * here - before - after, 1)
    shift = min(max((8 * (after - before) + bend) // (2 * bend), -4), 4)
    return max(8 * (i + at) + shift, 0), sign * here
