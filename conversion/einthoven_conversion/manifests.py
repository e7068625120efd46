"""Writes a converted model and its manifest, so that the SDK accepts exactly that pair, once it is signed.

It deliberately signs nothing (``signing`` does): what it writes is refused until somebody with a key puts a name to it.

Invariants:
    1. ``manifest_bytes`` is the one spelling of a manifest, so a model's digest is known before it is written.
    2. A signature of what was there before does not stay beside what is written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from einthoven.model_manifest import (
    INSTALLED_PARTS,
    LABELS,
    MANIFEST_SCHEMA,
    PARTS,
    FrontEndEntry,
    Manifest,
    Model,
    Probability,
    SelfTest,
    Tensor,
    assemble,
    parse_manifest,
)
from einthoven.resampling import FrontEndCoefficients
from einthoven.runner_litert import LiteRtRunner, import_interpreter, self_test_digest
from einthoven.verdict import read_verdict
from einthoven.verdict_tables import VerdictTables
from einthoven_conversion.bom import render_bom
from einthoven_conversion.card import render_card
from einthoven_conversion.data_sources import RHYTHM_LICENCES
from einthoven_conversion.errors import QuantizationFailed
from einthoven_conversion.recipe import Recipe
from einthoven_conversion.temperature import octave_ratio
from einthoven_conversion.verdict.cross_fitting import untrained
from einthoven_models import read_resource

MODEL_VERSION = "2.0.0"
VERDICT_PART = "verdict.json"
SELF_TEST_STEPS = 64
INPUT_NAMES = ("signal", "signal_state", "state")
OUTPUT_NAMES = ("logits", "signal_state_out", "state_out")


def describe(content: bytes, recipe: Recipe, coefficients: FrontEndCoefficients) -> Model:
    """A model from its bytes, with untrained verdict tables and without metrics as yet.

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
    unit = octave_ratio(outputs[0].scale)
    parts = {**installed_parts(), VERDICT_PART: msgspec.json.encode(untrained())}
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name="rhythm",
        version=MODEL_VERSION,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        parts=part_digests(parts),
        labels=LABELS,
        inputs=inputs,
        outputs=outputs,
        front_end=FrontEndEntry(
            version=coefficients.version, grid_hz=coefficients.grid_hz, half_kernel=coefficients.half_kernel
        ),
        probability=Probability(octave_numerator=unit.numerator, octave_denominator=unit.denominator),
        self_test=SelfTest(steps=SELF_TEST_STEPS, sha256=""),
        metrics={},
        recipe=recipe.as_json(),
        licences=RHYTHM_LICENCES,
    )
    manifest_json = manifest_bytes(manifest)
    digest_of_manifest = hashlib.sha256(manifest_json).digest()
    model = assemble(content, parse_manifest(manifest_json), digest_of_manifest, parts)
    digest = self_test_digest(LiteRtRunner(model, check=False), manifest)
    return with_manifest(model, self_test=SelfTest(steps=SELF_TEST_STEPS, sha256=digest))


def installed_parts() -> dict[str, bytes]:
    """The tables that decide with every model, as they are installed with the package."""
    return {name: read_resource(name) for name in INSTALLED_PARTS}


def part_digests(parts: Mapping[str, bytes]) -> dict[str, str]:
    """What a manifest says of its parts; one that is not made yet stands there as if it were empty."""
    return {name: hashlib.sha256(parts.get(name, b"")).hexdigest() for name in PARTS}


def manifest_bytes(manifest: Manifest) -> bytes:
    """A manifest as it is written: JSON for people, and the bytes that are signed."""
    return _pretty(msgspec.to_builtins(manifest))


def with_manifest(model: Model, **changes: Any) -> Model:
    """The same model with some fields of its manifest replaced, and the digest that goes with it."""
    manifest = msgspec.structs.replace(model.manifest, **changes)
    return replace(model, manifest=manifest, digest=hashlib.sha256(manifest_bytes(manifest)).digest())


def with_verdict(model: Model, tables: VerdictTables) -> tuple[Model, bytes]:
    """The same model with other verdict tables, and ``verdict.json`` for them."""
    content = _pretty(msgspec.to_builtins(tables))
    named = with_manifest(model, parts=part_digests({**installed_parts(), VERDICT_PART: content}))
    return replace(named, verdict=read_verdict(content)), content


def write_model(
    model: Model,
    card: str,
    folds_report: dict[str, Any] | None,
    folder: Path,
    own_parts: Mapping[str, bytes] | None = None,
) -> None:
    """Write model, manifest, cards and report; each appears whole or not at all. An older signature goes.

    Args:
        model: What was trained; ``with_verdict`` named its own part.
        card: ``render_card`` of it.
        folds_report: How the figures came to be, if it is to be kept on its own too.
        folder: Where to; made if it is not there.
        own_parts: Tables that belong to this model, by file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = model.manifest.name
    (folder / f"{name}.json.sig").unlink(missing_ok=True)
    contents = {
        **(own_parts or {}),
        f"{name}.tflite": model.content,
        f"{name}.md": card.encode(),
        f"{name}.cdx.json": render_bom(model),
        f"{name}.json": manifest_bytes(model.manifest),
    }
    if folds_report is not None:
        contents[f"{name}.folds.json"] = _pretty(folds_report)
    for file_name, content in contents.items():
        write_whole(folder / file_name, content)


def write_cards(model: Model, folder: Path) -> None:
    """Write again what follows from a manifest: the cards for people and for tools.

    Raises:
        ReportIncomplete: A figure of the manifest lacks its n.
    """
    name = model.manifest.name
    cards = {f"{name}.md": render_card(model).encode(), f"{name}.cdx.json": render_bom(model)}
    for file_name, content in cards.items():
        write_whole(folder / file_name, content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


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
