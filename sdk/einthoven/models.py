"""Loads a model: bytes and manifest checked against each other before any native parser sees them.

It deliberately does not run a model (``runner_litert``) and does not judge who made it: the manifest names the digest,
and a manifest's own signature comes with the update path.

Invariants:
    1. A ``Model`` in hand has bytes whose SHA-256 is the one its manifest names, and a manifest of the known schema.
    2. Anything else raises ``ModelCorrupt`` or ``ModelUnverified``; a truncated model never reaches LiteRT, which
       such bytes can kill.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from einthoven.errors import ModelCorrupt, ModelUnverified
from einthoven.frontend import FRONT_END_VERSION
from einthoven.resampling import MODEL_RATE_HZ, FrontEndCoefficients
from einthoven.results import Rhythm
from einthoven_models import read_resource

MANIFEST_SCHEMA = 1
MAX_MODEL_BYTES = 1_000_000
MAX_MANIFEST_BYTES = 1_000_000
MAX_STATE_BYTES = 8_192
CLASSES = len(Rhythm)
LABELS = ("N", "A", "O", "~")
"""What the manifest must list: the classes in the order of ``Rhythm``."""

_Int8 = Annotated[int, msgspec.Meta(ge=-128, le=127)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
_Permille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
_KernelInteger = Annotated[int, msgspec.Meta(ge=-(2**20), le=2**20)]
_Kernel = Annotated[tuple[_KernelInteger, ...], msgspec.Meta(min_length=16, max_length=8_192)]


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One int8 tensor of the graph.

    Attributes:
        name: Within the signature.
        shape: With the batch of 1 first.
        dtype: Always ``int8``.
        scale: Real value of one count.
        zero_point: Count that stands for 0.
    """

    name: str
    shape: tuple[_Positive, ...]
    dtype: str
    scale: float
    zero_point: _Int8


class FrontEndEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The front end a model was trained behind."""

    version: int
    grid_hz: _Positive
    half_kernel: _Kernel


class Probability(msgspec.Struct, frozen=True, kw_only=True):
    """How integer logits become a probability (``einthoven.probability``).

    Attributes:
        octave_numerator: With ``octave_denominator``, one unit of a pooled logit in 1/1024 octave.
        octave_denominator: See there.
        temperature: The same as a float, for people.
        low_confidence_permille: Under this confidence a verdict is inconclusive.
        n: Out-of-fold records that both were chosen on.
    """

    octave_numerator: _Positive
    octave_denominator: _Positive
    temperature: float
    low_confidence_permille: _Permille
    n: int


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """What the model must answer to a fixed signal, so that other kernels are noticed before they decide anything."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=64)]
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``<name>.json`` beside the model.

    Attributes:
        schema: Version of this layout.
        name: The model's name.
        version: The model's version.
        sha256: Of the ``.tflite`` bytes, hexadecimal.
        size_bytes: Their number.
        labels: Classes in the order of the logits.
        inputs: Signal first, then the states.
        outputs: Heads first, then the states in the same order.
        front_end: What the signal went through.
        probability: From logits to confidence.
        self_test: See there.
        metrics: Figures with their n and intervals.
        recipe: How it was made.
        licences: Of the recordings it was trained on.
    """

    schema: int
    name: str
    version: str
    sha256: str
    size_bytes: _Positive
    labels: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    front_end: FrontEndEntry
    probability: Probability
    self_test: SelfTest
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    licences: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A verified model.

    Attributes:
        content: The ``.tflite`` bytes.
        manifest: What goes with them.
        digest: SHA-256 of ``content``, 32 bytes.
        coefficients: The front end's integers.
    """

    content: bytes = field(repr=False)
    manifest: Manifest = field(repr=False)
    digest: bytes
    coefficients: FrontEndCoefficients = field(repr=False)

    @property
    def front_end_version(self) -> int:
        """Version of the front end the model was trained behind."""
        return self.coefficients.version


def load_model(name: str = "rhythm", folder: Path | None = None) -> Model:
    """Load and verify a model.

    Args:
        name: Which one.
        folder: Where ``<name>.tflite`` and ``<name>.json`` are; those shipped with the package, if not given.

    Raises:
        ModelCorrupt: A file is missing, truncated or of an unknown schema.
        ModelUnverified: The bytes are not those the manifest names.
    """
    try:
        if folder is None:
            content, manifest = read_resource(f"{name}.tflite"), read_resource(f"{name}.json")
        else:
            content = _read_limited(folder / f"{name}.tflite", MAX_MODEL_BYTES)
            manifest = _read_limited(folder / f"{name}.json", MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ModelCorrupt(
            f"model {name!r} or its manifest can't be read", "install the package again, or name the model's folder"
        ) from error
    return verify_model(content, manifest)


def verify_model(content: bytes, manifest_json: bytes) -> Model:
    """Check bytes and manifest against each other.

    Raises:
        ModelCorrupt: The manifest is not one, or not of a schema that this version reads.
        ModelUnverified: The bytes are not those the manifest names.
    """
    if len(manifest_json) > MAX_MANIFEST_BYTES or len(content) > MAX_MODEL_BYTES:
        raise ModelCorrupt("the model or its manifest is over 1 MB", "install the package again")
    try:
        manifest = msgspec.json.decode(manifest_json, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelCorrupt("the model's manifest is damaged", "install the package again") from error
    _check_manifest(manifest)
    digest = hashlib.sha256(content)
    if digest.hexdigest() != manifest.sha256 or len(content) != manifest.size_bytes:
        raise ModelUnverified("the model's bytes are not those its manifest names", "install the package again")
    front_end = manifest.front_end
    coefficients = FrontEndCoefficients(front_end.version, front_end.grid_hz, front_end.half_kernel)
    return Model(content, manifest, digest.digest(), coefficients)


def _read_limited(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(limit_bytes + 1)


def _check_manifest(manifest: Manifest) -> None:
    """Refuse what the SDK could not run as it was meant."""
    if manifest.schema != MANIFEST_SCHEMA:
        raise ModelCorrupt(f"the model's manifest has schema {manifest.schema}", "update einthoven")
    if manifest.front_end.version != FRONT_END_VERSION:
        raise ModelCorrupt(
            f"the model wants front end {manifest.front_end.version}, this is {FRONT_END_VERSION}", "update einthoven"
        )
    faults = [
        manifest.labels != LABELS,
        not manifest.inputs or not manifest.outputs or len(manifest.inputs) != len(manifest.outputs),
        any(tensor.dtype != "int8" or not 0 < tensor.scale < 1e3 for tensor in manifest.inputs + manifest.outputs),
        any(len(tensor.shape) != 2 or tensor.shape[0] != 1 for tensor in manifest.inputs + manifest.outputs),
        [tensor.shape for tensor in manifest.inputs[:1]] != [(1, MODEL_RATE_HZ)],
        [tensor.shape for tensor in manifest.outputs[:1]] != [(1, CLASSES)],
        any(
            (old.shape, old.scale, old.zero_point) != (new.shape, new.scale, new.zero_point)
            for old, new in zip(manifest.inputs[1:], manifest.outputs[1:], strict=False)
        ),
        sum(tensor.shape[-1] for tensor in manifest.inputs[1:]) > MAX_STATE_BYTES,
        manifest.front_end.half_kernel[-1] != 0 or manifest.front_end.half_kernel[0] <= 0,
    ]
    if any(faults):
        raise ModelCorrupt("the model's manifest does not describe a rhythm model", "install the package again")
