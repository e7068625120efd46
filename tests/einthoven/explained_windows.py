"""Windows and models whose verdict is known by construction, for tests of explanations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np

from einthoven.analysis import State
from einthoven.model_manifest import Model, parse_manifest
from einthoven.resampling import FrontEndCoefficients
from einthoven.verdict import Verdict
from einthoven.verdict_tables import Outlyingness, PredictionSets, Trees, VerdictTables, pack
from einthoven.window_features import FEATURES
from einthoven_models import read_resource

RATE = Fraction(300)
Script = Callable[[int], Sequence[int]]
NEVER = (2**15 - 1) - 1
"""A threshold that no feature is above."""


def tables(
    *questions: tuple[int, int, int, int],
    pooled_permille: int = 1000,
    center: Sequence[int] = (0,) * FEATURES,
    af: tuple[int, int] = (1001, 1001),
    directions: Sequence[int] = (),
    limit: int = 2**31 - 1,
) -> VerdictTables:
    """Tables that can be followed by hand.

    Args:
        questions: (feature, threshold, class, what is added above it) of one tree each.
        pooled_permille: Share of the mean logits.
        center: What is usual.
        af: From which permille on AF is possible, and certain.
        directions: Features whose deviation is what counts as outlying, one direction each.
        limit: Outlyingness allowed.
    """
    count = 4 * len(questions)
    features, thresholds = np.zeros((count, 1), np.int64), np.full((count, 1), NEVER)
    leaves = np.zeros((count, 2), np.int64)
    for number, (feature, threshold, label, added) in enumerate(questions):
        at = 4 * number + label
        features[at], thresholds[at], leaves[at] = feature, threshold, (0, added)
    along = np.zeros((len(directions), FEATURES), np.int64)
    along[np.arange(len(directions)), list(directions)] = 127
    return VerdictTables(
        schema=1,
        features=FEATURES,
        base=(0, 0, 0, 0),
        pooled_permille=pooled_permille,
        trees=Trees(
            depth=1, count=count, features=pack(features, "u1"), thresholds=pack(thresholds, "<i2"),
            leaves=pack(leaves, "<i2"),
        ),
        temperature=1.0,
        af_possible_permille=af[0],
        af_certain_permille=af[1],
        sets=PredictionSets(coverage_permille=950, least_permille=(50, 50, 50, 50), n=(4000, 600, 2000, 200)),
        outlyingness=Outlyingness(
            center=tuple(center), scale=(1,) * FEATURES, directions=pack(along, "i1"), k=len(directions), limit=limit,
            share_permille=10, n=6800,
        ),
        metrics={},
        recipe={},
    )  # fmt: skip


def a_model(judging: VerdictTables | None = None, *, scripted: bool = True) -> Model:
    """The shipped network with tables of a test's own; for a scripted runner, a count of a logit is 256/1024 octave."""
    manifest_json = read_resource("rhythm.json")
    manifest = parse_manifest(manifest_json)
    if scripted:
        output = msgspec.structs.replace(manifest.outputs[0], zero_point=0)
        probability = msgspec.structs.replace(manifest.probability, octave_numerator=256, octave_denominator=1)
        outputs = (output, *manifest.outputs[1:])
        manifest = msgspec.structs.replace(manifest, outputs=outputs, probability=probability)
    front_end = manifest.front_end
    return Model(
        content=read_resource("rhythm.tflite"),
        manifest=manifest,
        digest=hashlib.sha256(manifest_json).digest(),
        coefficients=FrontEndCoefficients(front_end.version, front_end.grid_hz, front_end.half_kernel),
        verdict=Verdict(judging or tables()),
    )


def judged_by(model: Model, judging: VerdictTables) -> Model:
    """The same network, judged by other tables."""
    return replace(model, verdict=Verdict(judging))


class ScriptedRunner:
    """Answers what a function of the second's index says; its state counts seconds."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def initial_state(self) -> State:
        return (np.zeros(1, np.int8),)

    def step(self, signal: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        return np.array(self._script(int(state[0][0])), np.int8), (state[0] + np.int8(1),)


def heart(peaks_s: Sequence[float], seconds: float = 30, seed: int = 0) -> np.ndarray:
    """Pulses of 900 uV with noise at 300 Hz, int32, microvolts."""
    samples = np.random.default_rng(seed).normal(0, 15, int(seconds * 300))
    for peak in peaks_s:
        place = int(peak * 300)
        pulse = samples[max(place - 8, 0) : place + 8]
        pulse += 900 * np.hanning(16)[: len(pulse)]
    return samples.astype(np.int32)


def regular(seconds: float = 30, rr_s: float = 60 / 70) -> np.ndarray:
    """A heart like a clock."""
    return heart(np.arange(0.4, seconds - 0.1, rr_s).tolist(), seconds)
