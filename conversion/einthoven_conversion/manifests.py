"""Writes a converted model and its manifest, so that the SDK accepts exactly that pair."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from einthoven.models import (
    LABELS,
    MANIFEST_SCHEMA,
    FrontEndEntry,
    Manifest,
    Model,
    Probability,
    SelfTest,
    Tensor,
    verify_model,
)
from einthoven.resampling import FrontEndCoefficients
from einthoven.runner_litert import LiteRtRunner, import_interpreter, self_test_digest
from einthoven_conversion.errors import QuantizationFailed
from einthoven_conversion.recipe import Recipe

MODEL_VERSION = "1.0.0"
SELF_TEST_STEPS = 12
INPUT_NAMES = ("signal", "signal_state", "state")
OUTPUT_NAMES = ("logits", "signal_state_out", "state_out")
LICENCES: tuple[dict[str, Any], ...] = (
    {
        "name": "PhysioNet/Computing in Cardiology Challenge 2017, training set, version 1.0.0",
        "licence": "ODC-By-1.0",
        "cite": "Clifford GD, Liu C, Moody B, Li-wei HL, Silva I, Li Q, Johnson AE, Mark RG. AF Classification from a "
        "Short Single Lead ECG Recording: the PhysioNet/Computing in Cardiology Challenge 2017. Computing in "
        "Cardiology 2017;44. doi:10.22489/CinC.2017.065-469",
    },
    {
        "name": "MIT-BIH Noise Stress Test Database 1.0.0 (augmentation only)",
        "licence": "ODC-By-1.0",
        "cite": "Moody GB, Muldrow WE, Mark RG. A noise stress test for arrhythmia detectors. Computers in Cardiology "
        "11:381-384 (1984). doi:10.13026/C2HS3T",
    },
    {
        "name": "PhysioNet",
        "licence": "",
        "cite": "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation 2000;101(23):e215-e220",
    },
)


def unverified_probability() -> Probability:
    """Stands in until temperature and threshold are fitted."""
    return Probability(octave_numerator=1, octave_denominator=1, temperature=1.0, low_confidence_permille=0, n=0)


def describe(content: bytes, recipe: Recipe, coefficients: FrontEndCoefficients) -> Model:
    """A model from its bytes, with a manifest that lacks probability and metrics as yet.

    Raises:
        QuantizationFailed: A tensor is in float, or has another scale than the SDK relies on.
    """
    interpreter = import_interpreter()(model_content=content, num_threads=1)
    if any(np.issubdtype(tensor["dtype"], np.floating) for tensor in interpreter.get_tensor_details()):
        raise QuantizationFailed("a tensor of the graph is still in float", "report it; the converter left it so")
    signature = interpreter.get_signature_runner("step")
    inputs = _tensors(signature.get_input_details(), INPUT_NAMES)
    outputs = _tensors(signature.get_output_details(), OUTPUT_NAMES)
    _check_scales(inputs, outputs)
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name="rhythm",
        version=MODEL_VERSION,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        labels=LABELS,
        inputs=inputs,
        outputs=outputs,
        front_end=FrontEndEntry(
            version=coefficients.version, grid_hz=coefficients.grid_hz, half_kernel=coefficients.half_kernel
        ),
        probability=unverified_probability(),
        self_test=SelfTest(steps=SELF_TEST_STEPS, sha256=""),
        metrics={},
        recipe=recipe.as_json(),
        licences=LICENCES,
    )
    model = verify_model(content, msgspec.json.encode(manifest))
    digest = self_test_digest(LiteRtRunner(model, check=False), manifest)
    return with_manifest(model, self_test=SelfTest(steps=SELF_TEST_STEPS, sha256=digest))


def with_manifest(model: Model, **changes: Any) -> Model:
    """The same model with some fields of its manifest replaced."""
    return replace(model, manifest=msgspec.structs.replace(model.manifest, **changes))


def with_probability(model: Model, ratio: Fraction, temperature: float, threshold: int, n: int) -> Model:
    """The same model with its probability fitted."""
    probability = Probability(
        octave_numerator=ratio.numerator,
        octave_denominator=ratio.denominator,
        temperature=temperature,
        low_confidence_permille=threshold,
        n=n,
    )
    return with_manifest(model, probability=probability)


def write_model(model: Model, card: str, folds_report: dict[str, Any] | None, folder: Path) -> None:
    """Write model, manifest, card and report; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = model.manifest.name
    contents = {
        f"{name}.tflite": model.content,
        f"{name}.md": card.encode(),
        f"{name}.json": _pretty(msgspec.to_builtins(model.manifest)),
    }
    if folds_report is not None:
        contents[f"{name}.folds.json"] = _pretty(folds_report)
    for file_name, content in contents.items():
        partial = folder / f".{file_name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / file_name)


def _pretty(document: Any) -> bytes:
    """JSON for people: indented, but lists of numbers on one line."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return (_join_number_lists(text) + "\n").encode()


def _join_number_lists(text: str) -> str:
    return re.sub(r"\[\s+(-?[\d.e-]+(?:,\s+-?[\d.e-]+)*)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)


def _tensors(details: dict[str, Any], names: Sequence[str]) -> tuple[Tensor, ...]:
    tensors = []
    for name in names:
        detail = details[name]
        scale, zero_point = detail["quantization"]
        tensors.append(
            Tensor(
                name=detail["name"],
                shape=tuple(int(size) for size in detail["shape"]),
                dtype=detail["dtype"].__name__,
                scale=float(scale),
                zero_point=int(zero_point),
            )
        )
    return tuple(tensors)


def _check_scales(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    signal = inputs[0]
    if (signal.scale, signal.zero_point) != (1 / 64, 0):
        raise QuantizationFailed(
            f"the signal has scale {signal.scale} and zero point {signal.zero_point}", "pin it to 1/64 and 0"
        )
    for old, new in zip(inputs[1:], outputs[1:], strict=True):
        if (old.scale, old.zero_point, old.shape) != (new.scale, new.zero_point, new.shape):
            raise QuantizationFailed(f"state {old.name} comes out with another scale", "train with other ranges")
